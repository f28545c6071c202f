// What is known of values: inferred types and shapes, and what the host evaluates before a run.
#include <algorithm>
#include <set>

#include "core/graph/specializer.h"

namespace dlk {

namespace {

constexpr size_t kMaxRank = 32;
constexpr int64_t kMaxDim = (int64_t{1} << 31) - 1;  // what kernels count with
constexpr int64_t kMaxElements = int64_t{1} << 46;   // of views too, whose axes may be repeated

}  // namespace

std::string excess_of(const Shape& shape) {
  if (shape.size() > kMaxRank) {
    return "rank " + std::to_string(shape.size()) + "; the limit is " + std::to_string(kMaxRank);
  }
  const std::string what = "the shape " + shape_string(shape);
  if (std::ranges::any_of(shape, [](int64_t d) { return d > kMaxDim; })) {
    return what + "; an axis has at most " + std::to_string(kMaxDim) + " elements";
  }
  if (element_count(shape) > kMaxElements) {
    return what + "; a tensor has at most " + std::to_string(kMaxElements) + " elements";
  }
  return {};
}

class Specializer::Infer : public InferContext {
 public:
  Infer(Specializer& specializer, size_t n)
      : InferContext(specializer.graph_.nodes[n].node), specializer_(specializer) {}

  DType dtype(size_t input) const override { return value(input).dtype; }
  const Shape& shape(size_t input) const override { return value(input).shape; }
  std::optional<HostTensor> constant(size_t input) const override {
    if (!has_input(input)) return std::nullopt;
    const ValueId id = node().inputs[input];
    auto value = specializer_.demand(id);
    if (!value && specializer_.is_readable_later(id)) specializer_.blocked_ = true;
    return value;
  }
  void set_output(size_t output, DType dtype, Shape shape) override {
    if (!has_output(output)) return;
    if (const std::string why = excess_of(shape); !why.empty()) {
      fail("output " + std::to_string(output) + " would have " + why);
    }
    ConcreteValue& result = specializer_.graph_.value(node().outputs[output]);
    result.dtype = dtype;
    result.shape = std::move(shape);
    set_.insert(output);
  }
  bool is_set(size_t output) const { return set_.contains(output); }

 private:
  const ConcreteValue& value(size_t input) const {
    if (!has_input(input)) fail("input " + std::to_string(input) + " is missing");
    return specializer_.graph_.value(node().inputs[input]);
  }
  Specializer& specializer_;
  std::set<size_t> set_;
};

class Specializer::HostEval : public HostEvalContext {
 public:
  HostEval(ConcreteGraph& graph, const Node& node, bool dynamic)
      : HostEvalContext(node), graph_(graph), dynamic_(dynamic) {
    for (const ValueId id : node.inputs) {
      if (id == kNoValue) {
        inputs_.emplace_back();
        continue;
      }
      const ConcreteValue& value = graph.value(id);
      inputs_.push_back(value.known ? *value.known : HostTensor{value.dtype, value.shape, nullptr});
    }
  }
  const HostTensor& input(size_t i) const override {
    if (!has_input(i)) fail("input " + std::to_string(i) + " is missing");
    return inputs_.at(i);
  }
  bool is_known(size_t i) const override {
    return has_input(i) && graph_.value(node().inputs[i]).known.has_value();
  }
  const Shape& output_shape(size_t i) const override {
    return graph_.value(node().outputs.at(i)).shape;
  }
  DType output_dtype(size_t i) const override { return graph_.value(node().outputs.at(i)).dtype; }
  void set_output(size_t i, HostTensor tensor) override {
    if (!has_output(i)) return;
    ConcreteValue& value = graph_.value(node().outputs[i]);
    if (dynamic_ && tensor.dtype == value.dtype) value.shape = tensor.shape;
    if (tensor.shape != value.shape || tensor.dtype != value.dtype) {
      fail("host evaluation gave " + std::string(dtype_name(tensor.dtype)) + " " +
           shape_string(tensor.shape) + " for " + std::string(dtype_name(value.dtype)) + " " +
           shape_string(value.shape));
    }
    value.known = std::move(tensor);
  }

