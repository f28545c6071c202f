#include "core/graph/specialize.h"

#include <algorithm>
#include <set>

namespace dlk {

namespace {

[[noreturn]] void rethrow_with_node(const Error& error, const Node& node) {
  const std::string what = error.what();
  if (what.find(node.name) != std::string::npos) throw error;
  throw Error(error.code(), node.name + " (" + node.op + "): " + what);
}

void collect_missing(const Graph& graph, std::set<std::string>& missing) {
  for (const Node& node : graph.nodes()) {
    const bool known = node.op == "If" || node.op == "Constant" || find_op(node.op, node.domain);
    if (!known) missing.insert(node.domain.empty() ? node.op : node.domain + "::" + node.op);
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* sub = std::get_if<std::shared_ptr<Graph>>(&attribute)) {
        if (*sub) collect_missing(**sub, missing);
      }
    }
  }
}

/// The tensor that a Constant node holds.
HostTensor constant_tensor(const Node& node) {
  const NodeReader reader(node);
  if (const HostTensor* value = reader.attr_tensor("value")) return *value;
  if (reader.has_attr("value_float")) {
    return HostTensor::scalar(DType::kFloat32, reader.attr_float("value_float", 0));
  }
  if (reader.has_attr("value_int")) {
    return HostTensor::from_ints(DType::kInt64, {}, {reader.attr_int("value_int", 0)});
  }
  if (reader.has_attr("value_floats")) {
    const auto values = reader.attr_floats("value_floats");
    return HostTensor::from_doubles(DType::kFloat32, {static_cast<int64_t>(values.size())}, values);
  }
  if (reader.has_attr("value_ints")) return HostTensor::ints(reader.attr_ints("value_ints"));
  reader.unsupported("only tensors and numbers can be constants (no strings, no sparse tensors)");
}

/// Values that the nodes, outputs or assignments of `graph` need.
std::vector<bool> needed_nodes(const Graph& graph) {
  std::vector<bool> needed(graph.nodes().size(), false);
  std::vector<ValueId> open = graph.outputs();
  for (const Assignment& assignment : graph.assignments()) open.push_back(assignment.value);
  while (!open.empty()) {
    const ValueId id = open.back();
    open.pop_back();
    if (id == kNoValue) continue;
    const NodeId producer = graph.value(id).producer;
    if (producer == kNoNode || needed[producer]) continue;
    needed[producer] = true;
    const auto& inputs = graph.nodes()[producer].inputs;
    open.insert(open.end(), inputs.begin(), inputs.end());
  }
  return needed;
}

class Specializer {
 public:
  explicit Specializer(const SpecializeOptions& options) : options_(options) {}

  Specialization run(const Graph& graph) {
    std::vector<ValueId> ids(graph.values().size(), kNoValue);
    for (const ValueId input : graph.inputs()) {
      const Value& declared = graph.value(input);
      const auto shape = options_.input_shapes.find(declared.name);
      if (shape == options_.input_shapes.end()) {
        throw_invalid("input '" + declared.name + "' has no shape");
      }
      ConcreteValue value{declared.name, ValueKind::kInput, declared.dtype, shape->second};
      ids[input] = graph_.add_value(std::move(value));
      graph_.inputs.push_back(ids[input]);
    }
    add_graph(graph, ids);
    for (const ValueId output : graph.outputs()) graph_.outputs.push_back(ids[output]);
    graph_.output_names = graph.output_names();
    for (const Assignment& assignment : graph.assignments()) {
      add_assignment(graph, assignment, ids);
    }
    settle_known_values();
    return {std::move(graph_), std::move(used_values_)};
  }

 private:
  class Infer;
  class HostEval;

  void add_leaf(const Graph& graph, ValueId id, std::vector<ValueId>& ids) {
    const Value& leaf = graph.value(id);
    if (ids[id] != kNoValue || leaf.kind == ValueKind::kResult) return;
    ConcreteValue value{leaf.name, leaf.kind, leaf.data.dtype, leaf.data.shape};
    if (leaf.kind == ValueKind::kInput) throw_invalid("input '" + leaf.name + "' is not bound");
    if (leaf.kind == ValueKind::kConstant) value.known = leaf.data;
    value.key = graph_key(graph) + std::to_string(id);
    ids[id] = graph_.add_value(std::move(value));
  }

