// Which kernel computes a matrix product.
//
//   conv_block, conv_gemm  constant b: packed once, a convolution with a window of 1
//   gemm_mma               matrix units: float16 and bfloat16, one batch step, no c
//   gemm_tile              GPUs: one batch step, no c
//   matmul_block           everything else
#include <algorithm>
#include <span>

#include "core/kernel/matrix_units.h"
#include "core/ops/conv.h"
#include "core/ops/conv_parts.h"
#include "core/ops/matmul.h"
#include "core/ops/op_util.h"

namespace dlk {

namespace {

TensorView without_matrix_axes(TensorView view) {
  view.shape.resize(view.shape.size() - 2);
  view.strides.resize(view.strides.size() - 2);
  return view;
}

// The rows of every batch as images of few pixels: (rows) or (outer, inner) or (outer, middle,
// inner) as the batch and the two spatial axes, the columns as channels.
TensorView as_image(const TensorView& view, const LoopNest& rows, size_t which) {
  const Shape &steps = rows.strides[which], &dims = rows.dims;
  const bool three = rows.rank() == 3, several = rows.rank() > 1;
  TensorView image = view;
  image.shape = {dims[0], view.shape.back(), three ? dims[1] : 1, several ? dims.back() : 1};
  image.strides = {steps[0], view.strides.back(), three ? steps[1] : 0, several ? steps.back() : 0};
  return image;
}

bool is_row_of_n(const MatrixProblem& p) {
  if (!p.c) return true;
  for (size_t i = 0; i + 1 < p.c->shape.size(); ++i) {
    if (p.c->shape[i] != 1 && p.c->strides[i] != 0) return false;
  }
  return p.c->strides.back() == 1 || p.c->shape.back() == 1;
}

bool shares_b(const MatrixProblem& p) {
  for (size_t i = 0; i + 2 < p.b.shape.size(); ++i) {
    if (p.b.shape[i] != 1 && p.b.strides[i] != 0) return false;
  }
  return true;
}

// All rows of a and y.
LoopNest rows_of(const MatrixProblem& p) {
  const TensorView a = drop_axis(p.a, p.a.rank() - 1), y = drop_axis(p.y, p.y.rank() - 1);
  return collapse(y.shape, {a.strides, y.strides});
}

// The product as a convolution with packed weights; false where the problem is not of that kind.
bool lower_packed(LowerContext& ctx, const MatrixProblem& p) {
  if (!can_pack(ctx, p)) return false;
  const LoopNest rows = rows_of(p);
  ConvProblem conv;
  conv.x = as_image(p.a, rows, 0);
  conv.y = as_image(p.y, rows, 1);
  conv.weight_input = p.b_input;
  const bool transposed = p.b_transposed;
  const Shape image = p.image;
  conv.weight_key = transposed ? "turned matrix" : "matrix";
  conv.flattened = !image.empty();
  if (conv.flattened) conv.weight_key += " of images " + shape_string(image);
  conv.reshape_weight = [transposed, image](const TensorView& input) {
    TensorView w = input;
    const size_t rank = w.shape.size();
    const auto axis = [&](size_t i) { return rank == 1 ? size_t{0} : rank - 2 + i; };
    const size_t n = transposed ? axis(0) : axis(1), k = transposed ? axis(1) : axis(0);
    w.shape = {rank == 1 ? 1 : input.shape[n], input.shape[k], 1, 1};
    w.strides = {rank == 1 ? 0 : input.strides[n], input.strides[k], 0, 0};
    if (image.empty()) return w;
    w.shape.resize(1);
    w.strides.resize(1);
    w.shape.insert(w.shape.end(), image.begin(), image.end());
    for (size_t i = 0; i < image.size(); ++i) {
      w.strides.push_back(input.strides[k] * product(image, i + 1));
    }
    return w;
  };
  conv.weight = conv.reshape_weight(ctx.input(p.b_input));
  if (p.c) {
    TensorView row = *p.c;
    row.shape = {p.c->shape.back()};
    row.strides = {p.c->strides.back()};
    conv.bias = ctx.contiguous(row);
  }
  conv.window.input = conv.window.output = {conv.x.shape[2], conv.x.shape[3]};
  conv.window.kernel = conv.window.stride = conv.window.dilation = {1, 1};
  conv.window.pad_begin = conv.window.pad_end = {0, 0};
  lower_convolution(ctx, conv);
  return true;
}

// The rows of all batches as those of one matrix, where b is the same for all.
MatrixProblem with_joined_rows(const MatrixProblem& p) {
  if (p.c || p.a.rank() == 2 || !shares_b(p)) return p;
  const TensorView a = drop_axis(p.a, p.a.rank() - 1), y = drop_axis(p.y, p.y.rank() - 1);
  const LoopNest rows = collapse(y.shape, {a.strides, y.strides});
  if (rows.rank() != 1) return p;
  MatrixProblem joined = p;
  joined.a.shape = {rows.dims[0], p.a.shape.back()};
  joined.a.strides = {rows.strides[0][0], p.a.strides.back()};
  joined.y.shape = {rows.dims[0], p.y.shape.back()};
  joined.y.strides = {rows.strides[1][0], p.y.strides.back()};
  joined.b.shape.erase(joined.b.shape.begin(), joined.b.shape.end() - 2);
  joined.b.strides.erase(joined.b.strides.begin(), joined.b.strides.end() - 2);
  return joined;
}

// The batch axes as one, where every operand walks them with one step.
std::optional<LoopNest> single_batch(const MatrixProblem& p) {
  std::vector<Shape> strides;
  for (const TensorView* view : {&p.a, &p.b, &p.y}) {
    strides.push_back(without_matrix_axes(*view).strides);
  }
  LoopNest batch = collapse(without_matrix_axes(p.y).shape, strides);
  if (batch.rank() != 1) return std::nullopt;
  return batch;
}

// Which axis of an operand memory has contiguous, in whole chunks of 8.
enum class Along : uint8_t { kNone, kRows, kColumns };

Along chunks_along(const TensorView& view, int64_t batch_step) {
  constexpr int64_t kChunk = 8;
  const size_t m = view.shape.size() - 2, n = m + 1;
  if (view.offset % kChunk != 0 || batch_step % kChunk != 0) return Along::kNone;
  const auto fits = [&](size_t inner, size_t outer) {
    return view.strides[inner] == 1 && view.shape[inner] % kChunk == 0 &&
           (view.strides[outer] % kChunk == 0 || view.shape[outer] == 1);
  };
  return fits(n, m) ? Along::kColumns : fits(m, n) ? Along::kRows : Along::kNone;
}

constexpr MatrixTile kPtxProducts[] = {{128, 128, 64, 3, 2, 16, 128},
                                       {128, 128, 32, 3, 2, 64, 64},
                                       {64, 64, 64, 3, 2, 32, 32},
                                       {32, 64, 64, 4, 3, 16, 32}};
constexpr MatrixTile kCoopmatProducts[] = {{128, 128, 32, 2, 1, 64, 64},
                                           {64, 64, 64, 2, 1, 32, 32}};
constexpr MatrixTile kPlainProducts[] = {{64, 64, 32, 1, 1, 4, 4}};

// The largest tile of which there are enough for the device, else the smallest.
std::optional<MatrixTile> product_tile(MatrixUnits& units, MatrixUse use, int64_t rows,
                                       int64_t columns, int64_t batches, int64_t compute_units) {
  const std::string& lowering = units.lowering();
  std::span<const MatrixTile> tiles = kPlainProducts;
  if (lowering == "ptx") tiles = kPtxProducts;
  if (lowering == "coopmat") tiles = kCoopmatProducts;
  std::optional<MatrixTile> chosen;
  for (const MatrixTile& tile : tiles) {
    if (!units.works(tile, use)) continue;
    chosen = tile;
    if (ceil_div(rows, tile.bm) * ceil_div(columns, tile.bn) * batches >= compute_units) break;
  }
  return chosen;
}

bool lower_units(LowerContext& ctx, const MatrixProblem& p) {
  MatrixUnits* units = ctx.matrix_units();
  if (units == nullptr || units->lowering().empty() || p.c) return false;
  const bool in_bfloats = p.a.dtype == DType::kBFloat16 && units->lowering() != "coopmat";
  if (p.a.dtype != p.b.dtype || (p.a.dtype != DType::kFloat16 && !in_bfloats)) return false;
  const std::optional<LoopNest> batch = single_batch(p);
  if (!batch) return false;
  constexpr int64_t kWidth = 4;
  const size_t m = p.a.shape.size() - 2, n = m + 1;
  const int64_t rows = p.a.shape[m], columns = p.b.shape[n];
  const Along a = chunks_along(p.a, batch->strides[0][0]);
  Along b = chunks_along(p.b, batch->strides[1][0]);
  if (a == Along::kNone || b == Along::kNone) return false;
  if (a == Along::kRows && b == Along::kRows) return false;
  const bool half_sums = ctx.accumulate_fp16() && !in_bfloats;
  if (half_sums && a == Along::kRows) return false;
  const MatrixUse use = half_sums
                            ? (b == Along::kRows ? MatrixUse::kRightHalfSums : MatrixUse::kHalfSums)
                        : in_bfloats        ? MatrixUse::kBfloats
                        : a == Along::kRows ? MatrixUse::kTurned
                        : b == Along::kRows ? MatrixUse::kRight
                                            : MatrixUse::kHalves;
  const std::optional<MatrixTile> tile =
      product_tile(*units, use, rows, columns, batch->dims[0], ctx.caps().compute_units);
  if (!tile) return false;
  const bool vectors = p.y.strides[n] == 1 && columns % kWidth == 0 && p.y.offset % kWidth == 0 &&
                       p.y.strides[m] % kWidth == 0 && batch->strides[2][0] % kWidth == 0;
  KernelRequest request = request_with_epilogue(ctx, "gemm_mma");
  request.types = {{"TA", p.a.dtype}, {"TB", p.b.dtype}, {"TC", p.y.dtype}};
  tile->set_constants(request, units->lowering());
  set_half_sums(ctx, request, half_sums);
  request.constants["A_TURNED"] = a == Along::kRows ? 1 : 0;
  request.constants["B_TURNED"] = b == Along::kRows ? 1 : 0;
  request.constants["VECTOR_C"] = vectors ? 1 : 0;
  const int64_t total = ceil_div(rows, tile->bm) * ceil_div(columns, tile->bn) * batch->dims[0];
  ctx.dispatch(request, with_epilogue_views(ctx, {p.a, p.b, p.y}),
               {{"m", rows},
                {"n", columns},
                {"k", p.a.shape[n]},
                {"total", total},
                {"a_row", p.a.strides[a == Along::kRows ? n : m]},
                {"a_batch", batch->strides[0][0]},
                {"b_row", p.b.strides[b == Along::kRows ? n : m]},
                {"b_batch", batch->strides[1][0]},
                {"c_row", p.y.strides[m]},
                {"c_col", p.y.strides[n]},
                {"c_batch", batch->strides[2][0]},
                {"alpha", p.alpha}},
               ctx.linear_groups(total));
  return true;
}

/// How many groups share the depth of a tile, and how much of it each: where there are few tiles
/// for the device.
struct DepthShares {
  int64_t slices = 1, depth = 0;
};

DepthShares depth_shares(const Caps& caps, int64_t tiles, int64_t inner) {
  constexpr int64_t kStep = 16, kLeastSteps = 3, kMostSlices = 16, kFew = 2, kGroupsPerUnit = 3;
  const int64_t enough = kGroupsPerUnit * static_cast<int64_t>(caps.compute_units);
  const int64_t steps = ceil_div(inner, kStep);
  if (tiles >= kFew * caps.compute_units || steps < 3 * kLeastSteps) return {};
  DepthShares shares;
  shares.slices =
      std::min({ceil_div(enough, tiles), kMostSlices, std::max<int64_t>(1, steps / kLeastSteps)});
  const int64_t each = ceil_div(steps, shares.slices);
  shares.depth = each * kStep;
  shares.slices = ceil_div(steps, each);
  return shares;
}

bool lower_tiles(LowerContext& ctx, const MatrixProblem& p) {
  const std::optional<LoopNest> batch = single_batch(p);
  const Caps& caps = ctx.caps();
  if (caps.is_cpu || p.c || !batch || p.a.dtype == DType::kFloat64) return false;
  const size_t m = p.a.shape.size() - 2, n = m + 1;
  constexpr int64_t kTile = 64, kWidth = 4;
  const int64_t rows = p.a.shape[m], columns = p.b.shape[n], inner = p.a.shape[n];
  std::array<int64_t, 3> groups{ceil_div(columns, kTile), ceil_div(rows, kTile), batch->dims[0]};
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i] > caps.max_group_count[i]) return false;
  }
  const auto has_vectors = [&](const TensorView& view, size_t which) {
    return view.offset % kWidth == 0 && view.strides[n] == 1 && view.shape[n] % kWidth == 0 &&
           view.strides[m] % kWidth == 0 && batch->strides[which][0] % kWidth == 0;
  };
  KernelRequest request = request_with_epilogue(ctx, "gemm_tile");
  request.types = {{"TA", p.a.dtype}, {"TB", p.b.dtype}, {"TC", p.y.dtype}};
  request.constants = {{"BM", kTile},
                       {"BN", kTile},
                       {"STAGES", 2},
                       {"VW", kWidth},
                       {"A_ALONG_K", p.a.strides[n] == 1 ? 1 : 0},
                       {"B_ALONG_N", p.b.strides[n] == 1 ? 1 : 0},
                       {"A_VECTORS", has_vectors(p.a, 0) ? 1 : 0},
                       {"B_VECTORS", has_vectors(p.b, 1) ? 1 : 0}};
  std::vector<TensorView> views;
  const int64_t tiles = groups[0] * groups[1] * groups[2];
  const DepthShares shares = depth_shares(caps, tiles, inner);
  if (shares.slices > 1 && groups[2] * shares.slices <= caps.max_group_count[2]) {
    const size_t operands = with_epilogue_views(ctx, {p.a, p.b, p.y}).size();
    const auto sums = shared_sums(ctx, {tiles, shares.slices, kTile * kTile}, operands);
    if (sums) {
      views = *sums;
      groups[2] *= shares.slices;
      request.constants["SPLIT"] = 1;
    }
  }
  Params params{{"m", rows},
                {"n", columns},
                {"k", inner},
                {"a_row", p.a.strides[m]},
                {"a_col", p.a.strides[n]},
                {"a_batch", batch->strides[0][0]},
                {"b_row", p.b.strides[m]},
                {"b_col", p.b.strides[n]},
                {"b_batch", batch->strides[1][0]},
                {"c_row", p.y.strides[m]},
                {"c_col", p.y.strides[n]},
                {"c_batch", batch->strides[2][0]},
                {"alpha", p.alpha}};
  if (!views.empty()) {
    params["slices"] = shares.slices;
    params["depth"] = shares.depth;
    params["total"] = tiles * shares.slices;
  }
  views.insert(views.end(), {p.a, p.b, p.y});
  ctx.dispatch(request, with_epilogue_views(ctx, std::move(views)), params, groups);
  return true;
}

