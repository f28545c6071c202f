// An in-order OpenCL queue. The event of a submission's last command is its ticket; what the
// submission uses is kept until that event is done. Waiting is safe from any thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/opencl/buffer.h"
#include "backends/opencl/kernel.h"
#include "backends/opencl/readback.h"
#include "backends/opencl/staging.h"
#include "core/device/completion.h"
#include "core/device/device.h"

namespace dlk::opencl {

class OpenClQueue : public Queue {
 public:
  explicit OpenClQueue(std::shared_ptr<Context> context);
  /// Waits for unfinished work.
  ~OpenClQueue() override;

  Ticket submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots) override;
  Ticket write(const View& destination, std::span<const std::byte> source) override;
  Ticket read(const View& source, std::span<std::byte> destination) override;
  void wait(Ticket ticket) override;
  bool is_done(Ticket ticket) override;
  void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) override;
  std::vector<double> command_times_ns(Ticket ticket) override;

 private:
  struct InFlight {
    uint64_t ticket = 0;
    Event event;
    std::shared_ptr<Recording> recording;
    std::vector<std::shared_ptr<Buffer>> buffers;
    std::vector<std::byte> staging;
    std::shared_ptr<Pinned> pinned;      // of a read, which is copied from there once it is done
    std::span<std::byte> destination{};  // of the same
  };

  /// The native queue to use next, ordered after what the other one holds.
  cl_command_queue native_queue(bool profiled);
  cl_command_queue create_native(cl_command_queue_properties properties) const;
  /// Books a started submission and flushes.
  Ticket book(cl_command_queue queue, InFlight work);
  /// Moves finished work to `finished`, to be destroyed by the caller once mutex_ is free again
  /// (what it owns may call back). True when nothing is in flight.
  bool retire(std::deque<InFlight>& finished);
  /// True where a transfer may be a plain memcpy: all earlier work of this queue is done.
  bool idle(std::deque<InFlight>& finished);
  /// The event to wait for, or null when the ticket is done.
  Event event_of(uint64_t ticket);

  std::shared_ptr<Context> context_;
  cl_command_queue queue_ = nullptr;
  cl_command_queue profile_queue_ = nullptr;  // created by the first profiled submission
  cl_command_queue last_used_ = nullptr;
  std::mutex mutex_;  // of what follows
  std::deque<InFlight> in_flight_;
  StagingRing staging_;
  PinnedPool pinned_;
  std::map<uint64_t, std::vector<Event>> profiles_;
  uint64_t last_ = 0;
  uint64_t failed_ticket_ = 0;
  std::exception_ptr failure_;
  CompletionThread completion_;
};

}  // namespace dlk::opencl
