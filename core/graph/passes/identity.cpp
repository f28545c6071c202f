#include "core/graph/passes.h"

namespace dlk {

void remove_identities(ConcreteGraph& graph) {
  for (ConcreteNode& node : graph.nodes) {
    const bool identity = node.node.op == "Identity" || node.node.op == "Dropout";
    const bool masked = node.node.outputs.size() > 1 && node.node.outputs[1] != kNoValue;
    if (!identity || !node.node.domain.empty() || masked) continue;
    graph.replace_uses(node.node.outputs[0], node.node.inputs[0]);
  }
  remove_dead_nodes(graph);
}

}  // namespace dlk
