// Lowering of matrix products to kernels/matmul.k, kernels/gemm*.k and kernels/conv.k; used by
// MatMul and Gemm.
#pragma once

#include <optional>

#include "core/ops/op.h"

namespace dlk {

/// y = alpha * a b + beta * c; all views have the same rank: batch axes, then a (M, K), b (K, N),
/// c and y (M, N). Batch axes of a, b and c are broadcast already (stride 0).
struct MatrixProblem {
  TensorView a, b, y;
  std::optional<TensorView> c;
  double alpha = 1.0, beta = 1.0;
  size_t b_input = 1;         // which input of the node b is a view of
  bool b_transposed = false;  // the input is (N, K)
  /// Where `a` has rows (h, w, c) of images: (C, H, W), by which rows of the input b lie. Of
  /// problems that `can_pack` and no others.
  Shape image = {};
};

/// The right side can be packed, once where it is a weight, in an order of its own.
bool can_pack(const LowerContext& ctx, const MatrixProblem& problem);

/// Dispatches the product with the node's epilogue (its channel is the column).
void lower_matrix_product(LowerContext& ctx, const MatrixProblem& problem);

}  // namespace dlk
