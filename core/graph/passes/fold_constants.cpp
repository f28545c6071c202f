#include <algorithm>
#include <set>

#include "core/graph/passes.h"

namespace dlk {

namespace {

constexpr uint64_t kAlwaysFoldBytes = 1u << 20;

/// Evaluates one node whose outputs are to be known on the host.
class HostContext : public HostEvalContext {
 public:
  HostContext(ConcreteGraph& graph, const Node& node) : HostEvalContext(node), graph_(graph) {}
  const HostTensor& input(size_t i) const override {
    return *graph_.value(node().inputs.at(i)).known;
  }
  bool is_known(size_t i) const override { return has_input(i); }
  const Shape& output_shape(size_t i) const override {
    return graph_.value(node().outputs.at(i)).shape;
  }
  DType output_dtype(size_t i) const override { return graph_.value(node().outputs.at(i)).dtype; }
  void set_output(size_t i, HostTensor tensor) override {
    if (has_output(i)) graph_.value(node().outputs[i]).known = std::move(tensor);
  }

 private:
  ConcreteGraph& graph_;
};

bool only_reshapes(const Node& node) {
  static const std::set<std::string> names{"Identity", "Reshape", "Flatten", "Squeeze",
                                           "Unsqueeze"};
  return node.domain.empty() && names.contains(node.op);
}

bool all_constant(const ConcreteGraph& graph, const ConcreteNode& node) {
  return std::ranges::all_of(node.reads(),
                             [&](ValueId id) { return graph.value(id).is_constant(); });
}

uint64_t bytes_of(const ConcreteValue& value) {
  return static_cast<uint64_t>(element_count(value.shape)) * dtype_size(value.dtype);
}

/// Large results of small inputs (an expanded scalar) are cheaper to make again than to keep; what
/// ConstantOfShape makes stands in for weights.
bool worth_folding(const ConcreteGraph& graph, const ConcreteNode& node) {
  if (node.node.op == "ConstantOfShape") return true;
  uint64_t in = 0, out = 0;
  for (const ValueId id : node.reads()) in += bytes_of(graph.value(id));
  for (const ValueId id : node.node.outputs) {
    if (id != kNoValue) out += bytes_of(graph.value(id));
  }
  return out <= std::max(kAlwaysFoldBytes, 2 * in);
}

/// Host evaluation of what costs nothing: other shapes of the same bytes, and scalars.
bool fold_on_host(ConcreteGraph& graph, const ConcreteNode& node) {
  if (!node.schema->host_eval || node.node.outputs.size() != 1) return false;
  ConcreteValue& output = graph.value(node.node.outputs[0]);
  if (!only_reshapes(node.node) && element_count(output.shape) > 1) return false;
  for (const ValueId id : node.node.inputs) {
    const bool small = id == kNoValue || only_reshapes(node.node) ||
                       element_count(graph.value(id).shape) <= kMaxHostElements;
    if (id == kNoValue || !graph.value(id).known || !small) return false;
  }
  HostContext context(graph, node.node);
  node.schema->host_eval(context);
  return output.known.has_value();
}

std::string fold_key(const ConcreteGraph& graph, const ConcreteNode& node, size_t output) {
  std::string text =
      node.node.domain + "::" + node.node.op + "{" + attributes_key(node.node.attributes) + "}";
  if (node.program) text += node.program->key();
  for (const ValueId id : node.node.inputs) {
    text += "(" + (id == kNoValue ? "" : graph.value(id).key) + ")";
  }
  const ConcreteValue& value = graph.value(node.node.outputs[output]);
  text += std::string(dtype_name(value.dtype)) + shape_string(value.shape);
  return "fold:" + hashed_key(text) + ":" + std::to_string(output);
}

/// The folded nodes as a graph of their own, whose outputs are what the rest reads.
Preparation preparation_for(const ConcreteGraph& graph, std::vector<ConcreteNode> nodes,
                            const std::vector<ValueId>& wanted, const LowerOptions& lowering,
                            std::vector<Preparation>& inner) {
  ConcreteGraph part;
  part.values = graph.values;
  part.nodes = std::move(nodes);
  part.set_producers();
  part.outputs = wanted;
  // Inside, the folded values are results again.
  for (const ConcreteNode& node : part.nodes) {
    for (const ValueId id : node.node.outputs) {
      if (id != kNoValue) part.value(id).kind = ValueKind::kResult;
    }
  }
  for (const ValueId id : wanted) part.output_names.push_back(graph.value(id).name);
  Preparation preparation;
  preparation.program = lower_graph(part, assign_layout(part, {true, false}), lowering);
  for (Preparation& made : preparation.program.preparations) inner.push_back(std::move(made));
  preparation.program.preparations.clear();
  for (Storage& storage : preparation.program.storages) {
    if (storage.kind == StorageKind::kOutput) {
      storage.key = graph.value(wanted[storage.index]).key;
    }
  }
  for (const ValueId id : wanted) preparation.keys.push_back(graph.value(id).key);
  return preparation;
}

}  // namespace

std::vector<Preparation> fold_constants(ConcreteGraph& graph, const LowerOptions& lowering) {
  std::vector<ConcreteNode> folded;
  std::set<ValueId> made;
  for (ConcreteNode& node : graph.nodes) {
    if (!all_constant(graph, node) || !worth_folding(graph, node)) continue;
    if (!node.schema->lower && !node.schema->alias && !node.schema->host_eval) continue;
    const bool on_host = fold_on_host(graph, node);
    for (size_t i = 0; i < node.node.outputs.size(); ++i) {
      const ValueId id = node.node.outputs[i];
      if (id == kNoValue) continue;
      ConcreteValue& value = graph.value(id);
      value.key = on_host && element_count(value.shape) <= kMaxHostElements
                      ? content_key(*value.known)
                      : fold_key(graph, node, i);
      value.kind = ValueKind::kConstant;
      if (!on_host) made.insert(id);
    }
    if (!on_host) folded.push_back(node);
  }
  graph.remove_nodes([&](const ConcreteNode& node) {
    return !node.node.outputs.empty() && std::ranges::all_of(node.node.outputs, [&](ValueId id) {
      return id == kNoValue || graph.value(id).is_constant();
    });
  });
  const std::vector<int> uses = graph.use_counts();
  std::vector<ValueId> wanted;
  for (const ValueId id : made) {
    if (uses[id] > 0) wanted.push_back(id);
  }
  std::vector<Preparation> preparations;
  const bool done = std::ranges::all_of(wanted, [&](ValueId id) {
    return lowering.has_weight && lowering.has_weight(graph.value(id).key);
  });
  if (!done) {
    Preparation last = preparation_for(graph, std::move(folded), wanted, lowering, preparations);
    preparations.push_back(std::move(last));
  }
  return preparations;
}

}  // namespace dlk
