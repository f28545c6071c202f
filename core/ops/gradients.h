// The gradients that operators state (OpSchema::gradient), one function a family. Used by the
// families' files in core/ops only.
#pragma once

#include "core/ops/gradient.h"

namespace dlk {

// Pointwise (pointwise_gradient.cpp).
void row_gradient(GradientContext& ctx);  // a row of elementwise.def, by its derivative
void div_gradient(GradientContext& ctx);
void mod_gradient(GradientContext& ctx);
void pow_gradient(GradientContext& ctx);
void clip_gradient(GradientContext& ctx);
void extreme_gradient(GradientContext& ctx);  // Max, Min
void sum_gradient(GradientContext& ctx);      // Sum, Mean
void where_gradient(GradientContext& ctx);
void cast_gradient(GradientContext& ctx);
/// The gradient of a result that does not change with its inputs.
void zero_gradient(GradientContext& ctx);

// Movement (movement_gradient.cpp).
void reshape_gradient(GradientContext& ctx);  // whatever keeps the elements' order
void transpose_gradient(GradientContext& ctx);
void expand_gradient(GradientContext& ctx);
void concat_gradient(GradientContext& ctx);
void split_gradient(GradientContext& ctx);
void slice_gradient(GradientContext& ctx);
void pad_gradient(GradientContext& ctx);
void tile_gradient(GradientContext& ctx);

// Addressing (gather_gradient.cpp, index_gradient.cpp).
void gather_gradient(GradientContext& ctx);
void gather_nd_gradient(GradientContext& ctx);
void gather_elements_gradient(GradientContext& ctx);
void scatter_gradient(GradientContext& ctx);
void top_k_gradient(GradientContext& ctx);
void cumulative_sum_gradient(GradientContext& ctx);
void same_operator_gradient(GradientContext& ctx);  // Trilu, ReverseSequence
void depth_to_space_gradient(GradientContext& ctx);
void space_to_depth_gradient(GradientContext& ctx);
void resize_gradient(GradientContext& ctx);

// Reductions (reduce_gradient.cpp).
void reduce_gradient(GradientContext& ctx);
void softmax_gradient(GradientContext& ctx);
void log_softmax_gradient(GradientContext& ctx);

// Products and windows.
void matmul_gradient(GradientContext& ctx);
void gemm_gradient(GradientContext& ctx);
void einsum_gradient(GradientContext& ctx);
void conv_gradient(GradientContext& ctx);
void conv_transpose_gradient(GradientContext& ctx);
void pool_gradient(GradientContext& ctx);

void attention_gradient(GradientContext& ctx);  // attention_gradient.cpp

// Recurrence (rnn_gradient.cpp, recurrent_gradient.cpp).
void rnn_gradient(GradientContext& ctx);
/// With kernels of its own; false, and nothing done, where the layer has attributes they lack.
bool recurrent_gradient(GradientContext& ctx);

// Normalization (normalization_gradient.cpp).
void batch_norm_gradient(GradientContext& ctx);
void layer_norm_gradient(GradientContext& ctx);  // LayerNormalization, RMSNormalization
void group_norm_gradient(GradientContext& ctx);  // and InstanceNormalization
void mean_variance_gradient(GradientContext& ctx);
void lp_normalization_gradient(GradientContext& ctx);
void lrn_gradient(GradientContext& ctx);

}  // namespace dlk
