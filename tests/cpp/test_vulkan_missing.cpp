// The Vulkan backend on machines without a loader, and without a driver. The loader is opened once
// a process, so each case runs in a child.
#include "tests/cpp/missing_backend.h"

using namespace dlk;
using namespace dlk::testing;

TEST_CASE("no loader") {
  CHECK(in_child([] {
    setenv("DLK_VULKAN_LIBRARY", "/nonexistent/libvulkan.so", 1);
    return report_of_missing("vulkan", "/nonexistent/libvulkan.so");
  }));
}

TEST_CASE("a loader without drivers") {
  CHECK(in_child([]() -> std::string {
    setenv("VK_ICD_FILENAMES", "/nonexistent/driver.json", 1);
    setenv("VK_DRIVER_FILES", "/nonexistent/driver.json", 1);
    return report_of_missing("vulkan", "");
  }));
}

TEST_CASE("a library that is not Vulkan") {
  CHECK(in_child([]() -> std::string {
    setenv("DLK_VULKAN_LIBRARY", "libm.so.6", 1);
    return report_of_missing("vulkan", "libm.so.6 has no vkGetInstanceProcAddr");
  }));
}

TEST_CASE("an application's device cannot be wrapped without a loader") {
  CHECK(in_child([]() -> std::string {
    setenv("DLK_VULKAN_LIBRARY", "/nonexistent/libvulkan.so", 1);
    NativeDevice native;
    native.instance = native.physical_device = native.device = native.queue = &native;
    try {
      wrap_device("vulkan", native);
      return "a device was made";
    } catch (const Error& error) {
      const std::string text = error.what();
      return text.find("/nonexistent/libvulkan.so") != std::string::npos ? "" : text;
    }
  }));
}
