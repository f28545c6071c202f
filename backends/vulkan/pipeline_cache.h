// The driver's VkPipelineCache, kept on disk between processes: one file a device and driver
// version in dlk's cache folder. Used by Context. The cache folder's rules hold: what is missing,
// damaged or of another driver, and a folder that is full or read-only, cost compile time only.
// Of several processes the last one's file stays. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "backends/vulkan/caps.h"
#include "backends/vulkan/loader.h"
#include "core/base/cache_folder.h"

namespace dlk::vulkan {

class PipelineCache {
 public:
  PipelineCache() = default;
  PipelineCache(const PipelineCache&) = delete;
  PipelineCache& operator=(const PipelineCache&) = delete;

  /// Creates the cache with what is on disk. `api` must outlive it.
  void open(const DeviceApi& api, VkDevice device, const PhysicalDevice& physical);
  /// Saves and destroys it.
  void close() noexcept;
  VkPipelineCache handle() const noexcept { return handle_; }
  /// Held while a pipeline is made with handle().
  std::shared_lock<std::shared_mutex> use() { return std::shared_lock(merging_); }
  /// Adds what `pipeline_cache_data` gave in another process; nothing where the driver does not
  /// want it.
  void add(std::string_view data);
  /// A pipeline was made: saves now and then, because a process may end without closing devices.
  void pipeline_built();

 private:
  void save();
  VkPipelineCache created(std::string_view data) const;

  const DeviceApi* api_ = nullptr;
  VkDevice device_ = VK_NULL_HANDLE;
  VkPipelineCache handle_ = VK_NULL_HANDLE;
  CacheFolder folder_{std::string()};
  std::string file_;
  std::mutex mutex_;
  std::shared_mutex merging_;
  bool unsaved_ = false;
  uint64_t saved_hash_ = 0;
  std::chrono::steady_clock::time_point last_save_;
};

/// The bytes of a cache; empty where the driver gives none.
std::string pipeline_cache_data(const DeviceApi& api, VkDevice device, VkPipelineCache cache);

}  // namespace dlk::vulkan
