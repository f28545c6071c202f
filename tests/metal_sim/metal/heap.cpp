// MTLHeap: one allocation that buffers share. Buffers made aliasable, and buffers of a placement
// heap, may stand on the same bytes; the shadow is the heap's, so conflicts between them show.
#include <algorithm>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

constexpr uint64_t kAlignment = 256;

struct SizeAndAlign {
  UInt size, alignment;
};

uint64_t aligned(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

Object* make_heap(Device*, Sel, HeapDescriptor* descriptor) {
  if (!descriptor) fatal("newHeapWithDescriptor: the descriptor is nil");
  if (!descriptor->size) fatal("newHeapWithDescriptor: the size is 0");
  if (descriptor->size > settings().profile->max_buffer_bytes || fault_due("out-of-memory")) {
    return nullptr;
  }
  if (descriptor->storage == static_cast<UInt>(StorageMode::kManaged)) {
    fatal("newHeapWithDescriptor: heaps cannot have managed storage");
  }
  auto* heap = make<Heap>("MTLHeap");
  heap->memory = std::make_shared<Allocation>(descriptor->size);
  heap->memory->tracked = descriptor->hazard_mode == kTracked;
  heap->storage = descriptor->storage;
  heap->hazard_mode = descriptor->hazard_mode == kTracked ? kTracked : kUntracked;
  heap->type = descriptor->type;
  return heap;
}

Buffer* place(Heap* heap, uint64_t offset, UInt length, UInt options) {
  auto* buffer = make<Buffer>("MTLBuffer");
  buffer->memory = heap->memory;
  buffer->offset = offset;
  buffer->size = length;
  buffer->options = options;
  buffer->heap = Ref<Heap>(heap);
  if (heap->type == 0) {
    heap->memory->poison(offset, offset + length);
    heap->memory->forget(offset, offset + aligned(length, kAlignment));
  }
  return buffer;
}

void check_modes(const Heap* heap, UInt options) {
  if (((options >> 4) & 15) != heap->storage) {
    fatal("newBuffer on a heap: storage mode %lu differs from the heap's %lu", (options >> 4) & 15,
          heap->storage);
  }
  const UInt hazards = hazard_mode_of(options);
  if (hazards != 0 && hazards != heap->hazard_mode) {
    fatal("newBuffer on a heap: hazard tracking mode %lu differs from the heap's %lu", hazards,
          heap->hazard_mode);
  }
}

Object* heap_buffer(Heap* self, Sel, UInt length, UInt options) {
  check_modes(self, options);
  if (self->type != 0) fatal("newBufferWithLength:options: needs a heap of automatic placement");
  if (!length) fatal("newBufferWithLength: the length is 0");
  if (fault_due("out-of-memory")) return nullptr;
  const auto offset = self->take(length, kAlignment);
  return offset ? place(self, *offset, length, options) : nullptr;
}

Object* heap_buffer_at(Heap* self, Sel, UInt length, UInt options, UInt offset) {
  check_modes(self, options);
  if (self->type != 1) fatal("newBufferWithLength:options:offset: needs a placement heap");
  if (offset % kAlignment || offset + length > self->memory->size()) {
    fatal("newBufferWithLength:options:offset: %lu + %lu does not fit the heap's %lu bytes", offset,
          length, static_cast<UInt>(self->memory->size()));
  }
  return place(self, offset, length, options);
}

UInt max_available(Heap* self, Sel, UInt alignment) {
  const std::lock_guard lock(self->mutex);
  uint64_t best = 0, at = 0;
  const auto consider = [&](uint64_t end) {
    const uint64_t begin = aligned(at, std::max<uint64_t>(alignment, 1));
    if (end > begin) best = std::max(best, end - begin);
  };
  for (const Heap::Range& range : self->used) {
    consider(range.begin);
    at = range.end;
  }
  consider(self->memory->size());
  return best;
}

}  // namespace

void Heap::dispose() {
  memory.reset();
  DeviceObject::dispose();
}

uint64_t Heap::used_bytes() {
  const std::lock_guard lock(mutex);
  uint64_t sum = 0;
  for (const Range& range : used) sum += range.end - range.begin;
  return sum;
}

std::optional<uint64_t> Heap::take(uint64_t size, uint64_t alignment) {
  const std::lock_guard lock(mutex);
  const uint64_t wanted = aligned(size, alignment);
  uint64_t at = 0;
  auto next = used.begin();
  for (; next != used.end() && at + wanted > next->begin; ++next)
    at = aligned(next->end, alignment);
  if (at + wanted > memory->size()) return std::nullopt;
  used.insert(next, {at, at + wanted});
  return at;
}

void Heap::give_back(uint64_t begin) {
  const std::lock_guard lock(mutex);
  const auto found = std::find_if(used.begin(), used.end(),
                                  [&](const Range& range) { return range.begin == begin; });
  if (found != used.end()) used.erase(found);
}

void install_heaps() {
  plain_class<HeapDescriptor>("MTLHeapDescriptor");
  method(
      "MTLHeapDescriptor",
      "setSize:", +[](HeapDescriptor* self, Sel, UInt size) { self->size = size; });
  method(
      "MTLHeapDescriptor",
      "setStorageMode:", +[](HeapDescriptor* self, Sel, UInt mode) { self->storage = mode; });
  method(
      "MTLHeapDescriptor", "setHazardTrackingMode:", +[](HeapDescriptor* self, Sel, UInt mode) {
        self->hazard_mode = mode;
      });
  method(
      "MTLHeapDescriptor",
      "setType:", +[](HeapDescriptor* self, Sel, UInt type) { self->type = type; });
  method(
      "MTLHeapDescriptor", "setResourceOptions:", +[](HeapDescriptor* self, Sel, UInt options) {
        self->storage = (options >> 4) & 15;
        self->hazard_mode = hazard_mode_of(options);
      });
  method("MTLDevice", "newHeapWithDescriptor:", make_heap);
  method(
      "MTLDevice",
      "heapBufferSizeAndAlignWithLength:options:", +[](Device*, Sel, UInt length, UInt) {
        return SizeAndAlign{aligned(length, kAlignment), kAlignment};
      });
  method("MTLHeap", "newBufferWithLength:options:", heap_buffer);
  method("MTLHeap", "newBufferWithLength:options:offset:", heap_buffer_at);
  method("MTLHeap", "maxAvailableSizeWithAlignment:", max_available);
  method("MTLHeap", "usedSize", +[](Heap* self, Sel) -> UInt { return self->used_bytes(); });
  method("MTLHeap", "size", +[](Heap* self, Sel) -> UInt { return self->memory->size(); });
  method("MTLHeap", "storageMode", +[](Heap* self, Sel) { return self->storage; });
  method("MTLHeap", "hazardTrackingMode", +[](Heap* self, Sel) { return self->hazard_mode; });
}

}  // namespace metal_sim
