#include <algorithm>
#include <numeric>

#include "core/graph/lowered.h"

namespace dlk {

namespace {

Shape packed_strides(const Shape& shape, const std::vector<size_t>& outer_to_inner) {
  Shape strides(shape.size(), 1);
  int64_t stride = 1;
  for (size_t i = outer_to_inner.size(); i-- > 0;) {
    strides[outer_to_inner[i]] = stride;
    stride *= std::max<int64_t>(shape[outer_to_inner[i]], 1);
  }
  return strides;
}

Shape channels_last_strides(const Shape& shape) {
  std::vector<size_t> order{0};
  for (size_t axis = 2; axis < shape.size(); ++axis) order.push_back(axis);
  order.push_back(1);
  return packed_strides(shape, order);
}

std::vector<size_t> axis_order(const TensorView& view) {
  std::vector<size_t> order(view.shape.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return view.strides[a] > view.strides[b]; });
  return order;
}

class AliasView : public AliasContext {
 public:
  AliasView(const ConcreteGraph& graph, const Layout& layout, const Node& node, size_t output)
      : AliasContext(node), graph_(graph), layout_(layout), output_(output) {}
  size_t output() const override { return output_; }
  const TensorView& input(size_t i) const override { return layout_.views[node().inputs.at(i)]; }
  const Shape& output_shape(size_t i) const override {
    return graph_.value(node().outputs.at(i)).shape;
  }
  std::optional<HostTensor> constant(size_t input) const override {
    if (!has_input(input)) return std::nullopt;
    return graph_.value(node().inputs[input]).known;
  }

 private:
  const ConcreteGraph& graph_;
  const Layout& layout_;
  size_t output_;
};

class LayoutPass {
 public:
  LayoutPass(const ConcreteGraph& graph, const LayoutOptions& options)
      : graph_(graph), options_(options) {
    layout_.views.resize(graph.values.size());
    layout_.in_place_of_kernel.assign(graph.nodes.size(), false);
    is_output_.assign(graph.values.size(), false);
    for (const ValueId id : graph.outputs) is_output_[id] = true;
  }

  Layout run() {
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      Storage& storage = own(graph_.inputs[i], StorageKind::kInput);
      storage.index = static_cast<uint32_t>(i);
    }
    for (const ConcreteNode& node : graph_.nodes) {
      for (const ValueId id : node.reads()) place_leaf(id);
    }
    for (const ValueId id : graph_.outputs) place_leaf(id);
    for (const Assignment& assignment : graph_.assignments) {
      place_leaf(assignment.variable);
      place_leaf(assignment.value);
    }
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const ConcreteNode& node = graph_.nodes[n];
      if (options_.alias && node.schema->alias && alias(node)) {
        layout_.in_place_of_kernel[n] = true;
        continue;
      }
      for (const ValueId id : node.node.outputs) {
        if (id == kNoValue) continue;
        own(id, StorageKind::kArena);
        layout_.views[id].strides = strides_of(node, id);
      }
    }
    bind_outputs();
    return std::move(layout_);
  }

 private:
  Storage& own(ValueId id, StorageKind kind) {
    const ConcreteValue& value = graph_.value(id);
    Storage storage;
    storage.kind = kind;
    storage.name = value.name;
    storage.key = value.key;
    storage.dtype = value.dtype;
    const auto elements = static_cast<uint64_t>(element_count(value.shape));
    storage.size_bytes = elements * dtype_size(value.dtype);
    TensorView& view = layout_.views[id];
    view.storage = static_cast<int32_t>(layout_.storages.size());
    view.dtype = value.dtype;
    view.shape = value.shape;
    view.strides = contiguous_strides(value.shape);
    layout_.storages.push_back(std::move(storage));
    return layout_.storages.back();
  }

  void place_leaf(ValueId id) {
    const ConcreteValue& value = graph_.value(id);
    if (layout_.views[id].storage >= 0) return;
    if (value.kind == ValueKind::kConstant) own(id, StorageKind::kWeight).data = value.known;
    if (value.kind == ValueKind::kVariable) own(id, StorageKind::kVariable);
  }

  bool alias(const ConcreteNode& node) {
    std::vector<TensorView> views;
    for (size_t i = 0; i < node.node.outputs.size(); ++i) {
      const ValueId id = node.node.outputs[i];
      if (id == kNoValue) {
        views.emplace_back();
        continue;
      }
      const auto result = node.schema->alias(AliasView(graph_, layout_, node.node, i));
      if (!result) return false;
      views.push_back(result->view);
      if (views.back().shape != graph_.value(id).shape) {
        NodeReader(node.node).fail("its view has shape " + shape_string(views.back().shape));
      }
    }
    for (size_t i = 0; i < views.size(); ++i) {
      if (node.node.outputs[i] != kNoValue) layout_.views[node.node.outputs[i]] = views[i];
    }
    return true;
  }

  Shape strides_of(const ConcreteNode& node, ValueId id) const {
    const Shape& shape = graph_.value(id).shape;
    const auto rank = shape.size();
    if (is_output_[id]) return contiguous_strides(shape);
    switch (node.schema->layout) {
      case LayoutRule::kContiguous:
        break;
      case LayoutRule::kChannelsLast:
        if (options_.channels_last && rank >= 3 && rank <= 5) return channels_last_strides(shape);
        break;
      case LayoutRule::kFollow:
        if (const TensorView* leader = leader_of(node, shape)) {
          return packed_strides(shape, axis_order(*leader));
        }
        break;
    }
    return contiguous_strides(shape);
  }

  /// The input whose order of axes a kFollow result takes: one of the result's shape if there is
  /// one, else the first of its rank.
  const TensorView* leader_of(const ConcreteNode& node, const Shape& shape) const {
    const TensorView* leader = nullptr;
    for (const ValueId id : node.node.inputs) {
      if (id == kNoValue || graph_.value(id).is_constant()) continue;
      const TensorView& view = layout_.views[id];
      if (view.shape.size() != shape.size() || !view.is_dense()) continue;
      if (view.shape == shape) return &view;
      if (!leader) leader = &view;
    }
    return leader;
  }

  /// Storages that are wholly one graph output become its slot; others are copied at the end.
  void bind_outputs() {
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      const TensorView& view = layout_.views[graph_.outputs[i]];
      Storage& storage = layout_.storages[view.storage];
      const auto bytes = static_cast<uint64_t>(view.elements()) * dtype_size(view.dtype);
      if (storage.kind != StorageKind::kArena || view.offset != 0 || !view.is_contiguous() ||
          bytes != storage.size_bytes) {
        continue;
      }
      storage.kind = StorageKind::kOutput;
      storage.index = static_cast<uint32_t>(i);
    }
  }

  const ConcreteGraph& graph_;
  const LayoutOptions& options_;
  Layout layout_;
  std::vector<bool> is_output_;
};

}  // namespace

Layout assign_layout(const ConcreteGraph& graph, const LayoutOptions& options) {
  return LayoutPass(graph, options).run();
}

}  // namespace dlk
