#include <algorithm>

#include "core/graph/passes.h"

namespace dlk {

namespace {

/// The only reader of the value; nullopt where there are none, several, or the graph's outputs.
std::optional<size_t> only_reader(const ConcreteGraph& graph, const std::vector<int>& uses,
                                  ValueId id) {
  if (uses[id] != 1) return std::nullopt;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const std::vector<ValueId> reads = graph.nodes[n].reads();
    if (std::ranges::find(reads, id) != reads.end()) return n;
  }
  return std::nullopt;
}

bool is_onnx(const ConcreteNode& node, const std::string& op) {
  return node.node.op == op && node.node.domain.empty() && node.epilogue.expression.empty();
}

/// A convolution whose results may be stored in another order of channels.
bool can_shuffle(const ConcreteNode& node) {
  const bool whole = std::ranges::any_of(node.epilogue.operands, [](const EpilogueOperand& o) {
    return o.kind == EpilogueOperand::Kind::kFull;
  });
  return node.node.op == "Conv" && node.node.domain.empty() && !whole &&
         !node.node.attributes.contains(kChannelShuffle);
}

/// (N, C, ...) to (N, groups, C / groups, ...); the groups, or 0 for any other reshape.
int64_t groups_of(const Shape& from, const Shape& to) {
  if (from.size() < 3 || to.size() != from.size() + 1 || to[0] != from[0]) return 0;
  const bool same = std::equal(from.begin() + 2, from.end(), to.begin() + 3);
  return same && to[1] * to[2] == from[1] ? to[1] : 0;
}

bool swaps_channels(const ConcreteNode& transpose, size_t rank) {
  std::vector<int64_t> wanted;
  for (size_t i = 0; i < rank; ++i) wanted.push_back(static_cast<int64_t>(i));
  std::swap(wanted[1], wanted[2]);
  return NodeReader(transpose.node).attr_ints("perm") == wanted;
}

/// The three nodes behind node `n` that shuffle its channels, and in how many groups.
struct Shuffle {
  std::array<size_t, 3> nodes;
  int64_t groups;
};
std::optional<Shuffle> shuffle_behind(const ConcreteGraph& graph, const std::vector<int>& uses,
                                      size_t n) {
  const ValueId result = graph.nodes[n].node.outputs[0];
  const auto split = only_reader(graph, uses, result);
  if (!split || !is_onnx(graph.nodes[*split], "Reshape")) return std::nullopt;
  const ValueId parts = graph.nodes[*split].node.outputs[0];
  const Shape& shape = graph.value(result).shape;
  const int64_t groups = groups_of(shape, graph.value(parts).shape);
  const auto swap = only_reader(graph, uses, parts);
  if (groups < 1 || !swap || !is_onnx(graph.nodes[*swap], "Transpose")) return std::nullopt;
  if (!swaps_channels(graph.nodes[*swap], shape.size() + 1)) return std::nullopt;
  const ValueId swapped = graph.nodes[*swap].node.outputs[0];
  const auto merge = only_reader(graph, uses, swapped);
  if (!merge || !is_onnx(graph.nodes[*merge], "Reshape")) return std::nullopt;
  if (graph.value(graph.nodes[*merge].node.outputs[0]).shape != shape) return std::nullopt;
  return Shuffle{{*split, *swap, *merge}, groups};
}

}  // namespace

void fuse_channel_shuffles(ConcreteGraph& graph) {
  const std::vector<int> uses = graph.use_counts();
  std::vector<bool> dead(graph.nodes.size(), false);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!can_shuffle(graph.nodes[n])) continue;
    const auto shuffle = shuffle_behind(graph, uses, n);
    if (!shuffle) continue;
    ConcreteNode& conv = graph.nodes[n];
    conv.node.attributes[kChannelShuffle] = shuffle->groups;
    conv.fused.push_back("ChannelShuffle");
    conv.node.outputs[0] = graph.nodes[shuffle->nodes[2]].node.outputs[0];
    for (const size_t node : shuffle->nodes) dead[node] = true;
  }
  std::vector<ConcreteNode> kept;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!dead[n]) kept.push_back(std::move(graph.nodes[n]));
  }
  graph.nodes = std::move(kept);
  graph.set_producers();
}

}  // namespace dlk
