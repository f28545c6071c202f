// A queue of the null device: everything is done when the call returns.
#pragma once

#include <map>

#include "core/device/completion.h"
#include "core/device/device.h"

namespace dlk::null_backend {

class NullQueue : public Queue {
 public:
  Ticket submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots) override;
  Ticket write(const View& destination, std::span<const std::byte> source) override;
  Ticket read(const View& source, std::span<std::byte> destination) override;
  void wait(Ticket ticket) override;
  bool is_done(Ticket ticket) override;
  void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) override;
  std::vector<double> command_times_ns(Ticket ticket) override;

 private:
  Ticket next() { return {++last_}; }

  uint64_t last_ = 0;
  std::map<uint64_t, size_t> profiled_;  // ticket -> number of commands
  CompletionThread completion_;
};

}  // namespace dlk::null_backend
