#include <algorithm>

#include "core/graph/passes.h"

namespace dlk {

namespace {

constexpr size_t kMaxExpression = 1500;
constexpr size_t kMaxBuffers = 3;  // of an epilogue

/// How a kernel would read `value` while it writes results of `shape`; nullopt where it cannot.
/// The answer must be the same for every batch size: an axis 0 of size 1 that is computed, not
/// stored, could be a batch of one.
std::optional<EpilogueOperand::Kind> operand_kind(const ConcreteValue& value, const Shape& shape,
                                                  int64_t channel_axis) {
  using Kind = EpilogueOperand::Kind;
  if (compute_type(value.dtype) != "float") return std::nullopt;
  const bool fixed = value.kind == ValueKind::kConstant || value.kind == ValueKind::kVariable;
  if (element_count(value.shape) == 1 && (fixed || value.shape.empty())) {
    return value.is_constant() && value.known ? Kind::kValue : Kind::kScalar;
  }
  if (value.shape == shape) return Kind::kFull;
  const auto rank = static_cast<int64_t>(shape.size());
  const int64_t axis = channel_axis < 0 ? channel_axis + rank : channel_axis;
  if (axis < 0 || axis >= rank) return std::nullopt;
  const auto missing = rank - static_cast<int64_t>(value.shape.size());
  if (missing < 0 || (missing == 0 && !fixed)) return std::nullopt;
  for (int64_t i = 0; i < rank; ++i) {
    const int64_t dim = i < missing ? 1 : value.shape[static_cast<size_t>(i - missing)];
    if (dim != (i == axis ? shape[static_cast<size_t>(i)] : 1)) return std::nullopt;
  }
  return Kind::kChannel;
}

bool stored_as_float(DType dtype) {
  return compute_type(dtype) == "float" && !is_storage_only(dtype);
}

bool stays_in_float(const PointwiseProgram& program) {
  const auto float_or_bool = [](DType dtype) {
    return dtype == DType::kBool || compute_type(dtype) == "float";
  };
  return std::ranges::all_of(program.operands,
                             [](DType dtype) { return compute_type(dtype) == "float"; }) &&
         std::ranges::all_of(program.steps,
                             [&](const PointwiseStep& step) { return float_or_bool(step.dtype); });
}

/// Puts the pointwise `consumer` of `producer`'s result into its epilogue.
bool absorb(const ConcreteGraph& graph, ConcreteNode& producer, const ConcreteNode& consumer,
            size_t max_bindings) {
  const ConcreteValue& x = graph.value(producer.node.outputs[0]);
  const PointwiseProgram program = *pointwise_program(graph, consumer);
  const ConcreteValue& result = graph.value(consumer.node.outputs[0]);
  if (!stays_in_float(program) || !stored_as_float(result.dtype)) return false;
  if (result.dtype != x.dtype && !producer.schema->mixed_floats) return false;
  Epilogue epilogue;
  std::vector<ValueId> inputs;
  std::vector<double> values;
  std::vector<std::string> names(consumer.node.inputs.size()), value_names;
  size_t buffers = 0;
  const auto add = [&](EpilogueOperand::Kind kind, DType dtype, ValueId id, double value) {
    epilogue.operands.push_back({kind, dtype});
    inputs.push_back(id);
    values.push_back(value);
    return "e" + std::to_string(inputs.size() - 1);
  };
  for (size_t i = 0; i < consumer.node.inputs.size(); ++i) {
    const ValueId id = consumer.node.inputs[i];
    if (id == kNoValue || !program.uses_operand(i)) continue;
    if (id == producer.node.outputs[0]) {
      names[i] = "x";
      continue;
    }
    const ConcreteValue& value = graph.value(id);
    const auto kind = operand_kind(value, x.shape, producer.schema->epilogue_channel_axis);
    if (!kind) return false;
    if (*kind == EpilogueOperand::Kind::kValue) {
      names[i] = add(*kind, DType::kFloat32, kNoValue, value.known->to_doubles()[0]);
    } else {
      names[i] = add(*kind, value.dtype, id, 0);
      ++buffers;
    }
  }
  if (buffers > kMaxBuffers || producer.reads().size() + 1 + buffers > max_bindings) return false;
  for (const double value : program.values) {
    value_names.push_back(add(EpilogueOperand::Kind::kValue, DType::kFloat32, kNoValue, value));
  }
  epilogue.expression = program_expression(program, names, value_names, kMaxExpression);
  if (epilogue.expression.empty()) return false;
  producer.epilogue = std::move(epilogue);
  producer.epilogue_inputs = std::move(inputs);
  producer.epilogue_values = std::move(values);
  if (!consumer.program) producer.fused.push_back(consumer.node.op);
  producer.fused.insert(producer.fused.end(), consumer.fused.begin(), consumer.fused.end());
  producer.node.outputs[0] = consumer.node.outputs[0];
  return true;
}

size_t output_count(const ConcreteNode& node) {
  return static_cast<size_t>(
      std::ranges::count_if(node.node.outputs, [](ValueId output) { return output != kNoValue; }));
}

/// Everything else that the consumer reads is there when node `producer` runs.
bool is_ready_at(const ConcreteGraph& graph, const ConcreteNode& consumer, ValueId id,
                 size_t producer) {
  return std::ranges::all_of(consumer.node.inputs, [&](ValueId input) {
    if (input == kNoValue || input == id) return true;
    const NodeId before = graph.value(input).producer;
    return before == kNoNode || static_cast<size_t>(before) < producer;
  });
}

/// Of each node: nodes on the longest way to it.
std::vector<int> depths(const ConcreteGraph& graph) {
  std::vector<int> depths(graph.nodes.size(), 1);
  for (size_t n = 0; n < depths.size(); ++n) {
    for (const ValueId id : graph.nodes[n].reads()) {
      const NodeId before = graph.value(id).producer;
      if (before != kNoNode) depths[n] = std::max(depths[n], depths[before] + 1);
    }
  }
  return depths;
}

/// The node that writes the value and can take an epilogue.
std::optional<size_t> candidate(const ConcreteGraph& graph, ValueId id, const Shape& shape) {
  if (id == kNoValue || graph.value(id).producer == kNoNode) return std::nullopt;
  const auto p = static_cast<size_t>(graph.value(id).producer);
  const ConcreteNode& node = graph.nodes[p];
  const bool fits = node.schema->fuses_epilogue && node.epilogue.expression.empty() &&
                    node.node.outputs[0] == id && graph.value(id).shape == shape &&
                    stored_as_float(graph.value(id).dtype);
  return fits ? std::optional(p) : std::nullopt;
}

}  // namespace

void fuse_epilogues(ConcreteGraph& graph, size_t max_bindings) {
  graph.set_producers();
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!pointwise_program(graph, graph.nodes[n])) continue;
    const std::vector<int> uses = graph.use_counts();
    const ConcreteNode consumer = graph.nodes[n];
    const Shape& shape = graph.value(consumer.node.outputs[0]).shape;
    // Of several producers the one that most comes before, or the last: what the others do is then
    // done beside that.
    std::optional<size_t> producer;
    std::vector<int> depth;
    for (const ValueId id : consumer.node.inputs) {
      const auto p = candidate(graph, id, shape);
      if (!p || uses[id] != std::ranges::count(consumer.node.inputs, id)) continue;
      // One with several results stays where it is: others may read them before the consumer.
      if (output_count(graph.nodes[*p]) > 1 && !is_ready_at(graph, consumer, id, *p)) continue;
      if (producer && depth.empty()) depth = depths(graph);
      if (!producer || std::pair(depth[*p], *p) > std::pair(depth[*producer], *producer)) {
        producer = p;
      }
    }
    if (!producer || !absorb(graph, graph.nodes[*producer], consumer, max_bindings)) continue;
    // The producer moves to the reader's place, where every operand is there.
    const bool moves = output_count(graph.nodes[*producer]) == 1;
    if (moves) std::swap(graph.nodes[n], graph.nodes[*producer]);
    const size_t consumed = moves ? *producer : n;
    graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(consumed));
    --n;
    graph.set_producers();
  }
}

}  // namespace dlk
