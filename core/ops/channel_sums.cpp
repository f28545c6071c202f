#include "core/ops/channel_sums.h"

#include <algorithm>

#include "core/ops/conv.h"

namespace dlk {

namespace {

Shape without_channels(const Shape& values) {
  Shape rest = values;
  rest.erase(rest.begin() + 1);
  return rest;
}

/// Groups of `lanes` x `lines` items; each sums a stretch of rows for `lanes` vectors of channels.
struct Grid {
  int64_t lanes, lines, parts, stretch, pieces;
};

Grid grid_of(const Caps& caps, const ChannelWalk& walk, int64_t channels, int64_t channel_step) {
  constexpr int64_t kItems = 256, kMostLanes = 32, kRowsOfAnItem = 8, kMostPieces = 512;
  Grid grid{};
  grid.lanes = 1;
  if (caps.is_cpu) {
    grid.lanes = std::max<int64_t>(1, caps.subgroup_size);
    grid.lines = 1;
  } else {
    const bool together = channel_step == 1;
    while (together && grid.lanes < kMostLanes && grid.lanes * walk.width < channels) {
      grid.lanes *= 2;
    }
    grid.lines = kItems / grid.lanes;
  }
  grid.parts = ceil_div(channels, grid.lanes * walk.width);
  const int64_t units = std::max<int64_t>(1, caps.compute_units), rows = walk.rows.size();
  const int64_t wanted = ceil_div((caps.is_cpu ? 4 : 8) * units, grid.parts);
  const int64_t most = std::min(kMostPieces, ceil_div(rows, grid.lines * kRowsOfAnItem));
  grid.stretch = ceil_div(rows, std::clamp<int64_t>(wanted, 1, most));
  grid.pieces = ceil_div(rows, grid.stretch);
  return grid;
}

/// What the kernels that sum rows share.
void set_walk(KernelRequest& request, Params& params, const ChannelWalk& walk, const Grid& grid,
              int64_t channels) {
  request.constants = {{"VW", walk.width},
                       {"CX", grid.lanes},
                       {"RY", grid.lines},
                       {"ND", walk.rows.rank()},
                       {"VECTORS", walk.vectors ? 1 : 0}};
  params["total"] = grid.parts * grid.pieces;
  params["channels"] = channels;
  params["rows"] = walk.rows.size();
  params["stretch"] = grid.stretch;
  params["parts"] = grid.parts;
  params["dims"] = walk.rows.dims;
}

/// Items that take a vector of channels of several rows each; how many there are.
int64_t set_rows(KernelRequest& request, Params& params, const ChannelWalk& walk,
                 int64_t channels) {
  constexpr int64_t kEach = 8;
  request.constants["EACH"] = kEach;
  const int64_t rows = walk.rows.size(), step = ceil_div(rows, kEach);
  params["rows"] = rows;
  params["step"] = step;
  return step * (channels / walk.width);
}

/// Lanes and lines of the kernels that join the pieces of a channel.
std::array<int64_t, 3> fold_groups(const LowerContext& ctx, KernelRequest& request,
                                   int64_t channels, int64_t pieces) {
  const Caps& caps = ctx.caps();
  const int64_t lanes = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : 8;
  request.constants["CX"] = lanes;
  request.constants["RY"] = caps.is_cpu || pieces < 4 ? 1 : 32;
  return {ceil_div(channels, lanes), 1, 1};
}

}  // namespace

ChannelWalk walk_channels(const LowerContext& ctx, const std::vector<TensorView>& views) {
  ChannelWalk walk;
  std::vector<Shape> strides;
  for (const TensorView& view : views) strides.push_back(without_channels(view.strides));
  walk.rows = collapse(without_channels(views[0].shape), strides, {}, true);
  const Caps& caps = ctx.caps();
  for (int64_t width = caps.is_cpu ? caps.vector_width : 4; width >= 4; width /= 2) {
    const bool fits = std::ranges::all_of(views, [&](const TensorView& view) {
      return view.dtype != DType::kFloat64 && vectors_along(view, 1, width);
    });
    if (!fits) continue;
    walk.width = width;
    walk.vectors = true;
    break;
  }
  return walk;
}

void channel_moments(LowerContext& ctx, const TensorView& x, const TensorView& mean,
                     const TensorView& variance, const std::optional<RunningStatistics>& running) {
  const ChannelWalk walk = walk_channels(ctx, {x});
  const int64_t channels = x.shape[1];
  const Grid grid = grid_of(ctx.caps(), walk, channels, x.strides[1]);
  const TensorView parts = ctx.workspace(mean.dtype, {grid.pieces, 2, channels});
  KernelRequest request;
  request.name = "channel_moments";
  Params params{{"x_c", x.strides[1]}, {"xs", walk.rows.strides[0]}};
  set_walk(request, params, walk, grid, channels);
  request.types = {{"TX", x.dtype}, {"TA", mean.dtype}};
  ctx.dispatch(request, {x, parts}, std::move(params), ctx.linear_groups(grid.parts * grid.pieces));
  KernelRequest fold;
  fold.name = "channel_moments_fold";
  fold.types["TA"] = mean.dtype;
  fold.constants["RUNNING"] = running ? 1 : 0;
  std::vector<TensorView> views{parts, mean, variance};
  Params numbers{{"channels", channels},
                 {"rows", walk.rows.size()},
                 {"stretch", grid.stretch},
                 {"pieces", grid.pieces}};
  if (running) {
    fold.types["TR"] = running->mean.dtype;
    views = {parts,    running->mean,     running->variance,    mean,
             variance, running->new_mean, running->new_variance};
    numbers["momentum"] = running->momentum;
  }
  const auto groups = fold_groups(ctx, fold, channels, grid.pieces);
  ctx.dispatch(fold, views, std::move(numbers), groups);
}

namespace {

void dispatch_data(LowerContext& ctx, const BatchNormGradient& p, const TensorView& factors) {
  const TensorView& dx = *p.dx;
  ChannelWalk walk = walk_channels(ctx, {dx, p.x, p.dy});
  const int64_t channels = dx.shape[1];
  KernelRequest request;
  request.name = "channel_gradient";
  request.types = {{"TX", p.x.dtype}, {"TD", p.dy.dtype}, {"TY", dx.dtype}, {"TA", factors.dtype}};
  Params params{{"channels", channels}};
  if (!walk.vectors) {
    Shape channel_step(dx.shape.size(), 0);
    channel_step[1] = 1;
    // Loops in the order of the result's memory.
    walk.rows = collapse(dx.shape, {dx.strides, p.x.strides, p.dy.strides, channel_step}, {}, true);
    params["order"] = walk.rows.strides[3];
  }
  request.constants = {
      {"VW", walk.width}, {"ND", walk.rows.rank()}, {"VECTORS", walk.vectors ? 1 : 0}};
  int64_t items = dx.elements();
  if (walk.vectors) items = set_rows(request, params, walk, channels);
  params["dims"] = walk.rows.dims;
  params["ys"] = walk.rows.strides[0];
  params["xs"] = walk.rows.strides[1];
  params["ds"] = walk.rows.strides[2];
  dispatch_linear(ctx, std::move(request), {p.x, p.dy, p.mean, factors, dx}, std::move(params),
                  items);
}

}  // namespace

void lower_batch_norm_gradient(LowerContext& ctx, const BatchNormGradient& p) {
  const ChannelWalk walk = walk_channels(ctx, {p.x, p.dy});
  const int64_t channels = p.x.shape[1];
  const Grid grid = grid_of(ctx.caps(), walk, channels, p.x.strides[1]);
  const DType sums = p.mean.dtype;
  const TensorView parts = ctx.workspace(sums, {grid.pieces, 2, channels});
  KernelRequest request;
  request.name = "channel_products";
  Params params{{"x_c", p.x.strides[1]},
                {"d_c", p.dy.strides[1]},
                {"xs", walk.rows.strides[0]},
                {"ds", walk.rows.strides[1]}};
  set_walk(request, params, walk, grid, channels);
  request.types = {{"TX", p.x.dtype}, {"TD", p.dy.dtype}, {"TA", sums}};
  ctx.dispatch(request, {p.x, p.dy, p.mean, parts}, std::move(params),
               ctx.linear_groups(grid.parts * grid.pieces));
  const TensorView factors = ctx.workspace(sums, {3, channels});
  KernelRequest fold;
  fold.name = "channel_products_fold";
  fold.types = {{"TA", sums}, {"TS", p.scale.dtype}};
  fold.constants = {{"HAS_SG", p.dscale ? 1 : 0}, {"HAS_BG", p.dbias ? 1 : 0}};
  std::vector<TensorView> views{parts, p.scale, p.variance, factors};
  for (const auto& result : {p.dscale, p.dbias}) {
    if (!result) continue;
    fold.types["TG"] = result->dtype;
    views.push_back(*result);
  }
  const auto groups = fold_groups(ctx, fold, channels, grid.pieces);
  ctx.dispatch(fold, views,
               {{"channels", channels},
                {"rows", walk.rows.size()},
                {"pieces", grid.pieces},
                {"eps", p.epsilon}},
               groups);
  if (p.dx) dispatch_data(ctx, p, factors);
}

bool sum_columns(LowerContext& ctx, const TensorView& from, const TensorView& to,
                 const LoopNest& kept, const LoopNest& reduced, double factor) {
  constexpr int64_t kFewestColumns = 8, kFewestRows = 256;
  const int64_t columns = kept.size();
  if (ctx.caps().is_cpu || from.dtype == DType::kFloat64 || kept.rank() != 1 ||
      kept.strides[1][0] != 1 || columns < kFewestColumns || reduced.size() < kFewestRows) {
    return false;
  }
  ChannelWalk walk;
  walk.rows = reduced;
  walk.width = 4;
  walk.vectors = columns % walk.width == 0 && from.offset % walk.width == 0;
  for (const int64_t stride : reduced.strides[0]) {
    walk.vectors = walk.vectors && stride % walk.width == 0;
  }
  if (!walk.vectors) walk.width = 1;
  const Grid grid = grid_of(ctx.caps(), walk, columns, 1);
  const int64_t total = grid.parts * grid.pieces;
  // The sums, and a flag of each group.
  const TensorView parts = ctx.workspace(DType::kFloat32, {grid.pieces * columns + total});
  KernelRequest request;
  request.name = "column_sums";
  Params params{{"xs", reduced.strides[0]}};
  set_walk(request, params, walk, grid, columns);
  request.types["TX"] = from.dtype;
  constexpr int64_t kMostPiecesOfAnItem = 8;
  std::optional<TensorView> counters;
  if (grid.pieces <= kMostPiecesOfAnItem * grid.lines) counters = ctx.counters(grid.parts);
  if (counters) {
    request.constants["SHARED"] = 1;
    request.types["TY"] = to.dtype;
    params["pieces"] = grid.pieces;
    params["y_c"] = kept.strides[0][0];
    params["factor"] = factor;
    ctx.dispatch(request, {from, parts, *counters, to}, std::move(params),
                 ctx.linear_groups(total));
    return true;
  }
  ctx.dispatch(request, {from, parts}, std::move(params), ctx.linear_groups(total));
  KernelRequest fold;
  fold.name = "column_sums_fold";
  fold.types["TY"] = to.dtype;
  const auto groups = fold_groups(ctx, fold, columns, grid.pieces);
  ctx.dispatch(fold, {parts, to},
               {{"channels", columns},
                {"pieces", grid.pieces},
                {"y_c", kept.strides[0][0]},
                {"factor", factor}},
               groups);
  return true;
}

bool normalize_channels(LowerContext& ctx, const TensorView& x, const TensorView& y,
                        const std::vector<TensorView>& of_channels, double epsilon) {
  const ChannelWalk walk = walk_channels(ctx, {y, x});
  const bool aligned = std::ranges::all_of(of_channels, [&](const TensorView& view) {
    return view.dtype != DType::kFloat64 && view.offset % walk.width == 0;
  });
  if (!walk.vectors || !aligned) return false;
  KernelRequest request = request_with_epilogue(ctx, "channel_normalize");
  request.types = {
      {"TX", x.dtype}, {"TY", y.dtype}, {"TS", of_channels[0].dtype}, {"TA", of_channels[2].dtype}};
  request.constants = {{"VW", walk.width}, {"ND", walk.rows.rank()}};
  Params params{{"channels", x.shape[1]},
                {"eps", epsilon},
                {"dims", walk.rows.dims},
                {"ys", walk.rows.strides[0]},
                {"xs", walk.rows.strides[1]}};
  const int64_t items = set_rows(request, params, walk, x.shape[1]);
  std::vector<TensorView> views{x};
  views.insert(views.end(), of_channels.begin(), of_channels.end());
  views.push_back(y);
  dispatch_linear(ctx, std::move(request), with_epilogue_views(ctx, std::move(views)),
                  std::move(params), items);
  return true;
}

}  // namespace dlk
