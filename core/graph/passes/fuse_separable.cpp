#include <algorithm>

#include "core/graph/passes.h"
#include "core/ops/conv_separable.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

constexpr size_t kInput = 0, kWeight = 1, kBias = 2;

/// A Conv of two spatial axes with constant weights.
bool is_plain_conv(const ConcreteGraph& graph, const ConcreteNode& node) {
  if (node.node.op != "Conv" || !node.node.domain.empty()) return false;
  if (!node.epilogue.expression.empty() || node.node.attributes.contains(kChannelShuffle)) {
    return false;
  }
  const std::vector<ValueId>& inputs = node.node.inputs;
  const ConcreteValue& x = graph.value(inputs[kInput]);
  const bool is_constant = std::all_of(inputs.begin() + 1, inputs.end(), [&](ValueId id) {
    return id == kNoValue || graph.value(id).is_constant();
  });
  return is_constant && x.shape.size() == 4 && compute_type(x.dtype) == "float" &&
         !is_storage_only(x.dtype) && graph.value(node.node.outputs[0]).dtype == x.dtype;
}

Window window_of(const ConcreteGraph& graph, const ConcreteNode& node) {
  const Shape& weights = graph.value(node.node.inputs[kWeight]).shape;
  return read_window(NodeReader(node.node), graph.value(node.node.inputs[kInput]).shape,
                     Shape(weights.begin() + 2, weights.end()));
}

bool is_pointwise_conv(const ConcreteGraph& graph, const ConcreteNode& node) {
  return is_plain_conv(graph, node) && NodeReader(node.node).attr_int("group", 1) == 1 &&
         window_of(graph, node).is_pointwise();
}

bool is_depthwise_conv(const ConcreteGraph& graph, const ConcreteNode& node) {
  if (!is_plain_conv(graph, node)) return false;
  const int64_t channels = graph.value(node.node.inputs[kInput]).shape[1];
  return NodeReader(node.node).attr_int("group", 1) == channels &&
         graph.value(node.node.outputs[0]).shape[1] == channels &&
         window_of(graph, node).dilation == Shape{1, 1};
}

/// What a node between the two does to each result.
struct Limits {
  std::optional<double> low, high;
};
std::optional<Limits> limits_of(const ConcreteGraph& graph, const ConcreteNode& node) {
  if (!node.node.domain.empty()) return std::nullopt;
  if (node.node.op == "Relu") return Limits{0.0, std::nullopt};
  if (node.node.op != "Clip") return std::nullopt;
  Limits limits;
  for (size_t i = 1; i < node.node.inputs.size(); ++i) {
    const ValueId id = node.node.inputs[i];
    if (id == kNoValue) continue;
    const ConcreteValue& value = graph.value(id);
    if (!value.is_constant() || !value.known || element_count(value.shape) != 1) {
      return std::nullopt;
    }
    (i == 1 ? limits.low : limits.high) = value.known->to_doubles()[0];
  }
  return limits;
}

/// The nodes before a convolution with a window of 1 that become one with it.
struct Before {
  size_t filter = 0;
  std::optional<size_t> between;
  Limits limits = {};
};
std::optional<Before> before(const ConcreteGraph& graph, const std::vector<int>& uses,
                             const ConcreteNode& product) {
  const auto producer = [&](const ConcreteNode& node) -> std::optional<size_t> {
    const ValueId id = node.node.inputs[kInput];
    const NodeId made = graph.value(id).producer;
    if (made == kNoNode || uses[id] != 1) return std::nullopt;
    return static_cast<size_t>(made);
  };
  Before found;
  auto n = producer(product);
  if (!n) return std::nullopt;
  if (const auto limits = limits_of(graph, graph.nodes[*n])) {
    found.limits = *limits;
    found.between = n;
    n = producer(graph.nodes[*n]);
  }
  if (!n || !is_depthwise_conv(graph, graph.nodes[*n])) return std::nullopt;
  found.filter = *n;
  return found;
}

SeparableSizes sizes_of(const ConcreteGraph& graph, const ConcreteNode& filter,
                        const ConcreteNode& product) {
  const ConcreteValue& x = graph.value(filter.node.inputs[kInput]);
  return separable_sizes(x.shape, x.dtype, graph.value(product.node.outputs[0]).shape[1],
                         window_of(graph, filter));
}

ConcreteNode joined(const ConcreteGraph& graph, const Before& from, const ConcreteNode& product) {
  const ConcreteNode& filter = graph.nodes[from.filter];
  ConcreteNode node = product;
  node.schema = find_op("SeparableConv", "dlk");
  node.node.op = "SeparableConv";
  node.node.domain = "dlk";
  node.node.attributes = filter.node.attributes;
  if (from.limits.low) node.node.attributes[kLowestFiltered] = *from.limits.low;
  if (from.limits.high) node.node.attributes[kHighestFiltered] = *from.limits.high;
  const auto bias = [](const ConcreteNode& conv) {
    return conv.node.inputs.size() > kBias ? conv.node.inputs[kBias] : kNoValue;
  };
  node.node.inputs = {filter.node.inputs[kInput], filter.node.inputs[kWeight], bias(filter),
                      product.node.inputs[kWeight], bias(product)};
  node.fused = filter.fused;
  if (from.between) node.fused.push_back(graph.nodes[*from.between].node.op);
  node.fused.insert(node.fused.end(), product.fused.begin(), product.fused.end());
  return node;
}

}  // namespace

void fuse_separable(ConcreteGraph& graph, const Caps& caps) {
  if (caps.is_cpu) return;
  graph.set_producers();
  const std::vector<int> uses = graph.use_counts();
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!is_pointwise_conv(graph, graph.nodes[n])) continue;
    const auto from = before(graph, uses, graph.nodes[n]);
    if (!from) continue;
    if (!separable_pays(caps, sizes_of(graph, graph.nodes[from->filter], graph.nodes[n]))) continue;
    graph.nodes[n] = joined(graph, *from, graph.nodes[n]);
    graph.nodes[from->filter].node.outputs.clear();
    if (from->between) graph.nodes[*from->between].node.outputs.clear();
  }
  graph.remove_nodes([](const ConcreteNode& node) { return node.node.outputs.empty(); });
}

}  // namespace dlk
