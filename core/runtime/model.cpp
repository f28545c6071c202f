#include "core/runtime/model.h"

#include <algorithm>

#include "core/base/phases.h"
#include "core/runtime/model_state.h"

namespace dlk {

namespace {

std::string symbolic_string(const SymbolicShape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ", ";
    text += shape[i].is_static()      ? std::to_string(shape[i].value)
            : shape[i].symbol.empty() ? "?"
                                      : shape[i].symbol;
  }
  return text + "]";
}

std::string names_of(const Graph& graph) {
  std::string names;
  for (const ValueId id : graph.inputs()) {
    names += (names.empty() ? "'" : ", '") + graph.value(id).name + "'";
  }
  return names.empty() ? "none" : names;
}

void check_shape(const Value& declared, const Shape& given) {
  if (!declared.shape) return;
  const SymbolicShape& expected = *declared.shape;
  bool fits = expected.size() == given.size();
  for (size_t i = 0; fits && i < given.size(); ++i) {
    fits = !expected[i].is_static() || expected[i].value == given[i];
  }
  if (fits) return;
  throw_invalid("input '" + declared.name + "' has shape " + shape_string(given) + ", expected " +
                symbolic_string(expected));
}

/// One symbol must stand for one size.
void check_symbols(const Graph& graph, const RunInputs& inputs) {
  std::map<std::string, std::pair<int64_t, std::string>> bound;
  for (const ValueId id : graph.inputs()) {
    const Value& declared = graph.value(id);
    if (!declared.shape) continue;
    const RunInput& input = inputs.at(declared.name);
    if (std::holds_alternative<TensorList>(input) || std::holds_alternative<Absent>(input))
      continue;
    const Shape given = form_of(input).tensors.at(0).shape;
    for (size_t i = 0; i < given.size(); ++i) {
      const Dim& dim = (*declared.shape)[i];
      if (dim.is_static() || dim.symbol.empty()) continue;
      const auto [found, is_new] = bound.emplace(dim.symbol, std::pair(given[i], declared.name));
      if (found->second.first != given[i]) {
        throw_invalid("input '" + declared.name + "' has " + dim.symbol + " = " +
                      std::to_string(given[i]) + ", but input '" + found->second.second + "' has " +
                      std::to_string(found->second.first));
      }
    }
  }
}

void check_tensor(const Value& declared, const RunTensor& tensor,
                  const std::shared_ptr<Device>& device) {
  const DType given = tensor_dtype(tensor);
  if (given != declared.dtype) {
    throw_invalid("input '" + declared.name + "' is " + std::string(dtype_name(given)) +
                  ", expected " + std::string(dtype_name(declared.dtype)));
  }
  if (const auto* host = std::get_if<HostTensor>(&tensor)) {
    if (host->elements() > 0 && !host->data) {
      throw_invalid("input '" + declared.name + "' has no data");
    }
    return;
  }
  if (std::get<DeviceTensor>(tensor).device != device) {
    throw_invalid("input '" + declared.name + "' is a tensor of another device than " +
                  device->caps().id);
  }
}

/// Sequences and absent optionals where the graph declares them.
void check_structure(const Value& declared, const RunInput& input) {
  const bool sequence =
      declared.type == ValueType::kSequence || declared.type == ValueType::kOptionalSequence;
  const bool optional =
      declared.type == ValueType::kOptional || declared.type == ValueType::kOptionalSequence;
  if (std::holds_alternative<Absent>(input)) {
    if (!optional) throw_invalid("input '" + declared.name + "' must not be absent");
  } else if (std::holds_alternative<TensorList>(input) != sequence) {
    throw_invalid("input '" + declared.name + "' is " +
                  (sequence ? "a sequence of tensors, not one" : "a tensor, not a sequence"));
  }
}

}  // namespace

std::string stored_key(const Graph& graph, ValueId id) { return leaf_key(graph, id); }

ModelState::ModelState(Graph graph, std::shared_ptr<Device> device, CompileOptions options)
    : graph_(std::move(graph)),
      device_(std::move(device)),
      options_(std::move(options)),
      weights_(device_),
      stages_(std::shared_ptr<const Graph>(&graph_, [](const Graph*) {})) {
  const Phase phase("model");
  graph_.validate();
  check_operators(graph_);
  const Caps& caps = device_->caps();
  if (options_.dtype != DType::kFloat32 && options_.dtype != DType::kFloat16) {
    throw_invalid("a model is compiled as float32 or float16, not as " +
                  std::string(dtype_name(options_.dtype)));
  }
  if (options_.dtype == DType::kFloat16 && !caps.fp16_storage) {
    throw_unsupported(caps.id + " cannot store float16 (fp16_storage)");
  }
  // Matrix units that PTX reaches add up in float16 without the language's.
  if (options_.accumulate_fp16 && !caps.fp16_arithmetic && !caps.inline_ptx) {
    throw_unsupported(caps.id + " cannot compute in float16 (fp16_arithmetic)");
  }
  if (options_.in_flight < 0) throw_invalid("in_flight must be at least 0");
  for (size_t id = 0; id < graph_.values().size(); ++id) {
    const Value& value = graph_.values()[id];
    if (value.kind != ValueKind::kVariable) continue;
    if (adopt_variable(static_cast<ValueId>(id))) continue;
    weights_.ensure(stored_key(graph_, static_cast<ValueId>(id)), value.data, value.data.dtype,
                    true);
  }
  weights_.flush();
  find_bundles();
}

