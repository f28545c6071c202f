// Selectors, classes and message lookup: the part of libobjc that metal-cpp calls.
#include <cstring>
#include <map>
#include <mutex>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/objc/object.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

struct Tables {
  std::mutex mutex;
  std::unordered_map<std::string, const char*> selectors;
  std::map<std::string, Class*> classes;
};

Tables& tables() {
  static Tables* tables = new Tables;
  return *tables;
}

void install_classes() {
  static std::once_flag once;
  std::call_once(once, [] { install_all_classes(); });
}

/// What a message to nil runs: returns 0 in every register that holds a result.
__attribute__((naked)) void nil_method() {
  asm("xor %eax, %eax\n xor %edx, %edx\n pxor %xmm0, %xmm0\n pxor %xmm1, %xmm1\n ret\n");
}

void* find_method(const Class* type, Sel selector, bool of_class) {
  for (; type; type = type->base) {
    const auto& methods = of_class ? type->class_methods : type->instance_methods;
    if (const auto found = methods.find(selector); found != methods.end()) return found->second;
  }
  return nullptr;
}

}  // namespace

Sel intern(const char* name) {
  const std::lock_guard lock(tables().mutex);
  const char*& text = tables().selectors[name];
  if (!text) text = ::strdup(name);
  return text;
}

Class* class_named(const char* name) {
  const std::lock_guard lock(tables().mutex);
  Class*& type = tables().classes[name];
  if (!type) {
    type = new Class;
    type->name = name;
    if (std::strcmp(name, "NSObject") != 0) {
      Class*& base = tables().classes["NSObject"];
      if (!base) {
        base = new Class;
        base->name = "NSObject";
      }
      type->base = base;
    }
  }
  return type;
}

Class* find_class(const char* name) {
  install_classes();
  const std::lock_guard lock(tables().mutex);
  const auto found = tables().classes.find(name);
  return found == tables().classes.end() ? nullptr : found->second;
}

void add_method(const char* class_name, const char* selector, void* implementation, int since,
                bool of_class) {
  if (since > settings().macos_major) return;
  Class* type = class_named(class_name);
  (of_class ? type->class_methods : type->instance_methods)[intern(selector)] = implementation;
}

bool responds(const Object* object, Sel selector) {
  if (!object) return false;
  return object->isa ? find_method(object->isa, selector, false) != nullptr
                     : find_method(static_cast<const Class*>(object), selector, true) != nullptr;
}

long live_objects(const char* class_name) {
  const Class* type = find_class(class_name);
  return type ? type->live.load() : 0;
}

std::string live_metal_objects() {
  const std::lock_guard lock(tables().mutex);
  std::string text;
  for (const auto& [name, type] : tables().classes) {
    if (name.rfind("MTL", 0) != 0 || type->live.load() == 0) continue;
    if (!text.empty()) text += ' ';
    text += name + '=' + std::to_string(type->live.load());
  }
  return text;
}

}  // namespace metal_sim

using metal_sim::Class;
using metal_sim::Object;
using metal_sim::Sel;

extern "C" {

/// Called by objc_msgSend: the function that implements `selector` for the receiver.
[[gnu::used]] void* metal_sim_lookup(Object* receiver, Sel selector) {
  if (!receiver) {
    if (std::strcmp(selector, "release") != 0 && std::strcmp(selector, "retain") != 0) {
      metal_sim::problem("message '%s' sent to nil", selector);
    }
    return reinterpret_cast<void*>(&metal_sim::nil_method);
  }
  const bool of_class = receiver->isa == nullptr;
  const Class* type = of_class ? static_cast<const Class*>(receiver) : receiver->isa;
  if (receiver->dead.load()) {
    metal_sim::fatal("-[%s %s]: message sent to deallocated instance %p", type->name.c_str(),
                     selector, static_cast<void*>(receiver));
  }
  if (void* found = metal_sim::find_method(type, selector, of_class)) return found;
  metal_sim::fatal("%c[%s %s]: unrecognized selector sent to instance %p (macOS %d model)",
                   of_class ? '+' : '-', type->name.c_str(), selector, static_cast<void*>(receiver),
                   metal_sim::settings().macos_major);
}

Sel sel_registerName(const char* name) { return metal_sim::intern(name); }
const char* sel_getName(Sel selector) { return selector; }
void* objc_lookUpClass(const char* name) { return metal_sim::find_class(name); }
void* objc_getProtocol(const char*) { return nullptr; }

long metal_sim_live_objects(const char* class_name) { return metal_sim::live_objects(class_name); }

}  // extern "C"
