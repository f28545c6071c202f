#include "backends/metal/heap.h"

#include "backends/metal/context.h"

namespace dlk::metal {

namespace {

constexpr uint64_t kHeapBytes = uint64_t{8} << 20;
constexpr uint64_t kLargestFromHeap = uint64_t{256} << 10;

}  // namespace

MTL::ResourceOptions tracked_options(MTL::StorageMode storage) {
  return (static_cast<MTL::ResourceOptions>(storage) << 4) | MTL::ResourceHazardTrackingModeTracked;
}

HeapPool::HeapPool(MTL::Device* device, MTL::StorageMode storage)
    : device_(device),
      storage_(storage),
      enabled_(storage != MTL::StorageModeManaged && environment_flag("DLK_METAL_HEAPS", true)) {}

HeapPool::~HeapPool() {
  const Pool pool;
  heaps_.clear();
}

Ref<MTL::Heap> HeapPool::new_heap() {
  const auto descriptor = own(MTL::HeapDescriptor::alloc()->init());
  descriptor->setSize(kHeapBytes);
  descriptor->setStorageMode(storage_);
  // The default of heaps is untracked, which leaves work of different encoders unordered.
  descriptor->setHazardTrackingMode(MTL::HazardTrackingModeTracked);
  return own(device_->newHeap(descriptor.get()));
}

Ref<MTL::Buffer> HeapPool::allocate(uint64_t size_bytes) {
  if (!enabled_ || size_bytes > kLargestFromHeap) return {};
  const MTL::ResourceOptions options = tracked_options(storage_);
  const MTL::SizeAndAlign need = device_->heapBufferSizeAndAlign(size_bytes, options);
  const std::lock_guard lock(mutex_);
  for (const auto& heap : heaps_) {
    if (heap->maxAvailableSize(need.align) < need.size) continue;
    if (auto buffer = own(heap->newBuffer(size_bytes, options))) return buffer;
  }
  auto heap = new_heap();
  if (!heap) {
    enabled_ = false;  // this device has no heaps of this storage
    return {};
  }
  heaps_.push_back(std::move(heap));
  return own(heaps_.back()->newBuffer(size_bytes, options));
}

}  // namespace dlk::metal
