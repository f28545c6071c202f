// Constant folding when a model is loaded: what a graph computes from constants alone, as far as it
// is the arithmetic of shapes and texts that the host evaluates anyway, becomes constants before
// any plan is made. Used by importers. Arithmetic on tensors of data is left to the device, which
// folds it once, when the first plan needs it (core/graph/passes/fold_constants.cpp).
#pragma once

#include "core/graph/graph.h"

namespace dlk {

/// The graph, and those in its attributes, without nodes whose results are constants: integers and
/// texts of at most kMaxHostElements, and other shapes of a constant's bytes, which are shared.
/// Names stay; constants that nothing reads go. Nodes that do not fit their inputs are left as they
/// are, for the compiler to report.
Graph fold_graph(const Graph& graph);

}  // namespace dlk
