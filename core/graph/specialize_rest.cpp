// What a plan leaves over for the stages after it: nodes that wait for a value that the run makes,
// with everything that they read as inputs, constants and variables of another graph.
#include <algorithm>
#include <numeric>

#include "core/graph/specializer.h"

namespace dlk {

Graph& Specializer::rest() {
  if (!rest_) rest_ = std::make_shared<Graph>();
  return *rest_;
}

Bounds Specializer::defer(const Node& node, const Bounds& inputs,
                          const std::vector<std::string>& names) {
  std::vector<ValueId> ids;
  for (const Bound& input : inputs) ids.push_back(input.is_set() ? in_rest(input) : kNoValue);
  const auto made = rest().add_node(node.op, std::move(ids), node.attributes,
                                    static_cast<int>(names.size()), node.name, node.domain, names);
  Bounds outputs;
  for (const ValueId id : made) outputs.push_back(id == kNoValue ? Bound{} : Bound::later(id));
  return outputs;
}

ValueId Specializer::in_rest(const Bound& bound) {
  switch (bound.kind) {
    case Bound::Kind::kLater:
      return bound.id;
    case Bound::Kind::kTensor:
      return rest_leaf(bound.id);
    case Bound::Kind::kSequence: {
      std::vector<ValueId> items;
      for (const Bound& item : bound.items) items.push_back(in_rest(item));
      const std::string op = items.empty() ? "SequenceEmpty" : "SequenceConstruct";
      return rest().add_node(op, std::move(items)).at(0);
    }
    case Bound::Kind::kNone:
      return rest().add_node("Optional", {}).at(0);
    case Bound::Kind::kUnset:
      break;
  }
  throw_invalid("a value is used before it is computed");
}

ValueId Specializer::rest_leaf(ValueId concrete) {
  if (const auto found = rest_of_.find(concrete); found != rest_of_.end()) return found->second;
  const ConcreteValue& value = graph_.value(concrete);
  ValueId id = kNoValue;
  if (value.known) {
    id = rest().add_constant(value.name, *value.known);
    rest().mutable_value(id).key = value.is_constant() ? value.key : content_key(*value.known);
  } else if (value.kind == ValueKind::kVariable) {
    const auto& [initial, trainable] = variables_.at(concrete);
    id = rest().add_variable(value.name, initial, trainable);
    rest().mutable_value(id).key = value.key;
  } else {
    SymbolicShape shape;
    for (const int64_t dim : value.shape) shape.push_back(Dim::of(dim));
    id = rest().add_input("stage:" + std::to_string(concrete), value.dtype, std::move(shape));
    rest_inputs_[id] = source_of(Bound::tensor(concrete));
  }
  rest_of_[concrete] = id;
  return id;
}

size_t Specializer::plan_output(ValueId id) {
  const auto [found, is_new] = plan_outputs_.emplace(id, graph_.outputs.size());
  if (is_new) {
    graph_.outputs.push_back(id);
    graph_.output_names.push_back(graph_.value(id).name);
  }
  return found->second;
}

ValueSource Specializer::source_of(const Bound& bound, bool as_output) {
  using Kind = ValueSource::Kind;
  switch (bound.kind) {
    case Bound::Kind::kTensor: {
      const ConcreteValue& value = graph_.value(bound.id);
      if (value.kind == ValueKind::kInput && !as_output)
        return {Kind::kInput, 0, 0, value.name, {}};
      return {Kind::kPlanOutput, plan_output(bound.id), 0, {}, {}};
    }
    case Bound::Kind::kSequence: {
      ValueSource source{Kind::kSequence, 0, 0, {}, {}};
      for (const Bound& item : bound.items) source.items.push_back(source_of(item, as_output));
      return source;
    }
    case Bound::Kind::kNone:
      return {Kind::kNone, 0, 0, {}, {}};
    case Bound::Kind::kLater: {
      if (const auto found = rest_inputs_.find(bound.id); found != rest_inputs_.end()) {
        return found->second;
      }
      const auto [found, is_new] = rest_outputs_.emplace(bound.id, rest_->outputs().size());
      if (is_new) rest_->add_output(bound.id);
      return {Kind::kRest, found->second, 0, {}, {}};
    }
    case Bound::Kind::kUnset:
      break;
  }
  throw_invalid("an output is not computed");
}

/// Assignments come after every reader: at the end of the last stage.
void Specializer::add_assignments(const Graph& graph, Bounds& bounds) {
  for (const Assignment& assignment : graph.assignments()) {
    add_leaf(graph, assignment.variable, bounds);
    add_leaf(graph, assignment.value, bounds);
    const Bound& variable = bounds[assignment.variable];
    const Bound& value = bounds[assignment.value];
    if (rest_ || !loops_.empty()) {
      const ValueId target = in_rest(variable);
      rest().assign(target, in_rest(value));
      continue;
    }
    const ConcreteValue& to = graph_.value(variable.id);
    if (!value.is_tensor()) {
      throw_invalid("variable '" + to.name + "' is assigned what is no tensor");
    }
    const ConcreteValue& from = graph_.value(value.id);
    if (to.shape != from.shape || to.dtype != from.dtype) {
      throw_invalid("variable '" + to.name + "' of " + describe(to) + " is assigned '" + from.name +
                    "' of " + describe(from));
    }
    graph_.assignments.push_back({variable.id, value.id});
  }
}

Bounds Specializer::cut_dynamic_outputs(const ConcreteNode& source, const Bounds& full) {
  // `source` lies in graph_.nodes, which helper nodes make grow.
  const Node node = source.node;
  const std::vector<DynamicAxis> axes = source.schema->dynamic(NodeReader(node));
  const Bound counts = Bound::tensor(node.outputs.back());
  Bounds outputs = full;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].is_tensor() || graph_.value(outputs[i].id).known) continue;
    const auto rank = static_cast<int64_t>(graph_.value(outputs[i].id).shape.size());
    std::vector<int64_t> cut, indices;
    for (const DynamicAxis& axis : axes) {
      if (axis.output != i) continue;
      cut.push_back(NodeReader(node).normalize_axis(axis.axis, rank));
      indices.push_back(static_cast<int64_t>(axis.count));
    }
    if (cut.empty()) continue;
    const auto n = static_cast<int64_t>(cut.size());
    const ValueId full_id = rest_leaf(outputs[i].id);
    const auto ints = [&](const std::vector<int64_t>& values) {
      return rest().add_constant("", HostTensor::from_ints(DType::kInt32, {n}, values));
    };
    const ValueId ends = rest().add_node("Gather", {rest_leaf(counts.id), ints(indices)}).at(0);
    const ValueId starts = ints(std::vector<int64_t>(cut.size(), 0));
    outputs[i] = Bound::later(
        rest().add_node("Slice", {full_id, starts, ends, ints(cut)}, {}, 1, node.name).at(0));
  }
  return outputs;
}

}  // namespace dlk
