// Products and convolutions of 8-bit integers, as MatMulInteger, QLinearMatMul, ConvInteger and
// QLinearConv lower them. Private to core/ops/integer_*.cpp.
#pragma once

#include "core/kernel/matrix_units.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

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

/// A convolution of x (N, C, spatial...) with weights (K, C/groups, kernel...), less their zero
/// points; `scaled` as QLinearConv, whose inputs 1, 4, 6 and 7 are the scales and y's zero point.
/// Optional inputs of the node are named by their index.
struct IntegerConv {
  TensorView x, weight, y;
  size_t w_input = 1;
  std::optional<size_t> x_zero, w_zero, bias;
  bool scaled = false;
  Window window;
  int64_t groups = 1;
};

/// On gang tiles (kernels/integer_conv_tile.k); false where the device or the problem is not for
/// them.
bool lower_integer_conv_tiles(LowerContext& ctx, const IntegerConv& conv);

/// The largest tile of which there are enough for the device, else the smallest; none where the
/// units multiply no bytes.
struct IntegerTiles {
  int64_t rows, columns, batches, compute_units;
};
std::optional<MatrixTile> integer_tile_for(MatrixUnits& units, MatrixUse use,
                                           const IntegerTiles& wanted);

}  // namespace dlk
