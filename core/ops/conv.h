// Lowering of convolutions to kernels/conv*.k, shared by Conv and by operators that are
// convolutions in disguise (Gemm and MatMul with a constant right side on CPU drivers).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/ops/op.h"
#include "core/ops/window.h"

namespace dlk {

struct WeightPacking;

/// A convolution over views: x (N, C, spatial...), y (N, K, spatial...), weight (K, C/g,
/// kernel...).
struct ConvProblem {
  TensorView x, y;
  size_t weight_input = 1;  // which input of the node holds the weights
  TensorView weight;        // that input's view, shaped as above (any strides)
  /// How `weight` follows from the input's view, where it is not the view itself, and a name that
  /// tells packed forms of one weight apart.
  std::function<TensorView(const TensorView&)> reshape_weight = {};
  std::string weight_key = "conv";
  /// The weights are (K, C, KH, KW) and x is (N, KH * KW * C, 1, 1): channels-last images as rows.
  /// The window is of one pixel, C a multiple of 8.
  bool flattened = false;
  std::optional<TensorView> bias;  // (K)
  Window window;
  int64_t groups = 1;
  int64_t shuffle = 1;  // kChannelShuffle
  /// Makes the packed weights, where they are not those of the node's input.
  std::function<TensorView(LowerContext&, const WeightPacking&)> pack = {};
};

/// Chooses a kernel for the problem and dispatches it with the node's epilogue.
void lower_convolution(LowerContext& ctx, const ConvProblem& problem);

/// A transposed convolution over views, with the weights (C, K/g, kernel...) in the node's input 1.
struct TransposedProblem {
  TensorView x, y;
  std::optional<TensorView> bias;
  Window window;  // input: extents of x, output: of y
  int64_t groups, cg, kg;
};
void lower_transposed_convolution(LowerContext& ctx, const TransposedProblem& problem);

/// How weights are packed by conv_pack: [group][block][rows][bn], rows padded to `row_multiple`.
struct WeightPacking {
  size_t input = 1;
  std::string key;  // of the view
  /// The input's view as (g, K/g, C/g, KD, KH, KW).
  std::function<TensorView(const TensorView&)> view;
  int64_t bn = 1, row_multiple = 1;
  int64_t channel_multiple = 1;  // channels of a tap are padded to a multiple of this
  std::optional<DType> dtype;    // of the packed form, where it is not the input's
};
TensorView pack_weights(LowerContext& ctx, const WeightPacking& packing);

/// Blocks of packed weights (of the shape that pack_weights gives) that one binding can reach.
int64_t blocks_in_reach(const LowerContext& ctx, int64_t groups, const Shape& packed, DType dtype);

/// (N, C, spatial...) with leading spatial axes of extent 1 and stride 0 added, `rank` in all.
TensorView with_spatial_rank(const TensorView& view, int64_t rank);

/// in_h, out_h, k_h, stride_h, dil_h, pad_h and the same of w, of a window with two axes.
void add_window_params(Params& params, const Window& window);

/// A request for `name` with the node's epilogue.
KernelRequest request_with_epilogue(const LowerContext& ctx, const std::string& name);
/// Appends the epilogue's operands.
std::vector<TensorView> with_epilogue_views(const LowerContext& ctx, std::vector<TensorView> views);

}  // namespace dlk
