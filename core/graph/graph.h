// The graph: values joined by nodes with ONNX semantics (the newest form of each operator: axes and
// the like are inputs where ONNX made them inputs), plus the "dlk" domain. Plain data that
// importers build, passes rewrite and plans read. Dimensions may be symbolic; nothing here touches
// a device.
//
// State is part of the graph: a Variable holds its value between runs, `assign` says what it
// becomes at the end of a run, after every reader. A Variable is never folded into constants.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/graph/tensor.h"

namespace dlk {

class Graph;
using ValueId = int32_t;
inline constexpr ValueId kNoValue = -1;  // an optional input or output that is left out
using NodeId = int32_t;
inline constexpr NodeId kNoNode = -1;

using Attribute =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                 std::vector<std::string>, HostTensor, std::shared_ptr<Graph>>;
using Attributes = std::map<std::string, Attribute>;

enum class ValueKind : uint8_t { kInput, kConstant, kVariable, kResult };

/// What an input or an output may be besides a tensor. An optional one may be absent.
enum class ValueType : uint8_t { kTensor, kSequence, kOptional, kOptionalSequence };
/// "tensor", "sequence", "optional", "optional_sequence".
std::string_view value_type_name(ValueType type);
std::optional<ValueType> parse_value_type(std::string_view name);

struct Value {
  std::string name;  // unique in its graph
  ValueKind kind = ValueKind::kResult;
  DType dtype = DType::kFloat32;        // of results: filled in by inference
  std::optional<SymbolicShape> shape;   // of results: only once inferred or declared
  ValueType type = ValueType::kTensor;  // as declared; `dtype` and `shape` are of the tensors
  HostTensor data;                      // of constants; of variables, the initial value
  std::string key;         // of leaves: names the contents in a model; "": by graph and id
  bool trainable = false;  // of variables
  NodeId producer = kNoNode;
};

struct Node {
  std::string op;      // "Conv"
  std::string domain;  // "" is ONNX; "dlk" is ours
  std::string name;    // for errors, profiles and traces
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attributes attributes;
};

struct Assignment {
  ValueId variable = kNoValue;
  ValueId value = kNoValue;
};

/// How a model wants its input prepared and its output read; kept with the model file.
struct ModelInfo {
  std::map<std::string, std::string> text;  // "name", "license", "source", ...
  std::vector<std::string> labels;          // of a classifier
  std::string preprocessing;                // JSON, see docs/model-format.md; "" when unknown
};

/// A plan with kernels and weights that was made ahead of time for one kind of device; kept with
/// the model file. core/runtime/bundle.h knows what the bytes mean.
struct Bundle {
  HostTensor plan;                            // uint8
  std::map<std::string, HostTensor> weights;  // uint8, by the plan's names
};

// Control flow: `If`, `Loop` and `Scan` hold subgraphs in attributes ("then_branch", "body", ...).
// A subgraph sees nothing of its parent: outer values that it uses are extra inputs of the node,
// after the operator's own, and extra inputs of each subgraph, after its own, in the same order.
// `Loop`, `Scan` and `SequenceMap` say in the int attribute "captured" how many there are; of an
// `If`, all inputs but the condition are. What a subgraph's inputs declare is not relied on: the
// node's inputs say it.

class Graph {
 public:
  ValueId add_input(const std::string& name, DType dtype, SymbolicShape shape,
                    ValueType type = ValueType::kTensor);
  ValueId add_constant(const std::string& name, HostTensor data);
  ValueId add_variable(const std::string& name, HostTensor initial, bool trainable);
  /// Adds a node with `outputs` results named NAME, NAME:1, ... (or `output_names`). Names that are
  /// taken get a suffix. InvalidArgument for value ids that do not exist. Operators are looked up
  /// when the graph is compiled, not here.
  std::vector<ValueId> add_node(const std::string& op, std::vector<ValueId> inputs,
                                Attributes attributes = {}, int outputs = 1,
                                const std::string& name = {}, const std::string& domain = {},
                                const std::vector<std::string>& output_names = {});
  void add_output(ValueId value, const std::string& name = {});
  void assign(ValueId variable, ValueId value);
  /// What is known of a result beforehand: for listings and exporters; inference does not need it.
  void declare(ValueId result, DType dtype, std::optional<SymbolicShape> shape,
               ValueType type = ValueType::kTensor);
  /// Makes an input a constant or variable with the contents of `leaf`.
  void bind_input(ValueId input, const Value& leaf);
  /// Output `index` of a node, added to it where it was left out.
  ValueId saved_output(NodeId node, size_t index);

  const std::vector<Value>& values() const { return values_; }
  const Value& value(ValueId id) const;
  Value& mutable_value(ValueId id);
  const std::vector<Node>& nodes() const { return nodes_; }
  Node& mutable_node(NodeId id);
  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<ValueId>& outputs() const { return outputs_; }
  const std::vector<std::string>& output_names() const { return output_names_; }
  const std::vector<Assignment>& assignments() const { return assignments_; }
  std::optional<ValueId> find(const std::string& name) const;

  /// Node order in which every input is produced first; InvalidArgument names a cycle.
  std::vector<NodeId> topological_order() const;
  /// Structural checks: ids in range, one producer a value, no cycle, outputs exist.
  void validate() const;

  /// Different for every graph of the process, copies included.
  uint64_t serial() const { return serial_.value; }

  /// Bundles of this very graph: whatever may change it drops them.
  const std::vector<std::shared_ptr<const Bundle>>& bundles() const { return bundles_; }
  void add_bundle(std::shared_ptr<const Bundle> bundle) { bundles_.push_back(std::move(bundle)); }

  ModelInfo info;

 private:
  struct Serial {
    uint64_t value = next();
    Serial() = default;
    Serial(const Serial&) : Serial() {}
    Serial& operator=(const Serial&) {
      value = next();
      return *this;
    }
    static uint64_t next();
  };

  std::string unique_name(const std::string& wanted);
  ValueId add_value(Value value);

  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> inputs_, outputs_;
  std::vector<std::string> output_names_;
  std::vector<Assignment> assignments_;
  std::map<std::string, ValueId> by_name_;
  std::vector<std::shared_ptr<const Bundle>> bundles_;
  std::map<std::string, int> suffixes_;  // that names which were taken have been given
  Serial serial_;
};

}  // namespace dlk
