#include "tests/metal_sim/objc/foundation.h"

#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

/// NSAutoreleasePool. Releasing or draining it closes the pools inside it too.
struct Pool : Object {
  size_t depth = 0;
  void dispose() override {
    if (depth) drain_pools(depth);
  }
};

struct OperatingSystemVersion {
  Int major, minor, patch;
};

Object* make_string(Class*, Sel, const char* text, UInt) {
  if (!text) fatal("+[NSString stringWithCString:encoding:]: text is NULL");
  return string_of(text);
}

Object* make_array(Class*, Sel, Object* const* items, UInt count) {
  auto* array = autoreleased(make<Array>("NSArray"));
  for (UInt i = 0; i < count; ++i) {
    if (!items[i]) fatal("+[NSArray arrayWithObjects:count:]: object %lu is nil", i);
    array->items.emplace_back(items[i]);
  }
  return array;
}

void install_object() {
  method("NSObject", "retain", +[](Object* self, Sel) { return retain(self); });
  method("NSObject", "release", +[](Object* self, Sel) { release(self); });
  method("NSObject", "autorelease", +[](Object* self, Sel) { return autorelease(self); });
  method(
      "NSObject", "retainCount",
      +[](Object* self, Sel) { return static_cast<UInt>(self->retain_count.load()); });
  method(
      "NSObject",
      "respondsToSelector:", +[](Object* self, Sel, Sel wanted) { return responds(self, wanted); });
  method(
      "NSObject",
      "methodSignatureForSelector:", +[](Object*, Sel, Sel) -> Object* { return nullptr; });
  method(
      "NSObject", "description",
      +[](Object* self, Sel) -> Object* { return string_of("<" + self->isa->name + ">"); });
}

void install_pool() {
  plain_class<Pool>("NSAutoreleasePool");
  method(
      "NSAutoreleasePool", "init", +[](Pool* self, Sel) -> Object* {
        self->depth = push_pool();
        return self;
      });
  method("NSAutoreleasePool", "drain", +[](Object* self, Sel) { release(self); });
}

void install_strings() {
  class_method("NSString", "stringWithCString:encoding:", make_string);
  class_method(
      "NSString", "stringWithUTF8String:", +[](Class* self, Sel selector, const char* text) {
        return make_string(self, selector, text, 4);
      });
  method("NSString", "UTF8String", +[](String* self, Sel) { return self->text.c_str(); });
  method(
      "NSString", "length",
      +[](String* self, Sel) { return static_cast<UInt>(self->text.size()); });
  method(
      "NSString", "isEqualToString:", +[](String* self, Sel, String* other) {
        return other && self->text == other->text;
      });
  method(
      "NSError", "localizedDescription", +[](Error* self, Sel) { return self->description.get(); });
  method("NSError", "domain", +[](Error* self, Sel) { return self->domain.get(); });
  method("NSError", "code", +[](Error* self, Sel) { return self->code; });
}

void install_collections() {
  class_method(
      "NSArray", "array",
      +[](Class*, Sel) -> Object* { return autoreleased(make<Array>("NSArray")); });
  class_method(
      "NSArray", "arrayWithObject:", +[](Class* self, Sel selector, Object* item) {
        return make_array(self, selector, &item, 1);
      });
  class_method("NSArray", "arrayWithObjects:count:", make_array);
  method(
      "NSArray", "count", +[](Array* self, Sel) { return static_cast<UInt>(self->items.size()); });
  method(
      "NSArray", "objectAtIndex:", +[](Array* self, Sel, UInt index) {
        if (index >= self->items.size()) {
          fatal("-[NSArray objectAtIndex:]: index %lu beyond count %zu", index, self->items.size());
        }
        return self->items[index].get();
      });
}

void install_system() {
  class_method(
      "NSURL", "fileURLWithPath:", +[](Class*, Sel, String* path) -> Object* {
        auto* url = autoreleased(make<Url>("NSURL"));
        url->path = path->text;
        return url;
      });
  class_method(
      "NSProcessInfo", "processInfo", +[](Class*, Sel) -> Object* {
        static Object* info = make<Object>("NSProcessInfo");
        return info;
      });
  method(
      "NSProcessInfo", "operatingSystemVersion",
      +[](Object*, Sel) { return OperatingSystemVersion{settings().macos_major, 0, 0}; });
  method(
      "NSProcessInfo", "operatingSystemVersionString", +[](Object*, Sel) -> Object* {
        return string_of("Version " + std::to_string(settings().macos_major) + ".0 (simulated)");
      });
  method(
      "NSProcessInfo",
      "isOperatingSystemAtLeastVersion:", +[](Object*, Sel, OperatingSystemVersion wanted) {
        return wanted.major < settings().macos_major ||
               (wanted.major == settings().macos_major && wanted.minor == 0 && wanted.patch == 0);
      });
}

}  // namespace

void Error::dispose() {
  domain.reset();
  description.reset();
}

String* string_of(const std::string& text) {
  auto* string = autoreleased(make<String>("NSString"));
  string->text = text;
  return string;
}

Error* error_of(const char* domain, Int code, const std::string& description) {
  auto* error = autoreleased(make<Error>("NSError"));
  error->code = code;
  error->domain = Ref<String>::adopt(make<String>("NSString"));
  error->domain->text = domain;
  error->description = Ref<String>::adopt(make<String>("NSString"));
  error->description->text = description;
  return error;
}

void install_foundation() {
  install_object();
  install_pool();
  install_strings();
  install_collections();
  install_system();
}

}  // namespace metal_sim
