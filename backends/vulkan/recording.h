// Command lists turned into command buffers. A Recording holds the list and a few Executables: each
// is one command buffer with the slots bound one way, re-submitted as it is when the same slots
// come again and recorded anew when others do. Any thread may record and prepare.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/kernel.h"
#include "backends/vulkan/lanes.h"
#include "core/device/device.h"

namespace dlk::vulkan {

/// Where the slots of one submission lie; equal bindings can share an Executable.
struct SlotBinding {
  uint64_t buffer_id = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
  bool operator==(const SlotBinding&) const = default;
};

/// One recorded command buffer with the pools it was made from. It does not keep the buffers of
/// its slots alive: the submission does.
class Executable {
 public:
  Executable(std::shared_ptr<Context> context, const std::vector<Command>& commands,
             std::span<const View> slots, std::vector<SlotBinding> bindings, bool profile);
  ~Executable();
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  VkCommandBuffer handle() const { return commands_; }
  const std::vector<SlotBinding>& bindings() const { return bindings_; }
  bool profiled() const { return queries_ != VK_NULL_HANDLE; }
  const std::shared_ptr<const Touched>& touched() const { return touched_; }
  /// Of a finished run.
  std::vector<double> command_times_ns() const;
  /// Submissions that have not finished.
  std::atomic<int> in_flight{0};

 private:
  struct Dispatch;
  void record(const std::vector<Command>& commands, std::span<const View> slots);
  void record_commands(const std::vector<Command>& commands, std::span<const View> slots,
                       const std::vector<Dispatch>& dispatches);
  std::vector<Dispatch> resolve(const std::vector<Command>& commands, std::span<const View> slots);
  void make_params(std::vector<Dispatch>& dispatches);
  void make_descriptors(std::vector<Dispatch>& dispatches);
  void write_descriptors(const std::vector<Dispatch>& dispatches);
  void make_pools();
  void record_dispatch(const DispatchCommand& command, const Dispatch& dispatch, VkPipeline& bound);
  void record_launch(const DispatchCommand& command, const Dispatch& dispatch);
  void record_transfer(const Command& command, std::span<const View> slots);
  bool writes_mapped_memory(const std::vector<Command>& commands,
                            std::span<const View> slots) const;
  void note_touched(const std::vector<Command>& commands, std::span<const View> slots);
  void destroy() noexcept;

  std::shared_ptr<Context> context_;
  std::vector<SlotBinding> bindings_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  VkDescriptorPool descriptors_ = VK_NULL_HANDLE;
  VkQueryPool queries_ = VK_NULL_HANDLE;
  uint32_t command_count_ = 0;
  bool profile_;
  std::unique_ptr<VulkanBuffer> params_;
  std::shared_ptr<const Touched> touched_;
};

class VulkanRecording final : public Recording {
 public:
  VulkanRecording(std::shared_ptr<Context> context, const CommandList& list, bool profile);
  /// A command buffer for these slots, counted as in flight: the queue counts it down when done.
  std::shared_ptr<Executable> prepare(std::span<const View> slots);

 private:
  const std::shared_ptr<Executable>& find_or_make(std::span<const View> slots);

  std::shared_ptr<Context> context_;
  std::vector<Command> commands_;
  bool profile_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Executable>> recent_;  // last used first
};

/// Makes earlier work of the queue visible to what follows. Also used by queue transfers.
void record_barrier(const DeviceApi& api, VkCommandBuffer commands);
/// The same between kernels alone, which costs less: no copy or fill is on either side.
void record_kernel_barrier(const DeviceApi& api, VkCommandBuffer commands);
/// Makes what was done visible to the host, which waits for it.
void record_host_barrier(const DeviceApi& api, VkCommandBuffer commands);

}  // namespace dlk::vulkan
