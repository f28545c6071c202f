#include "backends/metal/queue.h"

#include <cstring>

#include "backends/metal/heap.h"

namespace dlk::metal {

namespace {

// More unfinished command buffers than this block whoever asks for one.
constexpr NS::UInteger kMostCommandBuffers = 256;
// Larger uploads to memory that the host can write wait for the queue instead of being copied
// twice.
constexpr size_t kStagingLimit = size_t{16} << 20;
// Profiles that nobody asked for are dropped, the oldest first.
constexpr size_t kKeptProfiles = 16;
constexpr size_t kNoTime = ~size_t{0};

std::exception_ptr error_for(const std::string& device, MTL::CommandBuffer* commands,
                             uint64_t ticket) {
  NS::Error* error = commands->error();
  const bool no_memory =
      error && error->code() == static_cast<NS::Integer>(MTL::CommandBufferErrorOutOfMemory);
  return std::make_exception_ptr(Error(
      no_memory ? ErrorCode::kOutOfMemory : ErrorCode::kDeviceLost,
      "work of ticket " + std::to_string(ticket) + " failed on " + device + ": " + text_of(error)));
}

}  // namespace

MetalQueue::MetalQueue(std::shared_ptr<Context> context) : context_(std::move(context)) {
  const Pool pool;
  queue_ = context_->app_queue() ? share(context_->app_queue())
                                 : own(context_->device()->newCommandQueue(kMostCommandBuffers));
  event_ = own(context_->device()->newSharedEvent());
  if (!queue_ || !event_) {
    throw Error(ErrorCode::kDeviceLost, "no command queue on " + context_->caps().id);
  }
}

MetalQueue::~MetalQueue() {
  const Pool pool;
  for (const InFlight& work : in_flight_) wait_until_done(*shared_, *work.progress);
  in_flight_.clear();
  waits_.clear();
  event_.reset();
  queue_.reset();
}

MTL::CommandBuffer* MetalQueue::new_commands() {
  MTL::CommandBuffer* commands = queue_->commandBuffer();
  if (!commands) {
    throw Error(ErrorCode::kDeviceLost, "Metal gives no command buffer on " + context_->caps().id);
  }
  for (const auto& [event, value] : waits_) commands->encodeWait(event.get(), value);
  waits_.clear();
  return commands;
}

MTL::ComputeCommandEncoder* MetalQueue::new_encoder(MTL::CommandBuffer* commands) const {
  auto* encoder = commands->computeCommandEncoder(
      context_->concurrent() ? MTL::DispatchTypeConcurrent : MTL::DispatchTypeSerial);
  if (!encoder) {
    throw Error(ErrorCode::kDeviceLost, "Metal gives no encoder on " + context_->caps().id);
  }
  return encoder;
}

Ref<MTL::Buffer> MetalQueue::new_staging(uint64_t size_bytes) const {
  auto staging =
      own(context_->device()->newBuffer(size_bytes, tracked_options(MTL::StorageModeShared)));
  if (!staging) {
    throw Error(ErrorCode::kOutOfMemory, "cannot allocate " + std::to_string(size_bytes) +
                                             " bytes for a transfer on " + context_->caps().id);
  }
  return staging;
}

void MetalQueue::encode_transfer(MTL::CommandBuffer* commands, MTL::Buffer* from,
                                 uint64_t from_offset, MTL::Buffer* to, uint64_t to_offset,
                                 uint64_t size_bytes) const {
  if ((from_offset | to_offset | size_bytes) % 4 == 0) {
    MTL::BlitCommandEncoder* blit = commands->blitCommandEncoder();
    blit->copyFromBuffer(from, from_offset, to, to_offset, size_bytes);
    blit->endEncoding();
  } else {
    context_->utility(Utility::kCopyBytes);  // built before the encoder is open
    MTL::ComputeCommandEncoder* encoder = new_encoder(commands);
    encode_copy(*context_, encoder, from, from_offset, to, to_offset, size_bytes);
    encoder->endEncoding();
  }
}

void MetalQueue::commit(MTL::CommandBuffer* commands, const std::shared_ptr<Progress>& progress,
                        size_t time_index, uint64_t signal) {
  if (signal != 0) commands->encodeSignalEvent(event_.get(), signal);
  {
    const std::lock_guard lock(shared_->mutex);
    ++progress->open;
  }
  commands->addCompletedHandler([shared = shared_, progress, time_index, ticket = last_ + 1,
                                 device = context_->caps().id](MTL::CommandBuffer* done) {
    const Pool pool;
    std::exception_ptr failure;
    if (done->status() == MTL::CommandBufferStatusError) failure = error_for(device, done, ticket);
    const double seconds = done->GPUEndTime() - done->GPUStartTime();
    // Before the queue's owner learns that the read is done.
    if (!failure && progress->staged) {
      std::memcpy(progress->destination.data(), progress->staged, progress->destination.size());
    }
    const std::lock_guard lock(shared->mutex);
    if (failure && !progress->failure) progress->failure = failure;
    if (time_index != kNoTime) progress->times_ns[time_index] = seconds * 1e9;
    --progress->open;
    shared->changed.notify_all();
  });
  commands->commit();
}

Ticket MetalQueue::submit(const std::shared_ptr<Recording>& recording,
                          std::span<const View> slots) {
  const Pool pool;
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  retire(finished);
  const auto& ours = static_cast<const MetalRecording&>(*recording);
  InFlight work;
  work.ticket = last_ + 1;
  work.progress = std::make_shared<Progress>();
  work.recording = recording;
  for (const View& slot : slots) work.buffers.push_back(slot.buffer);
  if (ours.profiled() && ours.size() != 0) {
    work.progress->times_ns.resize(ours.size());
    profiles_[work.ticket] = work.progress;
    if (profiles_.size() > kKeptProfiles) profiles_.erase(profiles_.begin());
    try {
      submit_profiled(ours, slots, work.progress, work.ticket);
    } catch (...) {
      // What was committed before the failure still uses the recording and the slots.
      wait_until_done(*shared_, *work.progress);
      throw;
    }
  } else {
    MTL::CommandBuffer* commands = new_commands();
    if (ours.size() != 0) {
      MTL::ComputeCommandEncoder* encoder = new_encoder(commands);
      ours.encode(encoder, slots, 0, ours.size());
      encoder->endEncoding();
    }
    commit(commands, work.progress, kNoTime, work.ticket);
  }
  in_flight_.push_back(std::move(work));
  return {++last_};
}

void MetalQueue::submit_profiled(const MetalRecording& recording, std::span<const View> slots,
                                 const std::shared_ptr<Progress>& progress, uint64_t ticket) {
  // A command buffer for each: their times are what every device can tell.
  for (size_t i = 0; i < recording.size(); ++i) {
    MTL::CommandBuffer* commands = new_commands();
    commands->setLabel(ns_string(recording.label(i)));
    MTL::ComputeCommandEncoder* encoder = new_encoder(commands);
    recording.encode(encoder, slots, i, i + 1);
    encoder->endEncoding();
    commit(commands, progress, i, i + 1 == recording.size() ? ticket : 0);
  }
}

Ticket MetalQueue::write(const View& destination, std::span<const std::byte> source) {
  const Pool pool;
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  bool direct = idle(finished);
  if (source.empty()) return {last_};
  auto& buffer = static_cast<MetalBuffer&>(*destination.buffer);
  if (!direct && source.size() > kStagingLimit && buffer.host_pointer() && !in_flight_.empty()) {
    wait_until_done(*shared_, *in_flight_.back().progress);
    direct = idle(finished);
  }
  if (direct && buffer.host_write(destination.offset_bytes, source.data(), source.size())) {
    return {++last_};
  }
  InFlight work;
  work.ticket = last_ + 1;
  work.progress = std::make_shared<Progress>();
  work.buffers.push_back(destination.buffer);
  work.staging = new_staging(source.size());
  std::memcpy(work.staging->contents(), source.data(), source.size());
  MTL::CommandBuffer* commands = new_commands();
  encode_transfer(commands, work.staging.get(), 0, buffer.native(), destination.offset_bytes,
                  source.size());
  commit(commands, work.progress, kNoTime, work.ticket);
  in_flight_.push_back(std::move(work));
  return {++last_};
}

Ticket MetalQueue::read(const View& source, std::span<std::byte> destination) {
  const Pool pool;
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  const bool direct = idle(finished);
  if (destination.empty()) return {last_};
  if (const void* host = source.buffer->host_pointer(); host && direct) {
    std::memcpy(destination.data(), static_cast<const std::byte*>(host) + source.offset_bytes,
                destination.size());
    return {++last_};
  }
  InFlight work;
  work.ticket = last_ + 1;
  work.progress = std::make_shared<Progress>();
  work.buffers.push_back(source.buffer);
  work.staging = new_staging(destination.size());
  work.progress->destination = destination;
  work.progress->staged = work.staging->contents();
  MTL::CommandBuffer* commands = new_commands();
  encode_transfer(commands, native_of(*source.buffer), source.offset_bytes, work.staging.get(), 0,
                  destination.size());
  commit(commands, work.progress, kNoTime, work.ticket);
  in_flight_.push_back(std::move(work));
  return {++last_};
}

bool MetalQueue::retire(std::deque<InFlight>& finished) {
  const std::lock_guard lock(shared_->mutex);
  while (!in_flight_.empty()) {
    InFlight& oldest = in_flight_.front();
    if (oldest.progress->open != 0) return false;
    if (oldest.progress->failure && !failure_) {
      failed_ticket_ = oldest.ticket;
      failure_ = oldest.progress->failure;
    }
    finished.push_back(std::move(oldest));
    in_flight_.pop_front();
  }
  return true;
}

bool MetalQueue::idle(std::deque<InFlight>& finished) {
  // An app's own queue may hold work that dlk does not know of, and so may an event to wait for.
  return retire(finished) && !context_->app_queue() && waits_.empty();
}

std::shared_ptr<MetalQueue::Progress> MetalQueue::progress_of(uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  // Writes and reads that were done at once are not in flight: the one before them counts.
  std::shared_ptr<Progress> found;
  for (const InFlight& work : in_flight_) {
    if (work.ticket > ticket) break;
    found = work.progress;
  }
  return found;
}

void MetalQueue::wait_until_done(Shared& shared, const Progress& progress) {
  std::unique_lock lock(shared.mutex);
  shared.changed.wait(lock, [&] { return progress.open == 0; });
}

void MetalQueue::wait(Ticket ticket) {
  const Pool pool;
  if (const auto progress = progress_of(ticket.value)) wait_until_done(*shared_, *progress);
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  retire(finished);
  if (failure_ && failed_ticket_ <= ticket.value) std::rethrow_exception(failure_);
}

bool MetalQueue::is_done(Ticket ticket) {
  const Pool pool;
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  retire(finished);
  return in_flight_.empty() || in_flight_.front().ticket > ticket.value;
}

void MetalQueue::on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) {
  const auto progress = progress_of(ticket.value);
  std::exception_ptr failed;
  {
    const std::lock_guard lock(mutex_);
    if (failure_ && failed_ticket_ <= ticket.value) failed = failure_;
  }
  completion_.post(
      [shared = shared_, progress, failed]() -> std::exception_ptr {
        if (progress) wait_until_done(*shared, *progress);
        if (failed || !progress) return failed;
        const std::lock_guard lock(shared->mutex);
        return progress->failure;
      },
      std::move(callback));
}

std::vector<double> MetalQueue::command_times_ns(Ticket ticket) {
  const Pool pool;
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  if (!retire(finished) && in_flight_.front().ticket <= ticket.value) {
    throw_invalid("the times of ticket " + std::to_string(ticket.value) +
                  " are not known yet: wait for it first");
  }
  const auto found = profiles_.find(ticket.value);
  if (found == profiles_.end()) return {};
  const std::lock_guard times(shared_->mutex);
  return found->second->times_ns;
}

void MetalQueue::wait_for(MTL::SharedEvent* event, uint64_t value) {
  const std::lock_guard lock(mutex_);
  waits_.emplace_back(share(event), value);
}

}  // namespace dlk::metal
