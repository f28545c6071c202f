#include "core/graph/specialize.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "core/graph/specializer.h"

namespace dlk {

namespace {

[[noreturn]] void rethrow_with_node(const Error& error, const Node& node) {
  const std::string what = error.what();
  if (what.find(node.name) != std::string::npos) throw error;
  throw Error(error.code(), node.name + " (" + node.op + "): " + what);
}

constexpr int kMaxDepth = 64;          // of subgraphs
constexpr size_t kMaxNodes = 200'000;  // of a plan, control flow and sequences inlined

/// Operators that the plan resolves: they have no schema.
bool is_planned(const Node& node) {
  static const std::set<std::string> names{"Constant",
                                           "ConcatFromSequence",
                                           "If",
                                           "Loop",
                                           "Optional",
                                           "OptionalGetElement",
                                           "OptionalHasElement",
                                           "Scan",
                                           "SequenceAt",
                                           "SequenceConstruct",
                                           "SequenceEmpty",
                                           "SequenceErase",
                                           "SequenceInsert",
                                           "SequenceLength",
                                           "SequenceMap",
                                           "SplitToSequence"};
  return node.domain.empty() && names.contains(node.op);
}

void collect_missing(const Graph& graph, std::set<std::string>& missing) {
  for (const Node& node : graph.nodes()) {
    const bool known = is_planned(node) || find_op(node.op, node.domain);
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

}  // namespace

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

Specialization Specializer::run(const Graph& graph) {
  Bounds bounds(graph.values().size());
  for (const ValueId input : graph.inputs()) bind_input(graph.value(input), bounds[input]);
  add_graph(graph, bounds);
  Specialization result;
  for (size_t i = 0; i < graph.outputs().size(); ++i) {
    const Bound& bound = bounds[graph.outputs()[i]];
    if (bound.is_tensor()) {
      result.outputs.push_back({ValueSource::Kind::kPlanOutput, graph_.outputs.size(), 0, {}, {}});
      graph_.outputs.push_back(bound.id);
      graph_.output_names.push_back(graph.output_names()[i]);
    } else {
      result.outputs.push_back(source_of(bound, true));
    }
  }
  add_assignments(graph, bounds);
  settle_known_values();
  result.graph = std::move(graph_);
  result.used_values = std::move(used_values_);
  result.loops = std::move(loops_);
  if (rest_ && !(rest_->outputs().empty() && rest_->assignments().empty())) {
    for (const auto& [id, source] : rest_inputs_) {
      result.rest_inputs.emplace_back(rest_->value(id).name, source);
    }
    result.rest = std::move(rest_);
  }
  return result;
}

void Specializer::bind_input(const Value& declared, Bound& bound) {
  InputForm form;
  if (const auto found = options_.forms.find(declared.name); found != options_.forms.end()) {
    form = found->second;
  } else if (const auto shape = options_.input_shapes.find(declared.name);
             shape != options_.input_shapes.end()) {
    form.tensors.push_back({declared.dtype, shape->second});
  } else {
    throw_invalid("input '" + declared.name + "' has no shape");
  }
  const bool one = form.kind == InputForm::Kind::kTensor;
  Bounds items;
  for (size_t i = 0; i < form.tensors.size(); ++i) {
    const std::string name = one ? declared.name : element_name(declared.name, i);
    const auto& [dtype, shape] = form.tensors[i];
    if (const std::string why = excess_of(shape); !why.empty()) {
      throw_invalid("input '" + name + "' has " + why);
    }
    graph_.inputs.push_back(graph_.add_value({name, ValueKind::kInput, dtype, shape}));
    items.push_back(Bound::tensor(graph_.inputs.back()));
  }
  if (form.kind == InputForm::Kind::kNone) {
    bound = Bound::none();
  } else {
    bound = one ? items.at(0) : Bound::sequence(std::move(items));
  }
}

void Specializer::add_leaf(const Graph& graph, ValueId id, Bounds& bounds) {
  const Value& leaf = graph.value(id);
  if (bounds[id].is_set() || leaf.kind == ValueKind::kResult) return;
  if (leaf.kind == ValueKind::kInput) throw_invalid("input '" + leaf.name + "' is not bound");
  if (const std::string why = excess_of(leaf.data.shape); !why.empty()) {
    throw_invalid("'" + leaf.name + "' has " + why);
  }
  ConcreteValue value{leaf.name, leaf.kind, leaf.data.dtype, leaf.data.shape};
  if (leaf.kind == ValueKind::kConstant) value.known = leaf.data;
  value.key = leaf_key(graph, id);
  bounds[id] = Bound::tensor(graph_.add_value(std::move(value)));
  if (leaf.kind == ValueKind::kVariable) {
    variables_[bounds[id].id] = {leaf.data, leaf.trainable};
  }
}

void Specializer::add_graph(const Graph& graph, Bounds& bounds) {
  const std::vector<bool> needed = needed_nodes(graph);
  for (const NodeId n : graph.topological_order()) {
    if (!needed[n]) continue;
    const Node& node = graph.nodes()[n];
    if (++visited_ > kMaxNodes) {
      NodeReader(node).unsupported("the plan would have more than " + std::to_string(kMaxNodes) +
                                   " nodes once its loops and sequences are inlined");
    }
    Bounds inputs;
    for (const ValueId input : node.inputs) {
      if (input != kNoValue) add_leaf(graph, input, bounds);
      inputs.push_back(input == kNoValue ? Bound{} : bounds[input]);
    }
    try {
      const Bounds outputs = add_node(graph, n, inputs);
      for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (node.outputs[i] != kNoValue) bounds[node.outputs[i]] = outputs.at(i);
      }
    } catch (const Error& error) {
      rethrow_with_node(error, node);
    } catch (const std::out_of_range&) {
      NodeReader(node).fail("lacks inputs, dimensions or elements of an attribute");
    }
  }
  for (const ValueId output : graph.outputs()) add_leaf(graph, output, bounds);
}

Bounds Specializer::add_node(const Graph& graph, NodeId id, const Bounds& inputs) {
  const Node& node = graph.nodes()[id];
  if (node.op == "Constant" && node.domain.empty()) {
    const HostTensor data = constant_tensor(node);
    ConcreteValue value{graph.value(node.outputs.at(0)).name, ValueKind::kConstant, data.dtype,
                        data.shape, data};
    value.key = "g" + std::to_string(graph.serial()) + ":n" + std::to_string(id);
    return {Bound::tensor(graph_.add_value(std::move(value)))};
  }
  std::vector<std::string> names;
  for (const ValueId output : node.outputs) {
    names.push_back(output == kNoValue ? "" : graph.value(output).name);
  }
  try {
    if (const Control control = find_control(node)) return (this->*control)(node, inputs);
    return add_operator(node, inputs, names);
  } catch (const MustWait&) {
    return defer(node, inputs, names);
  }
}

namespace {

void check_arity(const OpSchema& schema, const Node& node) {
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

}  // namespace

Bounds Specializer::add_operator(const Node& source, const Bounds& inputs,
                                 const std::vector<std::string>& names) {
  ConcreteNode node;
  node.schema = find_op(source.op, source.domain);
  if (!node.schema) throw_unsupported("operator " + source.op + " is not known");
  node.node = source;
  node.node.inputs.clear();
  node.node.outputs.assign(names.size(), kNoValue);
  for (const Bound& input : inputs) {
    if (input.is_later()) throw MustWait{};
    if (input.is_sequence()) NodeReader(source).fail("takes tensors, not a sequence");
    node.node.inputs.push_back(input.is_tensor() ? input.id : kNoValue);
  }
  check_arity(*node.schema, node.node);
  std::vector<std::string> made = names;
  if (node.schema->dynamic) {
    made.resize(static_cast<size_t>(node.schema->max_outputs) + 1);
    made.back() = source.name + ":counts";
    node.node.outputs.assign(made.size(), kNoValue);
  }
  const size_t values = graph_.values.size();
  for (size_t i = 0; i < made.size(); ++i) {
    if (made[i].empty()) continue;
    ConcreteValue value;
    value.name = made[i];
    value.producer = static_cast<NodeId>(graph_.nodes.size());
    node.node.outputs[i] = graph_.add_value(std::move(value));
  }
  graph_.nodes.push_back(std::move(node));
  const bool strings = need_strings(graph_.nodes.back());
  blocked_ = false;
  try {
    infer(graph_.nodes.size() - 1);
  } catch (const Error&) {
    if (!blocked_) throw;
    graph_.nodes.pop_back();
    graph_.values.resize(values);
    throw MustWait{};
  }
  if (strings) {
    evaluate(graph_.nodes.size() - 1);
  } else {
    evaluate_if_shape_arithmetic(graph_.nodes.size() - 1);
  }
  const ConcreteNode& added = graph_.nodes.back();
  Bounds outputs;
  for (size_t i = 0; i < names.size(); ++i) {
    const ValueId id = added.node.outputs[i];
    outputs.push_back(id == kNoValue ? Bound{} : Bound::tensor(id));
  }
  return added.schema->dynamic ? cut_dynamic_outputs(added, outputs) : outputs;
}

void check_operators(const Graph& graph) {
  std::set<std::string> missing;
  collect_missing(graph, missing);
  if (missing.empty()) return;
  std::string names;
  for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
  throw_unsupported("the graph uses operators that this build does not have: " + names);
}

std::string element_name(const std::string& input, size_t index) {
  return input + "[" + std::to_string(index) + "]";
}

Specialization specialize(const Graph& graph, const SpecializeOptions& options) {
  return Specializer(options).run(graph);
}

}  // namespace dlk
