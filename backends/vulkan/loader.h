// The Vulkan loader, opened at run time, and the dispatch tables filled from it. `import dlk` works
// on a machine without Vulkan because nothing here is linked: a missing loader is a reason string,
// not an error. Used by every file of this backend.
#pragma once

#include <string>

#include "backends/vulkan/vk.h"

namespace dlk::vulkan {

#define DLK_VK_GLOBAL_FUNCTIONS(X)          \
  X(vkCreateInstance)                       \
  X(vkEnumerateInstanceVersion)             \
  X(vkEnumerateInstanceExtensionProperties) \
  X(vkEnumerateInstanceLayerProperties)

#define DLK_VK_INSTANCE_FUNCTIONS(X)          \
  X(vkDestroyInstance)                        \
  X(vkEnumeratePhysicalDevices)               \
  X(vkEnumerateDeviceExtensionProperties)     \
  X(vkGetPhysicalDeviceProperties)            \
  X(vkGetPhysicalDeviceProperties2)           \
  X(vkGetPhysicalDeviceFeatures2)             \
  X(vkGetPhysicalDeviceMemoryProperties)      \
  X(vkGetPhysicalDeviceQueueFamilyProperties) \
  X(vkGetDeviceProcAddr)                      \
  X(vkCreateDevice)

#define DLK_VK_INSTANCE_OPTIONAL(X)  \
  X(vkCreateDebugUtilsMessengerEXT)  \
  X(vkDestroyDebugUtilsMessengerEXT) \
  X(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)

#define DLK_VK_DEVICE_FUNCTIONS(X) \
  X(vkDestroyDevice)               \
  X(vkGetDeviceQueue)              \
  X(vkQueueSubmit)                 \
  X(vkAllocateMemory)              \
  X(vkFreeMemory)                  \
  X(vkMapMemory)                   \
  X(vkBindBufferMemory)            \
  X(vkGetBufferMemoryRequirements) \
  X(vkCreateBuffer)                \
  X(vkDestroyBuffer)               \
  X(vkCreateFence)                 \
  X(vkDestroyFence)                \
  X(vkResetFences)                 \
  X(vkGetFenceStatus)              \
  X(vkWaitForFences)               \
  X(vkCreateSemaphore)             \
  X(vkDestroySemaphore)            \
  X(vkCreateQueryPool)             \
  X(vkDestroyQueryPool)            \
  X(vkGetQueryPoolResults)         \
  X(vkCreateShaderModule)          \
  X(vkDestroyShaderModule)         \
  X(vkCreatePipelineCache)         \
  X(vkDestroyPipelineCache)        \
  X(vkGetPipelineCacheData)        \
  X(vkMergePipelineCaches)         \
  X(vkCreateComputePipelines)      \
  X(vkDestroyPipeline)             \
  X(vkCreatePipelineLayout)        \
  X(vkDestroyPipelineLayout)       \
  X(vkCreateDescriptorSetLayout)   \
  X(vkDestroyDescriptorSetLayout)  \
  X(vkCreateDescriptorPool)        \
  X(vkDestroyDescriptorPool)       \
  X(vkAllocateDescriptorSets)      \
  X(vkUpdateDescriptorSets)        \
  X(vkCreateCommandPool)           \
  X(vkDestroyCommandPool)          \
  X(vkAllocateCommandBuffers)      \
  X(vkBeginCommandBuffer)          \
  X(vkEndCommandBuffer)            \
  X(vkCmdBindPipeline)             \
  X(vkCmdBindDescriptorSets)       \
  X(vkCmdPushConstants)            \
  X(vkCmdDispatch)                 \
  X(vkCmdCopyBuffer)               \
  X(vkCmdFillBuffer)               \
  X(vkCmdPipelineBarrier)          \
  X(vkCmdResetQueryPool)           \
  X(vkCmdWriteTimestamp)

// Core in a later version than 1.1, or an extension's: absent where the device lacks them.
#define DLK_VK_DEVICE_OPTIONAL(X) \
  X(vkWaitSemaphores)             \
  X(vkGetSemaphoreCounterValue)   \
  X(vkGetBufferDeviceAddress)     \
  X(vkCreateCuModuleNVX)          \
  X(vkDestroyCuModuleNVX)         \
  X(vkCreateCuFunctionNVX)        \
  X(vkDestroyCuFunctionNVX)       \
  X(vkCmdCuLaunchKernelNVX)       \
  X(vkGetMemoryHostPointerPropertiesEXT)

#define DLK_VK_MEMBER(name) PFN_##name name = nullptr;

struct GlobalApi {
  PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr = nullptr;
  DLK_VK_GLOBAL_FUNCTIONS(DLK_VK_MEMBER)
};

struct InstanceApi {
  DLK_VK_INSTANCE_FUNCTIONS(DLK_VK_MEMBER)
  DLK_VK_INSTANCE_OPTIONAL(DLK_VK_MEMBER)
};

struct DeviceApi {
  DLK_VK_DEVICE_FUNCTIONS(DLK_VK_MEMBER)
  DLK_VK_DEVICE_OPTIONAL(DLK_VK_MEMBER)
};

#undef DLK_VK_MEMBER

/// The loader's entry points, opened once a process and never closed; DLK_VULKAN_LIBRARY names
/// another library. nullptr with `reason` filled in (what is missing, what to install) otherwise.
const GlobalApi* global_api(std::string& reason);

/// Throws Unsupported naming the function that is missing.
InstanceApi load_instance_api(PFN_vkGetInstanceProcAddr get, VkInstance instance);
DeviceApi load_device_api(const InstanceApi& api, VkDevice device);

}  // namespace dlk::vulkan
