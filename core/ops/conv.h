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

/// A convolution over views: x (N, C, spatial...), y (N, K, spatial...), weight (K, C/g,
/// kernel...).
struct ConvProblem {
  TensorView x, y;
  size_t weight_input = 1;  // which input of the node holds the weights
  TensorView weight;        // that input's view, shaped as above (any strides)
  /// How `weight` follows from the input's view, where it is not the view itself.
  std::function<TensorView(const TensorView&)> reshape_weight = {};
  std::optional<TensorView> bias;  // (K)
  Window window;
  int64_t groups = 1;
};

/// Chooses a kernel for the problem and dispatches it with the node's epilogue.
void lower_convolution(LowerContext& ctx, const ConvProblem& problem);

/// Weights packed by conv_pack: [group][block][rows][bn], rows padded to `row_multiple`.
TensorView pack_weights(LowerContext& ctx, const ConvProblem& problem, int64_t bn,
                        int64_t row_multiple);

/// A request for `name` with the node's epilogue.
KernelRequest request_with_epilogue(const LowerContext& ctx, const std::string& name);
/// Appends the epilogue's operands.
std::vector<TensorView> with_epilogue_views(const LowerContext& ctx, std::vector<TensorView> views);

}  // namespace dlk