void lower_blocks(LowerContext& ctx, const MatrixProblem& p) {
  const Caps& caps = ctx.caps();
  const size_t m = p.a.shape.size() - 2, n = m + 1;
  const int64_t rows = p.a.shape[m], columns = p.b.shape[n], inner = p.a.shape[n];
  std::vector<Shape> strides;
  for (const TensorView* view : {&p.a, &p.b, &p.y}) {
    strides.push_back(without_matrix_axes(*view).strides);
  }
  if (p.c) strides.push_back(without_matrix_axes(*p.c).strides);
  const LoopNest batch = collapse(without_matrix_axes(p.y).shape, strides);
  const bool doubles = p.a.dtype == DType::kFloat64;  // which have no vectors
  const bool wide = caps.is_cpu && caps.vector_width >= 16;
  const int64_t width = doubles ? 1 : caps.vector_width, tile = caps.is_cpu ? 8 : 4;
  const int64_t vectors = doubles ? 4 : wide ? 1 : 2;
  const int64_t group = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : kLinearGroup;
  bool vector_b = p.b.offset % width == 0 && p.b.strides[n] == 1 && p.b.strides[m] % width == 0;
  for (const int64_t step : batch.strides[1]) vector_b = vector_b && step % width == 0;
  KernelRequest request = request_with_epilogue(ctx, "matmul_block");
  request.types = {{"TA", p.a.dtype}, {"TB", p.b.dtype}, {"TY", p.y.dtype}};
  request.constants = {{"VW", width}, {"TM", tile},         {"NV", vectors},
                       {"WG", group}, {"ND", batch.rank()}, {"HAS_C", p.c ? 1 : 0}};
  std::vector<TensorView> views{p.a, p.b};
  const int64_t total = batch.size() * ceil_div(rows, tile) * ceil_div(columns, width * vectors);
  Params params{{"total", total},
                {"m", rows},
                {"n", columns},
                {"k", inner},
                {"vector_b", vector_b ? 1 : 0},
                {"a_m", p.a.strides[m]},
                {"a_k", p.a.strides[n]},
                {"b_k", p.b.strides[m]},
                {"b_n", p.b.strides[n]},
                {"y_m", p.y.strides[m]},
                {"y_n", p.y.strides[n]},
                {"alpha", p.alpha},
                {"dims", batch.dims},
                {"as", batch.strides[0]},
                {"bs", batch.strides[1]},
                {"ys", batch.strides[2]}};
  if (p.c) {
    request.types["TC"] = p.c->dtype;
    views.push_back(*p.c);
    params["c_m"] = p.c->strides[m];
    params["c_n"] = p.c->strides[n];
    params["beta"] = p.beta;
    params["cs"] = batch.strides[3];
  }
  views.push_back(p.y);
  ctx.dispatch(request, with_epilogue_views(ctx, std::move(views)), std::move(params),
               ctx.linear_groups(ceil_div(total, group)));
}

