#include <algorithm>

#include "core/ops/normalization.h"

namespace dlk {

namespace {

struct RowGeometry {
  LoopNest rows;
  LoopNest outer, inner;  // one dimension each
};

Shape cut(const Shape& values, size_t begin, size_t end) {
  return Shape(values.begin() + static_cast<int64_t>(begin),
               values.begin() + static_cast<int64_t>(end));
}

LoopNest collapse_part(const RowSplit& split, size_t begin, size_t end) {
  return collapse(cut(split.x.shape, begin, end),
                  {cut(split.x.strides, begin, end), cut(split.y.strides, begin, end)});
}

RowGeometry geometry_of(const RowSplit& split) {
  const size_t outer = split.row_axes, inner = outer + split.outer_axes;
  return {collapse_part(split, 0, outer), collapse_part(split, outer, inner),
          collapse_part(split, inner, split.x.shape.size())};
}

bool is_simple(const RowGeometry& g) { return g.outer.rank() == 1 && g.inner.rank() == 1; }

int64_t size_of(const LoopNest& nest) { return nest.dims[0]; }

}  // namespace

void normalize_rows(LowerContext& ctx, const RowSplit& given, const RowNorm& norm) {
  RowSplit split = given;
  require_float_storage(ctx, split.x.dtype);
  require_32bit(ctx, split.x);
  require_32bit(ctx, split.y);
  if (split.x.elements() == 0) return;
  // Elements of a row must lie at one step on each level; where they do not, copies do.
  const TensorView target = split.y;
  bool copies_back = false;
  RowGeometry g = geometry_of(split);
  if (!is_simple(g)) {
    split.x = ctx.contiguous(split.x);
    g = geometry_of(split);
  }
  if (!is_simple(g)) {
    copies_back = true;
    split.y = ctx.workspace(target.dtype, target.shape);
    g = geometry_of(split);
  }
  const int64_t rows = g.rows.size(), length = size_of(g.inner) * size_of(g.outer);
  constexpr int64_t kShortRow = 32;
  const bool split_rows = !ctx.caps().is_cpu && length > kShortRow;
  const int64_t lanes = std::max<int64_t>(1, ctx.caps().subgroup_size);
  const int64_t items = split_rows ? 128 : ctx.caps().is_cpu ? lanes : kLinearGroup;
  KernelRequest request;
  request.name = "normalize_rows";
  request.types["T"] = split.x.dtype;
  if (norm.scale) request.types["TS"] = norm.scale->dtype;
  if (norm.mean) request.types["TO"] = norm.mean->dtype;
  if (norm.inv) request.types["TO"] = norm.inv->dtype;
  request.constants = {{"WG", items},
                       {"ND", g.rows.rank()},
                       {"MODE", static_cast<int64_t>(norm.mode)},
                       {"SPLIT", split_rows ? 1 : 0},
                       {"HAS_SCALE", norm.scale ? 1 : 0},
                       {"HAS_BIAS", norm.bias ? 1 : 0},
                       {"HAS_MEAN", norm.mean ? 1 : 0},
                       {"HAS_INV", norm.inv ? 1 : 0}};
  std::vector<TensorView> views{split.x};
  for (const auto& view : {norm.scale, norm.bias}) {
    if (view) views.push_back(*view);
  }
  views.push_back(split.y);
  for (const auto& view : {norm.mean, norm.inv}) {
    if (view) views.push_back(*view);
  }
  Params params{{"rows", rows},
                {"outer", size_of(g.outer)},
                {"inner", size_of(g.inner)},
                {"x_outer", g.outer.strides[0][0]},
                {"y_outer", g.outer.strides[1][0]},
                {"x_inner", g.inner.strides[0][0]},
                {"y_inner", g.inner.strides[1][0]},
                {"affine_rows", norm.affine_rows},
                {"affine_row", norm.affine_row},
                {"affine_outer", norm.affine_outer},
                {"affine_inner", norm.affine_inner},
                {"eps", norm.eps},
                {"dims", g.rows.dims},
                {"xs", g.rows.strides[0]},
                {"ys", g.rows.strides[1]}};
  ctx.dispatch(request, views, std::move(params),
               ctx.linear_groups(split_rows ? rows : ceil_div(rows, items)));
  if (copies_back) ctx.copy(split.y, target);
}

}  // namespace dlk
