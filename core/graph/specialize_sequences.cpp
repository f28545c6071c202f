// Sequences and optionals: lists of tensors, or nothing, whose structure is known when a plan is
// made. Their operators leave no trace in it but the tensors that they choose.
#include <algorithm>

#include "core/graph/specializer.h"

namespace dlk {

namespace {

constexpr int64_t kMaxItems = 65536;  // of a sequence that a tensor is split into

/// The items of a sequence input; waits where it is made later.
const Bounds& items_of(const Node& node, const Bounds& inputs, size_t i = 0) {
  const NodeReader reader(node);
  if (i >= inputs.size() || !inputs[i].is_set()) {
    reader.fail("input " + std::to_string(i) + " is missing");
  }
  if (inputs[i].is_later()) throw MustWait{};
  if (!inputs[i].is_sequence()) reader.fail("input " + std::to_string(i) + " is no sequence");
  return inputs[i].items;
}

/// A position in a sequence of `size` items, counted from the end where it is negative.
size_t position_in(const Node& node, int64_t position, size_t size, size_t last) {
  const auto count = static_cast<int64_t>(size);
  const int64_t index = position < 0 ? position + count : position;
  if (index < 0 || index > static_cast<int64_t>(last) || last == static_cast<size_t>(-1)) {
    NodeReader(node).fail("position " + std::to_string(position) + " is outside of a sequence of " +
                          std::to_string(size) + " tensors");
  }
  return static_cast<size_t>(index);
}

const Bound& at(const Bounds& inputs, size_t i) {
  static const Bound missing;
  return i < inputs.size() ? inputs[i] : missing;
}

}  // namespace

Bound Specializer::constant(const HostTensor& tensor) {
  ConcreteValue value{"constant", ValueKind::kConstant, tensor.dtype, tensor.shape, tensor};
  value.key = content_key(tensor);
  return Bound::tensor(graph_.add_value(std::move(value)));
}

Bounds Specializer::emit_many(const Node& like, const std::string& op, const Bounds& inputs,
                              Attributes attributes, size_t outputs) {
  Node node{op, "", like.name, {}, {}, std::move(attributes)};
  const std::vector<std::string> names(outputs, like.name);
  node.inputs.assign(inputs.size(), 0);
  node.outputs.assign(outputs, 0);
  try {
    return add_operator(node, inputs, names);
  } catch (const MustWait&) {
    return defer(node, inputs, names);
  }
}

Bound Specializer::emit(const Node& like, const std::string& op, const Bounds& inputs,
                        Attributes attributes) {
  return emit_many(like, op, inputs, std::move(attributes), 1).at(0);
}

Bounds Specializer::identity(const Node& node, const Bounds& inputs) {
  if (!inputs.empty() && inputs[0].is_set() && !inputs[0].is_tensor()) return {inputs[0]};
  return add_operator(node, inputs, {node.name});
}

Bounds Specializer::sequence_construct(const Node& node, const Bounds& inputs) {
  for (const Bound& input : inputs) {
    if (input.is_sequence() || !input.is_set()) NodeReader(node).fail("takes tensors");
    if (input.is_later()) throw MustWait{};
  }
  return {Bound::sequence(inputs)};
}

Bounds Specializer::sequence_empty(const Node&, const Bounds&) { return {Bound::sequence({})}; }

Bounds Specializer::sequence_at(const Node& node, const Bounds& inputs) {
  const Bounds& items = items_of(node, inputs);
  const auto position = decide(node, at(inputs, 1), "its position");
  if (!position) NodeReader(node).fail("has no position");
  return {items[position_in(node, position->to_ints().at(0), items.size(), items.size() - 1)]};
}

Bounds Specializer::sequence_insert(const Node& node, const Bounds& inputs) {
  Bounds items = items_of(node, inputs);
  if (at(inputs, 1).is_later()) throw MustWait{};
  if (!at(inputs, 1).is_tensor()) NodeReader(node).fail("inserts tensors");
  size_t index = items.size();
  if (const auto position = decide(node, at(inputs, 2), "its position")) {
    index = position_in(node, position->to_ints().at(0), items.size(), items.size());
  }
  items.insert(items.begin() + static_cast<int64_t>(index), inputs[1]);
  return {Bound::sequence(std::move(items))};
}

Bounds Specializer::sequence_erase(const Node& node, const Bounds& inputs) {
  Bounds items = items_of(node, inputs);
  int64_t position = -1;
  if (const auto given = decide(node, at(inputs, 1), "its position")) {
    position = given->to_ints().at(0);
  }
  const size_t index = position_in(node, position, items.size(), items.size() - 1);
  items.erase(items.begin() + static_cast<int64_t>(index));
  return {Bound::sequence(std::move(items))};
}

Bounds Specializer::sequence_length(const Node& node, const Bounds& inputs) {
  const auto length = static_cast<int64_t>(items_of(node, inputs).size());
  graph_.host_ops.push_back(node.name + " (SequenceLength)");
  return {constant(HostTensor::from_ints(DType::kInt64, {}, {length}))};
}

Bounds Specializer::sequence_map(const Node& node, const Bounds& inputs) {
  const NodeReader reader(node);
  const auto body = subgraph_of(node, "body");
  const size_t length = items_of(node, inputs).size();
  if (body->inputs().size() != inputs.size() || body->outputs().size() < node.outputs.size()) {
    reader.fail("its body does not fit its inputs and outputs");
  }
  const size_t own = inputs.size() - static_cast<size_t>(std::clamp<int64_t>(
                                         reader.attr_int("captured", 0), 0,
                                         static_cast<int64_t>(inputs.size()) - 1));
  std::vector<Bounds> results(node.outputs.size());
  for (size_t i = 0; i < length; ++i) {
    Bounds given = inputs;
    for (size_t k = 0; k < own; ++k) {
      if (given[k].is_later()) throw MustWait{};
      if (!given[k].is_sequence()) continue;
      if (given[k].items.size() != length) reader.fail("its sequences have different lengths");
      Bound item = given[k].items[i];
      given[k] = std::move(item);
    }
    const Bounds made = inline_graph(*body, given);
    for (size_t o = 0; o < results.size(); ++o) results[o].push_back(made.at(o));
  }
  Bounds outputs;
  for (Bounds& items : results) {
    const bool known = std::ranges::all_of(items, [](const Bound& b) { return b.is_tensor(); });
    // Items that come later are put together where they are made.
    outputs.push_back(known ? Bound::sequence(std::move(items))
                            : Bound::later(in_rest(Bound::sequence(std::move(items)))));
  }
  graph_.host_ops.push_back(node.name + " (SequenceMap)");
  return outputs;
}

Bounds Specializer::split_to_sequence(const Node& node, const Bounds& inputs) {
  const NodeReader reader(node);
  if (!at(inputs, 0).is_set() || at(inputs, 0).is_later()) throw MustWait{};
  if (!inputs[0].is_tensor()) reader.fail("splits tensors");
  const Shape shape = graph_.value(inputs[0].id).shape;
  const int64_t axis =
      reader.normalize_axis(reader.attr_int("axis", 0), static_cast<int64_t>(shape.size()));
  const int64_t size = shape.at(static_cast<size_t>(axis));
  const auto split = decide(node, at(inputs, 1), "its split");
  std::vector<int64_t> parts;
  if ((!split || split->shape.empty()) && size > kMaxItems) {
    reader.unsupported("splits an axis of " + std::to_string(size) + " elements; the limit is " +
                       std::to_string(kMaxItems));
  }
  if (!split) {
    parts.assign(static_cast<size_t>(size), 1);
  } else if (split->shape.empty()) {
    const int64_t part = split->to_ints().at(0);
    if (part < 1) reader.fail("splits into parts of " + std::to_string(part));
    for (int64_t left = size; left > 0; left -= part) parts.push_back(std::min(left, part));
  } else {
    parts = split->to_ints();
  }
  if (parts.empty()) return {Bound::sequence({})};
  Bounds items = emit_many(node, "Split", {inputs[0], constant(HostTensor::ints(parts))},
                           {{"axis", axis}}, parts.size());
  if (!split && reader.attr_int("keepdims", 1) == 0) {
    const Bound axes = constant(HostTensor::ints({axis}));
    for (Bound& item : items) item = emit(node, "Squeeze", {item, axes});
  }
  return {Bound::sequence(std::move(items))};
}

Bounds Specializer::concat_from_sequence(const Node& node, const Bounds& inputs) {
  const NodeReader reader(node);
  const Bounds& items = items_of(node, inputs);
  if (items.empty()) reader.fail("has no tensors to join");
  const int64_t axis = reader.attr_int("axis", 0);
  if (reader.attr_int("new_axis", 0) != 0) return {stack(node, items, axis)};
  return {emit(node, "Concat", items, {{"axis", axis}})};
}

Bounds Specializer::optional(const Node&, const Bounds& inputs) {
  return {at(inputs, 0).is_set() ? inputs[0] : Bound::none()};
}

Bounds Specializer::optional_has_element(const Node& node, const Bounds& inputs) {
  if (at(inputs, 0).is_later()) throw MustWait{};
  const bool has = at(inputs, 0).is_tensor() || at(inputs, 0).is_sequence();
  graph_.host_ops.push_back(node.name + " (OptionalHasElement)");
  return {constant(HostTensor::from_ints(DType::kBool, {}, {has ? 1 : 0}))};
}

Bounds Specializer::optional_get_element(const Node& node, const Bounds& inputs) {
  if (at(inputs, 0).is_later()) throw MustWait{};
  if (!at(inputs, 0).is_tensor() && !at(inputs, 0).is_sequence()) {
    NodeReader(node).fail("its optional is empty");
  }
  return {inputs[0]};
}

}  // namespace dlk
