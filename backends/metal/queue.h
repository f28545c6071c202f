// A queue of a Metal device: encodes recordings into command buffers, moves bytes between host and
// device, and keeps alive what unfinished work uses. Completion handlers only say what has become
// of a command buffer; what it held is let go by the threads that use the queue.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/metal/buffer.h"
#include "backends/metal/recording.h"
#include "core/device/completion.h"
#include "core/device/device.h"

namespace dlk::metal {

class MetalQueue : public Queue {
 public:
  explicit MetalQueue(std::shared_ptr<Context> context);
  /// Waits for unfinished work.
  ~MetalQueue() override;

  Ticket submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots) override;
  Ticket write(const View& destination, std::span<const std::byte> source) override;
  Ticket read(const View& source, std::span<std::byte> destination) override;
  void wait(Ticket ticket) override;
  bool is_done(Ticket ticket) override;
  void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) override;
  std::vector<double> command_times_ns(Ticket ticket) override;

  /// Takes the value of each ticket when its work is done, unless that failed: for other users of
  /// the device, who wait on it.
  MTL::SharedEvent* ticket_event() const noexcept { return event_.get(); }
  /// What is submitted from now on starts once `event` has reached `value`.
  void wait_for(MTL::SharedEvent* event, uint64_t value);

 private:
  /// What completion handlers write; guarded by Shared::mutex.
  struct Progress {
    size_t open = 0;  // command buffers that have not finished
    std::exception_ptr failure;
    std::vector<double> times_ns;
    std::span<std::byte> destination;  // of a read, filled from `staged`
    const void* staged = nullptr;
  };
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
  };
  struct InFlight {
    uint64_t ticket = 0;
    std::shared_ptr<Progress> progress;
    std::shared_ptr<Recording> recording;
    std::vector<std::shared_ptr<Buffer>> buffers;
    Ref<MTL::Buffer> staging;
    bool profiled = false;
  };

  MTL::CommandBuffer* new_commands();
  MTL::ComputeCommandEncoder* new_encoder(MTL::CommandBuffer* commands) const;
  Ref<MTL::Buffer> new_staging(uint64_t size_bytes) const;
  /// Copies in queue order: by blit where macOS allows it, else by dispatch.
  void encode_transfer(MTL::CommandBuffer* commands, MTL::Buffer* from, uint64_t from_offset,
                       MTL::Buffer* to, uint64_t to_offset, uint64_t size_bytes) const;
  /// Adds the handler, `signal` where it is not 0, and commits.
  void commit(MTL::CommandBuffer* commands, const std::shared_ptr<Progress>& progress,
              size_t time_index, uint64_t signal);
  void submit_profiled(const MetalRecording& recording, std::span<const View> slots,
                       const std::shared_ptr<Progress>& progress, uint64_t ticket);
  /// Moves finished work to `finished`, to be destroyed by the caller once mutex_ is free again
  /// (what it owns may call back). True when nothing is in flight.
  bool retire(std::deque<InFlight>& finished);
  /// True where a transfer may be a plain memcpy: all earlier work of this queue is done.
  bool idle(std::deque<InFlight>& finished);
  /// What to wait for, or null when the ticket is done.
  std::shared_ptr<Progress> progress_of(uint64_t ticket);
  static void wait_until_done(Shared& shared, const Progress& progress);

  std::shared_ptr<Context> context_;
  Ref<MTL::CommandQueue> queue_;
  Ref<MTL::SharedEvent> event_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::mutex mutex_;  // of what follows
  std::deque<InFlight> in_flight_;
  std::map<uint64_t, std::shared_ptr<Progress>> profiles_;
  std::vector<std::pair<Ref<MTL::SharedEvent>, uint64_t>> waits_;
  uint64_t last_ = 0;
  uint64_t failed_ticket_ = 0;
  std::exception_ptr failure_;
  CompletionThread completion_;
};

}  // namespace dlk::metal
