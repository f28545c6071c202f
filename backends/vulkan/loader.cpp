#include "backends/vulkan/loader.h"

#include <cstdlib>
#include <vector>

#include "core/base/error.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace dlk::vulkan {
namespace {

std::vector<std::string> library_names() {
  if (const char* name = std::getenv("DLK_VULKAN_LIBRARY"); name && *name) return {name};
#if defined(_WIN32)
  return {"vulkan-1.dll"};
#elif defined(__APPLE__)
  return {"libvulkan.1.dylib", "libvulkan.dylib", "libMoltenVK.dylib",
          "/usr/local/lib/libvulkan.1.dylib", "/opt/homebrew/lib/libvulkan.1.dylib"};
#elif defined(__ANDROID__)
  return {"libvulkan.so"};
#else
  return {"libvulkan.so.1", "libvulkan.so"};
#endif
}

PFN_vkGetInstanceProcAddr open_library(const std::string& name, std::string& error) {
#ifdef _WIN32
  HMODULE module = LoadLibraryA(name.c_str());
  if (!module) {
    error = name + ": error " + std::to_string(GetLastError());
    return nullptr;
  }
  return reinterpret_cast<PFN_vkGetInstanceProcAddr>(
      reinterpret_cast<void*>(GetProcAddress(module, "vkGetInstanceProcAddr")));
#else
  void* module = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module) {
    const char* text = dlerror();
    error = text ? text : name;
    return nullptr;
  }
  void* symbol = dlsym(module, "vkGetInstanceProcAddr");
  if (!symbol) error = name + " has no vkGetInstanceProcAddr";
  return reinterpret_cast<PFN_vkGetInstanceProcAddr>(symbol);
#endif
}

std::string install_hint() {
#if defined(_WIN32)
  return "install a graphics driver with Vulkan support";
#elif defined(__APPLE__)
  return "install MoltenVK or the Vulkan SDK";
#elif defined(__ANDROID__)
  return "this Android version has no Vulkan";
#else
  return "install it (Debian, Ubuntu: apt-get install libvulkan1 mesa-vulkan-drivers)";
#endif
}

struct Library {
  GlobalApi api;
  std::string reason;
};

Library load_library() {
  Library library;
  std::string error;
  for (const std::string& name : library_names()) {
    library.api.vkGetInstanceProcAddr = open_library(name, error);
    if (library.api.vkGetInstanceProcAddr) break;
  }
  if (!library.api.vkGetInstanceProcAddr) {
    library.reason = "the Vulkan loader could not be opened (" + error + "): " + install_hint();
    if (std::getenv("DLK_VULKAN_LIBRARY")) library.reason += "; DLK_VULKAN_LIBRARY is set";
    return library;
  }
#define DLK_VK_LOAD(name)                                                                     \
  library.api.name =                                                                          \
      reinterpret_cast<PFN_##name>(library.api.vkGetInstanceProcAddr(VK_NULL_HANDLE, #name)); \
  if (!library.api.name)                                                                      \
    library.reason = "the Vulkan loader has no " #name ": Vulkan 1.1 is needed";
  DLK_VK_GLOBAL_FUNCTIONS(DLK_VK_LOAD)
#undef DLK_VK_LOAD
  return library;
}

}  // namespace

const GlobalApi* global_api(std::string& reason) {
  static const Library library = load_library();
  reason = library.reason;
  return reason.empty() ? &library.api : nullptr;
}

InstanceApi load_instance_api(PFN_vkGetInstanceProcAddr get, VkInstance instance) {
  InstanceApi api;
#define DLK_VK_LOAD(name) api.name = reinterpret_cast<PFN_##name>(get(instance, #name));
#define DLK_VK_REQUIRE(name) \
  DLK_VK_LOAD(name)          \
  if (!api.name) throw_unsupported("Vulkan: the instance has no " #name "; Vulkan 1.1 is needed");
  DLK_VK_INSTANCE_FUNCTIONS(DLK_VK_REQUIRE)
  DLK_VK_INSTANCE_OPTIONAL(DLK_VK_LOAD)
#undef DLK_VK_REQUIRE
#undef DLK_VK_LOAD
  return api;
}

DeviceApi load_device_api(const InstanceApi& instance, VkDevice device) {
  DeviceApi api;
  const auto get = instance.vkGetDeviceProcAddr;
#define DLK_VK_LOAD(name) api.name = reinterpret_cast<PFN_##name>(get(device, #name));
#define DLK_VK_REQUIRE(name) \
  DLK_VK_LOAD(name)          \
  if (!api.name) throw_unsupported("Vulkan: the device has no " #name);
  DLK_VK_DEVICE_FUNCTIONS(DLK_VK_REQUIRE)
  DLK_VK_DEVICE_OPTIONAL(DLK_VK_LOAD)
#undef DLK_VK_REQUIRE
#undef DLK_VK_LOAD
  if (!api.vkWaitSemaphores) {
    api.vkWaitSemaphores =
        reinterpret_cast<PFN_vkWaitSemaphores>(get(device, "vkWaitSemaphoresKHR"));
  }
  if (!api.vkGetSemaphoreCounterValue) {
    api.vkGetSemaphoreCounterValue = reinterpret_cast<PFN_vkGetSemaphoreCounterValue>(
        get(device, "vkGetSemaphoreCounterValueKHR"));
  }
  return api;
}

}  // namespace dlk::vulkan
