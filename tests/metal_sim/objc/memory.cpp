// Retain counts, autorelease pools and zombies.
#include <deque>
#include <mutex>

#include "tests/metal_sim/objc/object.h"

namespace metal_sim {

namespace {

thread_local std::vector<std::vector<Object*>> pools;

/// Dead objects are kept so that a late message is recognised, but not for ever.
constexpr size_t kZombies = 100000;

void keep_as_zombie(Object* object) {
  static std::mutex* mutex = new std::mutex;
  static auto* zombies = new std::deque<Object*>;
  Object* oldest = nullptr;
  {
    const std::lock_guard lock(*mutex);
    zombies->push_back(object);
    if (zombies->size() > kZombies) {
      oldest = zombies->front();
      zombies->pop_front();
    }
  }
  delete oldest;
}

}  // namespace

Object* retain(Object* object) {
  if (object->dead.load()) fatal("retain of a deallocated %s", object->isa->name.c_str());
  object->retain_count.fetch_add(1);
  return object;
}

void release(Object* object) {
  if (object->dead.load()) fatal("over-release of a deallocated %s", object->isa->name.c_str());
  if (object->retain_count.fetch_sub(1) != 1) return;
  object->dispose();
  object->dead.store(true);
  object->isa->live.fetch_sub(1);
  keep_as_zombie(object);
}

Object* autorelease(Object* object) {
  if (object->dead.load()) fatal("autorelease of a deallocated %s", object->isa->name.c_str());
  if (pools.empty()) {
    problem("%s autoreleased with no pool in place: it leaks", object->isa->name.c_str());
  } else {
    pools.back().push_back(object);
  }
  return object;
}

size_t push_pool() {
  pools.emplace_back();
  return pools.size();
}

void drain_pools(size_t depth) {
  while (pools.size() >= depth && !pools.empty()) {
    const std::vector<Object*> objects = std::move(pools.back());
    pools.pop_back();
    for (Object* object : objects) release(object);
  }
}

size_t pool_depth() { return pools.size(); }

}  // namespace metal_sim
