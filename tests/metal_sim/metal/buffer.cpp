// MTLBuffer and MTLResource: storage modes, host pointers, adopted memory.
#include <unistd.h>

#include <cstring>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/objc/block.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

void check_options(UInt options) {
  const StorageMode mode = storage_of(options);
  if (mode == StorageMode::kMemoryless || options >> 12) {
    fatal("newBuffer: resource options 0x%lx are not valid for a buffer", options);
  }
}

bool too_large(uint64_t size) {
  if (size == 0) fatal("newBufferWithLength: the length is 0");
  return size > settings().profile->max_buffer_bytes || fault_due("out-of-memory");
}

Object* make_buffer(Device*, Sel, UInt length, UInt options) { return new_buffer(length, options); }

Object* make_buffer_with_bytes(Device*, Sel, const void* bytes, UInt length, UInt options) {
  Buffer* buffer = new_buffer(length, options);
  if (!buffer) return nullptr;
  if (storage_of(options) == StorageMode::kPrivate) {
    fatal("newBufferWithBytes: private storage cannot be initialised from bytes");
  }
  std::memcpy(buffer->gpu(), bytes, length);
  if (!buffer->host_copy.empty()) std::memcpy(buffer->host_copy.data(), bytes, length);
  return buffer;
}

Object* adopt_bytes(Device*, Sel, void* bytes, UInt length, UInt options, void* deallocator) {
  const auto page = static_cast<uint64_t>(::getpagesize());
  if (reinterpret_cast<uintptr_t>(bytes) % page || length % page || length == 0) {
    fatal("newBufferWithBytesNoCopy: pointer %p and length %lu must be multiples of the page",
          bytes, length);
  }
  if (storage_of(options) != StorageMode::kShared) {
    fatal("newBufferWithBytesNoCopy: the storage mode must be shared");
  }
  check_options(options);
  if (too_large(length)) return nullptr;
  auto* buffer = make<Buffer>("MTLBuffer");
  buffer->size = length;
  buffer->options = options;
  void* block = deallocator ? _Block_copy(deallocator) : nullptr;
  buffer->memory = std::make_shared<Allocation>(bytes, length, [=] {
    if (!block) return;
    using Invoke = void (*)(void*, void*, UInt);
    reinterpret_cast<Invoke>(static_cast<BlockLayout*>(block)->invoke)(block, bytes, length);
    _Block_release(block);
  });
  buffer->memory->tracked = hazard_mode_of(options) != kUntracked;
  return buffer;
}

void did_modify(Buffer* self, Sel, UInt location, UInt length) {
  if (self->host_copy.empty()) {
    problem("didModifyRange: the buffer's storage is not managed");
    return;
  }
  if (location + length > self->size)
    fatal("didModifyRange: beyond the buffer's %lu bytes", static_cast<UInt>(self->size));
  std::memcpy(self->gpu() + location, self->host_copy.data() + location, length);
}

struct Range2 {
  UInt location, length;
};

}  // namespace

void* Buffer::contents() {
  if (storage_of(options) == StorageMode::kPrivate) {
    problem("contents of a private buffer is nil");
    return nullptr;
  }
  return host_copy.empty() ? gpu() : host_copy.data();
}

void Buffer::dispose() {
  if (heap) {
    heap->give_back(offset);
    heap.reset();
  }
  memory.reset();
  host_copy.clear();
  host_copy.shrink_to_fit();
  DeviceObject::dispose();
}

Buffer* new_buffer(uint64_t size, UInt options) {
  check_options(options);
  if (too_large(size)) return nullptr;
  auto* buffer = make<Buffer>("MTLBuffer");
  buffer->memory = std::make_shared<Allocation>(size);
  buffer->memory->tracked = hazard_mode_of(options) != kUntracked;
  buffer->size = size;
  buffer->options = options;
  if (storage_of(options) == StorageMode::kManaged) {
    buffer->host_copy.assign(buffer->gpu(), buffer->gpu() + size);
  }
  return buffer;
}

void install_buffers() {
  method("MTLDevice", "newBufferWithLength:options:", make_buffer);
  method("MTLDevice", "newBufferWithBytes:length:options:", make_buffer_with_bytes);
  method("MTLDevice", "newBufferWithBytesNoCopy:length:options:deallocator:", adopt_bytes);
  method("MTLBuffer", "contents", +[](Buffer* self, Sel) { return self->contents(); });
  method("MTLBuffer", "length", +[](Buffer* self, Sel) -> UInt { return self->size; });
  method(
      "MTLBuffer", "gpuAddress",
      +[](Buffer* self, Sel) { return reinterpret_cast<uint64_t>(self->gpu()); }, 13);
  method(
      "MTLBuffer", "didModifyRange:", +[](Buffer* self, Sel selector, Range2 range) {
        did_modify(self, selector, range.location, range.length);
      });
  method("MTLBuffer", "storageMode", +[](Buffer* self, Sel) { return (self->options >> 4) & 15; });
  method("MTLBuffer", "allocatedSize", +[](Buffer* self, Sel) -> UInt { return self->size; });
  method("MTLBuffer", "resourceOptions", +[](Buffer* self, Sel) { return self->options; });
  method(
      "MTLBuffer", "hazardTrackingMode",
      +[](Buffer* self, Sel) { return self->memory->tracked ? kTracked : kUntracked; });
  method("MTLBuffer", "heap", +[](Buffer* self, Sel) { return self->heap.get(); });
  method("MTLBuffer", "heapOffset", +[](Buffer* self, Sel) -> UInt { return self->offset; });
  method("MTLBuffer", "isAliasable", +[](Buffer*, Sel) { return false; });
  method(
      "MTLBuffer", "makeAliasable", +[](Buffer* self, Sel) {
        if (!self->heap) fatal("makeAliasable: the buffer is not on a heap");
        self->heap->give_back(self->offset);
      });
}

}  // namespace metal_sim
