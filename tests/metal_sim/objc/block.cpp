#include "tests/metal_sim/objc/block.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/metal_sim/report.h"

using metal_sim::BlockLayout;

namespace {

constexpr int kHasCopyDispose = 1 << 25;
constexpr int kFieldIsBlock = 7, kFieldIsByref = 8;

/// A variable that a block captured by reference (`__block`).
struct Byref {
  void* isa;
  Byref* forwarding;
  int flags, size;
  void (*keep)(void*, void*);
  void (*destroy)(void*);
};

/// The number of owners of each heap copy, of blocks and of captured variables.
struct Copies {
  std::mutex mutex;
  std::map<const void*, int> owners;
};

Copies& copies() {
  static Copies* copies = new Copies;
  return *copies;
}

bool add_owner(const void* copy) {
  const std::lock_guard lock(copies().mutex);
  const auto found = copies().owners.find(copy);
  if (found == copies().owners.end()) return false;
  ++found->second;
  return true;
}

void new_copy(const void* copy, int owners) {
  const std::lock_guard lock(copies().mutex);
  copies().owners[copy] = owners;
}

/// True where the last owner let go.
bool drop_owner(const void* copy) {
  const std::lock_guard lock(copies().mutex);
  const auto found = copies().owners.find(copy);
  if (found == copies().owners.end()) return false;
  if (--found->second > 0) return false;
  copies().owners.erase(found);
  return true;
}

void release_byref(Byref* variable) {
  Byref* heap = variable->forwarding;
  if (!drop_owner(heap)) return;
  if (heap->flags & kHasCopyDispose) heap->destroy(heap);
  std::free(heap);
}

}  // namespace

void metal_sim::call_block(void* block, void* argument) {
  using Invoke = void (*)(void*, void*);
  reinterpret_cast<Invoke>(static_cast<BlockLayout*>(block)->invoke)(block, argument);
}

extern "C" {

void* _NSConcreteStackBlock[32];
void* _NSConcreteGlobalBlock[32];

void* _Block_copy(const void* block) {
  const auto* source = static_cast<const BlockLayout*>(block);
  if (!source || source->isa == _NSConcreteGlobalBlock) return const_cast<void*>(block);
  if (add_owner(block)) return const_cast<void*>(block);
  auto* copy = static_cast<BlockLayout*>(std::malloc(source->descriptor->size));
  std::memcpy(static_cast<void*>(copy), source, source->descriptor->size);
  if (source->flags & kHasCopyDispose) source->descriptor->copy(copy, source);
  new_copy(copy, 1);
  return copy;
}

void _Block_release(const void* block) {
  if (!block || !drop_owner(block)) return;
  auto* copy = static_cast<BlockLayout*>(const_cast<void*>(block));
  if (copy->flags & kHasCopyDispose) copy->descriptor->dispose(copy);
  std::free(copy);
}

void _Block_object_assign(void* destination, const void* source, int flags) {
  if (flags & kFieldIsByref) {
    auto* variable = static_cast<Byref*>(const_cast<void*>(source));
    if (!add_owner(variable->forwarding)) {
      auto* heap = static_cast<Byref*>(std::malloc(static_cast<size_t>(variable->size)));
      std::memcpy(static_cast<void*>(heap), variable, static_cast<size_t>(variable->size));
      heap->forwarding = heap;
      if (variable->flags & kHasCopyDispose) variable->keep(heap, variable);
      variable->forwarding = heap;
      new_copy(heap, 2);  // The block's and the stack frame's.
    }
    *static_cast<Byref**>(destination) = variable->forwarding;
  } else if ((flags & 15) == kFieldIsBlock) {
    *static_cast<void**>(destination) = _Block_copy(source);
  } else {
    *static_cast<const void**>(destination) = source;
  }
}

void _Block_object_dispose(const void* object, int flags) {
  if (flags & kFieldIsByref) {
    release_byref(static_cast<Byref*>(const_cast<void*>(object)));
  } else if ((flags & 15) == kFieldIsBlock) {
    _Block_release(object);
  }
}

}  // extern "C"
