// Gradients as a transform of the graph: new nodes beside the forward ones, so that training and
// inference share passes and kernels. Operators state their own (OpSchema::gradient); a graph that
// Python differentiates may give gradients for operators that state none.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/concrete.h"

namespace dlk {

/// Gradients of a node's inputs, from those of its outputs (kNoValue: none); one entry an input.
using CustomGradient =
    std::function<std::vector<ValueId>(Graph&, NodeId, const std::vector<ValueId>& gradients)>;

struct AutodiffOptions {
  /// By operator ("Relu", or "domain::Name"); these win over what the schema states.
  std::map<std::string, CustomGradient> custom;
  /// Input shapes by name for which ranks are found; symbols that are left out are tried.
  std::map<std::string, int64_t> symbols;
};

/// Gradients of the sum of `outputs`, each weighted element by element with its entry of
/// `cotangents` (kNoValue: all ones), with respect to the values `wrt`. Adds nodes to `graph` and
/// returns one value each; kNoValue where the outputs do not depend on it. Only what lies between
/// `wrt` and `outputs` costs anything. Throws Unsupported with the node where an operator on the
/// way has no gradient, InvalidArgument for values that are not floating point.
std::vector<ValueId> gradients(Graph& graph, const std::vector<ValueId>& outputs,
                               const std::vector<ValueId>& cotangents,
                               const std::vector<ValueId>& wrt,
                               const AutodiffOptions& options = {});

/// Dtypes and shapes of all values that are needed, by name, at one size of every symbol: that of
/// `symbols`, else the first that fits.
std::map<std::string, ConcreteValue> example_values(const Graph& graph,
                                                    const std::map<std::string, int64_t>& symbols);

}  // namespace dlk
