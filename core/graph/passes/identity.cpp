#include "core/graph/passes.h"

namespace dlk {

namespace {

/// A Dropout in inference: its training_mode is left out, or known to be false.
bool drops_nothing(const ConcreteGraph& graph, const Node& node) {
  if (node.op != "Dropout") return false;
  if (node.inputs.size() < 3 || node.inputs[2] == kNoValue) return true;
  const auto& training = graph.value(node.inputs[2]).known;
  return training && training->to_ints().at(0) == 0;
}

}  // namespace

void remove_identities(ConcreteGraph& graph) {
  for (ConcreteNode& node : graph.nodes) {
    const bool identity = node.node.op == "Identity" || drops_nothing(graph, node.node);
    const bool masked = node.node.outputs.size() > 1 && node.node.outputs[1] != kNoValue;
    if (!identity || !node.node.domain.empty() || masked) continue;
    graph.replace_uses(node.node.outputs[0], node.node.inputs[0]);
  }
  remove_dead_nodes(graph);
}

}  // namespace dlk
