#include "core/graph/autodiff.h"

#include <algorithm>
#include <set>

#include "core/graph/specialize.h"
#include "core/ops/gradient.h"

namespace dlk {

namespace {

struct ValueType {
  DType dtype = DType::kFloat32;
  Shape shape;  // at one binding of the symbols
};

std::string qualified(const Node& node) {
  return node.domain.empty() ? node.op : node.domain + "::" + node.op;
}

/// Dtypes and shapes of the graph's values, with every free symbol set to `size`.
std::map<std::string, ConcreteValue> infer_at(const Graph& graph,
                                              const std::map<std::string, int64_t>& symbols,
                                              int64_t size) {
  SpecializeOptions special;
  for (const ValueId id : graph.inputs()) {
    const Value& input = graph.value(id);
    Shape& shape = special.input_shapes[input.name];
    for (size_t i = 0; input.shape && i < input.shape->size(); ++i) {
      const Dim& dim = (*input.shape)[i];
      const auto bound = symbols.find(dim.symbol);
      shape.push_back(dim.is_static() ? dim.value : bound != symbols.end() ? bound->second : size);
    }
  }
  std::map<std::string, ConcreteValue> values;
  for (ConcreteValue& value : specialize(graph, special).graph.values) {
    std::string name = value.name;
    values.emplace(std::move(name), std::move(value));
  }
  return values;
}

class Differentiator {
 public:
  Differentiator(Graph& graph, const std::vector<ValueId>& outputs, const std::vector<ValueId>& wrt,
                 const AutodiffOptions& options, std::set<ValueId> stops = {})
      : graph_(graph), options_(options), wrt_(wrt), stops_(std::move(stops)) {
    find_types(outputs);
    find_path(outputs);
  }

  std::vector<ValueId> run(const std::vector<ValueId>& outputs,
                           const std::vector<ValueId>& cotangents) {
    for (size_t i = 0; i < outputs.size(); ++i) {
      const ValueId given = i < cotangents.size() ? cotangents[i] : kNoValue;
      add_gradient(outputs[i], given == kNoValue ? ones_like(outputs[i]) : given);
    }
    const std::vector<NodeId> order = graph_.topological_order();
    for (size_t i = order.size(); i-- > 0;) {
      const auto n = static_cast<size_t>(order[i]);
      if (n < on_path_.size() && on_path_[n]) differentiate(order[i]);
    }
    std::vector<ValueId> result;
    for (const ValueId id : wrt_) result.push_back(gradient_of(id));
    return result;
  }

 private:
  class Context;

  void find_types(const std::vector<ValueId>& outputs) {
    Graph shown = graph_;
    const auto show = [&](const std::vector<ValueId>& ids) {
      for (const ValueId id : ids) {
        const auto& known = shown.outputs();
        if (std::find(known.begin(), known.end(), id) == known.end()) {
          shown.add_output(id, graph_.value(id).name + "/differentiated");
        }
      }
    };
    show(outputs);
    show(wrt_);
    const auto values = example_values(shown, options_.symbols);
    types_.resize(graph_.values().size());
    for (size_t id = 0; id < types_.size(); ++id) {
      const auto found = values.find(graph_.values()[id].name);
      if (found == values.end()) continue;
      types_[id] = ValueType{found->second.dtype, found->second.shape};
    }
  }

  /// Nodes between the values that are asked for and the outputs.
  void find_path(const std::vector<ValueId>& outputs) {
    depends_.assign(graph_.values().size(), false);
    for (const ValueId id : wrt_) {
      if (!is_floating(type_of(id).dtype)) {
        throw_invalid("'" + graph_.value(id).name + "' is " +
                      std::string(dtype_name(type_of(id).dtype)) +
                      "; only floating-point values have gradients");
      }
      depends_[id] = true;
    }
    on_path_.assign(graph_.nodes().size(), false);
    for (const NodeId n : graph_.topological_order()) {
      const Node& node = graph_.nodes()[n];
      const bool depends = std::ranges::any_of(
          node.inputs, [&](ValueId id) { return id != kNoValue && depends_[id]; });
      if (!depends) continue;
      for (const ValueId id : node.outputs) {
        // Integers and truth values carry no gradient.
        if (id != kNoValue && is_floating(type_of(id).dtype)) depends_[id] = true;
      }
    }
    std::vector<ValueId> open = outputs;
    std::set<ValueId> seen;
    while (!open.empty()) {
      const ValueId id = open.back();
      open.pop_back();
      if (id == kNoValue || !depends_[id] || !seen.insert(id).second) continue;
      if (stops_.contains(id)) continue;
      const NodeId producer = graph_.value(id).producer;
      if (producer == kNoNode || on_path_[producer]) continue;
      on_path_[producer] = true;
      const auto& inputs = graph_.nodes()[producer].inputs;
      open.insert(open.end(), inputs.begin(), inputs.end());
    }
  }

