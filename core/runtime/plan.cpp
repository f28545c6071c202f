#include "core/runtime/plan.h"

#include <algorithm>
#include <future>

#include "core/base/phases.h"
#include "core/base/processors.h"
#include "core/graph/passes.h"
#include "core/kernel/matrix_units.h"

namespace dlk {

namespace {

PlanTensor plan_tensor(const ConcreteGraph& graph, ValueId id, const std::string& name) {
  return {name, graph.value(id).dtype, graph.value(id).shape};
}

/// Weights that commands read must exist; what was uploaded or made stays in the store.
void ensure_weights(const Lowered& lowered, WeightStore& weights) {
  std::vector<bool> used(lowered.storages.size(), false);
  for (const PlannedCommand& command : lowered.commands) {
    for (const PlannedOperand& operand : command.operands) used[operand.storage] = true;
  }
  for (size_t s = 0; s < used.size(); ++s) {
    const Storage& storage = lowered.storages[s];
    if (!used[s] || storage.kind != StorageKind::kWeight || !storage.data) continue;
    weights.ensure(storage.key, *storage.data, storage.dtype);
  }
}

/// Inputs that only a later stage reads are not bound.
void drop_unused_inputs(ConcreteGraph& graph) {
  const std::vector<int> uses = graph.use_counts();
  std::erase_if(graph.inputs, [&](ValueId id) { return uses[id] == 0; });
}

/// A graph after the passes, lowered for one device.
struct Draft {
  ConcreteGraph graph;
  std::vector<Preparation> preparations;
  Lowered lowered;
};

Draft make_draft(ConcreteGraph graph, const CompileOptions& options, LowerOptions lowering,
                 HostCache& host_cache) {
  Draft draft;
  draft.graph = std::move(graph);
  {
    const Phase phase("plan/passes");
    const PassOptions passes{options.dtype, options.fuse, lowering.caps->max_bindings};
    draft.preparations = run_passes(draft.graph, passes, lowering, host_cache);
    drop_unused_inputs(draft.graph);
  }
  const Phase phase("plan/lower");
  lowering.counters = true;  // preparations have none
  draft.lowered = lower_graph(
      draft.graph, assign_layout(draft.graph, {options.alias, options.channels_last}), lowering);
  overlap_commands(draft.lowered, *lowering.caps);
  for (Preparation& preparation : draft.lowered.preparations) {
    draft.preparations.push_back(std::move(preparation));
  }
  draft.lowered.preparations.clear();
  return draft;
}

}  // namespace

uint64_t PlanTensor::size_bytes() const {
  return static_cast<uint64_t>(element_count(shape)) * dtype_size(dtype);
}

std::shared_ptr<const Plan> Plan::build(const Graph& source, const std::shared_ptr<Device>& device,
                                        KernelLibrary& library, const CompileOptions& options,
                                        const SpecializeOptions& inputs, WeightStore& weights,
                                        HostCache& host_cache) {
  const Phase phase("plan");
  auto plan = std::make_shared<Plan>();
  {
    const Phase specializing("plan/specialize");
    plan->special_ = specialize(source, inputs);
  }
  const ConcreteGraph special = std::move(plan->special_.graph);
  plan->special_.graph = {};
  const std::shared_ptr<MatrixUnits> units = MatrixUnits::of(device)->assumed();
  Draft draft;
  bool settled = false;
  while (!settled) {
    LowerOptions lowering;
    lowering.caps = &device->caps();
    lowering.library = &library;
    lowering.accumulate_fp16 = options.accumulate_fp16;
    if (!units->lowering().empty()) lowering.matrix_units = units.get();
    lowering.has_weight = [&](const std::string& key) { return weights.has(key); };
    draft = make_draft(special, options, lowering, host_cache);
    // While tiles that are new to this device are tried and data is sent, all kernels compile.
    const auto when = usable_processors() > 1 ? std::launch::async : std::launch::deferred;
    std::future<bool> trial = std::async(when, [&] { return units->settle(); });
    std::future<void> sending = std::async(when, [&] { weights.send(draft.preparations); });
    std::exception_ptr problem;
    try {
      plan->program_ = compile_program(std::move(draft.lowered), device->caps(), library,
                                       options.progress, options.guards, draft.preparations);
    } catch (const Error&) {
      problem = std::current_exception();
    }
    sending.get();
    settled = trial.get();
    if (settled && problem) std::rethrow_exception(problem);
  }
  const ConcreteGraph& graph = draft.graph;
  for (const ValueId input : graph.inputs) {
    plan->inputs_.push_back(plan_tensor(graph, input, graph.value(input).name));
  }
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    plan->outputs_.push_back(plan_tensor(graph, graph.outputs[i], graph.output_names[i]));
  }
  std::vector<Preparation>& preparations = draft.preparations;
  const Phase weighing("plan/weights");
  for (size_t i = 0; i < preparations.size(); ++i) {
    if (options.progress) options.progress("weights", i, preparations.size());
    weights.prepare(std::move(preparations[i]), library);
  }
  ensure_weights(plan->program_.lowered, weights);
  {
    const Phase waiting("plan/weights/wait");
    weights.flush();
  }
  if (options.progress) options.progress("weights", preparations.size(), preparations.size());
  uint64_t weight_bytes = 0;
  for (const Storage& storage : plan->program_.lowered.storages) {
    const bool fixed =
        storage.kind == StorageKind::kWeight || storage.kind == StorageKind::kVariable;
    if (!fixed || !weights.has(storage.key)) continue;
    if (plan->fixed_.emplace(storage.key, weights.get(storage.key)).second) {
      weight_bytes += storage.size_bytes;
    }
  }
  plan->summarize(graph, weight_bytes);
  return plan;
}

CommandList Plan::commands(const std::vector<std::shared_ptr<Buffer>>& chunks,
                           const std::shared_ptr<Buffer>& counters,
                           const KernelLibrary* library) const {
  CommandList list;
  std::vector<std::shared_ptr<Kernel>> kernels = program_.kernels;
  for (std::shared_ptr<Kernel>& kernel : kernels) {
    if (library != nullptr && kernel != nullptr) kernel = library->best(kernel);
  }
  for (const PlanTensor& tensor : inputs_) list.add_slot(tensor.size_bytes());
  for (const PlanTensor& tensor : outputs_) list.add_slot(tensor.size_bytes());
  const auto place = [&](const Storage& storage) -> Operand {
    const auto inputs = static_cast<uint32_t>(inputs_.size());
    switch (storage.kind) {
      case StorageKind::kArena:
        return arena_view(storage, chunks);
      case StorageKind::kCounters:
        return View{counters, storage.offset_bytes, storage.size_bytes};
      case StorageKind::kInput:
        return SlotRef{storage.index, 0, storage.size_bytes};
      case StorageKind::kOutput:
        return SlotRef{inputs + storage.index, 0, storage.size_bytes};
      case StorageKind::kWeight:
      case StorageKind::kVariable:
        break;
    }
    const auto found = fixed_.find(storage.key);
    if (found == fixed_.end()) throw_invalid("'" + storage.name + "' has no memory");
    return found->second;
  };
  add_commands(list, program_, place, kernels);
  return list;
}

}  // namespace dlk
