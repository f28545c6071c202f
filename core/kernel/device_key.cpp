#include "core/kernel/device_key.h"

#include "core/kernel/dialect.h"

namespace dlk {

std::string device_key(const Caps& caps) {
  std::string text = "dlk " DLK_VERSION "|glslang " + glslang_version() + "|" + caps.backend + "|" +
                     caps.name + "|" + caps.vendor + "|" + caps.driver + "|" + caps.api_version;
  for (const auto& [name, value] : caps_flags(caps)) {
    if (value) text += "|" + name;
  }
  for (const uint32_t limit : {caps.max_push_bytes, caps.local_memory_bytes, caps.subgroup_size,
                               caps.max_group_invocations, caps.vector_width}) {
    text += "|" + std::to_string(limit);
  }
  return text;
}

}  // namespace dlk