  static std::string graph_key(const Graph& graph) {
    return "g" + std::to_string(reinterpret_cast<uintptr_t>(&graph)) + ":";
  }

  void add_assignment(const Graph& graph, const Assignment& assignment, std::vector<ValueId>& ids) {
    add_leaf(graph, assignment.variable, ids);
    add_leaf(graph, assignment.value, ids);
    const ConcreteValue& variable = graph_.value(ids[assignment.variable]);
    const ConcreteValue& value = graph_.value(ids[assignment.value]);
    if (variable.shape != value.shape || variable.dtype != value.dtype) {
      throw_invalid("variable '" + variable.name + "' of " + describe(variable) + " is assigned '" +
                    value.name + "' of " + describe(value));
    }
    graph_.assignments.push_back({ids[assignment.variable], ids[assignment.value]});
  }

  static std::string describe(const ConcreteValue& value) {
    return std::string(dtype_name(value.dtype)) + " " + shape_string(value.shape);
  }

  /// Adds what `graph` needs; `ids` maps its values to concrete ones (inputs are bound already).
  void add_graph(const Graph& graph, std::vector<ValueId>& ids) {
    const std::vector<bool> needed = needed_nodes(graph);
    for (const NodeId n : graph.topological_order()) {
      if (!needed[n]) continue;
      const Node& node = graph.nodes()[n];
      for (const ValueId input : node.inputs) {
        if (input != kNoValue) add_leaf(graph, input, ids);
      }
      try {
        if (node.op == "Constant" && node.domain.empty()) {
          const HostTensor data = constant_tensor(node);
          ConcreteValue value{graph.value(node.outputs[0]).name,
                              ValueKind::kConstant,
                              data.dtype,
                              data.shape,
                              data,
                              graph_key(graph) + "n" + std::to_string(n)};
          ids[node.outputs[0]] = graph_.add_value(std::move(value));
        } else if (node.op == "If" && node.domain.empty()) {
          inline_branch(node, ids);
        } else {
          add_node(graph, node, ids);
        }
      } catch (const Error& error) {
        rethrow_with_node(error, node);
      }
    }
    for (const ValueId output : graph.outputs()) add_leaf(graph, output, ids);
  }

