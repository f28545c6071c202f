#include "core/graph/passes.h"

namespace dlk {

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
    for (const ValueId id : node.reads()) needed[id] = true;
  }
  graph.remove_nodes([](const ConcreteNode& node) { return node.node.outputs.empty(); });
}

}  // namespace dlk
