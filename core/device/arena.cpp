#include "core/device/arena.h"

#include <algorithm>
#include <limits>

namespace dlk {

Arena::Arena(std::shared_ptr<Device> device, uint64_t chunk_bytes, MemoryKind kind)
    : device_(std::move(device)), chunk_bytes_(chunk_bytes), kind_(kind) {}

View Arena::allocate(uint64_t size_bytes) {
  const Caps& caps = device_->caps();
  const uint64_t limit = std::min(caps.max_buffer_bytes, caps.max_binding_bytes);
  if (size_bytes > limit) {
    throw Error(ErrorCode::kOutOfMemory,
                "cannot allocate " + std::to_string(size_bytes) + " bytes on " + caps.id +
                    ": one buffer that a kernel can use has at most " + std::to_string(limit));
  }
  const std::lock_guard lock(mutex_);
  const auto align_up = [](uint64_t n) {
    return (n + kArenaAlignment - 1) & ~(kArenaAlignment - 1);
  };
  if (!chunks_.empty()) {
    const uint64_t capacity = chunks_.back()->size_bytes();
    if (used_ <= capacity && size_bytes <= capacity - used_) {
      const uint64_t offset = used_;
      used_ = align_up(used_ + std::max<uint64_t>(size_bytes, 1));
      return {chunks_.back(), offset, size_bytes};
    }
  }
  const uint64_t wanted = std::max<uint64_t>(size_bytes, 4);
  if (wanted >= chunk_bytes_) {
    // A chunk of its own, put before the current one, which still has room.
    auto own = device_->allocate(wanted, kind_);
    const bool first = chunks_.empty();
    chunks_.insert(first ? chunks_.end() : chunks_.end() - 1, own);
    if (first) used_ = align_up(wanted);
    return {std::move(own), 0, size_bytes};
  }
  chunks_.push_back(device_->allocate(std::min(chunk_bytes_, caps.max_buffer_bytes), kind_));
  used_ = align_up(wanted);
  return {chunks_.back(), 0, size_bytes};
}

uint64_t Arena::reserved_bytes() const {
  const std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (const auto& chunk : chunks_) sum += chunk->size_bytes();
  return sum;
}

}  // namespace dlk