  void inline_branch(const Node& node, std::vector<ValueId>& ids) {
    const NodeReader reader(node);
    if (node.inputs.empty() || node.inputs[0] == kNoValue) reader.fail("has no condition");
    const auto condition = demand(ids[node.inputs[0]]);
    if (!condition || condition->elements() != 1) {
      reader.unsupported(
          "its condition must be known before the run (one boolean: a constant, "
          "shape arithmetic, or computed from a small input)");
    }
    const std::string name = condition->to_ints()[0] != 0 ? "then_branch" : "else_branch";
    const auto found = node.attributes.find(name);
    const auto* branch = found == node.attributes.end()
                             ? nullptr
                             : std::get_if<std::shared_ptr<Graph>>(&found->second);
    if (!branch || !*branch) reader.fail("has no " + name);
    const Graph& body = **branch;
    if (body.inputs().size() != node.inputs.size() - 1 ||
        body.outputs().size() < node.outputs.size()) {
      reader.fail("its " + name + " does not fit its inputs and outputs");
    }
    std::vector<ValueId> inner(body.values().size(), kNoValue);
    for (size_t i = 0; i < body.inputs().size(); ++i) {
      const ValueId outer = node.inputs[i + 1];
      inner[body.inputs()[i]] = outer == kNoValue ? kNoValue : ids[outer];
    }
    add_graph(body, inner);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) ids[node.outputs[i]] = inner[body.outputs()[i]];
    }
    graph_.host_ops.push_back(node.name + " (If)");
  }

  void add_node(const Graph& graph, const Node& source, std::vector<ValueId>& ids) {
    ConcreteNode node;
    node.schema = find_op(source.op, source.domain);
    if (!node.schema) throw_unsupported("operator " + source.op + " is not known");
    node.node = source;
    check_arity(*node.schema, source);
    for (ValueId& id : node.node.inputs) {
      if (id != kNoValue) id = ids[id];
    }
    for (ValueId& id : node.node.outputs) {
      if (id == kNoValue) continue;
      ConcreteValue value;
      value.name = graph.value(id).name;
      value.producer = static_cast<NodeId>(graph_.nodes.size());
      const ValueId outer = id;
      id = graph_.add_value(std::move(value));
      ids[outer] = id;
    }
    graph_.nodes.push_back(std::move(node));
    infer(graph_.nodes.size() - 1);
    evaluate_if_shape_arithmetic(graph_.nodes.size() - 1);
  }

  static void check_arity(const OpSchema& schema, const Node& node) {
    const NodeReader reader(node);
    const auto inputs = static_cast<int>(node.inputs.size());
    const auto outputs = static_cast<int>(node.outputs.size());
    if (inputs < schema.min_inputs || (schema.max_inputs >= 0 && inputs > schema.max_inputs)) {
      reader.fail("has " + std::to_string(inputs) + " inputs");
    }
    if (outputs < schema.min_outputs || (schema.max_outputs >= 0 && outputs > schema.max_outputs)) {
      reader.fail("has " + std::to_string(outputs) + " outputs");
    }
    for (int i = 0; i < schema.min_inputs; ++i) {
      if (node.inputs[i] == kNoValue) reader.fail("input " + std::to_string(i) + " is missing");
    }
  }

  void infer(size_t n);
  /// Runs host_eval if all that it needs is known; true if the outputs are known then.
  bool evaluate(size_t n);
  /// The value before the run, evaluating what it depends on; nullopt if it depends on the run.
  std::optional<HostTensor> demand(ValueId id);

  bool small_outputs(const ConcreteNode& node) const {
    return std::all_of(node.node.outputs.begin(), node.node.outputs.end(), [&](ValueId id) {
      return id == kNoValue || element_count(graph_.value(id).shape) <= kMaxHostElements;
    });
  }

  void evaluate_if_shape_arithmetic(size_t n) {
    const ConcreteNode& node = graph_.nodes[n];
    if (!node.schema->host_eval || !small_outputs(node)) return;
    for (const ValueId id : node.node.outputs) {
      if (id != kNoValue && is_floating(graph_.value(id).dtype)) return;
    }
    evaluate(n);
  }

  /// Values that the host knows become constants; the nodes that made them go.
  void settle_known_values() {
    for (ConcreteValue& value : graph_.values) {
      if (value.kind != ValueKind::kResult || !value.known) continue;
      value.kind = ValueKind::kConstant;
      value.key = content_key(*value.known);
    }
    graph_.remove_nodes([&](const ConcreteNode& node) {
      return std::all_of(node.node.outputs.begin(), node.node.outputs.end(), [&](ValueId id) {
        return id == kNoValue || graph_.value(id).is_constant();
      });
    });
  }

  const SpecializeOptions& options_;
  ConcreteGraph graph_;
  std::map<std::string, HostTensor> used_values_;
  std::set<ValueId> unknowable_;
};

class Specializer::Infer : public InferContext {
 public:
  Infer(Specializer& specializer, size_t n)
      : InferContext(specializer.graph_.nodes[n].node), specializer_(specializer) {}

  DType dtype(size_t input) const override { return value(input).dtype; }
  const Shape& shape(size_t input) const override { return value(input).shape; }
  std::optional<HostTensor> constant(size_t input) const override {
    if (!has_input(input)) return std::nullopt;
    return specializer_.demand(node().inputs[input]);
  }
  void set_output(size_t output, DType dtype, Shape shape) override {
    if (!has_output(output)) return;
    element_count(shape);
    ConcreteValue& result = specializer_.graph_.value(node().outputs[output]);
    result.dtype = dtype;
    result.shape = std::move(shape);
    set_.insert(output);
  }
  bool is_set(size_t output) const { return set_.contains(output); }

 private:
  const ConcreteValue& value(size_t input) const {
    if (!has_input(input)) fail("input " + std::to_string(input) + " is missing");
    return specializer_.graph_.value(node().inputs[input]);
  }
  Specializer& specializer_;
  std::set<size_t> set_;
};

