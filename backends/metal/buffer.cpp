#include "backends/metal/buffer.h"

#include <unistd.h>

#include <cstring>

#include "backends/metal/heap.h"

namespace dlk::metal {

namespace {

// Transfers by blit move multiples of four bytes, the last ones too.
uint64_t rounded(uint64_t size_bytes) { return (size_bytes + 15) / 16 * 16; }

}  // namespace

MetalBuffer::MetalBuffer(std::shared_ptr<Context> context, uint64_t size_bytes, MemoryKind kind)
    : Buffer(size_bytes), context_(std::move(context)) {
  const Pool pool;
  const Caps& caps = context_->caps();
  if (kind == MemoryKind::kInput) kind = MemoryKind::kDevice;
  const MTL::StorageMode storage =
      kind == MemoryKind::kDevice ? context_->device_storage() : MTL::StorageModeShared;
  std::string detail = "beyond that limit";
  if (size_bytes <= caps.max_buffer_bytes) {
    if (kind == MemoryKind::kDevice) native_ = context_->heaps().allocate(rounded(size_bytes));
    if (!native_) {
      native_ = own(context_->device()->newBuffer(rounded(size_bytes), tracked_options(storage)));
    }
    detail = "Metal returned no buffer";
  }
  if (!native_) {
    throw Error(ErrorCode::kOutOfMemory,
                "cannot allocate " + std::to_string(size_bytes) + " bytes on " + caps.id + " (" +
                    caps.name + ", one buffer has at most " +
                    std::to_string(caps.max_buffer_bytes) + "): " + detail);
  }
  remember_host_address();
}

MetalBuffer::MetalBuffer(std::shared_ptr<Context> context, void* data, uint64_t size_bytes,
                         std::shared_ptr<void> owner)
    : Buffer(size_bytes), context_(std::move(context)), owner_(std::move(owner)) {
  const Pool pool;
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const std::string who = context_->caps().id;
  if (reinterpret_cast<uintptr_t>(data) % page != 0) {
    throw_unsupported(who + " uses host memory in place only from the start of a page of " +
                      std::to_string(page) + " bytes: allocate and copy instead");
  }
  // Metal wants whole pages; the rest of the last one is mapped as well.
  const uint64_t length = (size_bytes + page - 1) / page * page;
  if (length <= context_->caps().max_buffer_bytes) {
    // No deallocator: the queue keeps this object until its work is done, and `owner_` with it.
    native_ = own(context_->device()->newBuffer(data, length,
                                                tracked_options(MTL::StorageModeShared), nullptr));
  }
  if (!native_) {
    throw_unsupported(who + " cannot use " + std::to_string(size_bytes) +
                      " bytes of host memory in place: allocate and copy instead");
  }
  host_ = data;
}

MetalBuffer::MetalBuffer(std::shared_ptr<Context> context, MTL::Buffer* buffer)
    : Buffer(buffer->length()), context_(std::move(context)), native_(share(buffer)) {
  const Pool pool;
  remember_host_address();
}

MetalBuffer::~MetalBuffer() {
  const Pool pool;
  native_.reset();
}

void MetalBuffer::remember_host_address() {
  const MTL::StorageMode storage = native_->storageMode();
#if TARGET_OS_OSX
  managed_ = storage == MTL::StorageModeManaged;
#endif
  if (managed_ || storage == MTL::StorageModeShared) host_ = native_->contents();
}

bool MetalBuffer::host_write(uint64_t offset_bytes, const void* source, uint64_t size_bytes) {
  if (!host_) return false;
  std::memcpy(static_cast<std::byte*>(host_) + offset_bytes, source, size_bytes);
#if TARGET_OS_OSX
  if (managed_) native_->didModifyRange(NS::Range::Make(offset_bytes, size_bytes));
#endif
  return true;
}

}  // namespace dlk::metal
