// An application with Vulkan objects of its own: instance, device and one queue, made without dlk.
// With DLK_VULKAN_VALIDATION=1 the app has the validation layer and counts what it reports.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "backends/vulkan/external.h"
#include "backends/vulkan/loader.h"
#include "core/device/device.h"

namespace dlk::testing {

class VulkanApp {
 public:
  /// With `timeline` the app enables timeline semaphores and 16-bit storage, else no feature.
  explicit VulkanApp(bool timeline) {
    std::string reason;
    global = vulkan::global_api(reason);
    REQUIRE_MESSAGE(static_cast<bool>(global), reason);
    make_instance();
    api = vulkan::load_instance_api(global->vkGetInstanceProcAddr, instance);
    uint32_t count = 1;
    api.vkEnumeratePhysicalDevices(instance, &count, &physical);
    REQUIRE(count == 1);
    find_family();
    make_device(timeline);
    device_api = vulkan::load_device_api(api, device);
    device_api.vkGetDeviceQueue(device, family, 0, &queue);
  }
  ~VulkanApp() {
    device_api.vkDestroyDevice(device, nullptr);  // the layer reports what dlk left behind
    CHECK(errors == 0);
    if (messenger_) api.vkDestroyDebugUtilsMessengerEXT(instance, messenger_, nullptr);
    api.vkDestroyInstance(instance, nullptr);
  }
  VulkanApp(const VulkanApp&) = delete;
  VulkanApp& operator=(const VulkanApp&) = delete;

  NativeDevice native() const {
    NativeDevice handles;
    handles.instance = instance;
    handles.physical_device = physical;
    handles.device = device;
    handles.queue = queue;
    handles.queue_family = family;
    if (has_timeline) handles.features = kFeatureTimelineSemaphore | kFeatureStorage16;
    return handles;
  }

  /// For wrap_vulkan, which takes more than the registry does.
  VulkanExternal external() const {
    VulkanExternal e;
    e.instance = instance;
    e.physical_device = physical;
    e.device = device;
    e.queue = queue;
    e.queue_family = family;
    e.api_version = VK_API_VERSION_1_2;
    e.features.timeline_semaphore = e.features.storage_16bit = has_timeline;
    return e;
  }

  const vulkan::GlobalApi* global = nullptr;
  vulkan::InstanceApi api;
  vulkan::DeviceApi device_api;
  VkInstance instance = VK_NULL_HANDLE;
  VkPhysicalDevice physical = VK_NULL_HANDLE;
  VkDevice device = VK_NULL_HANDLE;
  VkQueue queue = VK_NULL_HANDLE;
  uint32_t family = 0;
  bool has_timeline = false;
  std::atomic<int> errors{0};

 private:
  static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                                   VkDebugUtilsMessageTypeFlagsEXT,
                                                   const VkDebugUtilsMessengerCallbackDataEXT* data,
                                                   void* user) {
    // Older layers do not know newer versions of SPIR-V.
    const char* id = data->pMessageIdName;
    if (id && !std::strcmp(id, "VUID-VkShaderModuleCreateInfo-pCode-01377")) return VK_FALSE;
    std::cerr << (data->pMessage ? data->pMessage : "validation") << std::endl;
    ++static_cast<VulkanApp*>(user)->errors;
    return VK_FALSE;
  }

  void make_instance() {
    const char* wanted = std::getenv("DLK_VULKAN_VALIDATION");
    const char* layer = "VK_LAYER_KHRONOS_validation";
    const char* extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    const uint32_t validated = wanted && std::string(wanted) == "1";
    VkDebugUtilsMessengerCreateInfoEXT messenger{};
    messenger.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
    messenger.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    messenger.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
    messenger.pfnUserCallback = on_message;
    messenger.pUserData = this;
    VkApplicationInfo app{};
    app.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
    app.apiVersion = VK_API_VERSION_1_2;
    VkInstanceCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
    info.pApplicationInfo = &app;
    info.pNext = validated ? &messenger : nullptr;
    info.enabledLayerCount = info.enabledExtensionCount = validated;
    info.ppEnabledLayerNames = &layer;
    info.ppEnabledExtensionNames = &extension;
    REQUIRE(global->vkCreateInstance(&info, nullptr, &instance) == VK_SUCCESS);
    if (!validated) return;
    const auto create = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(
        global->vkGetInstanceProcAddr(instance, "vkCreateDebugUtilsMessengerEXT"));
    REQUIRE_MESSAGE(static_cast<bool>(create), "the layer has no messenger");
    REQUIRE(create(instance, &messenger, nullptr, &messenger_) == VK_SUCCESS);
  }

  void find_family() {
    uint32_t count = 0;
    api.vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, nullptr);
    std::vector<VkQueueFamilyProperties> families(count);
    api.vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families.data());
    while (family < count && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT)) ++family;
    REQUIRE(family < count);
  }

  void make_device(bool timeline) {
    const float priority = 1;
    VkDeviceQueueCreateInfo queues{};
    queues.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
    queues.queueFamilyIndex = family;
    queues.queueCount = 1;
    queues.pQueuePriorities = &priority;
    VkPhysicalDevice16BitStorageFeatures storage{};
    storage.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES;
    VkPhysicalDeviceTimelineSemaphoreFeatures semaphore{};
    semaphore.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES;
    semaphore.pNext = &storage;
    VkPhysicalDeviceFeatures2 features{};
    features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    features.pNext = &semaphore;
    api.vkGetPhysicalDeviceFeatures2(physical, &features);
    has_timeline = timeline && semaphore.timelineSemaphore && storage.storageBuffer16BitAccess;
    storage.uniformAndStorageBuffer16BitAccess = storage.storagePushConstant16 =
        storage.storageInputOutput16 = VK_FALSE;
    features.features = {};
    VkDeviceCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
    info.pNext = has_timeline ? &features : nullptr;
    info.queueCreateInfoCount = 1;
    info.pQueueCreateInfos = &queues;
    REQUIRE(api.vkCreateDevice(physical, &info, nullptr, &device) == VK_SUCCESS);
  }

  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
};

}  // namespace dlk::testing