 private:
  ConcreteGraph& graph_;
  bool dynamic_;  // outputs may be smaller than inferred
  std::vector<HostTensor> inputs_;
};

void Specializer::infer(size_t n) {
  const ConcreteNode& node = graph_.nodes[n];
  Infer context(*this, n);
  node.schema->infer(context);
  for (size_t i = 0; i < node.node.outputs.size(); ++i) {
    if (context.has_output(i) && !context.is_set(i)) {
      context.fail("output " + std::to_string(i) + " got no shape");
    }
  }
}

bool Specializer::evaluate(size_t n) {
  const ConcreteNode& node = graph_.nodes[n];
  if (!node.schema->host_eval || !small_outputs(node)) return false;
  if (!node.schema->host_eval_by_shape) {
    for (const ValueId id : node.node.inputs) {
      if (id != kNoValue && !graph_.value(id).known) return false;
      if (id != kNoValue && element_count(graph_.value(id).shape) > kMaxHostElements) return false;
    }
  }
  const size_t own = node.node.outputs.size() - (node.schema->dynamic ? 1 : 0);
  bool empty = true;  // however large the inputs' other axes are
  for (size_t i = 0; i < own; ++i) {
    const ValueId id = node.node.outputs[i];
    empty &= id == kNoValue || element_count(graph_.value(id).shape) == 0;
  }
  HostEval context(graph_, node.node, static_cast<bool>(node.schema->dynamic));
  if (empty) {
    for (size_t i = 0; i < own; ++i) {
      if (context.has_output(i)) {
        context.set_output(i, {context.output_dtype(i), context.output_shape(i), nullptr});
      }
    }
  } else {
    node.schema->host_eval(context);
  }
  for (size_t i = 0; i < own; ++i) {
    const ValueId id = node.node.outputs[i];
    if (id != kNoValue && !graph_.value(id).known) return false;
  }
  graph_.host_ops.push_back(node.node.name + " (" + node.node.op + ")");
  return true;
}

/// What takes strings is evaluated on the host, so all that it reads must be known.
bool Specializer::need_strings(const ConcreteNode& node) {
  const std::vector<ValueId> reads = node.reads();
  const bool strings = std::ranges::any_of(
      reads, [&](ValueId id) { return graph_.value(id).dtype == DType::kString; });
  if (!strings) return false;
  for (const ValueId id : reads) {
    if (demand(id) || options_.input_value == nullptr) continue;
    NodeReader(node.node).unsupported("handles strings on the host: at most " +
                                      std::to_string(kMaxHostElements) +
                                      " elements, known before the run");
  }
  return true;
}

bool Specializer::small_outputs(const ConcreteNode& node) const {
  return std::all_of(node.node.outputs.begin(), node.node.outputs.end(), [&](ValueId id) {
    return id == kNoValue || element_count(graph_.value(id).shape) <= kMaxHostElements;
  });
}

void Specializer::evaluate_if_shape_arithmetic(size_t n) {
  const ConcreteNode& node = graph_.nodes[n];
  if (!node.schema->host_eval || !small_outputs(node)) return;
  for (const ValueId id : node.node.outputs) {
    if (id != kNoValue && is_floating(graph_.value(id).dtype)) return;
  }
  evaluate(n);
}

bool Specializer::is_readable_later(ValueId id) const {
  const ConcreteValue& value = graph_.value(id);
  return value.kind == ValueKind::kResult && element_count(value.shape) <= kMaxHostElements;
}

/// Values that the host knows become constants; the nodes that made them go.
void Specializer::settle_known_values() {
  for (ConcreteValue& value : graph_.values) {
    if (value.kind != ValueKind::kResult || !value.known) continue;
    value.kind = ValueKind::kConstant;
    value.key = content_key(*value.known);
  }
  graph_.remove_nodes([&](const ConcreteNode& node) {
    return std::all_of(node.node.outputs.begin(), node.node.outputs.end(), [&](ValueId id) {
      return id == kNoValue || graph_.value(id).is_constant();
    });
  });
}

std::optional<HostTensor> Specializer::demand(ValueId id) {
  if (graph_.value(id).known) return graph_.value(id).known;
  if (unknowable_.contains(id)) return std::nullopt;
  const ConcreteValue& value = graph_.value(id);
  if (element_count(value.shape) > kMaxHostElements) return std::nullopt;
  if (value.kind == ValueKind::kInput && options_.input_value) {
    auto given = options_.input_value(value.name);
    if (given) {
      used_values_[value.name] = *given;
      graph_.value(id).known = given;
      return given;
    }
  }
  if (value.kind == ValueKind::kResult) {
    const auto n = static_cast<size_t>(value.producer);
    const ConcreteNode& node = graph_.nodes[n];
    bool inputs_known = node.schema->host_eval != nullptr;
    for (size_t i = 0; inputs_known && i < node.node.inputs.size(); ++i) {
      if (node.schema->host_eval_by_shape || node.node.inputs[i] == kNoValue) continue;
      inputs_known = demand(node.node.inputs[i]).has_value();
    }
    if (inputs_known && evaluate(n)) return graph_.value(id).known;
  }
  unknowable_.insert(id);
  return std::nullopt;
}

}  // namespace dlk
