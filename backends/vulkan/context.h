// The VkDevice with its dispatch table, queues, layouts and pipeline cache: what every buffer,
// kernel, recording and queue shares and keeps alive. Destroyed with the last of them. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/vulkan/caps.h"
#include "backends/vulkan/instance.h"
#include "backends/vulkan/loader.h"
#include "backends/vulkan/pipeline_cache.h"

namespace dlk::vulkan {

/// A VkQueue, which may serve several dlk queues and, where wrapped, the application.
class NativeQueue {
 public:
  explicit NativeQueue(VkQueue handle) : handle_(handle) {}
  void set_app_lock(std::function<void()> lock, std::function<void()> unlock);
  VkResult submit(const DeviceApi& api, const VkSubmitInfo& info, VkFence fence);

 private:
  VkQueue handle_;
  std::mutex mutex_;
  std::function<void()> lock_, unlock_;
};

struct Layout {
  VkDescriptorSetLayout set = VK_NULL_HANDLE;
  VkPipelineLayout pipeline = VK_NULL_HANDLE;
};

class Context {
 public:
  /// Opens a device of its own.
  Context(std::shared_ptr<Instance> instance, const PhysicalDevice& physical);
  /// Around an application's device.
  Context(std::shared_ptr<Instance> instance, const PhysicalDevice& physical,
          const VulkanExternal& external);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const DeviceApi& api() const { return api_; }
  VkDevice device() const { return device_; }
  const PhysicalDevice& physical() const { return physical_; }
  const Caps& caps() const { return physical_.caps; }
  Instance& instance() const { return *instance_; }
  bool has_timeline() const { return physical_.features.timeline_semaphore; }
  PipelineCache& pipelines() { return pipelines_; }

  /// The next VkQueue in turn.
  NativeQueue& next_queue();
  size_t queue_count() const { return queues_.size(); }
  /// Layouts for `buffers` storage buffers and `push_bytes` of push constants, made once.
  Layout layout(uint32_t buffers, uint32_t push_bytes);

 private:
  void open_device();
  void fetch_queues();
  Layout make_layout(uint32_t buffers, uint32_t push_bytes);
  void destroy_objects();

  std::shared_ptr<Instance> instance_;
  PhysicalDevice physical_;
  DeviceApi api_;
  VkDevice device_ = VK_NULL_HANDLE;
  bool owned_ = true;
  std::vector<std::unique_ptr<NativeQueue>> queues_;
  std::mutex mutex_;
  size_t next_queue_ = 0;
  std::map<std::pair<uint32_t, uint32_t>, Layout> layouts_;
  PipelineCache pipelines_;
};

}  // namespace dlk::vulkan
