#include "backends/opencl/queue.h"

#include <algorithm>
#include <cstring>

namespace dlk::opencl {

namespace {

// Larger uploads are waited for instead of being copied to staging memory first.
constexpr size_t kStagingLimit = size_t{16} << 20;
constexpr size_t kPinnedLimit = size_t{4} << 20;  // of a read
// Profiles that nobody asked for are dropped, the oldest first.
constexpr size_t kKeptProfiles = 16;

std::exception_ptr error_for(const Context& context, cl_int status, uint64_t ticket) {
  const ErrorCode code =
      status == CL_MEM_OBJECT_ALLOCATION_FAILURE ? ErrorCode::kOutOfMemory : ErrorCode::kDeviceLost;
  return std::make_exception_ptr(Error(code, "work of ticket " + std::to_string(ticket) +
                                                 " failed on " + context.caps.id + " (" +
                                                 context.caps.name + "): " + error_text(status)));
}

}  // namespace

OpenClQueue::OpenClQueue(std::shared_ptr<Context> context)
    : context_(std::move(context)), staging_(context_), pinned_(context_) {
  if (context_->app_queue) {
    queue_ = context_->app_queue;
    check(context_->cl->clRetainCommandQueue(queue_), "clRetainCommandQueue");
  } else {
    queue_ = create_native(0);
  }
  last_used_ = queue_;
}

OpenClQueue::~OpenClQueue() {
  for (const cl_command_queue queue : {queue_, profile_queue_}) {
    if (!queue) continue;
    context_->cl->clFinish(queue);
    if (queue == queue_) staging_.close(queue);
    context_->cl->clReleaseCommandQueue(queue);
  }
}

cl_command_queue OpenClQueue::create_native(cl_command_queue_properties properties) const {
  cl_int code = CL_SUCCESS;
  const cl_command_queue queue =
      context_->cl->clCreateCommandQueue(context_->context, context_->device, properties, &code);
  if (code != CL_SUCCESS) throw_cl(code, "clCreateCommandQueue on " + context_->caps.id);
  return queue;
}

cl_command_queue OpenClQueue::native_queue(bool profiled) {
  if (profiled && !profile_queue_) profile_queue_ = create_native(CL_QUEUE_PROFILING_ENABLE);
  const cl_command_queue queue = profiled ? profile_queue_ : queue_;
  if (queue != last_used_) {
    cl_event marker = nullptr;
    check(context_->cl->clEnqueueMarkerWithWaitList(last_used_, 0, nullptr, &marker),
          "clEnqueueMarkerWithWaitList");
    const Event before = own_event(context_, marker);
    check(context_->cl->clFlush(last_used_), "clFlush");
    check(context_->cl->clEnqueueBarrierWithWaitList(queue, 1, &marker, nullptr),
          "clEnqueueBarrierWithWaitList");
    last_used_ = queue;
  }
  return queue;
}

Ticket OpenClQueue::book(cl_command_queue queue, InFlight work) {
  work.ticket = ++last_;
  in_flight_.push_back(std::move(work));
  const cl_int code = context_->cl->clFlush(queue);
  if (code != CL_SUCCESS) throw_cl(code, "clFlush on " + context_->caps.id);
  return {last_};
}

Ticket OpenClQueue::submit(const std::shared_ptr<Recording>& recording,
                           std::span<const View> slots) {
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  retire(finished);
  const auto& ours = static_cast<const OpenClRecording&>(*recording);
  const cl_command_queue queue = native_queue(ours.profiled());
  InFlight work;
  work.recording = recording;
  for (const View& slot : slots) work.buffers.push_back(slot.buffer);
  std::vector<Event> profile;
  try {
    work.event = ours.enqueue(queue, slots, ours.profiled() ? &profile : nullptr);
  } catch (...) {
    // What was enqueued before the failure still uses the recording and the slots.
    context_->cl->clFinish(queue);
    throw;
  }
  if (!work.event) {
    cl_event marker = nullptr;
    check(context_->cl->clEnqueueMarkerWithWaitList(queue, 0, nullptr, &marker),
          "clEnqueueMarkerWithWaitList");
    work.event = own_event(context_, marker);
  }
  const Ticket ticket = book(queue, std::move(work));
  if (ours.profiled()) {
    profiles_[ticket.value] = std::move(profile);
    if (profiles_.size() > kKeptProfiles) profiles_.erase(profiles_.begin());
  }
  return ticket;
}

Ticket OpenClQueue::write(const View& destination, std::span<const std::byte> source) {
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  const bool direct = idle(finished);
  if (source.empty()) return {last_};
  if (void* host = destination.buffer->host_pointer(); host && direct) {
    std::memcpy(static_cast<std::byte*>(host) + destination.offset_bytes, source.data(),
                source.size());
    return {++last_};
  }
  const cl_command_queue queue = native_queue(false);
  InFlight work;
  work.buffers.push_back(destination.buffer);
  // Behind other uploads a wait is short, behind runs it is not.
  const bool only_uploads = std::ranges::none_of(
      in_flight_, [](const InFlight& one) { return one.recording != nullptr; });
  try {
    work.event = staging_.write(queue, destination, source, only_uploads);
  } catch (...) {
    context_->cl->clFinish(queue);  // pieces that were enqueued use the destination
    throw;
  }
  if (work.event) return book(queue, std::move(work));
  const bool stage = source.size() <= kStagingLimit;
  if (stage) work.staging.assign(source.begin(), source.end());
  cl_event event = nullptr;
  check(context_->cl->clEnqueueWriteBuffer(
            queue, memory_of(destination), stage ? CL_FALSE : CL_TRUE, destination.offset_bytes,
            source.size(), stage ? work.staging.data() : source.data(), 0, nullptr, &event),
        "clEnqueueWriteBuffer");
  work.event = own_event(context_, event);
  return book(queue, std::move(work));
}

Ticket OpenClQueue::read(const View& source, std::span<std::byte> destination) {
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  const bool direct = idle(finished);
  if (destination.empty()) return {last_};
  if (const void* host = source.buffer->host_pointer(); host && direct) {
    std::memcpy(destination.data(), static_cast<const std::byte*>(host) + source.offset_bytes,
                destination.size());
    return {++last_};
  }
  const cl_command_queue queue = native_queue(false);
  InFlight work;
  work.buffers.push_back(source.buffer);
  const bool apart = !context_->caps.is_cpu && !context_->caps.unified_memory;
  if (apart && destination.size() <= kPinnedLimit) {
    work.pinned = pinned_.take(destination.size());
    work.destination = destination;
  }
  std::byte* to = work.pinned ? work.pinned->data() : destination.data();
  cl_event event = nullptr;
  check(context_->cl->clEnqueueReadBuffer(queue, memory_of(source), CL_FALSE, source.offset_bytes,
                                          destination.size(), to, 0, nullptr, &event),
        "clEnqueueReadBuffer");
  work.event = own_event(context_, event);
  return book(queue, std::move(work));
}

bool OpenClQueue::retire(std::deque<InFlight>& finished) {
  while (!in_flight_.empty()) {
    InFlight& oldest = in_flight_.front();
    const cl_int status = status_of(*context_, oldest.event.get());
    if (status > CL_COMPLETE) return false;
    if (status < 0 && !failure_) {
      failed_ticket_ = oldest.ticket;
      failure_ = error_for(*context_, status, oldest.ticket);
    }
    if (status == CL_COMPLETE && oldest.pinned) {
      std::memcpy(oldest.destination.data(), oldest.pinned->data(), oldest.destination.size());
    }
    finished.push_back(std::move(oldest));
    in_flight_.pop_front();
  }
  return true;
}

bool OpenClQueue::idle(std::deque<InFlight>& finished) {
  // An app's own queue may hold work that dlk does not know of.
  return retire(finished) && !context_->app_queue;
}

Event OpenClQueue::event_of(uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  // Writes and reads that were done at once have no event: the one before them counts.
  Event found;
  for (const InFlight& work : in_flight_) {
    if (work.ticket > ticket) break;
    found = work.event;
  }
  return found;
}

void OpenClQueue::wait(Ticket ticket) {
  if (const Event event = event_of(ticket.value)) {
    const cl_event native = event.get();
    const cl_int code = context_->cl->clWaitForEvents(1, &native);
    // A failed command is reported from its status, below.
    if (code != CL_SUCCESS && code != CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) {
      throw_cl(code, "clWaitForEvents on " + context_->caps.id);
    }
  }
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  retire(finished);
  if (failure_ && failed_ticket_ <= ticket.value) std::rethrow_exception(failure_);
}

bool OpenClQueue::is_done(Ticket ticket) {
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  retire(finished);
  return in_flight_.empty() || in_flight_.front().ticket > ticket.value;
}

void OpenClQueue::on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) {
  const Event event = event_of(ticket.value);
  std::exception_ptr failed;
  {
    const std::lock_guard lock(mutex_);
    if (failure_ && failed_ticket_ <= ticket.value) failed = failure_;
  }
  completion_.post(
      [context = context_, event, failed, value = ticket.value]() -> std::exception_ptr {
        const cl_event native = event.get();
        if (native) context->cl->clWaitForEvents(1, &native);
        if (failed || !native) return failed;
        const cl_int status = status_of(*context, native);
        return status < 0 ? error_for(*context, status, value) : nullptr;
      },
      std::move(callback));
}

std::vector<double> OpenClQueue::command_times_ns(Ticket ticket) {
  std::deque<InFlight> finished;
  const std::lock_guard lock(mutex_);
  if (!retire(finished) && in_flight_.front().ticket <= ticket.value) {
    throw_invalid("the times of ticket " + std::to_string(ticket.value) +
                  " are not known yet: wait for it first");
  }
  std::vector<double> times;
  const auto found = profiles_.find(ticket.value);
  if (found == profiles_.end()) return times;
  for (const Event& event : found->second) {
    cl_ulong begin = 0, end = 0;
    const Api& cl = *context_->cl;
    check(cl.clGetEventProfilingInfo(event.get(), CL_PROFILING_COMMAND_START, sizeof begin, &begin,
                                     nullptr),
          "clGetEventProfilingInfo");
    check(cl.clGetEventProfilingInfo(event.get(), CL_PROFILING_COMMAND_END, sizeof end, &end,
                                     nullptr),
          "clGetEventProfilingInfo");
    times.push_back(static_cast<double>(end - begin));
  }
  return times;
}

}  // namespace dlk::opencl
