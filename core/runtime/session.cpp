#include "core/runtime/session.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "core/base/phases.h"
#include "core/runtime/guards.h"

namespace dlk {

namespace {

constexpr size_t kMaxRecordings = 64;  // an activation set keeps
constexpr int kMostInFlight = 4;       // where dlk chooses
constexpr uint64_t kSmallArenaBytes = 64 << 20;

/// What is submitted while it lives goes to the device together.
class Held {
 public:
  explicit Held(Queue& queue) : queue_(&queue) { queue.hold(true); }
  ~Held() {
    try {
      release();
    } catch (const Error&) {
      // Another error is under way; the queue tells this one to whoever waits.
    }
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  void release() {
    if (Queue* queue = std::exchange(queue_, nullptr)) queue->hold(false);
  }

 private:
  Queue* queue_;
};

}  // namespace

View BufferPool::take(uint64_t size_bytes) {
  const uint64_t wanted = std::max<uint64_t>(size_bytes, 4);
  for (const auto& buffer : buffers_) {
    if (buffer.use_count() != 1 || buffer->size_bytes() != wanted) continue;
    std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the last holder's release
    return {buffer, 0, wanted};
  }
  // Sizes that are no longer used do not pile up.
  if (buffers_.size() > 64) {
    std::erase_if(buffers_, [](const auto& buffer) { return buffer.use_count() == 1; });
  }
  buffers_.push_back(device_->allocate(wanted, MemoryKind::kDevice));
  return {buffers_.back(), 0, wanted};
}

SessionCore::SessionCore(std::shared_ptr<ModelState> model)
    : model_(std::move(model)),
      queue_(model_->device()->create_queue()),
      outputs_(model_->device()) {
  const int asked = model_->options().in_flight;
  for (int i = 0; i < (asked == 0 ? kMostInFlight : asked); ++i) {
    sets_.emplace_back(model_->device());
  }
}

/// Small runs leave most of a GPU to others, which overlap where submitting takes no time and no
/// run waits for variables of the one before.
size_t SessionCore::sets_for(const Plan& plan) const {
  if (model_->options().in_flight != 0) return sets_.size();
  const Caps& caps = model_->device()->caps();
  const bool overlap =
      caps.native_recordings && !caps.is_cpu && model_->graph().assignments().empty();
  return overlap && plan.memory().arena_bytes() <= kSmallArenaBytes ? kMostInFlight : 2;
}

std::shared_ptr<Recording> SessionCore::recording_for(ActivationSet& set,
                                                      const std::shared_ptr<const Plan>& plan,
                                                      bool profile) {
  const auto& sizes = plan->memory().chunk_bytes;
  bool fits = sizes.size() <= set.chunks.size();
  for (size_t i = 0; fits && i < sizes.size(); ++i) fits = sizes[i] <= set.chunks[i]->size_bytes();
  if (!fits) {
    // Larger memory for all plans; their recordings are made anew when they are used.
    set.recordings.clear();
    set.profiled.clear();
    MemoryPlan larger;
    for (size_t i = 0; i < std::max(sizes.size(), set.chunks.size()); ++i) {
      const uint64_t old = i < set.chunks.size() ? set.chunks[i]->size_bytes() : 0;
      larger.chunk_bytes.push_back(std::max(old, i < sizes.size() ? sizes[i] : 0));
    }
    set.chunks.clear();
    set.chunks = allocate_chunks(*model_->device(), larger);
  }
  const uint64_t counter_bytes = plan->memory().counter_bytes;
  if (counter_bytes > (set.counters ? set.counters->size_bytes() : 0)) {
    set.recordings.clear();
    set.profiled.clear();
    set.counters = model_->device()->allocate(counter_bytes, MemoryKind::kDevice);
    const std::vector<std::byte> zeros(counter_bytes);
    queue_->write({set.counters, 0, counter_bytes}, zeros);
  }
  auto& recordings = profile ? set.profiled : set.recordings;
  if (recordings.size() >= kMaxRecordings && !recordings.contains(plan)) recordings.clear();
  PlanRecording& made = recordings[plan];
  if (made.is_final) return made.recording;
  const std::shared_ptr<KernelLibrary> library = model_->kernels();
  const uint64_t replaced = library ? library->replaced() : 0;
  if (made.recording && replaced == made.replaced) return made.recording;
  made.replaced = replaced;
  const auto& kernels = plan->program().kernels;
  made.is_final = !library || library->settle(kernels);
  if (!made.is_final && profile) {  // times are of the kernels that stay
    library->finish_background();
    made.is_final = true;
  }
  if (!made.recording || made.is_final) {
    made.recording = record(set, *plan, profile, made.is_final ? library.get() : nullptr);
  }
  return made.recording;
}

std::shared_ptr<Recording> SessionCore::record(const ActivationSet& set, const Plan& plan,
                                               bool profile, const KernelLibrary* library) {
  const Phase phase("record");
  CommandList commands = plan.commands(set.chunks, set.counters, library);
  const auto& dropped = model_->options().drop_barrier_for_test;
  if (dropped) commands.drop_barrier_for_test(*dropped);
  return model_->device()->record(commands, profile);
}

View SessionCore::guarded_view(uint64_t size_bytes, std::span<const std::byte> data) {
  const View whole{model_->device()->allocate(guarded_bytes(size_bytes), MemoryKind::kDevice), 0,
                   guarded_bytes(size_bytes)};
  queue_->write(whole, data.empty() ? guard_pattern(whole.size_bytes) : guarded(data));
  return {whole.buffer, kGuardBytes, std::max<uint64_t>(size_bytes, 4)};
}

void SessionCore::fill_arena(const ActivationSet& set) {
  for (const auto& chunk : set.chunks) {
    queue_->write({chunk, 0, chunk->size_bytes()}, guard_pattern(chunk->size_bytes()));
  }
}

void SessionCore::check_guards(const ActivationSet& set, const Submission& submission) {
  queue_->wait(submission.ticket);
  const Program& program = submission.plan->program();
  const auto contents = [&](const std::shared_ptr<Buffer>& buffer) {
    std::vector<std::byte> bytes(buffer->size_bytes());
    queue_->wait(queue_->read({buffer, 0, bytes.size()}, bytes));
    return bytes;
  };
  for (uint32_t i = 0; i < submission.outputs.size(); ++i) {
    const PlanTensor& tensor = submission.plan->outputs()[i];
    check_output_guards(program, i, tensor.name, tensor.size_bytes(),
                        contents(submission.outputs[i].buffer));
  }
  for (uint32_t chunk = 0; chunk < program.memory.chunk_bytes.size(); ++chunk) {
    check_arena_guards(program, chunk, contents(set.chunks[chunk]));
  }
}

View SessionCore::input_view(ActivationSet& set, size_t index, const PlanTensor& tensor,
                             const RunTensor& input) {
  const auto* given = std::get_if<DeviceTensor>(&input);
  // Kernels load vectors: a tensor at an odd place is copied to an aligned one.
  if (given && given->view.offset_bytes % kArenaAlignment == 0) return given->view;
  if (!given && model_->options().guards) {
    return guarded_view(tensor.size_bytes(), std::get<HostTensor>(input).bytes());
  }
  const uint64_t bytes = std::max<uint64_t>(tensor.size_bytes(), 4);
  set.input_buffers.resize(std::max(set.input_buffers.size(), index + 1));
  auto& buffer = set.input_buffers[index];
  if (!buffer || buffer->size_bytes() < bytes) {
    buffer = model_->device()->allocate(bytes, MemoryKind::kInput);
  }
  if (tensor.size_bytes() == 0) return {buffer, 0, bytes};
  const View target{buffer, 0, tensor.size_bytes()};
  if (given) {
    CommandList list;
    list.copy(View{given->view.buffer, given->view.offset_bytes, tensor.size_bytes()}, target);
    queue_->submit(model_->device()->record(list));
  } else {
    queue_->write(target, std::get<HostTensor>(input).bytes());
  }
  return {buffer, 0, bytes};
}

Submission SessionCore::submit(const std::shared_ptr<const Plan>& plan, const StageInputs& inputs,
                               RunTrace* trace) {
  const bool profile = trace && trace->profile;
  const size_t sets = sets_for(*plan);
  ActivationSet& set = sets_[next_set_ % sets];
  next_set_ = (next_set_ + 1) % sets;
  const Ticket before = set.last;
  set.last = {};  // an error of that run is reported once here, and by its own handle
  queue_->wait(before);
  const auto recording = recording_for(set, plan, profile);
  const bool guards = model_->options().guards;
  if (guards) fill_arena(set);
  std::vector<View> slots;
  for (size_t i = 0; i < plan->inputs().size(); ++i) {
    const PlanTensor& tensor = plan->inputs()[i];
    slots.push_back(input_view(set, i, tensor, inputs.tensor(tensor.name)));
  }
  Submission submission{plan, {}, {}};
  for (const PlanTensor& tensor : plan->outputs()) {
    submission.outputs.push_back(guards ? guarded_view(tensor.size_bytes(), {})
                                        : set.outputs.take(tensor.size_bytes()));
    slots.push_back(submission.outputs.back());
  }
  submission.ticket = queue_->submit(recording, slots);
  set.last = last_ = submission.ticket;
  if (guards) check_guards(set, submission);
  if (profile) {
    queue_->wait(submission.ticket);
    const std::vector<double> times = queue_->command_times_ns(submission.ticket);
    const auto& steps = plan->summary().steps;
    for (size_t i = 0; i < std::min(steps.size(), times.size()); ++i) {
      trace->steps.emplace_back(steps[i], times[i]);
    }
  }
  return submission;
}

StagedRun SessionCore::start(const RunInputs& inputs, RunTrace* trace) {
  model_->check_inputs(inputs);
  StageInputs first(inputs);
  model_->stage_for(model_->stages(), first);  // may take long: before others wait for the session
  const std::lock_guard lock(mutex_);
  Held held(*queue_);
  StagedRun run;
  run.outputs = run_stages(model_->stages(), inputs, trace);
  run.ticket = last_;
  held.release();
  return run;
}

std::vector<HostValue> SessionCore::run(const RunInputs& inputs) {
  model_->check_inputs(inputs);
  StageInputs first(inputs);
  model_->stage_for(model_->stages(), first);
  const std::lock_guard lock(mutex_);
  Held held(*queue_);
  const std::vector<RunInput> outputs = run_stages(model_->stages(), inputs, nullptr);
  if (model_->device()->caps().unified_memory) {
    // Once the run is done, the host reads without the device's help.
    held.release();
    queue_->wait(last_);
  }
  return fetch_all(outputs);
}

void SessionCore::wait(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  queue_->wait(ticket);
}

bool SessionCore::is_done(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  return queue_->is_done(ticket);
}

void SessionCore::on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) {
  const std::lock_guard lock(mutex_);
  queue_->on_complete(ticket, std::move(callback));
}

HostTensor SessionCore::fetch(const DeviceTensor& tensor, Ticket& ticket) {
  auto [host, bytes] = HostTensor::unfilled(tensor.dtype, tensor.shape);
  if (!bytes.empty()) {
    ticket = queue_->read({tensor.view.buffer, tensor.view.offset_bytes, bytes.size()}, bytes);
  }
  return std::move(host);
}

HostValue SessionCore::fetch(const RunInput& value, Ticket& ticket) {
  if (std::holds_alternative<Absent>(value)) return Absent{};
  const auto host = [&](const RunTensor& tensor) {
    const auto* here = std::get_if<HostTensor>(&tensor);
    return here ? *here : fetch(std::get<DeviceTensor>(tensor), ticket);
  };
  if (const auto* list = std::get_if<TensorList>(&value)) {
    std::vector<HostTensor> items;
    for (const RunTensor& item : list->items) items.push_back(host(item));
    return items;
  }
  return host(as_tensor(value));
}

std::vector<HostValue> SessionCore::fetch_all(const std::vector<RunInput>& values) {
  std::vector<HostValue> read;
  Ticket ticket = last_;
  try {
    for (const RunInput& value : values) read.push_back(fetch(value, ticket));
    queue_->wait(ticket);
  } catch (...) {
    // Reads that have started fill the memory of `read`.
    try {
      queue_->wait(ticket);
    } catch (const Error&) {
      // The first error is the one to tell.
    }
    throw;
  }
  return read;
}

HostTensor SessionCore::read(const DeviceTensor& tensor) {
  return std::get<HostTensor>(read(RunInput(tensor)));
}

HostValue SessionCore::read(const RunInput& value) {
  const std::lock_guard lock(mutex_);
  return std::move(fetch_all({value}).front());
}

void SessionCore::wait_all() {
  const std::lock_guard lock(mutex_);
  queue_->wait(last_);
}

namespace {

class SessionImpl : public Session {
 public:
  explicit SessionImpl(std::shared_ptr<ModelState> model)
      : core_(std::make_shared<SessionCore>(std::move(model))) {}

