#include "core/graph/passes.h"

namespace dlk {

namespace {

/// Operators that write those of their outputs that are there, whichever these are.
bool has_optional_outputs(const ConcreteNode& node) {
  const std::string& op = node.node.op;
  return op == "RNN" || op == "GRU" || op == "LSTM";
}

}  // namespace

void remove_dead_nodes(ConcreteGraph& graph) {
  std::vector<bool> needed(graph.values.size(), false);
  for (const ValueId id : graph.outputs) needed[id] = true;
  for (const Assignment& assignment : graph.assignments) needed[assignment.value] = true;
  for (size_t n = graph.nodes.size(); n-- > 0;) {
    ConcreteNode& node = graph.nodes[n];
    bool live = false;
    for (const ValueId id : node.node.outputs) live |= id != kNoValue && needed[id];
    if (!live) {
      node.node.outputs.clear();  // marks the node for removal
      continue;
    }
    for (ValueId& id : node.node.outputs) {
      if (id != kNoValue && !needed[id] && has_optional_outputs(node)) id = kNoValue;
    }
    for (const ValueId id : node.reads()) needed[id] = true;
  }
  graph.remove_nodes([](const ConcreteNode& node) { return node.node.outputs.empty(); });
}

}  // namespace dlk
