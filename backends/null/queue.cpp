#include "backends/null/queue.h"

#include <cstring>

#include "backends/null/buffer.h"
#include "backends/null/kernel.h"

namespace dlk::null_backend {

Ticket NullQueue::submit(const std::shared_ptr<Recording>& recording, std::span<const View> slots) {
  const auto& ours = static_cast<const NullRecording&>(*recording);
  ours.run(slots);
  const Ticket ticket = next();
  if (ours.profiled()) profiled_[ticket.value] = ours.size();
  return ticket;
}

Ticket NullQueue::write(const View& destination, std::span<const std::byte> source) {
  std::memcpy(bytes_of(destination), source.data(), source.size());
  return next();
}

Ticket NullQueue::read(const View& source, std::span<std::byte> destination) {
  std::memcpy(destination.data(), bytes_of(source), destination.size());
  return next();
}

void NullQueue::wait(Ticket) {}

bool NullQueue::is_done(Ticket) { return true; }

void NullQueue::on_complete(Ticket, std::function<void(std::exception_ptr)> callback) {
  completion_.post([] { return std::exception_ptr(); }, std::move(callback));
}

std::vector<double> NullQueue::command_times_ns(Ticket ticket) {
  const auto found = profiled_.find(ticket.value);
  if (found == profiled_.end()) return {};
  return std::vector<double>(found->second, 0.0);
}

}  // namespace dlk::null_backend