bool ModelState::adopt_variable(ValueId id) {
  const auto other = std::dynamic_pointer_cast<ModelState>(options_.share_variables);
  if (!other) return false;
  if (other->device_ != device_) throw_invalid("models of two devices cannot share variables");
  const Value& own = graph_.value(id);
  const auto found = other->graph_.find(own.name);
  if (!found) return false;
  const Value& theirs = other->graph_.value(*found);
  if (theirs.kind != ValueKind::kVariable || theirs.data.dtype != own.data.dtype ||
      theirs.data.shape != own.data.shape) {
    return false;
  }
  const std::lock_guard lock(other->mutex_);
  weights_.adopt(stored_key(graph_, id), other->weights_.get(stored_key(other->graph_, *found)));
  return true;
}

std::shared_ptr<Model> Model::create(Graph graph, std::shared_ptr<Device> device,
                                     CompileOptions options) {
  if (!device) throw_invalid("a model needs a device");
  return std::make_shared<ModelState>(std::move(graph), std::move(device), std::move(options));
}

std::vector<InputInfo> ModelState::inputs() const {
  std::vector<InputInfo> infos;
  for (const ValueId id : graph_.inputs()) {
    const Value& value = graph_.value(id);
    infos.push_back({value.name, value.dtype, value.shape.value_or(SymbolicShape{}), value.type});
  }
  return infos;
}

KernelLibrary& ModelState::library() {
  if (!library_) library_ = KernelLibrary::of(device_);
  return *library_;
}

std::shared_ptr<KernelLibrary> ModelState::kernels() {
  const std::lock_guard lock(mutex_);
  return library_;
}

void ModelState::check_inputs(const RunInputs& inputs) const {
  for (const auto& [name, input] : inputs) {
    const auto id = graph_.find(name);
    if (!id || graph_.value(*id).kind != ValueKind::kInput) {
      throw_invalid("unknown input '" + name + "'; the model's inputs are " + names_of(graph_));
    }
  }
  for (const ValueId id : graph_.inputs()) {
    const Value& declared = graph_.value(id);
    const auto found = inputs.find(declared.name);
    if (found == inputs.end()) {
      throw_invalid("input '" + declared.name + "' is missing; the model's inputs are " +
                    names_of(graph_));
    }
    check_structure(declared, found->second);
    if (const auto* list = std::get_if<TensorList>(&found->second)) {
      for (const RunTensor& item : list->items) check_tensor(declared, item, device_);
    } else if (!std::holds_alternative<Absent>(found->second)) {
      check_tensor(declared, as_tensor(found->second), device_);
      check_shape(declared, form_of(found->second).tensors.at(0).shape);
    }
  }
  check_symbols(graph_, inputs);
}

std::shared_ptr<Stage> ModelState::stage_for(StageTree& tree, StageInputs& inputs) {
  const std::lock_guard lock(mutex_);
  if (auto found = tree.find(inputs)) return found;
  if (&tree == &stages_) {
    if (auto plan = bundled_plan(inputs)) return tree.add(inputs.forms(), std::move(plan));
  }
  SpecializeOptions special;
  special.forms = inputs.forms();
  special.input_value = [&](const std::string& name) { return std::optional(inputs.host(name)); };
  return tree.add(inputs.forms(), Plan::build(tree.graph(), device_, library(), options_, special,
                                              weights_, host_cache_));
}

PlanSummary ModelState::plan(const RunInputs& inputs) {
  check_inputs(inputs);
  StageInputs first(inputs);
  const auto stage = stage_for(stages_, first);
  if (stage->is_last()) return stage->plan->summary();
  return summarize_stages(shared_from_this(), inputs);
}

std::shared_ptr<const Bundle> ModelState::bundle(const RunInputs& inputs) {
  check_inputs(inputs);
  StageInputs first(inputs);
  const auto stage = stage_for(stages_, first);
  const std::lock_guard lock(mutex_);
  if (bundled_) throw_invalid("a bundle is made from a model that uses none: set DLK_BUNDLE=0");
  return make_bundle(graph_, *device_, library(), options_, stage->forms, *stage->plan, weights_);
}

bool ModelState::bundled() {
  const std::lock_guard lock(mutex_);
  return bundled_;
}

std::unique_ptr<Session> ModelState::create_session() { return make_session(shared_from_this()); }

const Value& ModelState::stored_value(const std::string& name, ValueId& id) const {
  const auto found = graph_.find(name);
  if (!found) throw_invalid("the model has no constant or variable '" + name + "'");
  id = *found;
  const Value& value = graph_.value(id);
  if (value.kind != ValueKind::kConstant && value.kind != ValueKind::kVariable) {
    throw_invalid("'" + name + "' is no constant and no variable");
  }
  return value;
}

HostTensor ModelState::read_variable(const std::string& name) {
  ValueId id = kNoValue;
  const Value& value = stored_value(name, id);
  if (value.kind == ValueKind::kConstant) return value.data;
  const std::lock_guard lock(mutex_);
  return weights_.read(stored_key(graph_, id), value.data.dtype, value.data.shape);
}

void ModelState::write_variable(const std::string& name, const HostTensor& value) {
  ValueId id = kNoValue;
  const Value& stored = stored_value(name, id);
  if (stored.kind != ValueKind::kVariable) throw_invalid("'" + name + "' is not a variable");
  if (value.dtype != stored.data.dtype || value.shape != stored.data.shape) {
    throw_invalid("variable '" + name + "' is " + std::string(dtype_name(stored.data.dtype)) + " " +
                  shape_string(stored.data.shape) + ", not " +
                  std::string(dtype_name(value.dtype)) + " " + shape_string(value.shape));
  }
  const std::lock_guard lock(mutex_);
  weights_.overwrite(stored_key(graph_, id), value);
}

}  // namespace dlk