/// Integers: one item a result, in the arithmetic of their type.
void lower_integers(LowerContext& ctx, const MatrixProblem& p) {
  require_compute(ctx, p.a.dtype);
  const size_t m = p.a.shape.size() - 2, n = m + 1;
  std::vector<Shape> strides;
  for (const TensorView* view : {&p.a, &p.b, &p.y}) {
    strides.push_back(without_matrix_axes(*view).strides);
  }
  strides.push_back(p.c ? without_matrix_axes(*p.c).strides : strides[0]);
  const LoopNest batch = collapse(without_matrix_axes(p.y).shape, strides);
  KernelRequest request;
  request.name = "matmul_integer";
  request.types = {{"T", p.a.dtype}};
  request.constants = {{"ND", batch.rank()}, {"HAS_C", p.c ? 1 : 0}};
  std::vector<TensorView> views{p.a, p.b};
  if (p.c) views.push_back(*p.c);
  views.push_back(p.y);
  dispatch_linear(ctx, std::move(request), views,
                  {{"m", p.a.shape[m]},
                   {"n", p.b.shape[n]},
                   {"k", p.a.shape[n]},
                   {"a_m", p.a.strides[m]},
                   {"a_k", p.a.strides[n]},
                   {"b_k", p.b.strides[m]},
                   {"b_n", p.b.strides[n]},
                   {"c_m", p.c ? p.c->strides[m] : 0},
                   {"c_n", p.c ? p.c->strides[n] : 0},
                   {"y_m", p.y.strides[m]},
                   {"y_n", p.y.strides[n]},
                   {"alpha", static_cast<int64_t>(p.alpha)},
                   {"beta", static_cast<int64_t>(p.beta)},
                   {"dims", batch.dims},
                   {"as", batch.strides[0]},
                   {"bs", batch.strides[1]},
                   {"ys", batch.strides[2]},
                   {"cs", batch.strides[3]}},
                  p.y.elements());
}

}  // namespace

