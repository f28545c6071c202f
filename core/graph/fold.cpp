#include "core/graph/fold.h"

#include <algorithm>
#include <set>

#include "core/graph/specialize.h"
#include "core/ops/op.h"

namespace dlk {

namespace {

bool only_reshapes(const Node& node) {
  static const std::set<std::string> names{"Identity", "Reshape", "Flatten", "Squeeze",
                                           "Unsqueeze"};
  return node.domain.empty() && names.contains(node.op);
}

class Folder {
 public:
  explicit Folder(const Graph& source) : source_(source) {}

  Graph run() {
    result_.info = source_.info;
    to_.assign(source_.values().size(), kNoValue);
    for (const ValueId id : source_.inputs()) {
      const Value& input = source_.value(id);
      to_[id] = result_.add_input(input.name, input.dtype, input.shape.value_or(SymbolicShape{}),
                                  input.type);
    }
    for (size_t i = 0; i < source_.values().size(); ++i) {
      if (source_.values()[i].kind == ValueKind::kVariable) mapped(static_cast<ValueId>(i));
    }
    for (const NodeId n : source_.topological_order()) {
      const Node& node = source_.nodes()[n];
      if (!fold(node)) copy(node);
    }
    for (size_t i = 0; i < source_.outputs().size(); ++i) {
      result_.add_output(mapped(source_.outputs()[i]), source_.output_names()[i]);
    }
    for (const Assignment& assignment : source_.assignments()) {
      result_.assign(mapped(assignment.variable), mapped(assignment.value));
    }
    return std::move(result_);
  }

 private:
  /// What is known of a value before any run; nullptr where nothing is.
  const HostTensor* known(ValueId id) const {
    const Value& value = source_.value(id);
    if (value.kind == ValueKind::kConstant) return &value.data;
    const auto found = folded_.find(id);
    return found == folded_.end() ? nullptr : &found->second;
  }

  /// The value in the result; constants are added when they are first read.
  ValueId mapped(ValueId id) {
    if (id == kNoValue || to_[id] != kNoValue) return id == kNoValue ? id : to_[id];
    const Value& value = source_.value(id);
    if (value.kind == ValueKind::kVariable) {
      to_[id] = result_.add_variable(value.name, value.data, value.trainable);
    } else {
      to_[id] = result_.add_constant(value.name, *known(id));
    }
    result_.mutable_value(to_[id]).key = value.key;
    return to_[id];
  }

  void copy(const Node& node) {
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(mapped(input));
    std::vector<std::string> names;
    for (const ValueId output : node.outputs) {
      names.push_back(output == kNoValue ? "" : source_.value(output).name);
    }
    Attributes attributes = node.attributes;
    for (auto& [name, attribute] : attributes) {
      auto* body = std::get_if<std::shared_ptr<Graph>>(&attribute);
      if (body && *body) *body = std::make_shared<Graph>(fold_graph(**body));
    }
    const auto made =
        result_.add_node(node.op, std::move(inputs), std::move(attributes),
                         static_cast<int>(names.size()), node.name, node.domain, names);
    for (size_t i = 0; i < made.size(); ++i) {
      if (made[i] == kNoValue) continue;
      const Value& value = source_.value(node.outputs[i]);
      to_[node.outputs[i]] = made[i];
      result_.declare(made[i], value.dtype, value.shape, value.type);
    }
  }

  bool fold(const Node& node) {
    const OpSchema* schema = find_op(node.op, node.domain);
    const bool is_constant = node.op == "Constant" && node.domain.empty();
    if (!is_constant && (!schema || !schema->host_eval)) return false;
    for (const ValueId input : node.inputs) {
      if (input != kNoValue && !known(input)) return false;
    }
    std::optional<Specialization> made;
    try {
      made = specialize(alone(node), {});
    } catch (const Error&) {
      return false;  // the compiler says what is wrong with it
    }
    std::vector<HostTensor> values;
    for (size_t i = 0; i < made->outputs.size(); ++i) {
      const ValueSource& source = made->outputs[i];
      if (source.kind != ValueSource::Kind::kPlanOutput) return false;
      const ConcreteValue& value = made->graph.value(made->graph.outputs[source.index]);
      if (value.known && value.known->dtype == value.dtype) {
        values.push_back(*value.known);
      } else if (only_reshapes(node) && i == 0) {
        values.push_back(*known(node.inputs[0]));
        values.back().shape = value.shape;
      } else {
        return false;
      }
    }
    size_t next = 0;
    for (const ValueId output : node.outputs) {
      if (output != kNoValue) folded_[output] = values.at(next++);
    }
    return true;
  }

  /// A graph of the node and the constants that it reads.
  Graph alone(const Node& node) const {
    Graph graph;
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) {
      inputs.push_back(input == kNoValue ? kNoValue : graph.add_constant("", *known(input)));
    }
    std::vector<std::string> names;
    for (const ValueId output : node.outputs) {
      names.push_back(output == kNoValue ? "" : source_.value(output).name);
    }
    for (const ValueId output :
         graph.add_node(node.op, std::move(inputs), node.attributes, static_cast<int>(names.size()),
                        node.name, node.domain, names)) {
      if (output != kNoValue) graph.add_output(output);
    }
    return graph;
  }

  const Graph& source_;
  Graph result_;
  std::vector<ValueId> to_;
  std::map<ValueId, HostTensor> folded_;
};

}  // namespace

Graph fold_graph(const Graph& graph) { return Folder(graph).run(); }

}  // namespace dlk
