#include "core/graph/concrete.h"

#include <algorithm>
#include <cstdio>

namespace dlk {

namespace {

uint64_t fnv1a(const std::string& text, uint64_t seed) {
  uint64_t hash = seed;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  return hash;
}

std::string bytes_text(const HostTensor& tensor) {
  const auto bytes = tensor.bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

struct AttributeText {
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const {
    char text[40];
    std::snprintf(text, sizeof text, "%a", value);
    return text;
  }
  std::string operator()(const std::string& value) const { return "'" + value + "'"; }
  template <typename T>
  std::string operator()(const std::vector<T>& values) const {
    std::string text = "[";
    for (const T& value : values) text += (*this)(value) + ",";
    return text + "]";
  }
  std::string operator()(const HostTensor& tensor) const { return content_key(tensor); }
  std::string operator()(const std::shared_ptr<Graph>& graph) const {
    return "graph" + std::to_string(graph ? graph->serial() : 0);
  }
};

}  // namespace

std::vector<ValueId> ConcreteNode::reads() const {
  std::vector<ValueId> ids;
  for (const ValueId id : node.inputs) {
    if (id != kNoValue) ids.push_back(id);
  }
  for (const ValueId id : epilogue_inputs) {
    if (id != kNoValue) ids.push_back(id);
  }
  return ids;
}

ValueId ConcreteGraph::add_value(ConcreteValue value) {
  values.push_back(std::move(value));
  return static_cast<ValueId>(values.size()) - 1;
}

std::vector<int> ConcreteGraph::use_counts() const {
  std::vector<int> counts(values.size(), 0);
  for (const ConcreteNode& node : nodes) {
    for (const ValueId id : node.reads()) ++counts[id];
  }
  for (const ValueId id : outputs) ++counts[id];
  for (const Assignment& assignment : assignments) ++counts[assignment.value];
  return counts;
}

void ConcreteGraph::replace_uses(ValueId from, ValueId to) {
  for (ConcreteNode& node : nodes) {
    std::replace(node.node.inputs.begin(), node.node.inputs.end(), from, to);
    std::replace(node.epilogue_inputs.begin(), node.epilogue_inputs.end(), from, to);
  }
  std::replace(outputs.begin(), outputs.end(), from, to);
  for (Assignment& assignment : assignments) {
    if (assignment.value == from) assignment.value = to;
  }
}

void ConcreteGraph::remove_nodes(const std::function<bool(const ConcreteNode&)>& dead) {
  std::erase_if(nodes, dead);
  set_producers();
}

void ConcreteGraph::set_producers() {
  for (ConcreteValue& value : values) value.producer = kNoNode;
  for (size_t n = 0; n < nodes.size(); ++n) {
    for (const ValueId id : nodes[n].node.outputs) {
      if (id != kNoValue) values[id].producer = static_cast<NodeId>(n);
    }
  }
}

std::string ConcreteGraph::text() const {
  std::string text;
  const auto names = [&](const std::vector<ValueId>& ids) {
    std::string list;
    for (const ValueId id : ids) {
      if (!list.empty()) list += ", ";
      list += id == kNoValue ? "-" : values[id].name;
    }
    return list;
  };
  for (const ConcreteNode& node : nodes) {
    text += names(node.node.outputs) + " = " + node.node.op;
    if (node.program) text += "<" + node.program->label() + ">";
    text += "(" + names(node.node.inputs) + ")";
    if (!node.epilogue.expression.empty()) {
      text += " then " + node.epilogue.expression + " with (" + names(node.epilogue_inputs) + ")";
    }
    text += "\n";
  }
  return text;
}

std::string attributes_key(const Attributes& attributes) {
  std::string text;
  for (const auto& [name, value] : attributes) {
    text += name + "=" + std::visit(AttributeText{}, value) + ";";
  }
  return text;
}

std::string hashed_key(const std::string& text) {
  char name[40];
  std::snprintf(name, sizeof name, "%016llx%016llx",
                static_cast<unsigned long long>(fnv1a(text, 14695981039346656037ull)),
                static_cast<unsigned long long>(fnv1a(text, 1469598103934665603ull)));
  return name;
}

std::string leaf_key(const Graph& graph, ValueId id) {
  const Value& value = graph.value(id);
  return value.key.empty() ? "g" + std::to_string(graph.serial()) + ":" + std::to_string(id)
                           : value.key;
}

std::string content_key(const HostTensor& tensor) {
  return "host:" + std::string(dtype_name(tensor.dtype)) + shape_string(tensor.shape) +
         hashed_key(bytes_text(tensor));
}

}  // namespace dlk
