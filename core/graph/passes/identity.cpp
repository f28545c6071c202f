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

bool is_identity(const ConcreteGraph& graph, const Node& node) {
  if (node.domain == "dlk" ? node.op != "SumTo" : !node.domain.empty()) return false;
  if (node.op == "Identity" || drops_nothing(graph, node)) {
    return node.outputs.size() < 2 || node.outputs[1] == kNoValue;
  }
  if (node.op != "SumTo" && node.op != "Reshape" && node.op != "Expand") return false;
  return graph.value(node.inputs[0]).shape == graph.value(node.outputs[0]).shape;
}

}  // namespace

void remove_identities(ConcreteGraph& graph) {
  for (ConcreteNode& node : graph.nodes) {
    if (!is_identity(graph, node.node)) continue;
    graph.replace_uses(node.node.outputs[0], node.node.inputs[0]);
  }
  remove_dead_nodes(graph);
}

}  // namespace dlk
