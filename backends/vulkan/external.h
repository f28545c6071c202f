// Vulkan objects that an application made itself: a dlk::Device on the app's own VkDevice and
// queue, and what the backend tells about validation. Handles travel as void*, so that no Vulkan
// header is needed here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"

namespace dlk {

/// Features that a VkDevice was created with. A flag that is true but was not enabled is an error
/// of the application (the validation layer reports it).
struct VulkanFeatures {
  bool storage_16bit = false;          // storageBuffer16BitAccess
  bool storage_8bit = false;           // storageBuffer8BitAccess
  bool float16 = false;                // shaderFloat16
  bool int8 = false;                   // shaderInt8
  bool int16 = false;                  // shaderInt16
  bool int64 = false;                  // shaderInt64
  bool float64 = false;                // shaderFloat64
  bool timeline_semaphore = false;     // timelineSemaphore
  bool subgroup_size_control = false;  // subgroupSizeControl
  bool memory_model = false;           // vulkanMemoryModel and its device scope
  bool cooperative_matrix = false;     // VK_KHR_cooperative_matrix
  bool external_memory_host = false;   // VK_EXT_external_memory_host
  bool binary_import = false;          // VK_NVX_binary_import and bufferDeviceAddress
};

struct VulkanExternal {
  void* instance = nullptr;         // VkInstance, of Vulkan 1.1 or later
  void* physical_device = nullptr;  // VkPhysicalDevice
  void* device = nullptr;           // VkDevice
  void* queue = nullptr;            // VkQueue of a family with compute
  uint32_t queue_family = 0;
  /// The apiVersion the instance was created with (VK_MAKE_API_VERSION). 0: 1.1.
  uint32_t api_version = 0;
  VulkanFeatures features;
  /// PFN_vkGetInstanceProcAddr; nullptr: that of the system's loader.
  void* get_instance_proc_addr = nullptr;
  /// Called around each use of the queue, where the app submits to it from other threads.
  std::function<void()> lock_queue;
  std::function<void()> unlock_queue;
};

/// A device on the app's own Vulkan objects, which must outlive it and everything made from it.
/// Nothing that the app owns is destroyed. All dlk queues share the one VkQueue.
std::shared_ptr<Device> wrap_vulkan(const VulkanExternal& external);
std::shared_ptr<Device> wrap_vulkan(void* instance, void* physical_device, void* device,
                                    void* queue, uint32_t queue_family,
                                    const VulkanFeatures& features);

/// One matrix shape of VK_KHR_cooperative_matrix; types are "f16", "f32", "s8", ...
struct VulkanMatrixShape {
  uint32_t m = 0, n = 0, k = 0;
  std::string a, b, c, result;
  bool saturating = false;
};
/// Subgroup-scope shapes of a Vulkan device opened through dlk; empty for others.
std::vector<VulkanMatrixShape> vulkan_matrix_shapes(const Device& device);

/// Errors that the validation layer has reported in this process (DLK_VULKAN_VALIDATION=1).
uint64_t vulkan_validation_error_count();

}  // namespace dlk
