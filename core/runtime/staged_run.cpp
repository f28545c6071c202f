// A run through its stages: each plan is submitted, what the next one depends on is read back,
// loops run their bodies once an iteration. All on one in-order queue.
#include <algorithm>

#include "core/runtime/session.h"

namespace dlk {

struct SessionCore::StageResults {
  const RunInputs& inputs;
  const StageInputs& tensors;
  std::vector<RunInput> plan;                // outputs of the plan
  std::vector<std::vector<RunInput>> loops;  // results of the loops so far
  std::vector<RunInput> rest;                // outputs of what followed
};

namespace {

void add_to(PlanSummary& total, const PlanSummary& stage) {
  const size_t first = total.steps.size();
  for (PlanStep step : stage.steps) {
    for (size_t& source : step.reads_from) source += first;
    total.steps.push_back(std::move(step));
  }
  total.host_ops.insert(total.host_ops.end(), stage.host_ops.begin(), stage.host_ops.end());
  total.arena_bytes = std::max(total.arena_bytes, stage.arena_bytes);
  total.peak_live_bytes = std::max(total.peak_live_bytes, stage.peak_live_bytes);
  total.weight_bytes += stage.weight_bytes;
  total.dispatches += stage.dispatches;
  total.pipelines += stage.pipelines;
}

bool truth(const HostTensor& tensor) {
  if (tensor.elements() != 1) throw_invalid("a loop's condition is not one boolean");
  return tensor.to_ints().at(0) != 0;
}

}  // namespace

std::vector<RunInput> SessionCore::run_stages(StageTree& tree, const RunInputs& inputs,
                                              RunTrace* trace) {
  StageInputs tensors(inputs, [this](const DeviceTensor& tensor) { return read(tensor); });
  const auto stage = model_->stage_for(tree, tensors);
  const Plan& plan = *stage->plan;
  if (trace) add_to(trace->summary, plan.summary());
  StageResults results{inputs, tensors, {}, {}, {}};
  Submission submission{stage->plan, {}, std::vector<View>(plan.outputs().size())};
  const bool dry = trace && trace->dry_last && !trace->all_stages && stage->is_last();
  if (!dry && !(plan.summary().steps.empty() && plan.outputs().empty())) {
    submission = submit(stage->plan, tensors, trace);
  }
  for (size_t i = 0; i < plan.outputs().size(); ++i) {
    const PlanTensor& tensor = plan.outputs()[i];
    results.plan.push_back(
        DeviceTensor{model_->device(), submission.outputs[i], tensor.dtype, tensor.shape});
  }
  const auto& special = plan.special();
  for (size_t i = 0; i < special.loops.size(); ++i) {
    const bool outer = trace ? trace->all_stages : true;
    if (trace) trace->all_stages = true;
    results.loops.push_back(run_loop(special.loops[i], *stage->bodies[i], results, trace));
    if (trace) trace->all_stages = outer;
  }
  if (stage->rest) {
    RunInputs next;
    for (const auto& [name, source] : special.rest_inputs) next[name] = resolve(source, results);
    results.rest = run_stages(*stage->rest, next, trace);
  }
  std::vector<RunInput> outputs;
  for (const ValueSource& source : special.outputs) outputs.push_back(resolve(source, results));
  return outputs;
}

RunInput SessionCore::resolve(const ValueSource& source, const StageResults& results) {
  switch (source.kind) {
    case ValueSource::Kind::kPlanOutput:
      return results.plan.at(source.index);
    case ValueSource::Kind::kInput:
      return as_input(results.tensors.tensor(source.input));
    case ValueSource::Kind::kLoop:
      return results.loops.at(source.index).at(source.result);
    case ValueSource::Kind::kRest:
      return results.rest.at(source.index);
    case ValueSource::Kind::kSequence: {
      TensorList list;
      for (const ValueSource& item : source.items) {
        list.items.push_back(as_tensor(resolve(item, results)));
      }
      return list;
    }
    case ValueSource::Kind::kNone:
      break;
  }
  return Absent{};
}

std::vector<RunInput> SessionCore::run_loop(const LoopCall& call, StageTree& body,
                                            const StageResults& results, RunTrace* trace) {
  const Graph& graph = body.graph();
  std::vector<RunInput> states, scanned, captured;
  for (const ValueSource& source : call.states) states.push_back(resolve(source, results));
  for (const ValueSource& source : call.scanned) scanned.push_back(resolve(source, results));
  for (const ValueSource& source : call.captured) captured.push_back(resolve(source, results));
  const size_t head = call.is_scan ? 0 : 1;  // of a Loop's body, output 0 is the condition
  const size_t scans = graph.outputs().size() - head - states.size();
  std::vector<std::vector<RunInput>> collected(scans);
  bool more = true;
  for (int64_t i = 0; more && (!call.trips || i < *call.trips); ++i) {
    RunInputs inputs;
    size_t at = 0;
    const auto give = [&](RunInput value) {
      inputs[graph.value(graph.inputs().at(at++)).name] = std::move(value);
    };
    if (!call.is_scan) {
      give(HostTensor::from_ints(DType::kInt64, {}, {i}));
      give(HostTensor::from_ints(DType::kBool, {}, {1}));
    }
    for (const RunInput& state : states) give(state);
    for (size_t s = 0; s < scanned.size(); ++s) {
      give(as_input(slice(scanned[s], call.scanned_backwards[s] ? *call.trips - 1 - i : i)));
    }
    for (const RunInput& value : captured) give(value);
    const std::vector<RunInput> made = run_stages(body, inputs, trace);
    if (call.dynamic_condition) {
      more = truth(std::get<HostTensor>(read(RunInput(as_input(as_tensor(made.at(0)))))));
    }
    for (size_t s = 0; s < states.size(); ++s) states[s] = made.at(head + s);
    for (size_t s = 0; s < scans; ++s) collected[s].push_back(made.at(head + states.size() + s));
  }
  std::vector<RunInput> outputs = std::move(states);
  for (size_t s = 0; s < scans; ++s) {
    const bool backwards = s < call.collected_backwards.size() && call.collected_backwards[s];
    outputs.push_back(stack(call, std::move(collected[s]), backwards));
  }
  return outputs;
}

RunTensor SessionCore::slice(const RunInput& input, int64_t index) {
  const RunTensor tensor = as_tensor(input);
  Shape shape = tensor_shape(tensor);
  shape.erase(shape.begin());
  const uint64_t bytes =
      static_cast<uint64_t>(element_count(shape)) * dtype_size(tensor_dtype(tensor));
  const uint64_t offset = static_cast<uint64_t>(index) * bytes;
  if (const auto* host = std::get_if<HostTensor>(&tensor)) {
    return HostTensor{host->dtype, shape,
                      std::shared_ptr<const std::byte>(host->data, host->data.get() + offset)};
  }
  const auto& device = std::get<DeviceTensor>(tensor);
  const View view{device.view.buffer, device.view.offset_bytes + offset,
                  std::max<uint64_t>(bytes, 4)};
  return DeviceTensor{device.device, view, device.dtype, shape};
}

DeviceTensor SessionCore::stack(const LoopCall& call, std::vector<RunInput> parts, bool backwards) {
  if (parts.empty()) throw_invalid(call.name + ": no iteration says what its outputs are like");
  if (backwards) std::ranges::reverse(parts);
  const auto first = std::get<DeviceTensor>(parts[0]);
  Shape shape = first.shape;
  shape.insert(shape.begin(), static_cast<int64_t>(parts.size()));
  DeviceTensor result{model_->device(), {}, first.dtype, shape};
  const uint64_t bytes =
      static_cast<uint64_t>(element_count(first.shape)) * dtype_size(first.dtype);
  result.view = outputs_.take(bytes * parts.size());
  CommandList list;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& part = std::get<DeviceTensor>(parts[i]);
    if (part.shape != first.shape || part.dtype != first.dtype) {
      throw_invalid(call.name + ": iteration " + std::to_string(i) + " makes a " +
                    shape_string(part.shape) + ", others a " + shape_string(first.shape));
    }
    if (bytes == 0) continue;
    list.copy(View{part.view.buffer, part.view.offset_bytes, bytes},
              View{result.view.buffer, result.view.offset_bytes + i * bytes, bytes});
  }
  if (bytes > 0) last_ = queue_->submit(model_->device()->record(list));
  return result;
}

PlanSummary summarize_stages(std::shared_ptr<ModelState> model, const RunInputs& inputs) {
  const auto names = model->outputs();
  SessionCore core(std::move(model));
  RunTrace trace;
  trace.dry_last = true;
  trace.all_stages = false;
  const StagedRun run = core.start(inputs, &trace);
  core.wait_all();
  for (size_t i = 0; i < names.size(); ++i) {
    const InputForm form = form_of(run.outputs[i]);
    if (form.kind == InputForm::Kind::kTensor) {
      trace.summary.output_shapes[names[i]] = form.tensors.at(0).shape;
    }
  }
  return std::move(trace.summary);
}

}  // namespace dlk
