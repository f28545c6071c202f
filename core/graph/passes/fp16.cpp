#include <algorithm>

#include "core/graph/passes.h"

namespace dlk {

namespace {

ConcreteNode cast_node(const std::string& name, ValueId from, ValueId to, DType dtype) {
  ConcreteNode node;
  node.schema = find_op("Cast");
  node.node = {"Cast", "", name, {from}, {to}, {{"to", std::string(dtype_name(dtype))}}};
  return node;
}

/// Pointwise kernels take scalar constants as float parameters: they lose nothing.
std::vector<bool> exact_scalars(const ConcreteGraph& graph) {
  std::vector<bool> exact(graph.values.size(), false);
  for (size_t id = 0; id < exact.size(); ++id) {
    const ConcreteValue& value = graph.values[id];
    exact[id] = value.is_constant() && value.known && element_count(value.shape) == 1;
  }
  for (const ConcreteNode& node : graph.nodes) {
    if (node.schema->pointwise) continue;
    for (const ValueId id : node.reads()) exact[id] = false;
  }
  for (const ValueId id : graph.outputs) exact[id] = false;
  return exact;
}

/// Pointwise kernels and those of some operators read what is stored as float32 as well.
bool reads_fp32(const ConcreteNode& node) {
  return node.schema->mixed_floats || (node.schema->pointwise && node.node.op != "CastLike");
}

/// Readers of the float32 value `id` that need it get a float16 copy; graph outputs and assignments
/// keep it.
void read_as_fp16(ConcreteGraph& graph, ValueId id, std::vector<ConcreteNode>& casts) {
  const auto needs_copy = [&](const ConcreteNode& node) {
    return !reads_fp32(node) && std::ranges::count(node.node.inputs, id) > 0;
  };
  if (std::ranges::none_of(graph.nodes, needs_copy)) return;
  ConcreteValue half = graph.value(id);
  half.kind = ValueKind::kResult;
  half.dtype = DType::kFloat16;
  half.name += " as float16";
  half.key.clear();
  half.known.reset();
  const ValueId copy = graph.add_value(std::move(half));
  for (ConcreteNode& node : graph.nodes) {
    if (!needs_copy(node)) continue;
    std::replace(node.node.inputs.begin(), node.node.inputs.end(), id, copy);
  }
  casts.push_back(cast_node(graph.value(copy).name, id, copy, DType::kFloat16));
}

/// A float32 result made of the float16 value `id`.
ValueId add_wide(ConcreteGraph& graph, ValueId id, const std::string& name) {
  ConcreteValue wide = graph.value(id);
  wide.kind = ValueKind::kResult;
  wide.dtype = DType::kFloat32;
  wide.name = name;
  wide.key.clear();
  wide.known.reset();
  return graph.add_value(std::move(wide));
}

bool only_reshapes(const ConcreteNode& node) {
  const std::string& op = node.node.op;
  return node.node.domain.empty() &&
         (op == "Flatten" || op == "Reshape" || op == "Squeeze" || op == "Unsqueeze");
}

/// Reshapes between an operator and the output `id` pass float32 on, so that the conversion stands
/// behind the operator, which may store its results so. False where there are none.
bool widen_before_reshapes(ConcreteGraph& graph, ValueId id, const std::string& name) {
  graph.set_producers();
  const std::vector<int> uses = graph.use_counts();
  std::vector<size_t> reshapes;
  for (ValueId at = id; uses[at] == 1;) {
    const NodeId producer = graph.value(at).producer;
    if (producer == kNoNode || !only_reshapes(graph.nodes[static_cast<size_t>(producer)])) break;
    reshapes.push_back(static_cast<size_t>(producer));
    at = graph.nodes[reshapes.back()].node.inputs[0];
  }
  if (reshapes.empty()) return false;
  const size_t first = reshapes.back();
  const ValueId from = graph.nodes[first].node.inputs[0];
  const ValueId wide = add_wide(graph, from, name + " as float32");
  for (const size_t n : reshapes)
    graph.value(graph.nodes[n].node.outputs[0]).dtype = DType::kFloat32;
  graph.nodes[first].node.inputs[0] = wide;
  graph.nodes.insert(graph.nodes.begin() + static_cast<std::ptrdiff_t>(first),
                     cast_node(name, from, wide, DType::kFloat32));
  return true;
}

/// Graph outputs keep their dtype: what they read is converted at the end.
void write_outputs_as_fp32(ConcreteGraph& graph, const std::vector<bool>& was_fp32) {
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const ValueId id = graph.outputs[i];
    const bool narrowed = static_cast<size_t>(id) < was_fp32.size() && was_fp32[id] &&
                          graph.value(id).dtype == DType::kFloat16;
    if (!narrowed || widen_before_reshapes(graph, id, graph.output_names[i])) continue;
    graph.outputs[i] = add_wide(graph, id, graph.output_names[i]);
    graph.nodes.push_back(cast_node(graph.output_names[i], id, graph.outputs[i], DType::kFloat32));
  }
}

/// Results that stay float32: statistics, and what updates variables, so that weights and an
/// optimizer's state lose nothing from step to step.
std::vector<bool> updates_of_variables(const ConcreteGraph& graph) {
  std::vector<bool> kept(graph.values.size(), false);
  std::vector<bool> assigned(graph.values.size(), false);
  for (const Assignment& assignment : graph.assignments) assigned[assignment.value] = true;
  for (const ConcreteNode& node : graph.nodes) {
    const auto keep = [&](ValueId id) {
      if (id != kNoValue) kept[id] = true;
    };
    const size_t first = node.schema->updates_in_place && node.schema->float32_outputs == SIZE_MAX
                             ? 0
                             : node.schema->float32_outputs;
    for (size_t i = first; i < node.node.outputs.size(); ++i) keep(node.node.outputs[i]);
    if (node.schema->updates_in_place) {
      for (const ValueId id : node.node.inputs) {
        if (id != kNoValue && element_count(graph.value(id).shape) == 1) keep(id);
      }
    } else if (node.schema->pointwise) {
      for (const ValueId id : node.node.outputs) {
        if (id != kNoValue && assigned[id]) keep(id);
      }
    }
  }
  return kept;
}

}  // namespace

