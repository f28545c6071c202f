#include "backends/vulkan/caps.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <tuple>

#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

template <typename T>
void link(VkPhysicalDeviceFeatures2& root, T& structure, VkStructureType type) {
  structure.sType = type;
  structure.pNext = root.pNext;
  root.pNext = &structure;
}

std::string version_text(uint32_t version) {
  return std::to_string(VK_API_VERSION_MAJOR(version)) + "." +
         std::to_string(VK_API_VERSION_MINOR(version)) + "." +
         std::to_string(VK_API_VERSION_PATCH(version));
}

std::string vendor_name(uint32_t id) {
  switch (id) {
    case 0x1002:
      return "AMD";
    case 0x1010:
      return "Imagination";
    case 0x106b:
      return "Apple";
    case 0x10de:
      return "NVIDIA";
    case 0x13b5:
      return "Arm";
    case 0x5143:
      return "Qualcomm";
    case 0x8086:
      return "Intel";
    case VK_VENDOR_ID_MESA:
      return "Mesa";
    default: {
      constexpr char kDigits[] = "0123456789abcdef";
      std::string text = "0x";
      for (int shift = 28; shift >= 0; shift -= 4) text += kDigits[(id >> shift) & 15];
      return text;
    }
  }
}

const char* component_name(VkComponentTypeKHR type) {
  switch (type) {
    case VK_COMPONENT_TYPE_FLOAT16_KHR:
      return "f16";
    case VK_COMPONENT_TYPE_FLOAT32_KHR:
      return "f32";
    case VK_COMPONENT_TYPE_FLOAT64_KHR:
      return "f64";
    case VK_COMPONENT_TYPE_SINT8_KHR:
      return "s8";
    case VK_COMPONENT_TYPE_SINT32_KHR:
      return "s32";
    case VK_COMPONENT_TYPE_UINT8_KHR:
      return "u8";
    case VK_COMPONENT_TYPE_UINT32_KHR:
      return "u32";
    default:
      return "other";
  }
}

