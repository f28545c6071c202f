#include "backends/vulkan/queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/vulkan/result.h"
#include "core/device/polling.h"

namespace dlk::vulkan {
namespace {

constexpr size_t kKeptProfiles = 64;

}  // namespace

QueueState::QueueState(std::shared_ptr<Context> context)
    : context_(std::move(context)), lanes_(context_), staging_(context_) {}

QueueState::~QueueState() {
  try {
    flush();
    lanes_.wait(submitted_);
  } catch (const Error&) {
    // Nobody is left to be told; a lost device runs nothing, so its objects may go.
  }
  for (const Pending& pending : pending_) {
    if (pending.executable) pending.executable->in_flight.fetch_sub(1);
  }
}

uint64_t QueueState::enqueue(VkCommandBuffer commands, std::shared_ptr<const Touched> touched,
                             Pending pending) {
  pending.ticket = ++last_ticket_;
  pending_.push_back(std::move(pending));
  held_.push_back(commands);
  held_touched_.push_back(std::move(touched));
  if (!holding_) flush();
  return last_ticket_;
}

void QueueState::flush() {
  if (held_.empty()) return;
  const std::vector<VkCommandBuffer> commands = std::exchange(held_, {});
  try {
    lanes_.submit(commands, last_ticket_, std::exchange(held_touched_, {}));
  } catch (const Error&) {
    // What had its ticket already will never be done: whoever waits for it is told.
    if (commands.size() > 1 || holding_) fail(std::current_exception());
    while (!pending_.empty() && pending_.back().ticket > submitted_) {
      if (pending_.back().executable) pending_.back().executable->in_flight.fetch_sub(1);
      pending_.pop_back();
    }
    throw;
  }
  for (auto pending = pending_.rbegin(); pending != pending_.rend() && pending->ticket > submitted_;
       ++pending) {
    pending->signal = last_ticket_;
  }
  submitted_ = last_ticket_;
}

void QueueState::hold(bool on) {
  std::lock_guard lock(mutex_);
  holding_ = on;
  if (!on) flush();
}

uint64_t QueueState::submit(const std::shared_ptr<Recording>& recording,
                            std::span<const View> slots) {
  Pending pending;
  pending.recording = recording;
  pending.executable = static_cast<VulkanRecording&>(*recording).prepare(slots);
  pending.views.assign(slots.begin(), slots.end());
  const VkCommandBuffer commands = pending.executable->handle();
  const std::shared_ptr<const Touched> touched = pending.executable->touched();
  std::vector<Pending> done;  // destroyed after the lock is released
  std::lock_guard lock(mutex_);
  done = retire();
  return enqueue(commands, touched, std::move(pending));
}

uint64_t QueueState::write(const View& destination, std::span<const std::byte> source) {
  std::vector<Pending> done;
  std::lock_guard lock(mutex_);
  done = retire();
  if (source.empty()) return last_ticket_;
  const auto& buffer = static_cast<const VulkanBuffer&>(*destination.buffer);
  auto* mapped = static_cast<std::byte*>(buffer.upload_pointer());
  if (mapped && pending_.empty()) {
    std::memcpy(mapped + destination.offset_bytes, source.data(), source.size());
    return last_ticket_;
  }
  const View view{destination.buffer, destination.offset_bytes, source.size()};
  Pending pending;
  pending.transfer = staging_.acquire(view, MemoryKind::kUpload);
  std::memcpy(pending.transfer.data(), source.data(), source.size());
  pending.views.push_back(view);
  const VkCommandBuffer commands = pending.transfer.commands;
  return enqueue(commands, touched_by_transfer(view, Access::kWrite), std::move(pending));
}

uint64_t QueueState::read(const View& source, std::span<std::byte> destination) {
  std::vector<Pending> done;
  std::lock_guard lock(mutex_);
  done = retire();
  if (destination.empty()) return last_ticket_;
  const auto* mapped = static_cast<const std::byte*>(source.buffer->host_pointer());
  if (mapped && pending_.empty()) {
    std::memcpy(destination.data(), mapped + source.offset_bytes, destination.size());
    return last_ticket_;
  }
  const View view{source.buffer, source.offset_bytes, destination.size()};
  Pending pending;
  pending.transfer = staging_.acquire(view, MemoryKind::kReadback);
  pending.destination = destination;
  pending.views.push_back(view);
  const VkCommandBuffer commands = pending.transfer.commands;
  return enqueue(commands, touched_by_transfer(view, Access::kRead), std::move(pending));
}

void QueueState::fail(std::exception_ptr error) {
  if (!error_) error_ = error;
}

void QueueState::finish(Pending& pending) {
  if (!pending.destination.empty()) {
    std::memcpy(pending.destination.data(), pending.transfer.data(), pending.destination.size());
  }
  if (pending.executable) {
    if (pending.executable->profiled()) {
      times_[pending.ticket] = pending.executable->command_times_ns();
      if (times_.size() > kKeptProfiles) times_.erase(times_.begin());
    }
    pending.executable->in_flight.fetch_sub(1);
  }
  if (pending.transfer.commands) staging_.release(std::move(pending.transfer));
}

/// Takes what has finished off the list. The caller destroys it without the lock: releasing a
/// buffer may run code of its owner.
std::vector<QueueState::Pending> QueueState::retire() {
  std::vector<Pending> done;
  if (pending_.empty() || error_) return done;
  try {
    const uint64_t completed = lanes_.completed();
    while (!pending_.empty() && pending_.front().ticket <= completed) {
      finish(pending_.front());
      completed_ = pending_.front().ticket;
      done.push_back(std::move(pending_.front()));
      pending_.pop_front();
    }
  } catch (const Error&) {
    fail(std::current_exception());
  }
  return done;
}

void QueueState::wait(uint64_t ticket) { await(ticket, !context_->caps().is_cpu); }

void QueueState::wait_asleep(uint64_t ticket) { await(ticket, false); }

void QueueState::await(uint64_t ticket, bool polling) {
  uint64_t signal = 0;  // none: done already
  {
    std::lock_guard lock(mutex_);
    if (ticket > submitted_) flush();
    if (error_ && ticket > submitted_) std::rethrow_exception(error_);
    const auto pending =
        std::ranges::find_if(pending_, [&](const Pending& p) { return p.ticket >= ticket; });
    if (ticket > completed_) signal = pending == pending_.end() ? submitted_ : pending->signal;
  }
  if (signal) {
    std::exception_ptr lost;
    try {
      if (!polling || !poll([&] { return lanes_.completed() >= signal; })) {
        lanes_.wait(signal);
      }
    } catch (const Error&) {
      lost = std::current_exception();
    }
    std::vector<Pending> done;
    std::lock_guard lock(mutex_);
    if (lost) fail(lost);
    done = retire();
    if (error_ && ticket > completed_) std::rethrow_exception(error_);
  }
  const std::string reports = context_->instance().take_validation_errors();
  if (!reports.empty()) throw_invalid("Vulkan validation: " + reports);
}

bool QueueState::is_done(uint64_t ticket) {
  std::vector<Pending> done;
  std::lock_guard lock(mutex_);
  if (ticket > submitted_) flush();
  done = retire();
  return error_ || ticket <= completed_;
}

std::vector<double> QueueState::command_times_ns(uint64_t ticket) {
  std::vector<Pending> done;
  std::lock_guard lock(mutex_);
  done = retire();
  const auto found = times_.find(ticket);
  if (found != times_.end()) return found->second;
  throw_invalid("Vulkan: ticket " + std::to_string(ticket) +
                " has no times: it has not finished, was not recorded with profile, or is older "
                "than the last " +
                std::to_string(kKeptProfiles) + " profiled submissions");
}

VulkanQueue::VulkanQueue(std::shared_ptr<Context> context)
    : state_(std::make_shared<QueueState>(std::move(context))) {}

Ticket VulkanQueue::submit(const std::shared_ptr<Recording>& recording,
                           std::span<const View> slots) {
  return {state_->submit(recording, slots)};
}

Ticket VulkanQueue::write(const View& destination, std::span<const std::byte> source) {
  return {state_->write(destination, source)};
}

Ticket VulkanQueue::read(const View& source, std::span<std::byte> destination) {
  return {state_->read(source, destination)};
}

void VulkanQueue::wait(Ticket ticket) { state_->wait(ticket.value); }

bool VulkanQueue::is_done(Ticket ticket) { return state_->is_done(ticket.value); }

void VulkanQueue::on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) {
  const auto wait = [state = state_, ticket]() -> std::exception_ptr {
    try {
      state->wait_asleep(ticket.value);
    } catch (...) {
      return std::current_exception();
    }
    return nullptr;
  };
  completion_.post(wait, std::move(callback));
}

void VulkanQueue::hold(bool on) { state_->hold(on); }

std::vector<double> VulkanQueue::command_times_ns(Ticket ticket) {
  return state_->command_times_ns(ticket.value);
}

}  // namespace dlk::vulkan
