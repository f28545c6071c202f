// A product of matrices of 8-bit integers, as MatMulInteger and QLinearMatMul lower it. Private to
// core/ops/integer_*.cpp.
#pragma once

#include "core/ops/op_util.h"

namespace dlk {

/// y = (a - za)(b - zb), scaled by sa sb / sy and shifted by zy where `scaled`. Views have batch
/// axes, then a (M, K), b (K, N), y (M, N); zero points and scales are broadcast to their matrix.
struct IntegerProduct {
  TensorView a, b, y, za, zb, sa, sb, sy, zy;
  bool has_za = false, has_zb = false, scaled = false;
  size_t b_input = 1;
  LoopNest batch;  // strides of a, b, y, za, zb, sa, sb
};

/// On gang tiles (kernels/integer_tile.k); false where the device or the problem is not for them.
bool lower_integer_tiles(LowerContext& ctx, const IntegerProduct& product);

}  // namespace dlk
