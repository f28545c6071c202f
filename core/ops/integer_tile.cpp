// Products of 8-bit integers on gang tiles: both operands become rows of int8 along the depth,
// those of a constant once; zero points are made up for from the sums of the rows.
#include <array>
#include <iterator>
#include <span>

#include "core/kernel/matrix_units.h"
#include "core/ops/conv_parts.h"
#include "core/ops/integer_product.h"

namespace dlk {

namespace {

constexpr int64_t kChunk = 16;

// Tiles with TM = 16 and TN = BN are of wgmma.
constexpr MatrixTile kPtxTiles[] = {{128, 256, 128, 4, 2, 16, 256}, {128, 128, 128, 4, 2, 16, 128},
                                    {128, 64, 128, 2, 1, 16, 64},   {128, 128, 64, 3, 2, 64, 64},
                                    {64, 64, 64, 4, 3, 32, 32},     {32, 64, 64, 4, 3, 16, 32}};
// No fewer chunks than work-items: two of them may not copy the same one.
constexpr MatrixTile kPlainTiles[] = {{64, 64, 32, 1, 1, 8, 4}};
constexpr MatrixTile kCoopmatTiles[] = {
    {128, 128, 64, 2, 1, 64, 64}, {64, 64, 128, 2, 1, 32, 32}, {32, 64, 128, 2, 1, 16, 32}};
constexpr TileSets kTiles{kPtxTiles, kCoopmatTiles, kPlainTiles};

/// One side of the product: rows along the depth, and their sums.
struct Side {
  TensorView rows, sums;
  int64_t row = 0, batch = 0, sum_batch = 0;  // strides
};

struct Source {
  TensorView view;
  int64_t batches, batch_step, rows, row_step, depth, depth_step;
  int64_t padded() const { return ceil_div(depth, kChunk) * kChunk; }
  int64_t offset() const { return view.dtype == DType::kUInt8 ? 128 : 0; }
};

void pack_rows(LowerContext& ctx, const Source& from, const TensorView& rows,
               const TensorView& sums) {
  KernelRequest request;
  request.name = "integer_rows";
  request.types = {{"TX", from.view.dtype}};
  const int64_t total = from.batches * from.rows;
  ctx.dispatch(request, {from.view, rows, sums},
               {{"total", total},
                {"rows", from.rows},
                {"depth", from.depth},
                {"padded", from.padded()},
                {"x_row", from.row_step},
                {"x_step", from.depth_step},
                {"x_batch", from.batch_step},
                {"offset", from.offset()}},
               ctx.linear_groups(total));
}

bool lies_in_rows(const Source& from) {
  return from.view.dtype == DType::kInt8 && from.depth_step == 1 && from.depth % kChunk == 0 &&
         from.view.offset % kChunk == 0 && from.row_step % kChunk == 0 &&
         from.batch_step % kChunk == 0;
}

Side packed(LowerContext& ctx, const Source& from) {
  const Shape shape{from.batches, from.rows, from.padded()}, sums{from.batches, from.rows};
  Side side{ctx.workspace(DType::kInt8, shape), ctx.workspace(DType::kInt32, sums)};
  pack_rows(ctx, from, side.rows, side.sums);
  return side;
}

Side prepacked(LowerContext& ctx, const Source& from, size_t input, bool with_sums) {
  const Shape shape{from.batches, from.rows, from.padded()}, sums{from.batches, from.rows};
  Side side;
  side.rows = ctx.prepacked(input, "integer rows", DType::kInt8, shape,
                            [=](LowerContext& to, const TensorView& destination) {
                              pack_rows(to, from, destination, to.workspace(DType::kInt32, sums));
                            });
  if (!with_sums) return side;
  side.sums = ctx.prepacked(input, "integer sums", DType::kInt32, sums,
                            [=](LowerContext& to, const TensorView& destination) {
                              pack_rows(to, from, to.workspace(DType::kInt8, shape), destination);
                            });
  return side;
}

void set_strides(Side& side, const Source& from) {
  const bool several = from.batches > 1;
  side.row = from.padded();
  side.batch = several ? from.rows * from.padded() : 0;
  side.sum_batch = several ? from.rows : 0;
}

bool are_of_all_batches(const IntegerProduct& p) {
  if (p.batch.rank() != 1) return false;
  if (p.batch.dims[0] == 1) return true;
  const bool used[] = {p.has_za, p.has_zb, p.scaled, p.scaled};
  for (size_t i = 0; i < std::size(used); ++i) {
    constexpr size_t kFirst = 3;  // after a, b and y
    if (used[i] && p.batch.strides[kFirst + i][0] != 0) return false;
  }
  return true;
}

}  // namespace

std::optional<MatrixTile> integer_tile_for(MatrixUnits& units, MatrixUse use,
                                           const IntegerTiles& wanted) {
  const std::string lowering = units.lowering();
  const std::span<const MatrixTile> tiles = kTiles.of(lowering);
  std::optional<MatrixTile> chosen;
  for (const MatrixTile& tile : tiles) {
    if (!units.works(tile, use)) continue;
    chosen = tile;
    const int64_t places = ceil_div(wanted.rows, tile.bm) * ceil_div(wanted.columns, tile.bn);
    if (places * wanted.batches >= wanted.compute_units) break;
  }
  return chosen;
}

bool lower_integer_tiles(LowerContext& ctx, const IntegerProduct& p) {
  MatrixUnits* units = ctx.matrix_units();
  if (units == nullptr || !are_of_all_batches(p)) return false;
  const size_t m = p.y.shape.size() - 2, n = m + 1;
  const int64_t rows = p.y.shape[m], columns = p.y.shape[n], batches = p.batch.dims[0];
  const std::optional<MatrixTile> tile = integer_tile_for(
      *units, MatrixUse::kBytes, {rows, columns, batches, ctx.caps().compute_units});
  if (!tile) return false;
  const auto step = [&](size_t which) { return batches == 1 ? 0 : p.batch.strides[which][0]; };
  const Source left{
      p.a, step(0) == 0 ? 1 : batches, step(0), rows, p.a.strides[m], p.a.shape[n], p.a.strides[n]};
  const Source right{
      p.b,           step(1) == 0 ? 1 : batches, step(1), columns, p.b.strides[n], p.b.shape[m],
      p.b.strides[m]};
  // What is taken off what is stored: zero points, less the 128 of numbers without a sign.
  const bool a_zero = p.has_za || left.offset() != 0, b_zero = p.has_zb || right.offset() != 0;
  Side a;
  if (lies_in_rows(left) && !b_zero) {
    a.rows = p.a;
    a.row = p.a.strides[m];
    a.batch = step(0);
  } else {
    a = packed(ctx, left);
    set_strides(a, left);
  }
  Side b = ctx.is_weight(p.b_input) ? prepacked(ctx, right, p.b_input, a_zero) : packed(ctx, right);
  set_strides(b, right);
  for (const TensorView* view : {&a.rows, &b.rows}) require_32bit(ctx, *view);

  KernelRequest request;
  request.name = "integer_tile";
  request.types = {{"TA", p.a.dtype}, {"TB", p.b.dtype}, {"TY", p.y.dtype}};
  tile->set_constants(request, units->lowering());
  set_half_sums(ctx, request, false);
  for (const auto& [name, value] : {std::pair{"A_ZERO", a_zero},
                                    {"B_ZERO", b_zero},
                                    {"A_POINTS", p.has_za},
                                    {"B_POINTS", p.has_zb},
                                    {"SCALED", p.scaled}}) {
    request.constants[name] = value ? 1 : 0;
  }
  std::vector<TensorView> views{a.rows, b.rows};
  if (b_zero) views.push_back(a.sums);
  if (a_zero) views.push_back(b.sums);
  if (p.has_za) views.push_back(p.za);
  if (p.has_zb) views.push_back(p.zb);
  if (p.scaled) {
    request.types["TS"] = p.sa.dtype;
    views.insert(views.end(), {p.sa, p.sb, p.sy, p.zy});
  }
  views.push_back(p.y);
  const int64_t total = ceil_div(rows, tile->bm) * ceil_div(columns, tile->bn) * batches;
  const bool is_signed = p.y.dtype == DType::kInt8;
  ctx.dispatch(request, views,
               {{"total", total},
                {"m", rows},
                {"n", columns},
                {"k", right.padded()},
                {"depth", right.depth},
                {"a_row", a.row},
                {"a_batch", a.batch},
                {"b_batch", b.batch},
                {"y_m", p.y.strides[m]},
                {"y_n", p.y.strides[n]},
                {"y_batch", step(2)},
                {"za_m", p.za.strides[m]},
                {"zb_n", p.zb.strides[n]},
                {"sa_m", p.sa.strides[m]},
                {"sb_n", p.sb.strides[n]},
                {"na_batch", a.sum_batch},
                {"nb_batch", b.sum_batch},
                {"low", is_signed ? -128 : 0},
                {"high", is_signed ? 127 : 255},
                {"a_offset", left.offset()},
                {"b_offset", right.offset()}},
               ctx.linear_groups(total));
  return true;
}

}  // namespace dlk
