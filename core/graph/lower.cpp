#include "core/graph/lower_context.h"

namespace dlk {

namespace {

/// The final copies stand in no node of the graph; errors and profiles need one all the same.
ConcreteNode copy_node(const std::string& name) {
  ConcreteNode node;
  node.node.op = "Copy";
  node.node.domain = "dlk";
  node.node.name = name;
  return node;
}

/// Refused here and not when it is allocated: by then there would be a command for each part of it.
void check_size(const Storage& storage, const Caps& caps) {
  if (storage.size_bytes <= caps.max_buffer_bytes) return;
  throw Error(ErrorCode::kOutOfMemory,
              "'" + storage.name + "' needs " + std::to_string(storage.size_bytes) +
                  " bytes; one buffer of " + caps.id + " has at most " +
                  std::to_string(caps.max_buffer_bytes) + ": use smaller inputs");
}

/// Outputs that are not their slot's storage already are copied there.
void copy_outputs(const LowerState& state, Lowered& lowered) {
  const ConcreteGraph& graph = state.graph;
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const TensorView& view = state.views[graph.outputs[i]];
    const Storage& storage = lowered.storages[view.storage];
    if (storage.kind == StorageKind::kOutput && storage.index == i) continue;
    Storage slot;
    slot.kind = StorageKind::kOutput;
    slot.index = static_cast<uint32_t>(i);
    slot.name = graph.output_names[i];
    slot.size_bytes = static_cast<uint64_t>(view.elements()) * dtype_size(view.dtype);
    check_size(slot, *state.options.caps);
    TensorView target{static_cast<int32_t>(lowered.storages.size()), view.dtype, view.shape,
                      contiguous_strides(view.shape), 0};
    lowered.storages.push_back(std::move(slot));
    const ConcreteNode node = copy_node(graph.output_names[i]);
    NodeLowering(state, node, kNoNode, lowered).copy(view, target);
  }
}

/// New values of variables, after every reader. A value that is itself (a view of) a variable is
/// saved first: two variables may swap.
void copy_assignments(const LowerState& state, Lowered& lowered) {
  std::vector<std::pair<TensorView, TensorView>> copies;
  std::vector<std::string> names;
  for (const Assignment& assignment : state.graph.assignments) {
    TensorView value = state.views[assignment.value];
    const TensorView& variable = state.views[assignment.variable];
    if (value.storage == variable.storage && value.offset == variable.offset &&
        value.strides == variable.strides && value.shape == variable.shape) {
      continue;  // made in place
    }
    if (lowered.storages[value.storage].kind == StorageKind::kVariable) {
      const ConcreteNode node = copy_node(state.graph.value(assignment.value).name);
      NodeLowering context(state, node, kNoNode, lowered);
      const TensorView saved = context.workspace(value.dtype, value.shape);
      context.copy(value, saved);
      value = saved;
    }
    copies.emplace_back(value, variable);
    names.push_back(state.graph.value(assignment.variable).name);
  }
  for (size_t i = 0; i < copies.size(); ++i) {
    const ConcreteNode node = copy_node(names[i]);
    NodeLowering(state, node, kNoNode, lowered).copy(copies[i].first, copies[i].second);
  }
}

}  // namespace

Lowered lower_graph(const ConcreteGraph& graph, Layout layout, const LowerOptions& options) {
  Lowered lowered;
  lowered.storages = std::move(layout.storages);
  const LowerState state{graph, layout.views, options};
  for (const Storage& storage : lowered.storages) {
    const bool planned =
        storage.kind == StorageKind::kArena || storage.kind == StorageKind::kOutput;
    if (planned) check_size(storage, *options.caps);
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (layout.in_place_of_kernel[n]) continue;
    const ConcreteNode& node = graph.nodes[n];
    NodeLowering context(state, node, static_cast<NodeId>(n), lowered);
    if (!node.schema->lower) context.unsupported("has no kernel");
    context.prepare_epilogue();
    node.schema->lower(context);
  }
  copy_outputs(state, lowered);
  copy_assignments(state, lowered);
  return lowered;
}

}  // namespace dlk
