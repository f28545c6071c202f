#include "core/graph/passes.h"

namespace dlk {

namespace {

/// (N, C, H, W) to (N, C * H * W), of float images that are more than one pixel. Weights are packed
/// by groups of 8 channels.
bool is_flattening(const ConcreteGraph& graph, const ConcreteNode& node) {
  constexpr int64_t kChannels = 8;
  const bool reshapes = node.node.op == "Flatten" || node.node.op == "Reshape";
  if (!reshapes || !node.node.domain.empty()) return false;
  const ConcreteValue& from = graph.value(node.node.inputs[0]);
  const Shape &image = from.shape, &rows = graph.value(node.node.outputs[0]).shape;
  if (compute_type(from.dtype) != "float" || image.size() != 4 || rows.size() != 2) return false;
  const int64_t pixels = image[2] * image[3];
  return image[0] > 0 && rows[0] == image[0] && pixels > 1 && image[1] % kChannels == 0;
}

/// With the rows on the left side, and weights that are packed once.
bool takes_images(const ConcreteGraph& graph, const ConcreteNode& node) {
  const NodeReader reader(node.node);
  const bool is_product =
      node.node.op == "MatMul" || (node.node.op == "Gemm" && reader.attr_int("transA", 0) == 0);
  if (!is_product || !node.node.domain.empty()) return false;
  const ConcreteValue& weights = graph.value(node.node.inputs[1]);
  return weights.is_constant() && weights.shape.size() == 2;
}

}  // namespace

void read_images_unflattened(ConcreteGraph& graph) {
  graph.set_producers();
  for (ConcreteNode& node : graph.nodes) {
    if (!takes_images(graph, node)) continue;
    const NodeId producer = graph.value(node.node.inputs[0]).producer;
    if (producer == kNoNode) continue;
    const ConcreteNode& before = graph.nodes[static_cast<size_t>(producer)];
    if (!is_flattening(graph, before)) continue;
    node.node.inputs[0] = before.node.inputs[0];
    node.node.attributes[kFlattensImage] = int64_t{1};
  }
}

}  // namespace dlk
