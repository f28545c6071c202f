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
    create(data);
  } catch (const Error&) {
    if (data.empty()) throw;
    create({});  // the driver does not want its own data back
  }
}

void PipelineCache::create(const std::string& data) {
  VkPipelineCacheCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO;
  info.initialDataSize = data.size();
  info.pInitialData = data.data();
  check(api_->vkCreatePipelineCache(device_, &info, nullptr, &handle_), "vkCreatePipelineCache");
}

void PipelineCache::pipeline_built() {
  const std::lock_guard lock(mutex_);
  unsaved_ = true;
  if (std::chrono::steady_clock::now() - last_save_ >= kSaveInterval) save();
}

void PipelineCache::save() {
  if (!unsaved_ || !folder_.enabled()) return;
  unsaved_ = false;
  size_t bytes = 0;
  if (api_->vkGetPipelineCacheData(device_, handle_, &bytes, nullptr) != VK_SUCCESS) return;
  std::string data(bytes, '\0');
  // Another thread's pipeline may have made it larger (VK_INCOMPLETE): the next save has it.
  if (api_->vkGetPipelineCacheData(device_, handle_, &bytes, data.data()) != VK_SUCCESS) return;
  data.resize(bytes);
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
