// Passes over a ConcreteGraph: each takes a correct graph and leaves a correct one that computes
// the same. `run_passes` is the order in which a plan uses them. Internal to the engine.
#pragma once

#include <vector>

#include "core/graph/lowered.h"

namespace dlk {

struct PassOptions {
  DType dtype = DType::kFloat32;  // kFloat16: float32 tensors are stored as fp16
  bool fuse = true;               // pointwise, epilogue and batch-norm fusion
};

/// Removes nodes that no output or assignment needs.
void remove_dead_nodes(ConcreteGraph& graph);

/// All passes that `options` ask for. The preparations make the constants that were folded.
std::vector<Preparation> run_passes(ConcreteGraph& graph, const PassOptions& options,
                                    const LowerOptions& lowering);

}  // namespace dlk
