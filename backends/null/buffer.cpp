#include "backends/null/buffer.h"

#include <cstdlib>

namespace dlk::null_backend {

NullBuffer::NullBuffer(uint64_t size_bytes)
    : Buffer(size_bytes), owner_(std::malloc(size_bytes), std::free), data_(owner_.get()) {
  if (!data_) {
    throw Error(ErrorCode::kOutOfMemory,
                "cannot allocate " + std::to_string(size_bytes) + " bytes of host memory");
  }
}

NullBuffer::NullBuffer(void* data, uint64_t size_bytes, std::shared_ptr<void> owner)
    : Buffer(size_bytes), owner_(std::move(owner)), data_(data) {}

std::byte* bytes_of(const View& view) {
  return static_cast<std::byte*>(view.buffer->host_pointer()) + view.offset_bytes;
}

}  // namespace dlk::null_backend
