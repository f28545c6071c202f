// What a physical device can do: its Caps, the features that can be enabled, its queue family and
// memory types, read once. Used by the enumeration and by Context, which enables what is here.
#pragma once

#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backends/vulkan/external.h"
#include "backends/vulkan/instance.h"
#include "core/device/device.h"

namespace dlk::vulkan {

/// The feature structures that a device of `api_version` with `extensions` understands, linked for
/// vkGetPhysicalDeviceFeatures2 or vkCreateDevice. Not movable: it points into itself.
struct FeatureChain {
  FeatureChain(uint32_t api_version, const std::set<std::string>& extensions);
  FeatureChain(const FeatureChain&) = delete;
  FeatureChain& operator=(const FeatureChain&) = delete;
  VulkanFeatures read() const;
  void enable(const VulkanFeatures& features);

  VkPhysicalDeviceFeatures2 root{};
  VkPhysicalDevice16BitStorageFeatures storage16{};
  VkPhysicalDevice8BitStorageFeatures storage8{};
  VkPhysicalDeviceShaderFloat16Int8Features float16_int8{};
  VkPhysicalDeviceTimelineSemaphoreFeatures timeline{};
  VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size{};
  VkPhysicalDeviceVulkanMemoryModelFeatures memory_model{};
  VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix{};
  VkPhysicalDeviceBufferDeviceAddressFeatures address{};
};

struct PhysicalDevice {
  VkPhysicalDevice handle = VK_NULL_HANDLE;
  uint32_t api_version = VK_API_VERSION_1_1;  // usable: the smaller of device and instance
  std::set<std::string> extensions;
  VkPhysicalDeviceProperties properties{};
  VkPhysicalDeviceMemoryProperties memory{};
  std::array<uint8_t, VK_UUID_SIZE> uuid{};
  VulkanFeatures features;     // supported; of a wrapped device: enabled
  bool preserves_nan = false;  // 32-bit arithmetic can be told to keep NaN
  uint32_t queue_family = 0;
  uint32_t queue_count = 1;
  uint32_t timestamp_bits = 0;
  uint64_t host_pointer_alignment = 0;
  uint32_t min_subgroup_size = 0;
  uint32_t max_subgroup_size = 0;
  std::vector<VulkanMatrixShape> matrix_shapes;
  Caps caps;

  bool has(const char* extension) const { return extensions.count(extension) != 0; }
};

/// All devices with Vulkan 1.1 and a compute queue, in the loader's order, read once.
const std::vector<PhysicalDevice>& physical_devices(const Instance& instance);

/// Reads one device. False (and nothing usable) without Vulkan 1.1 or a compute queue. `external`
/// limits it to what an application has enabled.
bool describe_device(const Instance& instance, VkPhysicalDevice handle,
                     const VulkanExternal* external, PhysicalDevice& out);

}  // namespace dlk::vulkan
