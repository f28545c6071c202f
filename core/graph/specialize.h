// From a Graph to a ConcreteGraph: shape inference for given input shapes, interleaved with host
// evaluation of shape arithmetic, and inlining of the branches that conditions choose. Used when a
// plan is made and by symbolic_shapes.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "core/graph/concrete.h"

namespace dlk {

/// Unsupported with the names of all operators of the graph (and its subgraphs) that are unknown.
void check_operators(const Graph& graph);

struct SpecializeOptions {
  std::map<std::string, Shape> input_shapes;  // of every graph input
  /// The value of a small graph input that shapes or control flow depend on; nullopt where there is
  /// none. May be empty.
  std::function<std::optional<HostTensor>(const std::string& input)> input_value;
};

struct Specialization {
  ConcreteGraph graph;
  /// The input values that were asked for: with other values the plan would be another.
  std::map<std::string, HostTensor> used_values;
};

Specialization specialize(const Graph& graph, const SpecializeOptions& options);

}  // namespace dlk
