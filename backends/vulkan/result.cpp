#include "backends/vulkan/result.h"

namespace dlk::vulkan {

std::string result_name(VkResult result) {
  switch (result) {
#define DLK_VK_NAME(name) \
  case name:              \
    return #name;
    DLK_VK_NAME(VK_SUCCESS)
    DLK_VK_NAME(VK_NOT_READY)
    DLK_VK_NAME(VK_TIMEOUT)
    DLK_VK_NAME(VK_INCOMPLETE)
    DLK_VK_NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
    DLK_VK_NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
    DLK_VK_NAME(VK_ERROR_INITIALIZATION_FAILED)
    DLK_VK_NAME(VK_ERROR_DEVICE_LOST)
    DLK_VK_NAME(VK_ERROR_MEMORY_MAP_FAILED)
    DLK_VK_NAME(VK_ERROR_LAYER_NOT_PRESENT)
    DLK_VK_NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
    DLK_VK_NAME(VK_ERROR_FEATURE_NOT_PRESENT)
    DLK_VK_NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
    DLK_VK_NAME(VK_ERROR_TOO_MANY_OBJECTS)
    DLK_VK_NAME(VK_ERROR_FRAGMENTED_POOL)
    DLK_VK_NAME(VK_ERROR_UNKNOWN)
    DLK_VK_NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
    DLK_VK_NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE)
    DLK_VK_NAME(VK_ERROR_INVALID_SHADER_NV)
#undef DLK_VK_NAME
    default:
      return "VkResult " + std::to_string(static_cast<int>(result));
  }
}

Error make_error(VkResult result, const std::string& what) {
  const std::string message = "Vulkan: " + what + " failed: " + result_name(result);
  switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_TOO_MANY_OBJECTS:
    case VK_ERROR_MEMORY_MAP_FAILED:
      return Error(ErrorCode::kOutOfMemory, message);
    case VK_ERROR_EXTENSION_NOT_PRESENT:
    case VK_ERROR_FEATURE_NOT_PRESENT:
    case VK_ERROR_LAYER_NOT_PRESENT:
    case VK_ERROR_INCOMPATIBLE_DRIVER:
    case VK_ERROR_INVALID_EXTERNAL_HANDLE:
      return Error(ErrorCode::kUnsupported, message);
    case VK_ERROR_INVALID_SHADER_NV:
      return Error(ErrorCode::kCompileFailed, message);
    default:
      return Error(ErrorCode::kDeviceLost, message);
  }
}

}  // namespace dlk::vulkan