  const ValueType& type_of(ValueId id) const {
    static const ValueType kUnknown;
    const auto at = static_cast<size_t>(id);
    return at < types_.size() && types_[at] ? *types_[at] : kUnknown;
  }

  bool is_fixed(ValueId id, size_t axis) const {
    Graph shown = graph_;
    shown.add_output(id, graph_.value(id).name + "/shown");
    const Shape& known = type_of(id).shape;
    for (const int64_t size : {3, 65, 513, 4}) {
      try {
        const auto values = infer_at(shown, {}, size);
        return values.at(graph_.value(id).name).shape.at(axis) == known.at(axis);
      } catch (const Error&) {
        continue;  // the graph does not take this size
      }
    }
    return true;
  }

  void set_type(ValueId id, ValueType type) {
    const auto at = static_cast<size_t>(id);
    if (at >= types_.size()) types_.resize(at + 1);
    types_[at] = std::move(type);
  }

  ValueId ones_like(ValueId id) {
    const ValueId shape = graph_.add_node("Shape", {id}).at(0);
    const HostTensor one = HostTensor::from_doubles(type_of(id).dtype, {1}, {1.0});
    const ValueId ones = graph_.add_node("ConstantOfShape", {shape}, {{"value", one}}).at(0);
    set_type(ones, type_of(id));
    return ones;
  }

  void add_gradient(ValueId id, ValueId gradient) {
    if (id == kNoValue || gradient == kNoValue) return;
    set_type(gradient, ValueType(type_of(id)));
    gradients_[id].push_back(gradient);
  }

  /// The sum of what the readers contributed; kNoValue where there is none.
  ValueId gradient_of(ValueId id) {
    const auto found = gradients_.find(id);
    if (id == kNoValue || found == gradients_.end()) return kNoValue;
    std::vector<ValueId>& parts = found->second;
    while (parts.size() > 1) {
      const ValueId last = parts.back();
      parts.pop_back();
      parts.back() = graph_.add_node("Add", {parts.back(), last}).at(0);
      set_type(parts.back(), type_of(id));
    }
    return parts[0];
  }

  void differentiate(NodeId n);

  Graph& graph_;
  const AutodiffOptions& options_;
  const std::vector<ValueId>& wrt_;
  const std::set<ValueId> stops_;                // gradients go no further than these
  std::vector<std::optional<ValueType>> types_;  // by value
  std::vector<bool> depends_;                    // on what is asked for, by value
  std::vector<bool> on_path_;                    // by node
  std::map<ValueId, std::vector<ValueId>> gradients_;
};

class Differentiator::Context : public GradientContext {
 public:
  /// `node` is a copy that outlives the context: the graph's own nodes move when others are added.
  Context(Differentiator& owner, const Node& node, NodeId id, std::vector<ValueId> output_gradients)
      : GradientContext(node),
        owner_(owner),
        id_(id),
        output_gradients_(std::move(output_gradients)) {}

