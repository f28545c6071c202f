#include "core/graph/graph.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "core/base/error.h"

namespace dlk {

namespace {

std::string describe(const Node& node) {
  return "node '" + (node.name.empty() ? node.op : node.name) + "' (" + node.op + ")";
}

constexpr std::array<std::string_view, 4> kTypeNames{"tensor", "sequence", "optional",
                                                     "optional_sequence"};

}  // namespace

std::string_view value_type_name(ValueType type) {
  return kTypeNames.at(static_cast<size_t>(type));
}

std::optional<ValueType> parse_value_type(std::string_view name) {
  const auto found = std::ranges::find(kTypeNames, name);
  if (found == kTypeNames.end()) return std::nullopt;
  return static_cast<ValueType>(found - kTypeNames.begin());
}

std::string Graph::unique_name(const std::string& wanted) {
  const std::string base = wanted.empty() ? "value" : wanted;
  if (!by_name_.contains(base)) return base;
  for (int& suffix = suffixes_[base];;) {  // counts on: many values may want one name
    std::string name = base + "_" + std::to_string(++suffix);
    if (!by_name_.contains(name)) return name;
  }
}

ValueId Graph::add_value(Value value) {
  bundles_.clear();
  const auto id = static_cast<ValueId>(values_.size());
  value.name = unique_name(value.name);
  by_name_[value.name] = id;
  values_.push_back(std::move(value));
  return id;
}

ValueId Graph::add_input(const std::string& name, DType dtype, SymbolicShape shape,
                         ValueType type) {
  if (name.empty() || by_name_.contains(name)) {
    throw_invalid("graph input '" + name + "': an input needs a name of its own");
  }
  Value value;
  value.name = name;
  value.kind = ValueKind::kInput;
  value.dtype = dtype;
  value.shape = std::move(shape);
  value.type = type;
  inputs_.push_back(add_value(std::move(value)));
  return inputs_.back();
}

ValueId Graph::add_constant(const std::string& name, HostTensor data) {
  Value value;
  value.name = name.empty() ? "constant" : name;
  value.kind = ValueKind::kConstant;
  value.dtype = data.dtype;
  value.shape.emplace();
  for (const int64_t dim : data.shape) value.shape->push_back(Dim::of(dim));
  value.data = std::move(data);
  return add_value(std::move(value));
}

ValueId Graph::add_variable(const std::string& name, HostTensor initial, bool trainable) {
  const ValueId id = add_constant(name.empty() ? "variable" : name, std::move(initial));
  values_[id].kind = ValueKind::kVariable;
  values_[id].trainable = trainable;
  return id;
}

std::vector<ValueId> Graph::add_node(const std::string& op, std::vector<ValueId> inputs,
                                     Attributes attributes, int outputs, const std::string& name,
                                     const std::string& domain,
                                     const std::vector<std::string>& output_names) {
  bundles_.clear();
  Node node{op, domain, name, std::move(inputs), {}, std::move(attributes)};
  if (node.name.empty()) node.name = op + "_" + std::to_string(nodes_.size());
  for (const ValueId id : node.inputs) {
    if (id != kNoValue && (id < 0 || id >= static_cast<ValueId>(values_.size()))) {
      throw_invalid(describe(node) + ": there is no value " + std::to_string(id));
    }
  }
  const auto id = static_cast<NodeId>(nodes_.size());
  for (int i = 0; i < outputs; ++i) {
    Value value;
    value.producer = id;
    if (static_cast<size_t>(i) < output_names.size()) {
      value.name = output_names[i];
      if (value.name.empty()) {  // an optional output that is left out
        node.outputs.push_back(kNoValue);
        continue;
      }
    } else {
      value.name = i == 0 ? node.name : node.name + ":" + std::to_string(i);
    }
    node.outputs.push_back(add_value(std::move(value)));
  }
  nodes_.push_back(std::move(node));
  return nodes_.back().outputs;
}

void Graph::add_output(ValueId id, const std::string& name) {
  const std::string& output = name.empty() ? value(id).name : name;
  if (std::find(output_names_.begin(), output_names_.end(), output) != output_names_.end()) {
    throw_invalid("graph output '" + output + "' exists already");
  }
  bundles_.clear();
  output_names_.push_back(output);
  outputs_.push_back(id);
}

void Graph::assign(ValueId variable, ValueId new_value) {
  if (value(variable).kind != ValueKind::kVariable) {
    throw_invalid("assign: '" + value(variable).name + "' is not a variable");
  }
  value(new_value);
  bundles_.clear();
  for (const Assignment& other : assignments_) {
    if (other.variable == variable) {
      throw_invalid("assign: variable '" + value(variable).name + "' is assigned twice");
    }
  }
  assignments_.push_back({variable, new_value});
}

void Graph::declare(ValueId result, DType dtype, std::optional<SymbolicShape> shape,
                    ValueType type) {
  Value& value = mutable_value(result);
  if (value.kind != ValueKind::kResult) throw_invalid("'" + value.name + "' is no result");
  value.dtype = dtype;
  value.shape = std::move(shape);
  value.type = type;
}

void Graph::bind_input(ValueId input, const Value& leaf) {
  Value& bound = mutable_value(input);
  if (bound.kind != ValueKind::kInput) throw_invalid("'" + bound.name + "' is no input");
  bound.kind = leaf.kind;
  bound.dtype = leaf.data.dtype;
  bound.shape.emplace();
  for (const int64_t dim : leaf.data.shape) bound.shape->push_back(Dim::of(dim));
  bound.data = leaf.data;
  bound.trainable = leaf.trainable;
  bound.key = leaf.key;
  std::erase(inputs_, input);
}

uint64_t Graph::Serial::next() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

ValueId Graph::saved_output(NodeId id, size_t index) {
  Node& node = mutable_node(id);
  if (index >= node.outputs.size()) node.outputs.resize(index + 1, kNoValue);
  if (node.outputs[index] == kNoValue) {
    Value value;
    value.name = node.name + ":" + std::to_string(index);
    value.producer = id;
    const ValueId added = add_value(std::move(value));
    nodes_[id].outputs[index] = added;
  }
  return nodes_[id].outputs[index];
}

const Value& Graph::value(ValueId id) const {
  if (id < 0 || id >= static_cast<ValueId>(values_.size())) {
    throw_invalid("the graph has no value " + std::to_string(id));
  }
  return values_[id];
}

Value& Graph::mutable_value(ValueId id) {
  bundles_.clear();
  return const_cast<Value&>(value(id));
}

Node& Graph::mutable_node(NodeId id) {
  if (id < 0 || id >= static_cast<NodeId>(nodes_.size())) {
    throw_invalid("the graph has no node " + std::to_string(id));
  }
  bundles_.clear();
  return nodes_[id];
}

std::optional<ValueId> Graph::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  return found->second;
}

