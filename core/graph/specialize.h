// From a Graph to a ConcreteGraph: shape inference for given input shapes, interleaved with host
// evaluation of shape arithmetic. Control flow, sequences and optionals are resolved here: branches
// and short loops are inlined, a sequence is a list of tensors. What depends on a value that only
// the run knows is left over as another graph, to be specialized when that value has been read
// back. Used when plans are made and by symbolic_shapes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/concrete.h"

namespace dlk {

/// Unsupported with the names of all operators of the graph (and its subgraphs) that are unknown.
void check_operators(const Graph& graph);

/// What an input is in one run: a tensor, a sequence of tensors, or nothing (an absent optional).
struct InputForm {
  enum class Kind : uint8_t { kTensor, kSequence, kNone };
  struct Tensor {
    DType dtype = DType::kFloat32;
    Shape shape;
    bool operator==(const Tensor&) const = default;
  };
  Kind kind = Kind::kTensor;
  std::vector<Tensor> tensors;  // one, those of the sequence, or none
  bool operator==(const InputForm&) const = default;
};
using InputForms = std::map<std::string, InputForm>;

/// The name of an element of an input that is a sequence; such elements are inputs of the plan.
std::string element_name(const std::string& input, size_t index);

/// Where a value is once a stage has run: which outputs, inputs and loop results make it up.
struct ValueSource {
  enum class Kind : uint8_t { kPlanOutput, kInput, kLoop, kRest, kSequence, kNone };
  Kind kind = Kind::kNone;
  size_t index = 0;                // kPlanOutput, kRest: which output; kLoop: which loop
  size_t result = 0;               // kLoop: which of its results
  std::string input;               // kInput: its name, or that of an element
  std::vector<ValueSource> items;  // kSequence
};

/// A Loop or Scan that runs stage by stage: its body once an iteration.
struct LoopCall {
  std::string name;
  std::shared_ptr<const Graph> body;
  bool is_scan = false;
  std::optional<int64_t> trips;         // nullopt: until the condition ends it
  bool dynamic_condition = false;       // of Loop: the body's first output decides
  std::vector<ValueSource> states;      // initial values
  std::vector<ValueSource> scanned;     // of Scan: sliced along their first axis
  std::vector<bool> scanned_backwards;  // one a scanned input
  std::vector<ValueSource> captured;
  std::vector<bool> collected_backwards;  // one a scan output
};

struct SpecializeOptions {
  std::map<std::string, Shape> input_shapes;  // of inputs that are tensors as declared
  InputForms forms = {};                      // of any input; comes before `input_shapes`
  /// The value of a small graph input that shapes or control flow depend on; nullopt where there is
  /// none. May be empty.
  std::function<std::optional<HostTensor>(const std::string& input)> input_value = {};
};

struct Specialization {
  ConcreteGraph graph;
  /// The input values that were asked for: with other values the plan would be another.
  std::map<std::string, HostTensor> used_values;
  std::vector<LoopCall> loops;        // in order; a loop may use the results of those before it
  std::shared_ptr<const Graph> rest;  // what needs values that the run makes; null: nothing
  std::vector<std::pair<std::string, ValueSource>> rest_inputs;
  std::vector<ValueSource> outputs;  // of the source graph, in order
};

/// By node: what the outputs or assignments of `graph` need.
std::vector<bool> needed_nodes(const Graph& graph);

Specialization specialize(const Graph& graph, const SpecializeOptions& options);

}  // namespace dlk
