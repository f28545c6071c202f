// A VkInstance with its dispatch table and, with DLK_VULKAN_VALIDATION=1, the validation layer
// (synchronization validation included) and the log of what it reported. One is shared by
// enumeration and all devices of the process; an app's own instance is wrapped, never destroyed.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/vulkan/loader.h"

namespace dlk::vulkan {

class Instance {
 public:
  /// The process-wide instance, made on first use and never destroyed (layers and drivers do not
  /// survive being used from static destructors). nullptr with `reason` where it cannot be made.
  static std::shared_ptr<Instance> shared(std::string& reason);
  /// Around an application's instance.
  static std::shared_ptr<Instance> wrap(VkInstance handle, uint32_t api_version,
                                        PFN_vkGetInstanceProcAddr get);

  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  const InstanceApi& api() const { return api_; }
  VkInstance handle() const { return handle_; }
  /// The version that devices may be used with, at most.
  uint32_t api_version() const { return api_version_; }
  bool validation() const { return validation_; }

  /// The validation errors reported since the last call, as text; empty when there were none.
  std::string take_validation_errors();
  static uint64_t validation_error_count();
  void report_validation_error(const char* id, const char* message);

 private:
  Instance() = default;
  void create(const GlobalApi& global);
  void create_messenger();

  VkInstance handle_ = VK_NULL_HANDLE;
  InstanceApi api_;
  uint32_t api_version_ = VK_API_VERSION_1_1;
  bool validation_ = false;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  std::mutex mutex_;
  std::atomic<bool> has_errors_{false};
  std::vector<std::string> errors_;
};

}  // namespace dlk::vulkan