  bool wants(size_t i) const override {
    return has_input(i) && owner_.depends_[static_cast<size_t>(node().inputs[i])];
  }
  ValueId output_gradient(size_t i) const override {
    return i < output_gradients_.size() ? output_gradients_[i] : kNoValue;
  }
  void set_gradient(size_t i, ValueId gradient) override {
    if (wants(i)) owner_.add_gradient(node().inputs[i], gradient);
  }
  int64_t rank(ValueId id) const override {
    return static_cast<int64_t>(owner_.type_of(id).shape.size());
  }
  DType dtype(ValueId id) const override { return owner_.type_of(id).dtype; }
  const Shape& example_shape(ValueId id) const override { return owner_.type_of(id).shape; }
  bool is_fixed(ValueId id, int64_t axis) const override {
    return owner_.is_fixed(id, static_cast<size_t>(axis));
  }
  std::optional<HostTensor> constant(ValueId id) const override {
    if (id == kNoValue || owner_.graph_.value(id).kind != ValueKind::kConstant) return std::nullopt;
    return owner_.graph_.value(id).data;
  }
  void differentiate(const std::vector<ValueId>& outputs) override {
    std::vector<ValueId> results, weights, wrt;
    std::vector<size_t> inputs;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (output_gradient(i) == kNoValue) continue;
      results.push_back(outputs[i]);
      weights.push_back(output_gradient(i));
    }
    for (size_t i = 0; i < input_count(); ++i) {
      if (!wants(i)) continue;
      inputs.push_back(i);
      wrt.push_back(node().inputs[i]);
    }
    // What the inputs are made of stays out of it.
    const auto found =
        Differentiator(owner_.graph_, results, wrt, owner_.options_, {wrt.begin(), wrt.end()})
            .run(results, weights);
    for (size_t i = 0; i < inputs.size(); ++i) set_gradient(inputs[i], found[i]);
  }
  ValueId saved_output(size_t output) override { return owner_.graph_.saved_output(id_, output); }
  std::vector<ValueId> add_node(const std::string& op, std::vector<ValueId> inputs,
                                Attributes attributes, int outputs,
                                const std::string& domain) override {
    // Enough for scalars of the right dtype, until it is known whose gradient this is.
    const DType like = inputs.empty() ? DType::kFloat32 : dtype(inputs[0]);
    const auto made = owner_.graph_.add_node(op, std::move(inputs), std::move(attributes), outputs,
                                             node().name + "/gradient/" + op, domain);
    for (const ValueId id : made) owner_.set_type(id, {like, {}});
    return made;
  }
  ValueId add_constant(HostTensor value) override {
    const ValueType type{value.dtype, value.shape};
    const ValueId id = owner_.graph_.add_constant(node().name + "/constant", std::move(value));
    owner_.set_type(id, type);
    return id;
  }

 private:
  Differentiator& owner_;
  NodeId id_;
  std::vector<ValueId> output_gradients_;
};

void Differentiator::differentiate(NodeId n) {
  const Node node = graph_.nodes()[n];
  std::vector<ValueId> received;
  for (const ValueId id : node.outputs) received.push_back(gradient_of(id));
  if (std::ranges::all_of(received, [](ValueId id) { return id == kNoValue; })) return;
  Context context(*this, node, n, received);
  if (const auto custom = options_.custom.find(qualified(node)); custom != options_.custom.end()) {
    const std::vector<ValueId> made = custom->second(graph_, n, received);
    if (made.size() != node.inputs.size()) {
      context.fail("its gradient gives " + std::to_string(made.size()) +
                   " values, one for each of " + std::to_string(node.inputs.size()) +
                   " inputs is needed");
    }
    for (size_t i = 0; i < made.size(); ++i) context.set_gradient(i, made[i]);
    return;
  }
  const OpSchema* schema = find_op(node.op, node.domain);
  if (!schema || !schema->gradient) {
    context.unsupported("has no gradient; state one in Python or freeze what is before it");
  }
  schema->gradient(context);
}

}  // namespace

std::map<std::string, ConcreteValue> example_values(const Graph& graph,
                                                    const std::map<std::string, int64_t>& symbols) {
  std::optional<Error> first_error;
  for (const int64_t size : {2, 64, 512, 1}) {
    try {
      return infer_at(graph, symbols, size);
    } catch (const Error& error) {
      if (!first_error) first_error = error;
    }
  }
  throw *first_error;
}

ValueId GradientContext::swap_axes(ValueId value, int64_t a, int64_t b) {
  const int64_t count = rank(value);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) order.push_back(i);
  std::swap(order.at(static_cast<size_t>(a < 0 ? a + count : a)),
            order.at(static_cast<size_t>(b < 0 ? b + count : b)));
  return onnx("Transpose", {value}, {{"perm", order}});
}

std::vector<ValueId> gradients(Graph& graph, const std::vector<ValueId>& outputs,
                               const std::vector<ValueId>& cotangents,
                               const std::vector<ValueId>& wrt, const AutodiffOptions& options) {
  for (const ValueId id : outputs) graph.value(id);
  for (const ValueId id : wrt) graph.value(id);
  if (outputs.empty()) throw_invalid("gradients: there is nothing to differentiate");
  return Differentiator(graph, outputs, wrt, options).run(outputs, cotangents);
}

}  // namespace dlk
