#include "backends/vulkan/pipeline_cache.h"

#include "backends/vulkan/result.h"
#include "core/base/hash.h"

namespace dlk::vulkan {
namespace {

constexpr std::chrono::seconds kSaveInterval{2};

std::string file_of(const PhysicalDevice& device) {
  std::string name = "vulkan-pipelines-";
  for (const uint8_t byte : device.uuid) name += hex_text(byte, 2);
  return name + "-" + hex_text(device.properties.driverVersion, 8) + ".bin";
}

}  // namespace

void PipelineCache::open(const DeviceApi& api, VkDevice device, const PhysicalDevice& physical) {
  api_ = &api;
  device_ = device;
  folder_ = CacheFolder::kernels();
  file_ = file_of(physical);
  const std::string data = folder_.read(file_).value_or("");
  saved_hash_ = hash_text(data);
  last_save_ = std::chrono::steady_clock::now();
  try {
    handle_ = created(data);
  } catch (const Error&) {
    if (data.empty()) throw;
    handle_ = created({});  // the driver does not want its own data back
  }
}

VkPipelineCache PipelineCache::created(std::string_view data) const {
  VkPipelineCacheCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO;
  info.initialDataSize = data.size();
  info.pInitialData = data.data();
  VkPipelineCache cache = VK_NULL_HANDLE;
  check(api_->vkCreatePipelineCache(device_, &info, nullptr, &cache), "vkCreatePipelineCache");
  return cache;
}

std::string pipeline_cache_data(const DeviceApi& api, VkDevice device, VkPipelineCache cache) {
  size_t bytes = 0;
  if (api.vkGetPipelineCacheData(device, cache, &bytes, nullptr) != VK_SUCCESS) return {};
  std::string data(bytes, '\0');
  // Another thread's pipeline may have made it larger (VK_INCOMPLETE): the next time has it.
  if (api.vkGetPipelineCacheData(device, cache, &bytes, data.data()) != VK_SUCCESS) return {};
  data.resize(bytes);
  return data;
}

void PipelineCache::add(std::string_view data) {
  VkPipelineCache other = VK_NULL_HANDLE;
  try {
    other = created(data);
  } catch (const Error&) {
    return;
  }
  {
    const std::unique_lock lock(merging_);
    api_->vkMergePipelineCaches(device_, handle_, 1, &other);
  }
  api_->vkDestroyPipelineCache(device_, other, nullptr);
}

void PipelineCache::pipeline_built() {
  const std::lock_guard lock(mutex_);
  unsaved_ = true;
  if (std::chrono::steady_clock::now() - last_save_ >= kSaveInterval) save();
}

void PipelineCache::save() {
  if (!unsaved_ || !folder_.enabled()) return;
  unsaved_ = false;
  const std::string data = pipeline_cache_data(*api_, device_, handle_);
  if (data.empty()) return;
  last_save_ = std::chrono::steady_clock::now();
  const uint64_t hash = hash_text(data);
  if (hash == saved_hash_) return;
  folder_.write(file_, data);
  saved_hash_ = hash;
}

void PipelineCache::close() noexcept {
  if (!api_) return;
  try {
    const std::lock_guard lock(mutex_);
    save();
  } catch (const std::exception&) {
    // Out of host memory: the next process compiles again.
  }
  api_->vkDestroyPipelineCache(device_, handle_, nullptr);
  api_ = nullptr;
}

}  // namespace dlk::vulkan
