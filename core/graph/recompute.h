// Checkpointing of activations as a transform of a differentiated graph: what the backward nodes
// read from a segment of the forward pass is computed again, from what is kept at the segment's
// edges, just before it is needed. Memory is paid with time; the arithmetic is the same. Used by
// dlk.train; a plan's order (Graph::topological_order) puts the repeated nodes where they belong.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/graph/graph.h"

namespace dlk {

/// Forward nodes [first, second), by id.
using NodeRange = std::pair<NodeId, NodeId>;

/// Computes the nodes of each segment again for the readers from node `first_backward` on. Values
/// of a segment that other forward nodes, outputs or assignments read are kept. Returns how many
/// nodes were added. Throws InvalidArgument where segments overlap or reach past `first_backward`.
size_t recompute(Graph& graph, NodeId first_backward, std::vector<NodeRange> segments);

struct RecomputePlan {
  std::vector<NodeRange> segments;  // to compute again
  uint64_t saved_bytes = 0;         // of forward values that backward nodes read, without
  uint64_t peak_bytes = 0;          // and with: what is kept, and the largest segment
};

/// Segments that keep the least memory (`budget_bytes` 0), or that repeat the least work while the
/// forward values in memory take at most `budget_bytes`; the least memory where nothing does.
/// `symbols` are the sizes of symbolic dimensions, by name.
RecomputePlan plan_recompute(const Graph& graph, NodeId first_backward, uint64_t budget_bytes,
                             const std::map<std::string, int64_t>& symbols);

}  // namespace dlk
