// dlk::Device on Vulkan: makes buffers, kernels, recordings and queues of one Context.
#pragma once

#include <memory>

#include "backends/vulkan/context.h"
#include "core/device/device.h"

namespace dlk::vulkan {

class VulkanDevice final : public Device {
 public:
  explicit VulkanDevice(std::shared_ptr<Context> context) : context_(std::move(context)) {}
  const Caps& caps() const noexcept override { return context_->caps(); }
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override;
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override;
  std::shared_ptr<Kernel> compile(KernelCode code) override;
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override;
  std::unique_ptr<Queue> create_queue() override;
  std::string driver_cache_of(std::span<const KernelCode> codes) override;
  void add_driver_cache(std::string_view cache) override;

 private:
  std::shared_ptr<Context> context_;
};

}  // namespace dlk::vulkan
