// The Objective-C objects of the simulator: a class with method tables, an object with a retain
// count, and the ownership rules (pools, zombies). metal-cpp reaches them through objc_msgSend
// alone; the simulated classes of Foundation and Metal derive from Object.
//
// Ownership: make<T>() returns an object that its caller owns; autoreleased() gives that ownership
// to the innermost pool of the thread. Ref<T> is an owning pointer for members.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/metal_sim/report.h"

namespace metal_sim {

using UInt = unsigned long;  // NSUInteger
using Int = long;            // NSInteger
using Sel = const char*;     // interned, so that equal selectors are equal pointers

struct Class;

struct Object {
  Class* isa = nullptr;
  std::atomic<long> retain_count{1};
  std::atomic<bool> dead{false};

  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  /// Releases what the object holds when its last owner lets go. The object itself stays readable
  /// for a while as a zombie, so that a later message to it is reported.
  virtual void dispose() {}
  virtual ~Object() = default;
};

struct Class : Object {
  std::string name;
  Class* base = nullptr;
  std::unordered_map<Sel, void*> instance_methods, class_methods;
  std::atomic<long> live{0};
};

Sel intern(const char* name);
/// The class of that name; made, with NSObject as base, when it is asked for first.
Class* class_named(const char* name);
Class* find_class(const char* name);
bool responds(const Object* object, Sel selector);

Object* retain(Object* object);
void release(Object* object);
Object* autorelease(Object* object);
/// Opens a pool on this thread and returns its depth; `drain_pools` closes it and those inside it.
size_t push_pool();
void drain_pools(size_t depth);
size_t pool_depth();

/// Objects of a class that have not been released to zero.
long live_objects(const char* class_name);
/// "MTLBuffer=2 MTLHeap=1" of all classes whose names start with MTL.
std::string live_metal_objects();

template <class T>
T* make(const char* class_name) {
  T* object = new T;
  object->isa = class_named(class_name);
  object->isa->live.fetch_add(1);
  return object;
}

template <class T>
T* autoreleased(T* object) {
  autorelease(object);
  return object;
}

/// An owning pointer to a simulated object.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object) retain(object);
  }
  /// Takes over the ownership that the caller has.
  static Ref adopt(T* object) {
    Ref ref;
    ref.object_ = object;
    return ref;
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { reset(); }
  void reset() {
    if (T* object = std::exchange(object_, nullptr)) release(object);
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

/// Adds an instance method; `since` is the macOS version (major) that introduced it. A selector
/// newer than the simulated system is not there.
void add_method(const char* class_name, const char* selector, void* implementation, int since,
                bool of_class);

template <class R, class... A>
void method(const char* class_name, const char* selector, R (*implementation)(A...),
            int since = 10) {
  add_method(class_name, selector, reinterpret_cast<void*>(implementation), since, false);
}

template <class R, class... A>
void class_method(const char* class_name, const char* selector, R (*implementation)(A...),
                  int since = 10) {
  add_method(class_name, selector, reinterpret_cast<void*>(implementation), since, true);
}

/// alloc and init of a class without arguments.
template <class T>
void plain_class(const char* name) {
  class_method(
      name, "alloc", +[](Class* self, Sel) -> Object* { return make<T>(self->name.c_str()); });
  method(name, "init", +[](Object* self, Sel) { return self; });
}

}  // namespace metal_sim
