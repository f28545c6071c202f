// Sums of a tensor (N, C, ...) over all axes but the channels' (kernels/channel_sums.k,
// kernels/batch_norm.k): statistics of batch normalization and its gradient. Used by
// core/ops/normalization_batch*.cpp. The order of every sum depends on shapes only.
#pragma once

#include <optional>

#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

/// How a kernel walks some (N, C, ...) views at once: vectors of channels where these are innermost
/// in all of them, and the other dimensions, collapsed, as rows.
struct ChannelWalk {
  LoopNest rows;      // strides by view
  int64_t width = 1;  // of vectors; 1: single channels
  bool vectors = false;
};
ChannelWalk walk_channels(const LowerContext& ctx, const std::vector<TensorView>& views);

struct RunningStatistics {
  TensorView mean, variance, new_mean, new_variance;  // dense, of one dtype
  double momentum = 0.9;
};

/// Mean and biased variance of each channel into two dense views of the accumulator's dtype.
void channel_moments(LowerContext& ctx, const TensorView& x, const TensorView& mean,
                     const TensorView& variance, const std::optional<RunningStatistics>& running);

struct BatchNormGradient {
  TensorView x, dy;
  TensorView scale, mean, variance;             // dense; the last two in the accumulator's dtype
  std::optional<TensorView> dx, dscale, dbias;  // the last two dense, of one dtype
  double epsilon = 1e-5;
};
void lower_batch_norm_gradient(LowerContext& ctx, const BatchNormGradient& problem);

/// Sums (times `factor`) along `reduced` of the columns that lie side by side in memory, for GPUs;
/// false where they do not. `kept`: strides in `to` and `from`; `reduced`: strides in `from`.
bool sum_columns(LowerContext& ctx, const TensorView& from, const TensorView& to,
                 const LoopNest& kept, const LoopNest& reduced, double factor);

/// y by vectors of channels with the node's epilogue; false where the views do not allow them.
bool normalize_channels(LowerContext& ctx, const TensorView& x, const TensorView& y,
                        const std::vector<TensorView>& scale_bias_mean_variance, double epsilon);

}  // namespace dlk
