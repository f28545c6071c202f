// The classes of Foundation that a Metal program meets: strings, errors, arrays, URLs.
#pragma once

#include <string>
#include <vector>

#include "tests/metal_sim/objc/object.h"

namespace metal_sim {

struct String : Object {
  std::string text;
};

struct Error : Object {
  Int code = 0;
  Ref<String> domain, description;
  void dispose() override;
};

struct Array : Object {
  std::vector<Ref<Object>> items;
  void dispose() override { items.clear(); }
};

struct Url : Object {
  std::string path;
};

/// Autoreleased, as Foundation's convenience constructors are.
String* string_of(const std::string& text);
Error* error_of(const char* domain, Int code, const std::string& description);

void install_foundation();

}  // namespace metal_sim
