#include <algorithm>
#include <map>
#include <numeric>
#include <set>

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

/// A place inside a concat's output, where the input's producer writes.
struct Home {
  size_t node = 0;  // the Concat
  size_t axis = 0;
  int64_t start = 0;
};

/// Decides views in execution order. It runs twice: first everything gets memory of its own, which
/// shows the order of axes that each value wants; then values find their homes in concat outputs.
class LayoutPass {
 public:
  LayoutPass(const ConcreteGraph& graph, const LayoutOptions& options, const Layout* wanted)
      : graph_(graph), options_(options), wanted_(wanted) {
    layout_.views.resize(graph.values.size());
    layout_.in_place_of_kernel.assign(graph.nodes.size(), false);
    is_output_.assign(graph.values.size(), false);
    for (const ValueId id : graph.outputs) is_output_[id] = true;
    last_use_.assign(graph.values.size(), -1);
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      for (const ValueId id : graph.nodes[n].reads()) last_use_[id] = static_cast<int>(n);
    }
    for (const Assignment& assignment : graph.assignments) {
      last_use_[assignment.value] = static_cast<int>(graph.nodes.size());
      // One value of two variables is copied to both.
      const bool is_new = assigned_.emplace(assignment.value, assignment.variable).second;
      if (!is_new) assigned_[assignment.value] = kNoValue;
    }
    if (wanted_ && options_.alias) find_homes();
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
    for (size_t n = 0; n < graph_.nodes.size(); ++n) place_results(n);
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
    residents_.push_back({id});
    return layout_.storages.back();
  }

  void place_leaf(ValueId id) {
    const ConcreteValue& value = graph_.value(id);
    if (layout_.views[id].storage >= 0) return;
    if (value.kind == ValueKind::kConstant) own(id, StorageKind::kWeight).data = value.known;
    if (value.kind == ValueKind::kVariable) own(id, StorageKind::kVariable);
  }

  void place_results(size_t n) {
    const ConcreteNode& node = graph_.nodes[n];
    if (options_.alias && node.schema->alias && alias(node)) {
      layout_.in_place_of_kernel[n] = true;
      return;
    }
    for (const ValueId id : node.node.outputs) {
      if (id == kNoValue || layout_.views[id].storage >= 0) continue;
      if (place_in_variable(n, id)) continue;
      if (place_at_home(node, id) || place_over_input(n, id)) continue;
      own(id, StorageKind::kArena);
      layout_.views[id].strides = strides_of(node, id);
    }
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
      const ValueId id = node.node.outputs[i];
      if (id == kNoValue) continue;
      layout_.views[id] = views[i];
      residents_[views[i].storage].push_back(id);
    }
    return true;
  }

  /// Inputs of each Concat that their producers may write in place. Outer concats come first, so
  /// that what has a home in one of them is not moved elsewhere.
  void find_homes() {
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const ConcreteNode& node = graph_.nodes[n];
      if (node.node.op != "Concat" || !node.node.domain.empty()) continue;
      if (wanted_->in_place_of_kernel[n]) continue;
      const auto rank = static_cast<int64_t>(graph_.value(node.node.outputs[0]).shape.size());
      const NodeReader reader(node.node);
      const auto axis =
          static_cast<size_t>(reader.normalize_axis(reader.attr_int("axis", 0), rank));
      int64_t start = 0;
      for (const ValueId id : node.node.inputs) {
        if (may_move(node, id)) homes_.emplace(id, Home{n, axis, start});
        start += graph_.value(id).shape[axis];
      }
    }
  }

  bool may_move(const ConcreteNode& concat, ValueId id) const {
    const ConcreteValue& value = graph_.value(id);
    if (value.kind != ValueKind::kResult || is_output_[id] || homes_.contains(id)) return false;
    if (std::ranges::count(concat.node.inputs, id) != 1) return false;
    const auto producer = static_cast<size_t>(value.producer);
    if (value.producer == kNoNode || wanted_->in_place_of_kernel[producer]) return false;
    const ConcreteNode& writer = graph_.nodes[producer];
    // A residual must have the strides of the result it is added to.
    for (const EpilogueOperand& operand : writer.epilogue.operands) {
      if (operand.kind == EpilogueOperand::Kind::kFull) return false;
    }
    // Of several results the one before the statistics.
    const bool is_main = writer.node.outputs.size() == 1 ||
                         (writer.node.outputs[0] == id && writer.schema->float32_outputs == 1);
    return is_main && value.shape.size() > 0;
  }

  bool place_at_home(const ConcreteNode& node, ValueId id) {
    const auto found = homes_.find(id);
    if (found == homes_.end()) return false;
    const Home& home = found->second;
    const ConcreteNode& concat = graph_.nodes[home.node];
    const ValueId whole = concat.node.outputs[0];
    if (layout_.views[whole].storage < 0 && !place_at_home(concat, whole)) {
      own(whole, StorageKind::kArena);
      layout_.views[whole].strides = wanted_->views[whole].strides;
    }
    TensorView view = layout_.views[whole];
    // A kernel must not read what it writes: the bytes of pieces interleave.
    for (const ValueId read : node.reads()) {
      if (layout_.views[read].storage == view.storage) return false;
    }
    view.offset += home.start * view.strides[home.axis];
    view.shape = graph_.value(id).shape;
    layout_.views[id] = view;
    residents_[view.storage].push_back(id);
    shared_.insert(view.storage);
    return true;
  }

  /// Over an input that nobody reads later, where the operator allows it.
  bool place_over_input(size_t n, ValueId id) {
    const ConcreteNode& node = graph_.nodes[n];
    if (!wanted_ || !options_.alias || !node.schema->in_place || is_output_[id]) return false;
    if (node.node.outputs[0] != id) return false;
    const ConcreteValue& value = graph_.value(id);
    for (const ValueId input : node.reads()) {
      const TensorView& view = layout_.views[input];
      const Storage& storage = layout_.storages[view.storage];
      const bool fits =
          storage.kind == StorageKind::kArena && !shared_.contains(view.storage) &&
          view.shape == value.shape && view.offset == 0 && view.is_dense() &&
          dtype_size(view.dtype) == dtype_size(value.dtype) &&
          storage.size_bytes == static_cast<uint64_t>(view.elements()) * dtype_size(value.dtype) &&
          dies_at(view.storage, n) && only_as(node, view);
      if (!fits) continue;
      TensorView over = view;
      over.dtype = value.dtype;
      residents_[over.storage].push_back(id);
      layout_.views[id] = std::move(over);
      return true;
    }
    return false;
  }

  /// A variable's next value is made in its memory, where nothing reads the old one later.
  bool place_in_variable(size_t n, ValueId id) {
    const auto found = assigned_.find(id);
    if (!options_.alias || found == assigned_.end() || found->second == kNoValue) return false;
    if (is_output_[id] || is_output_[found->second]) return false;
    const ConcreteNode& node = graph_.nodes[n];
    const TensorView& home = layout_.views[found->second];
    const ConcreteValue& value = graph_.value(id);
    if (home.shape != value.shape || home.dtype != value.dtype) return false;
    const bool may_overwrite =
        node.schema->updates_in_place || (node.schema->in_place && node.node.outputs[0] == id);
    bool is_read = false;
    for (const ValueId read : node.reads()) {
      is_read |= layout_.views[read].storage == home.storage;
    }
    if (is_read && !(may_overwrite && only_as(node, home))) return false;
    if (!dies_at(home.storage, n)) return false;
    layout_.views[id] = home;
    residents_[home.storage].push_back(id);
    return true;
  }

  /// Nothing in the storage is read after node `n`, or is a result of the graph.
  bool dies_at(int32_t storage, size_t n) const {
    return std::ranges::all_of(residents_[storage], [&](ValueId id) {
      return last_use_[id] <= static_cast<int>(n) && !is_output_[id];
    });
  }

  /// The node reads the view's storage through this view alone.
  bool only_as(const ConcreteNode& node, const TensorView& view) const {
    return std::ranges::all_of(node.reads(), [&](ValueId id) {
      const TensorView& other = layout_.views[id];
      return other.storage != view.storage ||
             (other.offset == view.offset && other.shape == view.shape &&
              other.strides == view.strides && other.dtype == view.dtype);
    });
  }

  Shape strides_of(const ConcreteNode& node, ValueId id) const {
    const Shape& shape = graph_.value(id).shape;
    const auto rank = shape.size();
    if (is_output_[id]) return contiguous_strides(shape);
    const auto n = static_cast<size_t>(graph_.value(id).producer);
    if (wanted_ && !wanted_->in_place_of_kernel[n]) return wanted_->views[id].strides;
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
  const Layout* wanted_;  // of the first run; nullptr in it
  Layout layout_;
  std::vector<bool> is_output_;
  std::vector<int> last_use_;                    // node that reads the value last
  std::vector<std::vector<ValueId>> residents_;  // of each storage
  std::map<ValueId, Home> homes_;
  std::map<ValueId, ValueId> assigned_;  // the variable that a value is assigned to
  std::set<int32_t> shared_;             // storages that concats' inputs are written to
};

}  // namespace

Layout assign_layout(const ConcreteGraph& graph, const LayoutOptions& options) {
  const Layout wanted = LayoutPass(graph, options, nullptr).run();
  return LayoutPass(graph, options, &wanted).run();
}

}  // namespace dlk
