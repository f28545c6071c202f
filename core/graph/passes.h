// Passes over a ConcreteGraph: each takes a correct graph and leaves a correct one that computes
// the same. `run_passes` is the order in which a plan uses them. Internal to the engine.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/graph/lowered.h"

namespace dlk {

/// Host constants that passes derived, kept between the plans of a model by their keys.
using HostCache = std::map<std::string, HostTensor>;

struct PassOptions {
  DType dtype = DType::kFloat32;  // kFloat16: float32 tensors are stored as fp16
  bool fuse = true;               // pointwise, epilogue and batch-norm fusion
  size_t max_bindings = 8;        // buffers that one kernel may have
};

/// Removes nodes that no output or assignment needs.
void remove_dead_nodes(ConcreteGraph& graph);

/// Readers of Identity (and Dropout in inference) read its input instead.
void remove_identities(ConcreteGraph& graph);

/// Parts of the graph that depend on constants alone become constants: reshaped ones share their
/// bytes, scalars are computed here, the rest by a preparation on the device.
std::vector<Preparation> fold_constants(ConcreteGraph& graph, const LowerOptions& lowering);

/// BatchNormalization with constant parameters disappears into the weights of the Conv,
/// ConvTranspose or Gemm before it, or becomes a multiplication and an addition.
void fold_batch_norm(ConcreteGraph& graph, HostCache& cache);

/// float32 constants and results are stored as fp16, with conversions at the graph's inputs and
/// outputs.
void store_as_fp16(ConcreteGraph& graph);

/// Pointwise nodes and their only readers become one node of one kernel.
void fuse_pointwise(ConcreteGraph& graph, size_t max_bindings);

/// A pointwise node behind an operator whose kernels have an epilogue moves into it.
void fuse_epilogues(ConcreteGraph& graph, size_t max_bindings);

/// A depthwise Conv, limits and a Conv with a window of 1 become a dlk.SeparableConv, where one
/// dispatch is faster than two.
void fuse_separable(ConcreteGraph& graph, const Caps& caps);

/// A Conv whose results are reshaped, transposed and reshaped so that the channels of its groups
/// alternate stores them in that order: its attribute kChannelShuffle counts the groups.
void fuse_channel_shuffles(ConcreteGraph& graph);

/// A Gemm or MatMul with constant weights reads images before they are flattened, so that those
/// with channels innermost need no copy: its attribute kFlattensImage.
void read_images_unflattened(ConcreteGraph& graph);

/// All passes that `options` ask for. The preparations make the constants that were folded.
std::vector<Preparation> run_passes(ConcreteGraph& graph, const PassOptions& options,
                                    const LowerOptions& lowering, HostCache& cache);

/// The program of a pointwise node, fused or not; nullopt for other nodes.
std::optional<PointwiseProgram> pointwise_program(const ConcreteGraph& graph,
                                                  const ConcreteNode& node);

}  // namespace dlk