  std::shared_ptr<Run> run_async(const RunInputs& inputs) override {
    return make_run(core_, core_->start(inputs));
  }

  std::map<std::string, HostValue> run_values(const RunInputs& inputs) override {
    std::vector<HostValue> values = core_->run(inputs);
    std::map<std::string, HostValue> outputs;
    const auto names = core_->model()->outputs();
    for (size_t i = 0; i < names.size(); ++i) outputs[names[i]] = std::move(values[i]);
    return outputs;
  }

  std::map<std::string, HostTensor> run(const RunInputs& inputs) override {
    std::map<std::string, HostTensor> outputs;
    for (auto& [name, value] : run_values(inputs)) {
      auto* tensor = std::get_if<HostTensor>(&value);
      if (!tensor) throw_unsupported("output '" + name + "' is no tensor; use run_values");
      outputs[name] = std::move(*tensor);
    }
    return outputs;
  }

  std::vector<std::pair<PlanStep, double>> profile(const RunInputs& inputs) override {
    const Caps& caps = core_->model()->device()->caps();
    if (!caps.timestamps) {
      throw_unsupported(caps.id + " cannot time single commands (timestamps)");
    }
    RunTrace trace;
    trace.profile = true;
    core_->start(inputs, &trace);
    return std::move(trace.steps);
  }

  void wait_all() override { core_->wait_all(); }

 private:
  std::shared_ptr<SessionCore> core_;
};

}  // namespace

std::unique_ptr<Session> make_session(std::shared_ptr<ModelState> model) {
  return std::make_unique<SessionImpl>(std::move(model));
}

}  // namespace dlk
