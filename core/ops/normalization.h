// Row normalization shared by the operators of core/ops/normalization*.cpp: which elements of a
// tensor form a row, and the dispatch of kernels/normalize.k over them.
#pragma once

#include <optional>

#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

/// The elements of a row are `outer` x `inner` elements; the other axes number the rows. Axis order
/// of both views: row axes first, then outer, then inner (row_axes of them number the rows).
struct RowSplit {
  TensorView x, y;
  size_t row_axes = 0;
  size_t outer_axes = 0;  // of the rest; what follows is inner
};

enum class RowMode : int64_t { kVariance = 0, kRms = 1, kL1 = 2, kL2 = 3, kDeviation = 4 };

struct RowNorm {
  RowMode mode = RowMode::kVariance;
  double eps = 0.0;
  std::optional<TensorView> scale, bias;  // dense, of one dtype
  std::optional<TensorView> mean, inv;    // dense outputs, one value a row
  // Where scale and bias are read: (row % rows) * row + outer * outer + inner * inner.
  int64_t affine_rows = 1, affine_row = 0, affine_outer = 0, affine_inner = 0;
};

void normalize_rows(LowerContext& ctx, const RowSplit& split, const RowNorm& norm);

}  // namespace dlk