bool can_pack(const LowerContext& ctx, const MatrixProblem& p) {
  // A GPU's other kernel for a product with c is a slow one: there packing pays for rows in plenty.
  constexpr int64_t kManyRows = 32;
  const bool pays = !ctx.caps().is_cpu && p.c && p.a.rank() == 2 && p.a.shape[0] >= kManyRows;
  if (!(ctx.is_weight(p.b_input) || pays) || p.alpha != 1.0 || p.a.dtype == DType::kFloat64)
    return false;
  if (!shares_b(p) || !is_row_of_n(p) || (p.c && p.beta != 1.0)) return false;
  return rows_of(p).rank() <= 3;
}

void lower_matrix_product(LowerContext& ctx, const MatrixProblem& p) {
  if (is_integer(p.a.dtype)) return lower_integers(ctx, p);
  require_float_storage(ctx, p.a.dtype);
  if (p.y.elements() == 0) return;
  for (const TensorView* view : {&p.a, &p.y}) require_32bit(ctx, *view);
  if (lower_packed(ctx, p)) return;
  require_32bit(ctx, p.b);
  if (ctx.caps().is_cpu) return lower_blocks(ctx, p);
  const MatrixProblem joined = with_joined_rows(p);
  if (!lower_units(ctx, joined) && !lower_tiles(ctx, joined)) lower_blocks(ctx, p);
}

}  // namespace dlk
