#include <algorithm>
#include <map>

#include "core/graph/passes.h"

namespace dlk {

namespace {

constexpr size_t kMaxSteps = 24;

/// Each operand of `inputs` once, unused ones left out.
void compact(PointwiseProgram& program, std::vector<ValueId>& inputs) {
  std::map<ValueId, int> index_of;
  std::vector<ValueId> kept;
  std::vector<DType> dtypes;
  std::vector<int> moved(inputs.size(), -1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!program.uses_operand(i)) continue;
    const auto [found, is_new] = index_of.emplace(inputs[i], static_cast<int>(kept.size()));
    if (is_new) {
      kept.push_back(inputs[i]);
      dtypes.push_back(program.operands[i]);
    }
    moved[i] = found->second;
  }
  for (PointwiseStep& step : program.steps) {
    for (PointwiseArg& arg : step.args) {
      if (arg.kind == PointwiseArg::Kind::kOperand) arg.index = moved[arg.index];
    }
  }
  program.operands = std::move(dtypes);
  inputs = std::move(kept);
}

/// Buffers that the kernel would bind: scalar float constants are parameters.
size_t bound_operands(const ConcreteGraph& graph, const std::vector<ValueId>& inputs) {
  return static_cast<size_t>(std::ranges::count_if(inputs, [&](ValueId id) {
    const ConcreteValue& value = graph.value(id);
    return !(value.is_constant() && value.known && element_count(value.shape) == 1 &&
             compute_type(value.dtype) == "float");
  }));
}

std::vector<std::string> operators_of(const ConcreteNode& node) {
  std::vector<std::string> names = node.fused;
  if (!node.program) names.insert(names.begin(), node.node.op);
  return names;
}

/// One number from few: each element of a consumer may compute it again.
bool is_short_scalar(const ConcreteGraph& graph, const ConcreteNode& node) {
  constexpr size_t kMostSteps = 2;
  const auto is_single = [&](ValueId id) { return element_count(graph.value(id).shape) == 1; };
  const std::optional<PointwiseProgram> program = pointwise_program(graph, node);
  if (!program || program->steps.size() > kMostSteps || !is_single(node.node.outputs[0])) {
    return false;
  }
  for (size_t i = 0; i < node.node.inputs.size(); ++i) {
    if (program->uses_operand(i) && !is_single(node.node.inputs[i])) return false;
  }
  return true;
}

/// Joins `producer` into `consumer`, which reads it; false where the result would be too large.
bool join(ConcreteGraph& graph, const ConcreteNode& producer, ConcreteNode& consumer,
          size_t max_bindings) {
  const ValueId fed = producer.node.outputs[0];
  PointwiseProgram program = *pointwise_program(graph, consumer);
  std::vector<ValueId> inputs = consumer.node.inputs;
  const PointwiseProgram inner = *pointwise_program(graph, producer);
  if (program.steps.size() + inner.steps.size() > kMaxSteps) return false;
  compact(program, inputs);
  const auto slot = static_cast<size_t>(std::ranges::find(inputs, fed) - inputs.begin());
  if (slot == inputs.size()) return false;
  program = join_programs(inner, program, slot);
  inputs.insert(inputs.end(), producer.node.inputs.begin(), producer.node.inputs.end());
  compact(program, inputs);
  if (bound_operands(graph, inputs) + 1 > max_bindings) return false;
  std::vector<std::string> fused = operators_of(producer);
  for (std::string& name : operators_of(consumer)) fused.push_back(std::move(name));
  consumer.fused = std::move(fused);
  consumer.schema = find_op("Pointwise", "dlk");
  consumer.node.op = "Pointwise";
  consumer.node.domain = "dlk";
  consumer.node.attributes.clear();
  consumer.node.inputs = std::move(inputs);
  consumer.program = std::make_shared<PointwiseProgram>(std::move(program));
  return true;
}

}  // namespace

std::optional<PointwiseProgram> pointwise_program(const ConcreteGraph& graph,
                                                  const ConcreteNode& node) {
  if (node.program) return *node.program;
  if (!node.schema->pointwise) return std::nullopt;
  std::vector<DType> dtypes(node.node.inputs.size(), DType::kFloat32);
  for (size_t i = 0; i < dtypes.size(); ++i) {
    if (node.node.inputs[i] != kNoValue) dtypes[i] = graph.value(node.node.inputs[i]).dtype;
  }
  return program_of(*node.schema, node.node, std::move(dtypes));
}

void fuse_pointwise(ConcreteGraph& graph, size_t max_bindings) {
  graph.set_producers();
  const std::vector<int> uses = graph.use_counts();
  std::vector<bool> gone(graph.nodes.size(), false);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    ConcreteNode& consumer = graph.nodes[n];
    if (!pointwise_program(graph, consumer)) continue;
    const Shape& shape = graph.value(consumer.node.outputs[0]).shape;
    for (bool changed = true; changed;) {
      changed = false;
      for (const ValueId id : std::vector<ValueId>(consumer.node.inputs)) {
        if (id == kNoValue || graph.value(id).producer == kNoNode) continue;
        const auto p = static_cast<size_t>(graph.value(id).producer);
        const auto here = std::ranges::count(consumer.node.inputs, id);
        if (p == n || gone[p] || uses[id] > here) continue;
        if (graph.nodes[p].node.outputs.size() != 1) continue;
        if (graph.value(id).shape != shape && !is_short_scalar(graph, graph.nodes[p])) continue;
        if (!pointwise_program(graph, graph.nodes[p])) continue;
        if (!join(graph, graph.nodes[p], consumer, max_bindings)) continue;
        gone[p] = true;
        changed = true;
        break;
      }
    }
  }
  for (size_t n = 0; n < gone.size(); ++n) {
    if (gone[n]) graph.nodes[n].node.outputs.clear();
  }
  graph.remove_nodes([](const ConcreteNode& node) { return node.node.outputs.empty(); });
}

DLK_REGISTER_OPS {
  OpSchema schema;
  schema.name = "Pointwise";
  schema.domain = "dlk";
  schema.doc = "fused pointwise operators, made by the fusion pass";
  schema.max_inputs = -1;
  schema.min_inputs = 0;
  schema.layout = LayoutRule::kFollow;
  schema.in_place = true;
  schema.infer = [](InferContext& context) {
    context.fail("is made by fusion and cannot stand in a model");
  };
  schema.lower = lower_pointwise;
  register_op(std::move(schema));
}

}  // namespace dlk
