// A graph made concrete for one plan: static shapes, control flow inlined, every node with its
// schema. `specialize` makes it from a Graph, passes rewrite it, layout and lowering read it.
// Internal to the engine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/op.h"
#include "core/ops/pointwise.h"

namespace dlk {

struct ConcreteValue {
  std::string name;
  ValueKind kind = ValueKind::kResult;
  DType dtype = DType::kFloat32;  // as stored
  Shape shape;
  /// The value where the host knows it: constants and shape arithmetic. Its dtype may be wider than
  /// the stored one (fp16 storage of a float32 constant).
  std::optional<HostTensor> known = std::nullopt;
  /// Of constants: names the contents, equal in all plans of a model.
  std::string key = {};
  NodeId producer = kNoNode;

  bool is_constant() const { return kind == ValueKind::kConstant; }
};

struct ConcreteNode {
  Node node;
  const OpSchema* schema = nullptr;
  std::shared_ptr<const PointwiseProgram> program;  // of fused pointwise nodes
  Epilogue epilogue;                                // that fusion gave this node
  std::vector<ValueId> epilogue_inputs;             // one an epilogue operand; kNoValue for values
  std::vector<double> epilogue_values;              // one an epilogue operand; of kind kValue
  std::vector<std::string> fused;                   // operators that were fused into it

  /// Inputs and epilogue inputs that are there.
  std::vector<ValueId> reads() const;
};

struct ConcreteGraph {
  std::vector<ConcreteValue> values;
  std::vector<ConcreteNode> nodes;  // in execution order
  std::vector<ValueId> inputs, outputs;
  std::vector<std::string> output_names;
  std::vector<Assignment> assignments;
  std::vector<std::string> host_ops;  // names of nodes that the host evaluated

  ValueId add_value(ConcreteValue value);
  ConcreteValue& value(ValueId id) { return values[id]; }
  const ConcreteValue& value(ValueId id) const { return values[id]; }
  /// How many nodes, outputs and assignments read each value.
  std::vector<int> use_counts() const;
  /// Every reader of `from` reads `to` instead.
  void replace_uses(ValueId from, ValueId to);
  /// Removes the nodes for which `dead` is true and sets the producers anew.
  void remove_nodes(const std::function<bool(const ConcreteNode&)>& dead);
  void set_producers();
  /// One line a node, for tests and debugging.
  std::string text() const;
};

/// Text that tells attributes apart: part of the keys of folded constants.
std::string attributes_key(const Attributes& attributes);
/// A short stable name of a long key.
std::string hashed_key(const std::string& text);
/// Names a constant or variable of a graph in all plans of a model.
std::string leaf_key(const Graph& graph, ValueId id);
/// Key of a small tensor by its contents.
std::string content_key(const HostTensor& tensor);

}  // namespace dlk
