// Any graph of known operators is specialized, written and read again, or gives a dlk::Error, with
// bounded time and memory: wrong arities, dtypes, shapes, attributes and subgraphs. The bytes
// choose everything; nothing touches a device.
#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/graph/specialize.h"
#include "core/model/graph_json.h"
#include "core/ops/op.h"

namespace {

using namespace dlk;

constexpr int kMaxNodes = 12, kMaxDepth = 3;

class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  size_t below(size_t limit) { return at_ < size_ ? data_[at_++] % limit : 0; }
  bool empty() const { return at_ >= size_; }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

const std::vector<std::string>& control_operators() {
  static const std::vector<std::string> names{"If",
                                              "Loop",
                                              "Scan",
                                              "SequenceMap",
                                              "SequenceAt",
                                              "SequenceEmpty",
                                              "SequenceErase",
                                              "SequenceConstruct",
                                              "SequenceInsert",
                                              "SequenceLength",
                                              "Optional",
                                              "OptionalGetElement",
                                              "SplitToSequence",
                                              "ConcatFromSequence",
                                              "OptionalHasElement",
                                              "Constant"};
  return names;
}

constexpr std::array kNames{"axis",
                            "axes",
                            "keepdims",
                            "perm",
                            "to",
                            "pads",
                            "strides",
                            "kernel_shape",
                            "dilations",
                            "group",
                            "mode",
                            "equation",
                            "epsilon",
                            "alpha",
                            "direction",
                            "hidden_size",
                            "num_scan_inputs",
                            "captured",
                            "value",
                            "split",
                            "num_outputs",
                            "exclusive",
                            "allowzero",
                            "block_size",
                            "new_axis",
                            "k",
                            "largest",
                            "ceil_mode",
                            "output_shape",
                            "blocksize"};
constexpr std::array<int64_t, 12> kInts{0, 1,  -1,      2,          3,         -2,
                                        7, 64, 1 << 20, -(1 << 20), INT64_MAX, INT64_MIN};
constexpr std::array kTexts{"", "constant", "linear", "ij,jk->ik", "SAME_UPPER", "reverse", "mean"};

DType any_dtype(Choices& choices) {
  return static_cast<DType>(choices.below(static_cast<size_t>(DType::kString) + 1));
}

Shape any_shape(Choices& choices) {
  static constexpr std::array<int64_t, 6> kDims{1, 2, 3, 0, 5, 8};
  Shape shape(choices.below(5));
  for (int64_t& dim : shape) dim = kDims[choices.below(kDims.size())];
  return shape;
}

HostTensor any_tensor(Choices& choices) {
  const DType dtype = any_dtype(choices);
  const Shape shape = any_shape(choices);
  std::vector<int64_t> values(static_cast<size_t>(element_count(shape)));
  for (int64_t& value : values) value = static_cast<int64_t>(choices.below(16)) - 4;
  if (dtype == DType::kString) {
    return HostTensor::strings(shape, std::vector<std::string>(values.size(), "a b"));
  }
  return HostTensor::from_ints(dtype, shape, values);
}

Graph any_graph(Choices& choices, int depth);

Attribute any_attribute(Choices& choices, int depth) {
  switch (choices.below(depth < kMaxDepth ? 8 : 7)) {
    case 0:
      return kInts[choices.below(kInts.size())];
    case 1:
      return 0.5 * static_cast<double>(choices.below(8)) - 1.0;
    case 2:
      return std::string(kTexts[choices.below(kTexts.size())]);
    case 3: {
      std::vector<int64_t> values(choices.below(5));
      for (int64_t& value : values) value = kInts[choices.below(kInts.size())];
      return values;
    }
    case 4:
      return std::vector<double>(choices.below(4), 0.5);
    case 5:
      return std::vector<std::string>(choices.below(4), "a");
    case 6:
      return any_tensor(choices);
    default:
      return std::make_shared<Graph>(any_graph(choices, depth + 1));
  }
}

void add_node(Graph& graph, Choices& choices, std::vector<ValueId>& values, int depth) {
  static const std::vector<const OpSchema*> schemas = all_ops();
  std::string op, domain;
  Attributes attributes;
  if (choices.below(4) == 0) {
    op = control_operators()[choices.below(control_operators().size())];
    for (const char* name : {"body", "then_branch", "else_branch"}) {
      if (depth < kMaxDepth && choices.below(2) == 0) {
        attributes[name] = std::make_shared<Graph>(any_graph(choices, depth + 1));
      }
    }
  } else {
    const OpSchema& schema =
        *schemas[(choices.below(256) * 256 + choices.below(256)) % schemas.size()];
    op = schema.name;
    domain = schema.domain;
  }
  for (size_t n = choices.below(4); n > 0; --n) {
    attributes[kNames[choices.below(kNames.size())]] = any_attribute(choices, depth);
  }
  std::vector<ValueId> inputs(choices.below(6));
  for (ValueId& input : inputs) {
    const size_t chosen = choices.below(values.size() + 1);
    input = chosen == values.size() ? kNoValue : values[chosen];
  }
  const auto outputs = static_cast<int>(choices.below(4));
  for (const ValueId id : graph.add_node(op, inputs, attributes, outputs, "", domain)) {
    values.push_back(id);
  }
}

Graph any_graph(Choices& choices, int depth) {
  Graph graph;
  std::vector<ValueId> values;
  for (size_t n = choices.below(4); n > 0; --n) {
    SymbolicShape shape;
    for (const int64_t dim : any_shape(choices)) shape.push_back(Dim::of(dim));
    values.push_back(graph.add_input("in" + std::to_string(n), any_dtype(choices), shape,
                                     static_cast<ValueType>(choices.below(4))));
  }
  for (size_t n = choices.below(4); n > 0; --n) {
    values.push_back(graph.add_constant("c", any_tensor(choices)));
  }
  for (int n = 0; n < kMaxNodes && !choices.empty(); ++n) add_node(graph, choices, values, depth);
  for (size_t n = 1 + choices.below(2); n > 0 && !values.empty(); --n) {
    graph.add_output(values[values.size() - 1 - choices.below(values.size())],
                     "out" + std::to_string(n));
  }
  return graph;
}

/// The inputs as declared, with small values where they are asked for.
SpecializeOptions options_for(const Graph& graph, size_t sequence) {
  SpecializeOptions options;
  for (const ValueId id : graph.inputs()) {
    const Value& value = graph.value(id);
    InputForm form;
    Shape shape;
    for (const Dim& dim : *value.shape) shape.push_back(dim.value);
    form.tensors.assign(value.type == ValueType::kSequence ? sequence : 1, {value.dtype, shape});
    if (value.type == ValueType::kSequence) form.kind = InputForm::Kind::kSequence;
    if (value.type == ValueType::kOptionalSequence) form = {InputForm::Kind::kNone, {}};
    options.forms[value.name] = form;
  }
  return options;
}

/// A graph and what is left of it, stage by stage, as if every value that is read back were zero.
void plan_all(const Graph& graph) {
  std::shared_ptr<const Graph> current = std::make_shared<Graph>(graph);
  for (int stage = 0; current && stage < 4; ++stage) {
    SpecializeOptions options = options_for(*current, 2);
    options.input_value = [&](const std::string& name) -> std::optional<HostTensor> {
      const auto id = current->find(name);
      if (!id) return std::nullopt;
      Shape shape;
      for (const Dim& dim : *current->value(*id).shape) shape.push_back(dim.value);
      const auto count = static_cast<size_t>(element_count(shape));
      return HostTensor::from_ints(current->value(*id).dtype, shape,
                                   std::vector<int64_t>(count, 0));
    };
    current = specialize(*current, options).rest;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  try {
    const Graph graph = any_graph(choices, 0);
    graph.validate();
    std::vector<NamedTensor> tensors;
    const Json json = graph_to_json(graph, tensors);
    std::map<std::string, HostTensor> named;
    for (const NamedTensor& tensor : tensors) named[tensor.name] = tensor.tensor;
    const Graph back = graph_from_json(json, named, "fuzz");
    if (back.nodes().size() != graph.nodes().size()) __builtin_trap();
    plan_all(graph);
  } catch (const Error&) {
  }
  return 0;
}
