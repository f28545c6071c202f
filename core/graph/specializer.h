// The walk that `specialize` is: one pass over a graph and the subgraphs that it inlines, with the
// concrete graph, the loops and the rest as results. Internal to core/graph/specialize*.cpp.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/graph/specialize.h"

namespace dlk {

/// What a value of a graph is in this plan.
struct Bound {
  enum class Kind : uint8_t { kUnset, kTensor, kSequence, kNone, kLater };
  Kind kind = Kind::kUnset;
  ValueId id = kNoValue;     // kTensor: of the concrete graph; kLater: of the rest
  std::vector<Bound> items;  // kSequence: tensors, known now or later

  static Bound tensor(ValueId id) { return {Kind::kTensor, id, {}}; }
  static Bound later(ValueId id) { return {Kind::kLater, id, {}}; }
  static Bound sequence(std::vector<Bound> items) {
    return {Kind::kSequence, kNoValue, std::move(items)};
  }
  static Bound none() { return {Kind::kNone, kNoValue, {}}; }
  bool is_tensor() const { return kind == Kind::kTensor; }
  bool is_later() const { return kind == Kind::kLater; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_set() const { return kind != Kind::kUnset; }
};
using Bounds = std::vector<Bound>;

class Specializer {
 public:
  explicit Specializer(const SpecializeOptions& options) : options_(options) {}
  Specialization run(const Graph& graph);

 private:
  class Infer;
  class HostEval;

  // The walk (specialize.cpp).
  void bind_input(const Value& declared, Bound& bound);
  void add_leaf(const Graph& graph, ValueId id, Bounds& bounds);
  void add_graph(const Graph& graph, Bounds& bounds);
  /// The outputs of one node, one a place of node.outputs.
  Bounds add_node(const Graph& graph, NodeId id, const Bounds& inputs);
  Bounds add_operator(const Node& node, const Bounds& inputs,
                      const std::vector<std::string>& names);
  Bounds cut_dynamic_outputs(const ConcreteNode& node, const Bounds& full);

  // What is known of values (specialize_values.cpp).
  void infer(size_t n);
  /// Runs host_eval if all that it needs is known; true if the outputs are known then.
  bool evaluate(size_t n);
  bool small_outputs(const ConcreteNode& node) const;
  void evaluate_if_shape_arithmetic(size_t n);
  bool need_strings(const ConcreteNode& node);
  /// The value before the run, evaluating what it depends on; nullopt if it depends on the run.
  std::optional<HostTensor> demand(ValueId id);
  /// Another stage could read it back.
  bool is_readable_later(ValueId id) const;
  void settle_known_values();

  // Helper nodes: operators of the registry on bound values.
  Bound constant(const HostTensor& tensor);
  Bound emit(const Node& like, const std::string& op, const Bounds& inputs,
             Attributes attributes = {});
  Bounds emit_many(const Node& like, const std::string& op, const Bounds& inputs,
                   Attributes attributes, size_t outputs);

  // Control flow, sequences and optionals (specialize_control.cpp, specialize_sequences.cpp).
  using Control = Bounds (Specializer::*)(const Node&, const Bounds&);
  static Control find_control(const Node& node);
  /// A small value that decides what the plan is; nullopt: the node must wait for it.
  std::optional<HostTensor> decide(const Node& node, const Bound& bound, const std::string& what);
  Bounds inline_graph(const Graph& body, const Bounds& inputs);
  Bounds run_if(const Node& node, const Bounds& inputs);
  Bounds run_loop(const Node& node, const Bounds& inputs);
  Bounds run_scan(const Node& node, const Bounds& inputs);
  Bounds unroll_loop(const Node& node, const Graph& body, int64_t trips, const Bounds& inputs,
                     size_t states);
  Bounds unroll_scan(const Node& node, const Graph& body, const Bounds& inputs, size_t states,
                     size_t scanned);
  Bounds call_loop(const Node& node, LoopCall call, const Bounds& captured);
  Bound stack(const Node& node, const std::vector<Bound>& parts, int64_t axis);
  Bounds sequence_construct(const Node& node, const Bounds& inputs);
  Bounds sequence_empty(const Node& node, const Bounds& inputs);
  Bounds sequence_at(const Node& node, const Bounds& inputs);
  Bounds sequence_insert(const Node& node, const Bounds& inputs);
  Bounds sequence_erase(const Node& node, const Bounds& inputs);
  Bounds sequence_length(const Node& node, const Bounds& inputs);
  Bounds sequence_map(const Node& node, const Bounds& inputs);
  Bounds split_to_sequence(const Node& node, const Bounds& inputs);
  Bounds concat_from_sequence(const Node& node, const Bounds& inputs);
  Bounds optional(const Node& node, const Bounds& inputs);
  Bounds optional_has_element(const Node& node, const Bounds& inputs);
  Bounds optional_get_element(const Node& node, const Bounds& inputs);
  Bounds identity(const Node& node, const Bounds& inputs);

  // What is left over (specialize_rest.cpp).
  Bounds defer(const Node& node, const Bounds& inputs, const std::vector<std::string>& names);
  ValueId in_rest(const Bound& bound);
  ValueId rest_leaf(ValueId concrete);
  Graph& rest();
  /// Where `bound` is after this stage. An output of the whole graph is never an input as it is.
  ValueSource source_of(const Bound& bound, bool as_output = false);
  size_t plan_output(ValueId id);
  void add_assignments(const Graph& graph, Bounds& bounds);

  static std::string describe(const ConcreteValue& value) {
    return std::string(dtype_name(value.dtype)) + " " + shape_string(value.shape);
  }

  const SpecializeOptions& options_;
  ConcreteGraph graph_;
  std::map<std::string, HostTensor> used_values_;
  std::set<ValueId> unknowable_;
  bool blocked_ = false;  // something asked for a value that the run makes
  int depth_ = 0;
  size_t visited_ = 0;  // nodes, again in each copy of a body
  std::vector<LoopCall> loops_;
  std::shared_ptr<Graph> rest_;
  std::map<ValueId, ValueId> rest_of_;          // concrete value -> value of the rest
  std::map<ValueId, ValueSource> rest_inputs_;  // of the rest's inputs
  std::map<ValueId, size_t> plan_outputs_;      // concrete value -> output of the plan
  std::map<ValueId, size_t> rest_outputs_;      // value of the rest -> its output
  std::map<ValueId, std::pair<HostTensor, bool>> variables_;  // initial value, trainable
};

/// What is beyond any device in a shape, and the limit; "" where nothing is. Refused where it comes
/// up, before anything is made of it.
std::string excess_of(const Shape& shape);

/// Thrown where a node cannot be planned before a value has been read back.
struct MustWait {};

/// The subgraph in an attribute of a node; an error where there is none.
std::shared_ptr<const Graph> subgraph_of(const Node& node, const std::string& attribute);

}  // namespace dlk
