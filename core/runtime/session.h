// One user's queue, activation arenas and output buffers; what its runs keep alive. Internal to the
// engine.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/runtime/model_state.h"

namespace dlk {

/// Buffers that are handed out again once nobody holds them.
class BufferPool {
 public:
  explicit BufferPool(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  View take(uint64_t size_bytes);

 private:
  std::shared_ptr<Device> device_;
  std::vector<std::shared_ptr<Buffer>> buffers_;
};

/// A plan's recording, made anew once its kernels are the last ones.
struct PlanRecording {
  std::shared_ptr<Recording> recording;
  bool is_final = false;
  uint64_t replaced = 0;  // KernelLibrary::replaced when it was last looked at
};

/// Activation memory for one run under way, and the recordings made over it.
struct ActivationSet {
  explicit ActivationSet(const std::shared_ptr<Device>& device) : outputs(device) {}
  std::vector<std::shared_ptr<Buffer>> chunks;
  std::shared_ptr<Buffer> counters;  // zeros between runs
  std::map<std::shared_ptr<const Plan>, PlanRecording> recordings, profiled;
  std::vector<std::shared_ptr<Buffer>> input_buffers;  // by input index
  BufferPool outputs;  // of its own: the same recording then meets the same buffers
  Ticket last;
};

/// One plan handed to the queue.
struct Submission {
  std::shared_ptr<const Plan> plan;
  Ticket ticket;
  std::vector<View> outputs;
};

/// A whole run: its outputs in the graph's order, and the ticket of its last command.
struct StagedRun {
  std::vector<RunInput> outputs;
  Ticket ticket;
};

/// What a run tells about itself to who asks.
struct RunTrace {
  bool profile = false;    // times of each command: the run is waited for, stage by stage
  bool dry_last = false;   // the last stage is planned only
  bool all_stages = true;  // inside of loops: nothing is dry
  PlanSummary summary;
  std::vector<std::pair<PlanStep, double>> steps;
};

/// Shared by a session and its runs; the lock makes handles usable from other threads.
class SessionCore {
 public:
  explicit SessionCore(std::shared_ptr<ModelState> model);
  /// Starts a run; `trace` may be null.
  StagedRun start(const RunInputs& inputs, RunTrace* trace = nullptr);
  /// A whole run, waited for: its outputs in the graph's order.
  std::vector<HostValue> run(const RunInputs& inputs);
  void wait(Ticket ticket);
  bool is_done(Ticket ticket);
  void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback);
  HostTensor read(const DeviceTensor& tensor);
  HostValue read(const RunInput& value);
  void wait_all();
  const std::shared_ptr<ModelState>& model() const { return model_; }

 private:
  /// How many activation sets runs of the plan take in turn.
  size_t sets_for(const Plan& plan) const;
  std::shared_ptr<Recording> record(const ActivationSet& set, const Plan& plan, bool profile,
                                    const KernelLibrary* library);
  std::shared_ptr<Recording> recording_for(ActivationSet& set,
                                           const std::shared_ptr<const Plan>& plan, bool profile);
  /// With CompileOptions::guards: a view between guard words, with `data` or the pattern in it.
  View guarded_view(uint64_t size_bytes, std::span<const std::byte> data);
  void fill_arena(const ActivationSet& set);
  void check_guards(const ActivationSet& set, const Submission& submission);
  View input_view(ActivationSet& set, size_t index, const PlanTensor& tensor,
                  const RunTensor& input);
  Submission submit(const std::shared_ptr<const Plan>& plan, const StageInputs& inputs,
                    RunTrace* trace);
  /// Reads once queue_ has come to `ticket`, which is made the last one that the result needs.
  HostTensor fetch(const DeviceTensor& tensor, Ticket& ticket);
  HostValue fetch(const RunInput& value, Ticket& ticket);
  /// The same for all, waited for.
  std::vector<HostValue> fetch_all(const std::vector<RunInput>& values);

  // Stages (staged_run.cpp).
  struct StageResults;
  std::vector<RunInput> run_stages(StageTree& tree, const RunInputs& inputs, RunTrace* trace);
  RunInput resolve(const ValueSource& source, const StageResults& results);
  std::vector<RunInput> run_loop(const LoopCall& call, StageTree& body, const StageResults& results,
                                 RunTrace* trace);
  RunTensor slice(const RunInput& input, int64_t index);
  DeviceTensor stack(const LoopCall& call, std::vector<RunInput> parts, bool backwards);

  std::shared_ptr<ModelState> model_;
  std::recursive_mutex mutex_;
  std::unique_ptr<Queue> queue_;
  BufferPool outputs_;
  std::vector<ActivationSet> sets_;
  size_t next_set_ = 0;
  Ticket last_;
};

std::shared_ptr<Run> make_run(std::shared_ptr<SessionCore> core, StagedRun run);

}  // namespace dlk
