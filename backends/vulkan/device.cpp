#include "backends/vulkan/device.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/external.h"
#include "backends/vulkan/kernel.h"
#include "backends/vulkan/queue.h"
#include "backends/vulkan/recording.h"
#include "backends/vulkan/result.h"

namespace dlk {
namespace vulkan {

std::shared_ptr<Buffer> VulkanDevice::allocate(uint64_t size_bytes, MemoryKind kind) {
  try {
    return std::make_shared<VulkanBuffer>(context_, size_bytes, kind);
  } catch (const Error& error) {
    // Only the window on the device's memory may be full.
    if (kind != MemoryKind::kInput || error.code() != ErrorCode::kOutOfMemory) throw;
  }
  return std::make_shared<VulkanBuffer>(context_, size_bytes, MemoryKind::kDevice);
}

std::shared_ptr<Buffer> VulkanDevice::adopt(void* data, uint64_t size_bytes,
                                            std::shared_ptr<void> owner) {
  return std::make_shared<VulkanBuffer>(context_, data, size_bytes, std::move(owner));
}

std::shared_ptr<Kernel> VulkanDevice::compile(KernelCode code) {
  return std::make_shared<VulkanKernel>(context_, std::move(code));
}

std::shared_ptr<Recording> VulkanDevice::record(const CommandList& commands, bool profile) {
  return std::make_shared<VulkanRecording>(context_, commands, profile);
}

std::unique_ptr<Queue> VulkanDevice::create_queue() {
  return std::make_unique<VulkanQueue>(context_);
}

std::string VulkanDevice::driver_cache_of(std::span<const KernelCode> codes) {
  const DeviceApi& api = context_->api();
  VkPipelineCacheCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO;
  VkPipelineCache cache = VK_NULL_HANDLE;
  check(api.vkCreatePipelineCache(context_->device(), &info, nullptr, &cache),
        "vkCreatePipelineCache");
  const std::shared_ptr<void> owner(
      nullptr, [&](void*) { api.vkDestroyPipelineCache(context_->device(), cache, nullptr); });
  for (const KernelCode& code : codes) {
    if (code.format == KernelFormat::kSpirv) VulkanKernel(context_, code, cache);
  }
  return pipeline_cache_data(api, context_->device(), cache);
}

void VulkanDevice::add_driver_cache(std::string_view cache) {
  if (!cache.empty()) context_->pipelines().add(cache);
}

}  // namespace vulkan

std::shared_ptr<Device> wrap_vulkan(const VulkanExternal& external) {
  if (!external.instance || !external.physical_device || !external.device || !external.queue) {
    throw_invalid("wrap_vulkan: instance, physical device, device and queue are all needed");
  }
  auto get = reinterpret_cast<PFN_vkGetInstanceProcAddr>(external.get_instance_proc_addr);
  if (!get) {
    std::string reason;
    const vulkan::GlobalApi* global = vulkan::global_api(reason);
    if (!global) throw_unsupported("wrap_vulkan: " + reason);
    get = global->vkGetInstanceProcAddr;
  }
  auto instance =
      vulkan::Instance::wrap(static_cast<VkInstance>(external.instance), external.api_version, get);
  vulkan::PhysicalDevice physical;
  if (!vulkan::describe_device(*instance, static_cast<VkPhysicalDevice>(external.physical_device),
                               &external, physical)) {
    throw_unsupported("wrap_vulkan: the device needs Vulkan 1.1 and the queue family compute");
  }
  auto context = std::make_shared<vulkan::Context>(std::move(instance), physical, external);
  return std::make_shared<vulkan::VulkanDevice>(std::move(context));
}

std::shared_ptr<Device> wrap_vulkan(void* instance, void* physical_device, void* device,
                                    void* queue, uint32_t queue_family,
                                    const VulkanFeatures& features) {
  VulkanExternal external;
  external.instance = instance;
  external.physical_device = physical_device;
  external.device = device;
  external.queue = queue;
  external.queue_family = queue_family;
  external.features = features;
  return wrap_vulkan(external);
}

}  // namespace dlk
