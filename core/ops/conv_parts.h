// What the files that lower convolutions share; private to core/ops/conv_*.cpp.
#pragma once

#include <vector>

#include "core/ops/conv.h"

namespace dlk {

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
WeightPacking packing_of(const ConvProblem& problem, int64_t groups, int64_t bn);

/// The implicit matrix product of conv_gemm.k, for GPUs.
void lower_conv_gemm(LowerContext& ctx, const ConvProblem& problem);

}  // namespace dlk