class Specializer::HostEval : public HostEvalContext {
 public:
  HostEval(ConcreteGraph& graph, const Node& node) : HostEvalContext(node), graph_(graph) {
    for (const ValueId id : node.inputs) {
      if (id == kNoValue) {
        inputs_.emplace_back();
        continue;
      }
      const ConcreteValue& value = graph.value(id);
      inputs_.push_back(value.known ? *value.known : HostTensor{value.dtype, value.shape, nullptr});
    }
  }
  const HostTensor& input(size_t i) const override { return inputs_.at(i); }
  bool is_known(size_t i) const override {
    return has_input(i) && graph_.value(node().inputs[i]).known.has_value();
  }
  const Shape& output_shape(size_t i) const override {
    return graph_.value(node().outputs.at(i)).shape;
  }
  DType output_dtype(size_t i) const override { return graph_.value(node().outputs.at(i)).dtype; }
  void set_output(size_t i, HostTensor tensor) override {
    if (!has_output(i)) return;
    ConcreteValue& value = graph_.value(node().outputs[i]);
    if (tensor.shape != value.shape || tensor.dtype != value.dtype) {
      fail("host evaluation gave " + std::string(dtype_name(tensor.dtype)) + " " +
           shape_string(tensor.shape) + " for " + std::string(dtype_name(value.dtype)) + " " +
           shape_string(value.shape));
    }
    value.known = std::move(tensor);
  }

 private:
  ConcreteGraph& graph_;
  std::vector<HostTensor> inputs_;
};

void Specializer::infer(size_t n) {
  const ConcreteNode& node = graph_.nodes[n];
  Infer context(*this, n);
  node.schema->infer(context);
  for (size_t i = 0; i < node.node.outputs.size(); ++i) {
    if (context.has_output(i) && !context.is_set(i)) {
      context.fail("output " + std::to_string(i) + " got no shape");
    }
  }
}

bool Specializer::evaluate(size_t n) {
  const ConcreteNode& node = graph_.nodes[n];
  if (!node.schema->host_eval || !small_outputs(node)) return false;
  if (!node.schema->host_eval_by_shape) {
    for (const ValueId id : node.node.inputs) {
      if (id != kNoValue && !graph_.value(id).known) return false;
    }
  }
  HostEval context(graph_, node.node);
  node.schema->host_eval(context);
  for (const ValueId id : node.node.outputs) {
    if (id != kNoValue && !graph_.value(id).known) return false;
  }
  graph_.host_ops.push_back(node.node.name + " (" + node.node.op + ")");
  return true;
}

std::optional<HostTensor> Specializer::demand(ValueId id) {
  if (graph_.value(id).known) return graph_.value(id).known;
  if (unknowable_.contains(id)) return std::nullopt;
  const ConcreteValue& value = graph_.value(id);
  if (element_count(value.shape) > kMaxHostElements) return std::nullopt;
  if (value.kind == ValueKind::kInput && options_.input_value) {
    auto given = options_.input_value(value.name);
    if (given) {
      used_values_[value.name] = *given;
      graph_.value(id).known = given;
      return given;
    }
  }
  if (value.kind == ValueKind::kResult) {
    const auto n = static_cast<size_t>(value.producer);
    const ConcreteNode& node = graph_.nodes[n];
    bool inputs_known = node.schema->host_eval != nullptr;
    for (size_t i = 0; inputs_known && i < node.node.inputs.size(); ++i) {
      if (node.schema->host_eval_by_shape || node.node.inputs[i] == kNoValue) continue;
      inputs_known = demand(node.node.inputs[i]).has_value();
    }
    if (inputs_known && evaluate(n)) return graph_.value(id).known;
  }
  unknowable_.insert(id);
  return std::nullopt;
}

}  // namespace

void check_operators(const Graph& graph) {
  std::set<std::string> missing;
  collect_missing(graph, missing);
  if (missing.empty()) return;
  std::string names;
  for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
  throw_unsupported("the graph uses operators that this build does not have: " + names);
}

Specialization specialize(const Graph& graph, const SpecializeOptions& options) {
  return Specializer(options).run(graph);
}

}  // namespace dlk
