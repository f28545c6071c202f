// Transfers between host memory and buffers that the host cannot, or must not yet, touch: a pool of
// mapped staging buffers, each with a command buffer that copies. Used by one queue, under its
// lock.
#pragma once

#include <memory>
#include <vector>

#include "backends/vulkan/buffer.h"

namespace dlk::vulkan {

/// A staging buffer and the command buffer that copies to or from it.
struct Transfer {
  std::shared_ptr<VulkanBuffer> buffer;
  VkCommandBuffer commands = VK_NULL_HANDLE;
  MemoryKind kind = MemoryKind::kUpload;
  NativeRange recorded;  // what the command buffer was recorded for
  std::byte* data() const { return static_cast<std::byte*>(buffer->host_pointer()); }
};

class StagingPool {
 public:
  explicit StagingPool(std::shared_ptr<Context> context);
  ~StagingPool();
  StagingPool(const StagingPool&) = delete;
  StagingPool& operator=(const StagingPool&) = delete;

  /// Ready to be submitted: copies size_bytes to (kUpload) or from (kReadback) `view`. A network
  /// that runs again finds its transfers recorded.
  Transfer acquire(const View& view, MemoryKind kind);
  /// Takes back what has finished; keeps a bounded amount for reuse.
  void release(Transfer transfer);

 private:
  Transfer take(const NativeRange& range, MemoryKind kind);
  Transfer make(uint64_t size_bytes, MemoryKind kind);
  void record(const Transfer& transfer, const View& view);

  std::shared_ptr<Context> context_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  std::vector<Transfer> idle_;  // used last at the end
  uint64_t idle_bytes_ = 0;
  std::vector<VkCommandBuffer> idle_commands_;
};

}  // namespace dlk::vulkan
