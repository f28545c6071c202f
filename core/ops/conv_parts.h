// What the files that lower convolutions share; private to core/ops/conv_*.cpp.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/ops/conv.h"
#include "core/ops/conv_choice.h"

namespace dlk {

/// Elements that tile_copy moves at once.
inline constexpr int64_t kTileChannels = 8;

/// Tiles to choose among, by the lowering that reaches the units.
struct TileSets {
  std::span<const MatrixTile> ptx, coopmat, plain;
  std::span<const MatrixTile> of(const std::string& lowering) const {
    return lowering == "ptx" ? ptx : lowering == "coopmat" ? coopmat : plain;
  }
};

struct ConvSizes {
  int64_t batch, channels_in, channels_out;
  int64_t cg, kg;  // of a group
  int64_t taps;
};
ConvSizes sizes_of(const ConvProblem& problem);

/// TX, TW, TY, TB and HAS_BIAS of a convolution kernel.
void set_types(KernelRequest& request, const ConvProblem& problem, DType weight);
/// x, weight, the bias where there is one, y, and the epilogue's views.
std::vector<TensorView> operands_of(const LowerContext& ctx, const ConvProblem& problem,
                                    const TensorView& weight);
/// For a last kernel that turns `parts` into y with the bias and the epilogue: sets HAS_BIAS and
/// TB, and gives `parts`, the bias where there is one, y, and the epilogue's views.
std::vector<TensorView> ending_of(const LowerContext& ctx, KernelRequest& request,
                                  const ConvProblem& problem, const TensorView& parts);
WeightPacking packing_of(const ConvProblem& problem, int64_t groups, int64_t bn);

/// The problem's packed weights.
TensorView packed_weights(LowerContext& ctx, const ConvProblem& problem,
                          const WeightPacking& packing);

/// The implicit matrix product of conv_gemm.k, for GPUs.
void lower_conv_gemm(LowerContext& ctx, const ConvProblem& problem, bool may_split = true);

/// What that takes by the cost model.
double gemm_microseconds(const LowerContext& ctx, const ConvProblem& problem);

/// The same on matrix units (conv_mma.k); false where the device or the problem is not for them.
bool lower_conv_mma(LowerContext& ctx, const ConvProblem& problem, const ConvChoice& choice);

/// A matrix-vector product (gemv.k), of a few rows at most, for GPUs; false for other problems.
bool lower_gemv(LowerContext& ctx, const ConvProblem& problem, const ConvChoice& choice);

/// conv_mma over pairs of pixels, for images of at most 4 channels: two columns of the window at
/// once; false for others.
bool lower_pixel_pairs(LowerContext& ctx, const ConvProblem& problem, const ConvChoice& choice);

/// What that takes by the cost model; 0 where it cannot be.
double mma_microseconds(const LowerContext& ctx, const ConvProblem& problem,
                        const ConvChoice& choice = {});

/// Register panels, and depthwise ones, on CPU drivers that run one work-item to a group; false on
/// other devices, and for windows that the depthwise kernel does not unroll. `width`: of vectors.
/// `steps`: elements from group to group, where groups are not neighbouring channels.
struct GroupSteps {
  int64_t x = 0, y = 0;
};
bool lower_conv_panel(LowerContext& ctx, const ConvProblem& problem, const GroupSteps& steps = {});
bool lower_depthwise_panel(LowerContext& ctx, const ConvProblem& problem, int64_t width);

/// Winograd's F(m x m, 3 x 3); false for other windows, strides, groups, and what is too large.
bool lower_conv_winograd(LowerContext& ctx, const ConvProblem& problem, int64_t m);
/// What that takes on a GPU by the cost model, in float32; 0 where it cannot be.
double winograd_microseconds(const LowerContext& ctx, const ConvProblem& problem, int64_t m);

/// Microseconds of a plain product by gang tiles of conv_gemm.k: `groups` of `rows` x 64 results,
/// `depth` deep.
double tiles_microseconds(const Caps& caps, int64_t groups, int64_t rows, int64_t depth);
/// Parts of an H200 that a device has: what its cost models' rates are multiplied with.
double share_of_h200(const Caps& caps);

/// By Fourier transforms of tiles, with the spectra of the filters kept; false for what spans more
/// than a tile of 64, for volumes, and for what is too large.
bool lower_conv_fft(LowerContext& ctx, const ConvProblem& problem);
/// What that takes by the cost model; 0 where it is not for the problem.
double fft_microseconds(const LowerContext& ctx, const ConvProblem& problem);

/// A grouped convolution with a window of 1 whose results are shuffled, on CPU drivers
/// (conv_group.k); false where the device or the problem is not for it.
bool lower_conv_group(LowerContext& ctx, const ConvProblem& problem);

/// X (N, C, spatial...) as (N, H, W, C) with a multiple of 8 channels, zeros after the last.
TensorView padded_image(LowerContext& ctx, const TensorView& x, DType dtype);

/// Elements from one pixel of (N, C, H, W) to the next, where all are that far apart; 0 otherwise.
int64_t pixel_step(const TensorView& view);

/// Calls `lower` for one part of the batch after another, at most `images` each, with the part's
/// context and problem.
void lower_in_parts(LowerContext& ctx, const ConvProblem& problem, int64_t images,
                    const std::function<void(LowerContext&, const ConvProblem&)>& lower);

/// The gradient of a convolution's weights; the views have three spatial axes.
struct WeightGradient {
  TensorView x, dy, dw;
  Window window;
  int64_t groups, cg, kg, rows;  // rows: taps times channels of a group
};

/// Of one input channel a group; false where the problem is not of that kind.
bool lower_weight_gradient_depthwise(LowerContext& ctx, const WeightGradient& problem);

/// Adds up sums (slice, group, row, output channel), whose rows are (tap, channel of `stored`), by
/// groups that share the slices; for GPUs.
void fold_weight_sums(LowerContext& ctx, const WeightGradient& problem, const TensorView& sums,
                      int64_t stored);

/// The same in one item each, for rows of (tap, channel) and few slices.
void add_weight_sums(LowerContext& ctx, const WeightGradient& problem, const TensorView& sums);

/// On gang tiles, for GPUs; false where the problem is not for them.
bool lower_weight_gradient_tiles(LowerContext& ctx, const WeightGradient& problem);

/// Where groups that share a tile leave their sums, so that the last of them finishes it (SPLIT =
/// 2 or 3): P and N of the kernel. None where they cannot, or where the kernel's further operands
/// leave no room for two more: then SPLIT is 1, and sum_slices finishes.
struct SplitTiles {
  int64_t tiles = 0, slices = 1, elements = 0;  // of a tile
  int64_t streams = 0;                          // groups of stream-K
};
std::optional<std::vector<TensorView>> shared_sums(LowerContext& ctx, const SplitTiles& split,
                                                   size_t operands);

/// Adds up what `slices` of a split convolution left in `sums` (slice, pixel, channel).
void sum_slices(LowerContext& ctx, const ConvProblem& problem, const Window& window,
                const TensorView& sums);

}  // namespace dlk