/// Property structures in one chain; those the device does not know stay out of it.
struct PropertyChain {
  explicit PropertyChain(const PhysicalDevice& device) {
    root.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    add(id, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES);
    add(subgroup, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
    add(maintenance3, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
    if (device.api_version >= VK_API_VERSION_1_2 || device.has("VK_KHR_driver_properties")) {
      add(driver, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
    }
    if (device.api_version >= VK_API_VERSION_1_2) {
      add(float_controls, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES);
    }
    if (device.api_version >= VK_API_VERSION_1_3 || device.has("VK_KHR_maintenance4")) {
      add(maintenance4, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES);
    }
    if (device.api_version >= VK_API_VERSION_1_3 || device.has("VK_EXT_subgroup_size_control")) {
      add(subgroup_size, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES);
    }
    if (device.has(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME)) {
      add(host, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
    }
    if (device.has(VK_AMD_SHADER_CORE_PROPERTIES_EXTENSION_NAME)) {
      add(amd, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD);
    }
    if (device.has(VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME)) {
      add(nvidia, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV);
    }
  }
  template <typename T>
  void add(T& structure, VkStructureType type) {
    structure.sType = type;
    structure.pNext = root.pNext;
    root.pNext = &structure;
  }

  VkPhysicalDeviceProperties2 root{};
  VkPhysicalDeviceIDProperties id{};
  VkPhysicalDeviceSubgroupProperties subgroup{};
  VkPhysicalDeviceMaintenance3Properties maintenance3{};
  VkPhysicalDeviceDriverProperties driver{};
  VkPhysicalDeviceFloatControlsProperties float_controls{};
  VkPhysicalDeviceMaintenance4Properties maintenance4{};
  VkPhysicalDeviceSubgroupSizeControlProperties subgroup_size{};
  VkPhysicalDeviceExternalMemoryHostPropertiesEXT host{};
  VkPhysicalDeviceShaderCorePropertiesAMD amd{};
  VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nvidia{};
};

uint32_t compute_units(const PhysicalDevice& device, const PropertyChain& chain) {
  if (chain.nvidia.shaderSMCount) return chain.nvidia.shaderSMCount;
  if (chain.amd.computeUnitsPerShaderArray) {
    return chain.amd.shaderEngineCount * chain.amd.shaderArraysPerEngineCount *
           chain.amd.computeUnitsPerShaderArray;
  }
  if (device.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU) {
    return std::max(1u, std::thread::hardware_concurrency());
  }
  return 1;
}

bool switched_off(const char* variable) {
  const char* value = std::getenv(variable);
  return value && !std::strcmp(value, "0");
}

bool is_unified(const PhysicalDevice& device) {
  if (switched_off("DLK_VULKAN_MAPPED")) return false;
  const auto type = device.properties.deviceType;
  if (type != VK_PHYSICAL_DEVICE_TYPE_CPU && type != VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU) {
    return false;
  }
  constexpr VkMemoryPropertyFlags kMapped = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT |
                                            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                            VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  for (uint32_t i = 0; i < device.memory.memoryTypeCount; i++) {
    if ((device.memory.memoryTypes[i].propertyFlags & kMapped) == kMapped) return true;
  }
  return false;
}

void fill_identity(PhysicalDevice& device, const PropertyChain& chain) {
  const VkPhysicalDeviceProperties& p = device.properties;
  Caps& caps = device.caps;
  caps.backend = "vulkan";
  caps.id = "vulkan";
  caps.name = p.deviceName;
  caps.vendor = vendor_name(p.vendorID);
  caps.api_version = version_text(device.api_version);
  caps.driver = chain.driver.driverName[0]
                    ? std::string(chain.driver.driverName) + " " + chain.driver.driverInfo
                    : caps.vendor;
  caps.driver += " (" + std::to_string(p.driverVersion) + ")";
  caps.is_cpu = p.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
  caps.compute_units = compute_units(device, chain);
  std::copy(std::begin(chain.id.deviceUUID), std::end(chain.id.deviceUUID), device.uuid.begin());
}

void fill_limits(PhysicalDevice& device, const PropertyChain& chain) {
  const VkPhysicalDeviceLimits& limits = device.properties.limits;
  Caps& caps = device.caps;
  for (uint32_t i = 0; i < device.memory.memoryHeapCount; i++) {
    const VkMemoryHeap& heap = device.memory.memoryHeaps[i];
    if (heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) {
      caps.memory_bytes = std::max<uint64_t>(caps.memory_bytes, heap.size);
    }
  }
  caps.unified_memory = is_unified(device);
  caps.native_recordings = true;
  caps.max_buffer_bytes =
      std::min<uint64_t>(chain.maintenance3.maxMemoryAllocationSize, caps.memory_bytes);
  if (chain.maintenance4.maxBufferSize) {
    caps.max_buffer_bytes =
        std::min<uint64_t>(caps.max_buffer_bytes, chain.maintenance4.maxBufferSize);
  }
  caps.max_binding_bytes = std::min<uint64_t>(limits.maxStorageBufferRange, caps.max_buffer_bytes);
  caps.binding_alignment =
      std::max<uint32_t>(16, static_cast<uint32_t>(limits.minStorageBufferOffsetAlignment));
  caps.max_push_bytes = limits.maxPushConstantsSize;
  // One descriptor is kept for the parameter buffer.
  caps.max_bindings =
      std::min({limits.maxPerStageDescriptorStorageBuffers, limits.maxDescriptorSetStorageBuffers,
                limits.maxPerStageResources}) -
      1;
  for (size_t i = 0; i < 3; i++) {
    caps.max_group_size[i] = limits.maxComputeWorkGroupSize[i];
    caps.max_group_count[i] = limits.maxComputeWorkGroupCount[i];
  }
  caps.max_group_invocations = limits.maxComputeWorkGroupInvocations;
  caps.local_memory_bytes = limits.maxComputeSharedMemorySize;
  caps.vector_width = 4;
  if (chain.subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) {
    constexpr VkSubgroupFeatureFlags kNeeded =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
    caps.subgroup_size = chain.subgroup.subgroupSize;
    caps.subgroup_arithmetic = (chain.subgroup.supportedOperations & kNeeded) == kNeeded;
  }
  device.min_subgroup_size = chain.subgroup_size.minSubgroupSize;
  device.max_subgroup_size = chain.subgroup_size.maxSubgroupSize;
  device.host_pointer_alignment = chain.host.minImportedHostPointerAlignment;
}

void fill_features(PhysicalDevice& device) {
  const VulkanFeatures& f = device.features;
  Caps& caps = device.caps;
  caps.fp16_storage = f.storage_16bit;
  caps.int16_storage = f.storage_16bit;
  caps.int8_storage = f.storage_8bit;
  caps.fp16_arithmetic = f.float16;
  caps.fp64 = f.float64;
  caps.int64 = f.int64;
  caps.cooperative_matrix = f.cooperative_matrix && f.memory_model;
  caps.binary_import = f.binary_import;
  caps.device_fences = true;
  caps.timeline_semaphore = f.timeline_semaphore;
  caps.host_import = f.external_memory_host;
  caps.timestamps = device.timestamp_bits > 0 && device.properties.limits.timestampPeriod > 0;
}

void read_extensions(const Instance& instance, PhysicalDevice& device) {
  uint32_t count = 0;
  const InstanceApi& api = instance.api();
  check(api.vkEnumerateDeviceExtensionProperties(device.handle, nullptr, &count, nullptr),
        "vkEnumerateDeviceExtensionProperties");
  std::vector<VkExtensionProperties> list(count);
  check(api.vkEnumerateDeviceExtensionProperties(device.handle, nullptr, &count, list.data()),
        "vkEnumerateDeviceExtensionProperties");
  for (const VkExtensionProperties& extension : list) {
    device.extensions.insert(extension.extensionName);
  }
}

/// Compute with timestamps, without graphics, and many queues first: dlk queues map to them one to
/// one. A queue with graphics leaves kernels part of NVIDIA's compute units: half the speed.
bool choose_queue_family(const Instance& instance, const VulkanExternal* external,
                         PhysicalDevice& device) {
  uint32_t count = 0;
  instance.api().vkGetPhysicalDeviceQueueFamilyProperties(device.handle, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  instance.api().vkGetPhysicalDeviceQueueFamilyProperties(device.handle, &count, families.data());
  bool found = false;
  std::tuple<bool, bool, uint32_t> best{};
  for (uint32_t i = 0; i < count; i++) {
    const VkQueueFamilyProperties& family = families[i];
    if (!(family.queueFlags & VK_QUEUE_COMPUTE_BIT) || !family.queueCount) continue;
    if (external && i != external->queue_family) continue;
    const std::tuple rank{family.timestampValidBits > 0,
                          (family.queueFlags & VK_QUEUE_GRAPHICS_BIT) == 0, family.queueCount};
    if (found && rank <= best) continue;
    best = rank;
    found = true;
    device.queue_family = i;
    device.queue_count = external ? 1 : family.queueCount;
    device.timestamp_bits = family.timestampValidBits;
  }
  return found;
}

void read_matrix_shapes(const Instance& instance, PhysicalDevice& device) {
  const auto get = instance.api().vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR;
  if (!device.features.cooperative_matrix || !get) return;
  uint32_t count = 0;
  if (get(device.handle, &count, nullptr) < 0) return;
  VkCooperativeMatrixPropertiesKHR empty{};
  empty.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
  std::vector<VkCooperativeMatrixPropertiesKHR> list(count, empty);
  if (get(device.handle, &count, list.data()) < 0) return;
  for (const VkCooperativeMatrixPropertiesKHR& p : list) {
    if (p.scope != VK_SCOPE_SUBGROUP_KHR) continue;
    device.matrix_shapes.push_back({p.MSize, p.NSize, p.KSize, component_name(p.AType),
                                    component_name(p.BType), component_name(p.CType),
                                    component_name(p.ResultType), p.saturatingAccumulation != 0});
  }
}

/// The matrices that the kernels use.
bool has_matrices(const PhysicalDevice& device, const VulkanMatrixShape& wanted) {
  return std::any_of(
      device.matrix_shapes.begin(), device.matrix_shapes.end(), [&](const VulkanMatrixShape& m) {
        return m.m == wanted.m && m.n == wanted.n && m.k == wanted.k && m.a == wanted.a &&
               m.b == wanted.a && m.c == wanted.c && m.result == wanted.c && !m.saturating;
      });
}

void fill_matrix_features(PhysicalDevice& device) {
  Caps& caps = device.caps;
  // SPIR-V that has them is Vulkan 1.3's.
  const bool any = caps.cooperative_matrix && device.api_version >= VK_API_VERSION_1_3;
  caps.cooperative_matrix = any && has_matrices(device, {16, 16, 16, "f16", "f16", "f32", "f32"});
  const bool usual = caps.cooperative_matrix;
  caps.cooperative_matrix_fp16_sums =
      usual && has_matrices(device, {16, 16, 16, "f16", "f16", "f16", "f16"});
  caps.cooperative_matrix_int8 =
      usual && device.features.int8 && has_matrices(device, {16, 16, 32, "s8", "s8", "s32", "s32"});
}

}  // namespace

FeatureChain::FeatureChain(uint32_t version, const std::set<std::string>& extensions) {
  const auto known = [&](uint32_t core, const char* extension) {
    return version >= core || extensions.count(extension) != 0;
  };
  root.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
  link(root, storage16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
  if (known(VK_API_VERSION_1_2, VK_KHR_8BIT_STORAGE_EXTENSION_NAME)) {
    link(root, storage8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES);
  }
  if (known(VK_API_VERSION_1_2, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME)) {
    link(root, float16_int8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
  }
  if (known(VK_API_VERSION_1_2, VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME)) {
    link(root, timeline, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES);
  }
  if (known(VK_API_VERSION_1_2, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME)) {
    link(root, memory_model, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES);
  }
  if (known(VK_API_VERSION_1_3, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME)) {
    link(root, subgroup_size, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES);
  }
  if (extensions.count(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME)) {
    link(root, matrix, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
  }
  if (version >= VK_API_VERSION_1_2 && extensions.count(VK_NVX_BINARY_IMPORT_EXTENSION_NAME)) {
    link(root, address, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES);
  }
}

VulkanFeatures FeatureChain::read() const {
  VulkanFeatures f;
  f.storage_16bit = storage16.storageBuffer16BitAccess;
  f.storage_8bit = storage8.storageBuffer8BitAccess;
  f.float16 = float16_int8.shaderFloat16;
  f.int8 = float16_int8.shaderInt8;
  f.int16 = root.features.shaderInt16;
  f.int64 = root.features.shaderInt64;
  f.float64 = root.features.shaderFloat64;
  f.timeline_semaphore = timeline.timelineSemaphore;
  f.subgroup_size_control = subgroup_size.subgroupSizeControl;
  f.memory_model = memory_model.vulkanMemoryModel && memory_model.vulkanMemoryModelDeviceScope;
  f.cooperative_matrix = matrix.cooperativeMatrix;
  f.binary_import = address.bufferDeviceAddress;
  return f;
}

void FeatureChain::enable(const VulkanFeatures& f) {
  storage16.storageBuffer16BitAccess = f.storage_16bit;
  storage8.storageBuffer8BitAccess = f.storage_8bit;
  float16_int8.shaderFloat16 = f.float16;
  float16_int8.shaderInt8 = f.int8;
  root.features.shaderInt16 = f.int16;
  root.features.shaderInt64 = f.int64;
  root.features.shaderFloat64 = f.float64;
  timeline.timelineSemaphore = f.timeline_semaphore;
  subgroup_size.subgroupSizeControl = f.subgroup_size_control;
  memory_model.vulkanMemoryModel = f.memory_model;
  memory_model.vulkanMemoryModelDeviceScope = f.memory_model;
  matrix.cooperativeMatrix = f.cooperative_matrix;
  address.bufferDeviceAddress = f.binary_import;
}

bool describe_device(const Instance& instance, VkPhysicalDevice handle,
                     const VulkanExternal* external, PhysicalDevice& out) {
  out.handle = handle;
  instance.api().vkGetPhysicalDeviceProperties(handle, &out.properties);
  out.api_version = std::min(out.properties.apiVersion, instance.api_version());
  if (out.properties.apiVersion < VK_API_VERSION_1_1) return false;
  instance.api().vkGetPhysicalDeviceMemoryProperties(handle, &out.memory);
  read_extensions(instance, out);
  if (!choose_queue_family(instance, external, out)) return false;

  if (external) {
    out.features = external->features;
  } else {
    FeatureChain chain(out.api_version, out.extensions);
    instance.api().vkGetPhysicalDeviceFeatures2(handle, &chain.root);
    out.features = chain.read();
    out.features.external_memory_host = out.has(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    if (switched_off("DLK_VULKAN_TIMELINE")) out.features.timeline_semaphore = false;
    if (switched_off("DLK_VULKAN_PTX")) out.features.binary_import = false;
  }
  PropertyChain chain(out);
  instance.api().vkGetPhysicalDeviceProperties2(handle, &chain.root);
  fill_identity(out, chain);
  fill_limits(out, chain);
  fill_features(out);
  out.preserves_nan = chain.float_controls.shaderSignedZeroInfNanPreserveFloat32 == VK_TRUE;
  read_matrix_shapes(instance, out);
  fill_matrix_features(out);
  return true;
}

const std::vector<PhysicalDevice>& physical_devices(const Instance& instance) {
  static const std::vector<PhysicalDevice> devices = [&] {
    std::vector<PhysicalDevice> list;
    uint32_t count = 0;
    if (instance.api().vkEnumeratePhysicalDevices(instance.handle(), &count, nullptr) < 0) {
      return list;
    }
    std::vector<VkPhysicalDevice> handles(count);
    if (instance.api().vkEnumeratePhysicalDevices(instance.handle(), &count, handles.data()) < 0) {
      return list;
    }
    for (VkPhysicalDevice handle : handles) {
      PhysicalDevice device;
      if (!describe_device(instance, handle, nullptr, device)) continue;
      device.caps.id = "vulkan:" + std::to_string(list.size());
      list.push_back(std::move(device));
    }
    return list;
  }();
  return devices;
}

}  // namespace dlk::vulkan
