// Memory of the null device: host memory.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace dlk::null_backend {

class NullBuffer : public Buffer {
 public:
  /// Throws OutOfMemory.
  explicit NullBuffer(uint64_t size_bytes);
  /// Uses the caller's memory and keeps `owner` as long as the buffer lives.
  NullBuffer(void* data, uint64_t size_bytes, std::shared_ptr<void> owner);
  void* host_pointer() noexcept override { return data_; }

 private:
  std::shared_ptr<void> owner_;
  void* data_;
};

/// The bytes of a view.
std::byte* bytes_of(const View& view);

}  // namespace dlk::null_backend
