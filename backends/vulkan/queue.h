// An in-order queue on one or more VkQueues (lanes.h), with tickets, staging and completion
// callbacks. Everything a submission uses is kept until it has finished. Its state is shared with
// the thread that calls completion callbacks and guarded by one lock, which is never held while
// waiting for the device.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/vulkan/lanes.h"
#include "backends/vulkan/recording.h"
#include "backends/vulkan/staging.h"
#include "core/device/completion.h"
#include "core/device/device.h"

namespace dlk::vulkan {

/// The queue proper; outlives VulkanQueue while a callback runs.
class QueueState {
 public:
  explicit QueueState(std::shared_ptr<Context> context);
  ~QueueState();
  uint64_t submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots);
  uint64_t write(const View& destination, std::span<const std::byte> source);
  uint64_t read(const View& source, std::span<std::byte> destination);
  void wait(uint64_t ticket);
  /// Without polling: for threads that nobody waits for.
  void wait_asleep(uint64_t ticket);
  void hold(bool on);
  bool is_done(uint64_t ticket);
  std::vector<double> command_times_ns(uint64_t ticket);

 private:
  /// What a submission uses until it is done.
  struct Pending {
    uint64_t ticket = 0;
    uint64_t signal = 0;  // the ticket of the last one that was handed over with it
    std::shared_ptr<Recording> recording;
    std::shared_ptr<Executable> executable;
    std::vector<View> views;
    Transfer transfer;
    std::span<std::byte> destination;  // of a read
  };
  uint64_t enqueue(VkCommandBuffer commands, std::shared_ptr<const Touched> touched,
                   Pending pending);
  /// Hands over what is held back.
  void flush();
  void await(uint64_t ticket, bool polling);
  std::vector<Pending> retire();
  void finish(Pending& pending);
  void fail(std::exception_ptr error);

  std::shared_ptr<Context> context_;
  std::mutex mutex_;
  Lanes lanes_;
  StagingPool staging_;
  std::deque<Pending> pending_;
  bool holding_ = false;
  std::vector<VkCommandBuffer> held_;
  std::vector<std::shared_ptr<const Touched>> held_touched_;
  uint64_t last_ticket_ = 0;
  uint64_t submitted_ = 0;  // the last ticket that the device knows
  uint64_t completed_ = 0;
  std::exception_ptr error_;  // the first; everything after completed_ has it too
  std::map<uint64_t, std::vector<double>> times_;
};

class VulkanQueue final : public Queue {
 public:
  explicit VulkanQueue(std::shared_ptr<Context> context);
  Ticket submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots) override;
  Ticket write(const View& destination, std::span<const std::byte> source) override;
  Ticket read(const View& source, std::span<std::byte> destination) override;
  void wait(Ticket ticket) override;
  bool is_done(Ticket ticket) override;
  void hold(bool on) override;
  void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) override;
  std::vector<double> command_times_ns(Ticket ticket) override;

 private:
  std::shared_ptr<QueueState> state_;
  CompletionThread completion_;
};

}  // namespace dlk::vulkan
