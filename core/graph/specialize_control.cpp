// If, Loop and Scan: the branch that a condition chooses and short loops are inlined; a long loop,
// or one whose end its body decides, becomes a LoopCall that the runtime goes through.
#include <algorithm>
#include <map>

#include "core/graph/specializer.h"

namespace dlk {

namespace {

constexpr int kMaxDepth = 64;          // of subgraphs in subgraphs
constexpr int64_t kMaxUnrolled = 256;  // nodes that an inlined loop may have
constexpr size_t kNoInput = static_cast<size_t>(-1);

/// Which input of the body its output `index` passes through, by Identity nodes alone.
size_t passed_input(const Graph& body, size_t index) {
  ValueId id = body.outputs().at(index);
  while (true) {
    const Value& value = body.value(id);
    if (value.kind == ValueKind::kInput) {
      const auto& inputs = body.inputs();
      return static_cast<size_t>(std::ranges::find(inputs, id) - inputs.begin());
    }
    if (value.kind != ValueKind::kResult) return kNoInput;
    const Node& node = body.nodes()[value.producer];
    if (node.op != "Identity" || !node.domain.empty()) return kNoInput;
    id = node.inputs.at(0);
  }
}

bool is_constant_output(const Graph& body, size_t index) {
  return body.value(body.outputs().at(index)).kind == ValueKind::kConstant;
}

size_t captured_count(const Node& node, size_t own) {
  const NodeReader reader(node);
  const int64_t captured = reader.attr_int("captured", 0);
  if (captured < 0 || static_cast<size_t>(captured) > node.inputs.size() ||
      node.inputs.size() - static_cast<size_t>(captured) < own) {
    reader.fail("has " + std::to_string(node.inputs.size()) + " inputs, of which it says that " +
                std::to_string(captured) + " are captured");
  }
  return static_cast<size_t>(captured);
}

int64_t in_axis_order(const NodeReader& reader, const std::string& attribute, size_t i) {
  const auto values = reader.attr_ints(attribute);
  return i < values.size() ? values[i] : 0;
}

}  // namespace

std::shared_ptr<const Graph> subgraph_of(const Node& node, const std::string& attribute) {
  const auto found = node.attributes.find(attribute);
  const auto* graph = found == node.attributes.end()
                          ? nullptr
                          : std::get_if<std::shared_ptr<Graph>>(&found->second);
  if (!graph || !*graph) NodeReader(node).fail("has no " + attribute);
  return *graph;
}

Specializer::Control Specializer::find_control(const Node& node) {
  static const std::map<std::string, Control> controls{
      {"ConcatFromSequence", &Specializer::concat_from_sequence},
      {"Identity", &Specializer::identity},
      {"If", &Specializer::run_if},
      {"Loop", &Specializer::run_loop},
      {"Optional", &Specializer::optional},
      {"OptionalGetElement", &Specializer::optional_get_element},
      {"OptionalHasElement", &Specializer::optional_has_element},
      {"Scan", &Specializer::run_scan},
      {"SequenceAt", &Specializer::sequence_at},
      {"SequenceConstruct", &Specializer::sequence_construct},
      {"SequenceEmpty", &Specializer::sequence_empty},
      {"SequenceErase", &Specializer::sequence_erase},
      {"SequenceInsert", &Specializer::sequence_insert},
      {"SequenceLength", &Specializer::sequence_length},
      {"SequenceMap", &Specializer::sequence_map},
      {"SplitToSequence", &Specializer::split_to_sequence},
  };
  if (!node.domain.empty()) return nullptr;
  const auto found = controls.find(node.op);
  return found == controls.end() ? nullptr : found->second;
}

std::optional<HostTensor> Specializer::decide(const Node& node, const Bound& bound,
                                              const std::string& what) {
  if (!bound.is_set()) return std::nullopt;
  if (bound.is_later()) throw MustWait{};
  const NodeReader reader(node);
  if (!bound.is_tensor()) reader.fail(what + " is no tensor");
  auto value = demand(bound.id);
  if (value) return value;
  if (is_readable_later(bound.id)) throw MustWait{};
  reader.unsupported(what + " must be known before the run, or computed in it");
}

Bounds Specializer::inline_graph(const Graph& body, const Bounds& inputs) {
  if (depth_ >= kMaxDepth) {
    throw_invalid("subgraphs are nested more than " + std::to_string(kMaxDepth) + " deep");
  }
  Bounds inner(body.values().size());
  for (size_t i = 0; i < inputs.size(); ++i) inner[body.inputs().at(i)] = inputs[i];
  ++depth_;
  add_graph(body, inner);
  --depth_;
  Bounds outputs;
  for (const ValueId id : body.outputs()) outputs.push_back(inner[id]);
  return outputs;
}

Bounds Specializer::run_if(const Node& node, const Bounds& inputs) {
  const NodeReader reader(node);
  if (inputs.empty() || !inputs[0].is_set()) reader.fail("has no condition");
  const auto condition = decide(node, inputs[0], "its condition");
  if (condition->elements() != 1) reader.fail("its condition is not one boolean");
  const std::string name = condition->to_ints()[0] != 0 ? "then_branch" : "else_branch";
  const auto body = subgraph_of(node, name);
  if (body->inputs().size() != inputs.size() - 1 || body->outputs().size() < node.outputs.size()) {
    reader.fail("its " + name + " does not fit its inputs and outputs");
  }
  graph_.host_ops.push_back(node.name + " (If)");
  return inline_graph(*body, Bounds(inputs.begin() + 1, inputs.end()));
}

Bounds Specializer::run_loop(const Node& node, const Bounds& inputs) {
  const NodeReader reader(node);
  const size_t captured = captured_count(node, 2);
  const size_t states = inputs.size() - 2 - captured;
  const auto body = subgraph_of(node, "body");
  if (body->inputs().size() != inputs.size() || body->outputs().size() < states + 1 ||
      node.outputs.size() > body->outputs().size() - 1) {
    reader.fail("its body does not fit its inputs and outputs");
  }
  const auto limit = decide(node, inputs[0], "its trip count");
  const auto start = decide(node, inputs[1], "its condition");
  std::optional<int64_t> trips;
  if (limit) trips = std::max<int64_t>(0, limit->to_ints().at(0));
  if (start && start->to_ints().at(0) == 0) trips = 0;
  graph_.host_ops.push_back(node.name + " (Loop)");
  bool dynamic = passed_input(*body, 0) != 1 && !is_constant_output(*body, 0);
  if (is_constant_output(*body, 0) && body->value(body->outputs()[0]).data.to_ints().at(0) == 0) {
    trips = std::min<int64_t>(1, trips.value_or(1));
  }
  if (inputs[1].is_set() == false && passed_input(*body, 0) == 1) dynamic = false;
  if (!trips && !dynamic)
    reader.fail("never ends: it has no trip count, and its condition is true");
  const auto nodes = static_cast<int64_t>(body->nodes().size());
  if (!dynamic && *trips * std::max<int64_t>(nodes, 1) <= kMaxUnrolled) {
    return unroll_loop(node, *body, *trips, inputs, states);
  }
  if (trips == 0) return unroll_loop(node, *body, 0, inputs, states);
  LoopCall call{node.name, body, false, trips, dynamic, {}, {}, {}, {}, {}};
  for (const Bound& input : inputs) {
    if (input.is_later()) throw MustWait{};
  }
  for (size_t i = 0; i < states; ++i) call.states.push_back(source_of(inputs[2 + i]));
  return call_loop(node, std::move(call),
                   Bounds(inputs.end() - static_cast<int64_t>(captured), inputs.end()));
}

Bounds Specializer::unroll_loop(const Node& node, const Graph& body, int64_t trips,
                                const Bounds& inputs, size_t states) {
  Bounds current(inputs.begin() + 2, inputs.begin() + 2 + static_cast<int64_t>(states));
  const size_t scans = body.outputs().size() - 1 - states;
  std::vector<Bounds> collected(scans);
  for (int64_t i = 0; i < trips; ++i) {
    Bounds given{constant(HostTensor::from_ints(DType::kInt64, {}, {i})),
                 constant(HostTensor::from_ints(DType::kBool, {}, {1}))};
    given.insert(given.end(), current.begin(), current.end());
    given.insert(given.end(), inputs.begin() + 2 + static_cast<int64_t>(states), inputs.end());
    const Bounds results = inline_graph(body, given);
    std::copy_n(results.begin() + 1, states, current.begin());
    for (size_t s = 0; s < scans; ++s) collected[s].push_back(results[1 + states + s]);
  }
  for (size_t s = 0; s < scans; ++s) {
    if (collected[s].empty()) {
      // No iteration says how large one is: what the body declares does, with open dimensions 0.
      const Value& declared = body.value(body.outputs()[1 + states + s]);
      Shape shape{0};
      if (declared.shape) {
        for (const Dim& dim : *declared.shape) shape.push_back(dim.is_static() ? dim.value : 0);
      }
      current.push_back(constant(HostTensor::from_ints(declared.dtype, shape, {})));
    } else {
      current.push_back(stack(node, collected[s], 0));
    }
  }
  current.resize(std::max(current.size(), node.outputs.size()));
  return current;
}

Bound Specializer::stack(const Node& node, const std::vector<Bound>& parts, int64_t axis) {
  const Bound where = constant(HostTensor::ints({axis}));
  Bounds rows;
  for (const Bound& part : parts) rows.push_back(emit(node, "Unsqueeze", {part, where}));
  return rows.size() == 1 ? rows[0] : emit(node, "Concat", rows, {{"axis", axis}});
}

Bounds Specializer::run_scan(const Node& node, const Bounds& inputs) {
  const NodeReader reader(node);
  const size_t captured = captured_count(node, 1);
  const auto body = subgraph_of(node, "body");
  const int64_t scanned = reader.attr_int("num_scan_inputs", 0);
  const size_t own = inputs.size() - captured;
  if (scanned < 1 || static_cast<size_t>(scanned) > own || body->inputs().size() != inputs.size() ||
      body->outputs().size() < own - static_cast<size_t>(scanned) ||
      node.outputs.size() > body->outputs().size()) {
    reader.fail("its body does not fit its inputs and outputs");
  }
  const size_t states = own - static_cast<size_t>(scanned);
  for (const Bound& input : inputs) {
    if (input.is_later()) throw MustWait{};
    if (!input.is_tensor()) reader.fail("takes tensors");
  }
  graph_.host_ops.push_back(node.name + " (Scan)");
  return unroll_scan(node, *body, inputs, states, static_cast<size_t>(scanned));
}

Bounds Specializer::unroll_scan(const Node& node, const Graph& body, const Bounds& inputs,
                                size_t states, size_t scanned) {
  const NodeReader reader(node);
  std::optional<int64_t> length;
  std::vector<int64_t> axes;
  for (size_t i = 0; i < scanned; ++i) {
    const Shape& shape = graph_.value(inputs[states + i].id).shape;
    axes.push_back(reader.normalize_axis(in_axis_order(reader, "scan_input_axes", i),
                                         static_cast<int64_t>(shape.size())));
    const int64_t size = shape.at(static_cast<size_t>(axes[i]));
    if (length && *length != size) reader.fail("its scan inputs have different lengths");
    length = size;
  }
  const size_t scans = body.outputs().size() - states;
  const bool calls =
      *length * std::max<int64_t>(1, static_cast<int64_t>(body.nodes().size())) > kMaxUnrolled;
  if (calls) {
    LoopCall call{node.name, nullptr, true, length, false, {}, {}, {}, {}, {}};
    call.body = subgraph_of(node, "body");
    for (size_t i = 0; i < states; ++i) call.states.push_back(source_of(inputs[i]));
    for (size_t i = 0; i < scanned; ++i) {
      Bound input = inputs[states + i];
      std::vector<int64_t> order{axes[i]};
      for (int64_t a = 0; a < static_cast<int64_t>(graph_.value(input.id).shape.size()); ++a) {
        if (a != axes[i]) order.push_back(a);
      }
      if (axes[i] != 0) input = emit(node, "Transpose", {input}, {{"perm", order}});
      call.scanned.push_back(source_of(input));
      call.scanned_backwards.push_back(in_axis_order(reader, "scan_input_directions", i) == 1);
    }
    for (size_t s = 0; s < scans; ++s) {
      if (in_axis_order(reader, "scan_output_axes", s) != 0) {
        reader.unsupported("a long Scan must stack its outputs along axis 0");
      }
      call.collected_backwards.push_back(in_axis_order(reader, "scan_output_directions", s) == 1);
    }
    return call_loop(node, std::move(call),
                     Bounds(inputs.begin() + static_cast<int64_t>(states + scanned), inputs.end()));
  }
  Bounds current(inputs.begin(), inputs.begin() + static_cast<int64_t>(states));
  std::vector<Bounds> collected(scans);
  for (int64_t step = 0; step < *length; ++step) {
    Bounds given = current;
    for (size_t i = 0; i < scanned; ++i) {
      const bool backwards = in_axis_order(reader, "scan_input_directions", i) == 1;
      const int64_t at = backwards ? *length - 1 - step : step;
      given.push_back(
          emit(node, "Gather",
               {inputs[states + i], constant(HostTensor::from_ints(DType::kInt64, {}, {at}))},
               {{"axis", axes[i]}}));
    }
    given.insert(given.end(), inputs.begin() + static_cast<int64_t>(states + scanned),
                 inputs.end());
    const Bounds results = inline_graph(body, given);
    std::copy_n(results.begin(), states, current.begin());
    for (size_t s = 0; s < scans; ++s) collected[s].push_back(results[states + s]);
  }
  for (size_t s = 0; s < scans; ++s) {
    if (collected[s].empty()) reader.unsupported("a Scan over an empty axis");
    if (in_axis_order(reader, "scan_output_directions", s) == 1) std::ranges::reverse(collected[s]);
    current.push_back(stack(node, collected[s], in_axis_order(reader, "scan_output_axes", s)));
  }
  return current;
}

Bounds Specializer::call_loop(const Node& node, LoopCall call, const Bounds& captured) {
  // Weights stay weights in the body; what else it captures is an input of each iteration.
  auto body = std::make_shared<Graph>(*call.body);
  for (size_t i = 0; i < body->values().size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    Value& value = body->mutable_value(id);
    const bool leaf = value.kind == ValueKind::kConstant || value.kind == ValueKind::kVariable;
    if (leaf) value.key = leaf_key(*call.body, id);
  }
  const std::vector<ValueId> formal = call.body->inputs();
  for (size_t i = 0; i < captured.size(); ++i) {
    const ValueId input = formal[formal.size() - captured.size() + i];
    const bool fixed = captured[i].is_tensor() &&
                       graph_.value(captured[i].id).kind != ValueKind::kInput &&
                       (graph_.value(captured[i].id).known ||
                        graph_.value(captured[i].id).kind == ValueKind::kVariable);
    if (fixed) {
      body->bind_input(input, rest().value(rest_leaf(captured[i].id)));
    } else {
      call.captured.push_back(source_of(captured[i]));
    }
  }
  call.body = std::move(body);
  const size_t index = loops_.size();
  loops_.push_back(std::move(call));
  Bounds outputs;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) {
      outputs.emplace_back();
      continue;
    }
    const ValueId id = rest().add_input("loop:" + std::to_string(index) + ":" + std::to_string(i),
                                        DType::kFloat32, {});
    rest_inputs_[id] = {ValueSource::Kind::kLoop, index, i, {}, {}};
    outputs.push_back(Bound::later(id));
  }
  return outputs;
}

}  // namespace dlk