std::vector<NodeId> Graph::topological_order() const {
  // Depth first with an explicit stack; children in input order keep the graph's own order where it
  // is already sorted.
  enum : uint8_t { kNew, kOpen, kDone };
  std::vector<uint8_t> state(nodes_.size(), kNew);
  std::vector<NodeId> order;
  order.reserve(nodes_.size());
  std::vector<std::pair<NodeId, size_t>> stack;
  for (NodeId root = 0; root < static_cast<NodeId>(nodes_.size()); ++root) {
    if (state[root] != kNew) continue;
    stack.emplace_back(root, 0);
    state[root] = kOpen;
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      const Node& node = nodes_[id];
      if (next == node.inputs.size()) {
        state[id] = kDone;
        order.push_back(id);
        stack.pop_back();
        continue;
      }
      const ValueId input = node.inputs[next++];
      const NodeId producer = input == kNoValue ? kNoNode : value(input).producer;
      if (producer == kNoNode || state[producer] == kDone) continue;
      if (state[producer] == kOpen) {
        throw_invalid("the graph has a cycle through " + describe(nodes_[producer]));
      }
      state[producer] = kOpen;
      stack.emplace_back(producer, 0);
    }
  }
  return order;
}

void Graph::validate() const {
  const auto count = static_cast<ValueId>(values_.size());
  std::vector<bool> produced(values_.size(), false);
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const Node& node = nodes_[n];
    for (const ValueId id : node.inputs) {
      if (id < kNoValue || id >= count) throw_invalid(describe(node) + ": an input does not exist");
    }
    for (const ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      if (id < 0 || id >= count) throw_invalid(describe(node) + ": an output does not exist");
      if (produced[id] || values_[id].kind != ValueKind::kResult ||
          values_[id].producer != static_cast<NodeId>(n)) {
        throw_invalid(describe(node) + ": '" + values_[id].name + "' has another producer");
      }
      produced[id] = true;
    }
  }
  for (size_t i = 0; i < values_.size(); ++i) {
    if (values_[i].kind == ValueKind::kResult && !produced[i]) {
      throw_invalid("value '" + values_[i].name + "' is produced by no node");
    }
  }
  if (outputs_.empty() && assignments_.empty()) throw_invalid("the graph has no outputs");
  for (const ValueId id : outputs_) value(id);
  topological_order();
}

}  // namespace dlk
