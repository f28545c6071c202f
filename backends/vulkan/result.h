// VkResult codes as dlk::Error: `check(result, "vkCall")` is how every call of this backend is
// made. The message carries Vulkan's own name of the code.
#pragma once

#include <string>

#include "backends/vulkan/vk.h"
#include "core/base/error.h"

namespace dlk::vulkan {

std::string result_name(VkResult result);
Error make_error(VkResult result, const std::string& what);

inline void check(VkResult result, const char* what) {
  if (result < 0) throw make_error(result, what);
}

}  // namespace dlk::vulkan