void store_as_fp16(ConcreteGraph& graph) {
  const std::vector<bool> exact = exact_scalars(graph);
  const std::vector<bool> updates = updates_of_variables(graph);
  std::vector<bool> was_fp32(graph.values.size(), false);
  std::vector<ValueId> kept;
  for (size_t i = 0; i < was_fp32.size(); ++i) {
    ConcreteValue& value = graph.values[i];
    if (value.dtype != DType::kFloat32) continue;
    was_fp32[i] = true;
    if (value.kind == ValueKind::kInput || value.kind == ValueKind::kVariable) {
      kept.push_back(static_cast<ValueId>(i));
      continue;
    }
    if (exact[i] || (updates[i] && !value.is_constant())) continue;
    value.dtype = DType::kFloat16;
    if (value.is_constant()) value.key += ":f16";
  }
  for (ConcreteNode& node : graph.nodes) {
    if (node.node.op != "Cast" || !node.node.domain.empty()) continue;
    const DType dtype = graph.value(node.node.outputs[0]).dtype;
    node.node.attributes["to"] = std::string(dtype_name(dtype));
  }
  std::vector<ConcreteNode> casts;
  for (const ValueId id : kept) read_as_fp16(graph, id, casts);
  graph.nodes.insert(graph.nodes.begin(), std::make_move_iterator(casts.begin()),
                     std::make_move_iterator(casts.end()));
  write_outputs_as_fp32(graph, was_fp32);
  remove_dead_nodes(graph);
}

}  // namespace dlk
