// Small buffers from few allocations: MTLHeaps of some megabytes, which buffers are cut from. The
// heaps are hazard-tracked like ordinary buffers. Thread-safe.
#pragma once

#include <mutex>
#include <vector>

#include "backends/metal/metal.h"

namespace dlk::metal {

class HeapPool {
 public:
  /// Heaps of a storage mode that has none (managed), or with DLK_METAL_HEAPS=0, give no buffers.
  HeapPool(MTL::Device* device, MTL::StorageMode storage);
  ~HeapPool();
  HeapPool(const HeapPool&) = delete;
  HeapPool& operator=(const HeapPool&) = delete;
  /// A tracked buffer, or null where one of this size is better allocated by itself.
  Ref<MTL::Buffer> allocate(uint64_t size_bytes);

 private:
  Ref<MTL::Heap> new_heap();

  MTL::Device* device_;
  MTL::StorageMode storage_;
  bool enabled_;
  std::mutex mutex_;
  std::vector<Ref<MTL::Heap>> heaps_;
};

/// Resource options of a hazard-tracked buffer.
MTL::ResourceOptions tracked_options(MTL::StorageMode storage);

}  // namespace dlk::metal
