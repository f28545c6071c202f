#include "backends/vulkan/context.h"

#include <algorithm>
#include <cstring>

#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

constexpr uint32_t kMaxQueues = 4;

/// Extensions to enable: those whose feature is on and which the core version does not include.
std::vector<const char*> wanted_extensions(const PhysicalDevice& device) {
  const VulkanFeatures& f = device.features;
  std::vector<const char*> names;
  const auto add = [&](bool wanted, uint32_t core, const char* name) {
    if (wanted && device.api_version < core && device.has(name)) names.push_back(name);
  };
  constexpr uint32_t kNever = ~0u;
  add(f.storage_8bit, VK_API_VERSION_1_2, VK_KHR_8BIT_STORAGE_EXTENSION_NAME);
  add(f.float16 || f.int8, VK_API_VERSION_1_2, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
  add(f.timeline_semaphore, VK_API_VERSION_1_2, VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME);
  add(f.memory_model, VK_API_VERSION_1_2, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME);
  add(f.subgroup_size_control, VK_API_VERSION_1_3, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
  add(f.cooperative_matrix, kNever, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
  add(f.external_memory_host, kNever, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  add(f.binary_import, kNever, VK_NVX_BINARY_IMPORT_EXTENSION_NAME);
  add(f.binary_import, kNever, VK_NVX_IMAGE_VIEW_HANDLE_EXTENSION_NAME);
  // A device that offers it requires it to be enabled.
  add(true, kNever, VK_KHR_PORTABILITY_SUBSET_EXTENSION_NAME);
  return names;
}

}  // namespace

void NativeQueue::set_app_lock(std::function<void()> lock, std::function<void()> unlock) {
  lock_ = std::move(lock);
  unlock_ = std::move(unlock);
}

VkResult NativeQueue::submit(const DeviceApi& api, const VkSubmitInfo& info, VkFence fence) {
  std::lock_guard guard(mutex_);
  if (lock_) lock_();
  const VkResult result = api.vkQueueSubmit(handle_, 1, &info, fence);
  if (unlock_) unlock_();
  return result;
}

Context::Context(std::shared_ptr<Instance> instance, const PhysicalDevice& physical)
    : instance_(std::move(instance)), physical_(physical) {
  open_device();
  try {
    api_ = load_device_api(instance_->api(), device_);
    fetch_queues();
    pipelines_.open(api_, device_, physical_);
  } catch (...) {
    destroy_objects();
    throw;
  }
}

Context::Context(std::shared_ptr<Instance> instance, const PhysicalDevice& physical,
                 const VulkanExternal& external)
    : instance_(std::move(instance)), physical_(physical), owned_(false) {
  device_ = static_cast<VkDevice>(external.device);
  api_ = load_device_api(instance_->api(), device_);
  queues_.push_back(std::make_unique<NativeQueue>(static_cast<VkQueue>(external.queue)));
  queues_[0]->set_app_lock(external.lock_queue, external.unlock_queue);
  pipelines_.open(api_, device_, physical_);
}

Context::~Context() { destroy_objects(); }

void Context::open_device() {
  const uint32_t count = std::min(physical_.queue_count, kMaxQueues);
  const std::vector<float> priorities(count, 1.0f);
  VkDeviceQueueCreateInfo queue{};
  queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
  queue.queueFamilyIndex = physical_.queue_family;
  queue.queueCount = count;
  queue.pQueuePriorities = priorities.data();

  FeatureChain chain(physical_.api_version, physical_.extensions);
  chain.enable(physical_.features);
  const std::vector<const char*> extensions = wanted_extensions(physical_);
  VkDeviceCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
  info.pNext = &chain.root;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  const VkResult result =
      instance_->api().vkCreateDevice(physical_.handle, &info, nullptr, &device_);
  if (result < 0) throw make_error(result, "vkCreateDevice of " + physical_.caps.name);
}

void Context::fetch_queues() {
  const uint32_t count = std::min(physical_.queue_count, kMaxQueues);
  for (uint32_t i = 0; i < count; i++) {
    VkQueue queue = VK_NULL_HANDLE;
    api_.vkGetDeviceQueue(device_, physical_.queue_family, i, &queue);
    queues_.push_back(std::make_unique<NativeQueue>(queue));
  }
}

NativeQueue& Context::next_queue() {
  std::lock_guard lock(mutex_);
  return *queues_[next_queue_++ % queues_.size()];
}

Layout Context::layout(uint32_t buffers, uint32_t push_bytes) {
  std::lock_guard lock(mutex_);
  Layout& entry = layouts_[{buffers, push_bytes}];
  if (!entry.pipeline) entry = make_layout(buffers, push_bytes);
  return entry;
}

Layout Context::make_layout(uint32_t buffers, uint32_t push_bytes) {
  std::vector<VkDescriptorSetLayoutBinding> bindings(buffers);
  for (uint32_t i = 0; i < buffers; i++) {
    bindings[i].binding = i;
    bindings[i].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    bindings[i].descriptorCount = 1;
    bindings[i].stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
  }
  VkDescriptorSetLayoutCreateInfo set_info{};
  set_info.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
  set_info.bindingCount = buffers;
  set_info.pBindings = bindings.data();
  Layout made;
  check(api_.vkCreateDescriptorSetLayout(device_, &set_info, nullptr, &made.set),
        "vkCreateDescriptorSetLayout");

  const VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0, push_bytes};
  VkPipelineLayoutCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
  info.setLayoutCount = 1;
  info.pSetLayouts = &made.set;
  info.pushConstantRangeCount = push_bytes ? 1 : 0;
  info.pPushConstantRanges = &range;
  const VkResult result = api_.vkCreatePipelineLayout(device_, &info, nullptr, &made.pipeline);
  if (result < 0) {
    api_.vkDestroyDescriptorSetLayout(device_, made.set, nullptr);
    throw make_error(result, "vkCreatePipelineLayout");
  }
  return made;
}

void Context::destroy_objects() {
  if (!device_ || !api_.vkDestroyDevice) return;
  for (const auto& [key, entry] : layouts_) {
    api_.vkDestroyPipelineLayout(device_, entry.pipeline, nullptr);
    api_.vkDestroyDescriptorSetLayout(device_, entry.set, nullptr);
  }
  pipelines_.close();
  if (owned_) api_.vkDestroyDevice(device_, nullptr);
}

}  // namespace dlk::vulkan
