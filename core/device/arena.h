// Few large buffers instead of many small ones: hands out aligned views of chunks that respect
// Caps::max_buffer_bytes and Caps::max_binding_bytes. Used for weights and for activation plans.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/device/device.h"

namespace dlk {

inline constexpr uint64_t kArenaAlignment = 256;

class Arena {
 public:
  /// `chunk_bytes`: size of a new chunk; a larger request gets a chunk of its own.
  explicit Arena(std::shared_ptr<Device> device, uint64_t chunk_bytes = 64u << 20,
                 MemoryKind kind = MemoryKind::kDevice);
  /// A 256-byte aligned view. OutOfMemory names the request and the limit. Thread-safe.
  View allocate(uint64_t size_bytes);
  /// Bytes of all chunks.
  uint64_t reserved_bytes() const;

 private:
  std::shared_ptr<Device> device_;
  uint64_t chunk_bytes_;
  MemoryKind kind_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Buffer>> chunks_;
  uint64_t used_ = 0;  // of the last chunk
};

}  // namespace dlk
