// The gradient of a convolution's weights on gang tiles (kernels/conv_weight_tile.k): which tile,
// in how many slices of the pixels, and in which form the operands reach it.
#include <algorithm>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

// Tiles with TM = 16 and TN = BN are of wgmma.
constexpr MatrixTile kPtxTiles[] = {{128, 256, 64, 4, 2, 16, 256}, {128, 128, 64, 3, 1, 16, 128},
                                    {64, 128, 64, 2, 1, 16, 128},  {64, 64, 64, 3, 1, 16, 64},
                                    {128, 128, 32, 3, 2, 64, 64},  {64, 128, 32, 3, 2, 32, 64},
                                    {64, 64, 64, 3, 2, 32, 32},    {64, 64, 32, 3, 2, 32, 32}};
constexpr MatrixTile kCoopmatTiles[] = {{128, 128, 32, 2, 1, 64, 64},
                                        {64, 128, 32, 2, 1, 32, 64},
                                        {64, 64, 64, 1, 1, 32, 32},
                                        {64, 64, 32, 2, 1, 32, 32}};
constexpr MatrixTile kPlainTiles[] = {
    {128, 64, 16, 2, 1, 8, 8}, {64, 128, 16, 2, 1, 8, 8}, {64, 64, 16, 2, 1, 8, 4}};

constexpr TileSets kTiles{kPtxTiles, kCoopmatTiles, kPlainTiles};

struct TilePlan {
  MatrixTile tile;
  int64_t slices = 1, depth = 0;
  double microseconds = 0;
};

struct Extent {
  int64_t rows, columns, pixels, groups;
};

// Microseconds: a compute unit multiplies and copies the tiles of its groups side by side, as long
// as it has enough of them to wait for; the second pass reads and writes the slices' sums.
double time_of(const MatrixTile& t, bool is_plain, int64_t units, int64_t groups, int64_t steps) {
  constexpr double kStart = 2.0, kLatency = 0.9;
  constexpr int64_t kResident = 2;
  const double plain_flops = t.bm * t.bn > 64 * 64 ? 0.33e6 : 0.27e6;
  const double unit_flops = is_plain ? plain_flops : t.in_gangs_of_four() ? 4.5e6 : 2.5e6;
  const double unit_bytes = is_plain ? 1.8e5 : 0.9e5;
  const auto share = static_cast<double>(ceil_div(groups, units));
  const double work = 2.0 * static_cast<double>(t.bm * t.bn * t.bk) / unit_flops;
  const double copies = 2.0 * static_cast<double>((t.bm + t.bn) * t.bk) / unit_bytes;
  const double latency = kLatency / static_cast<double>(std::max<int64_t>(t.ahead, 1));
  const double waits = share < kResident ? latency : 0.0;
  const auto deep = static_cast<double>(steps);
  return kStart * share / kResident + deep * std::max(share * std::max(work, copies), waits);
}

TilePlan plan_of(const MatrixTile& tile, bool is_plain, int64_t units, const Extent& e) {
  constexpr int64_t kLeastSteps = 4, kMostSlices = 1024, kMostSumBytes = 48 << 20;
  constexpr double kBytesPerUs = 2.0e6;
  const int64_t steps = ceil_div(e.pixels, tile.bk), sums = e.groups * e.rows * e.columns;
  const int64_t tiles = e.groups * ceil_div(e.rows, tile.bm) * ceil_div(e.columns, tile.bn);
  TilePlan best;
  for (int64_t wanted = 1; wanted <= kMostSlices; wanted += std::max<int64_t>(1, wanted / 4)) {
    if (wanted > 1 && (steps < wanted * kLeastSteps || 4 * wanted * sums > kMostSumBytes)) break;
    TilePlan plan{tile, 1, ceil_div(steps, wanted), 0};
    plan.slices = ceil_div(steps, plan.depth);
    plan.microseconds = time_of(tile, is_plain, units, tiles * plan.slices, plan.depth) +
                        8.0 * static_cast<double>(plan.slices * sums) / kBytesPerUs;
    if (best.microseconds == 0 || plan.microseconds < best.microseconds) best = plan;
  }
  return best;
}

// Without the first of three spatial axes, whose extents are 1.
Window planar(Window window) {
  for (Shape* values : {&window.input, &window.output, &window.kernel, &window.stride,
                        &window.dilation, &window.pad_begin, &window.pad_end}) {
    values->erase(values->begin());
  }
  return window;
}

TensorView planar(const TensorView& view) { return drop_axis(view, 2); }

bool has_chunks(const TensorView& view, int64_t group_channels, int64_t groups) {
  return vectors_along(view, 1, kTileChannels) &&
         (groups == 1 || group_channels % kTileChannels == 0);
}

// Few channels would fill a part of each chunk only: their patches, written out, are a tensor with
// `depth` channels and a window of 1.
constexpr int64_t kFewChannels = 4;

TensorView patches_of(LowerContext& ctx, const TensorView& x, const Window& w, int64_t depth,
                      DType dtype) {
  constexpr int64_t kEach = 8, kWidth = 4;
  const int64_t batch = x.shape[0], pixels = batch * w.output[0] * w.output[1];
  TensorView rows = ctx.workspace(dtype, {batch, w.output[0], w.output[1], depth});
  require_32bit(ctx, rows);
  KernelRequest request;
  request.name = "conv_patch_rows";
  request.types = {{"TX", x.dtype}, {"TY", dtype}};
  request.constants = {{"EACH", kEach}, {"VW", kWidth}};
  const int64_t step = ceil_div(pixels, kEach);
  Params params{{"pixels", pixels},          {"step", step},
                {"vectors", depth / kWidth}, {"filled", w.taps() * x.shape[1]},
                {"channels", x.shape[1]},    {"xs", x.strides}};
  add_window_params(params, w);
  params.erase("k_h");
  dispatch_linear(ctx, std::move(request), {x, rows}, std::move(params), step * depth / kWidth);
  return permute_view(rows, {0, 3, 1, 2});
}

bool has_few_channels(const WeightGradient& p) {
  constexpr int64_t kMostElements = int64_t{1} << 29;
  const int64_t depth = ceil_div(p.rows, kTileChannels) * kTileChannels;
  return p.groups == 1 && p.cg <= kFewChannels && p.window.taps() > 1 &&
         p.dy.shape[0] * product(p.window.output) * depth <= kMostElements;
}

}  // namespace

void fold_weight_sums(LowerContext& ctx, const WeightGradient& p, const TensorView& sums,
                      int64_t stored) {
  constexpr int64_t kItems = 32;
  const int64_t parts = sums.shape[0] >= 16 ? 8 : sums.shape[0] >= 4 ? 4 : 1;
  KernelRequest request;
  request.name = "conv_weight_fold";
  request.types = {{"TW", p.dw.dtype}};
  request.constants = {{"WG", kItems}, {"PARTS", parts}};
  const int64_t items = product(sums.shape, 1);
  ctx.dispatch(request, {sums, p.dw},
               {{"items", items},
                {"slices", sums.shape[0]},
                {"rows", sums.shape[2]},
                {"stored", stored},
                {"cg", p.cg},
                {"kg", p.kg},
                {"taps", p.window.taps()},
                {"k_h", p.window.kernel[1]},
                {"k_w", p.window.kernel[2]},
                {"ws", p.dw.strides}},
               ctx.linear_groups(ceil_div(items, kItems)));
}

bool lower_weight_gradient_tiles(LowerContext& ctx, const WeightGradient& p) {
  const Caps& caps = ctx.caps();
  const auto is_known = [](DType t) { return t == DType::kFloat16 || t == DType::kFloat32; };
  if (caps.is_cpu || !is_known(p.x.dtype) || !is_known(p.dy.dtype)) return false;
  if (p.window.kernel[0] != 1 || p.window.input[0] != 1 || p.window.output[0] != 1 ||
      p.window.pad_begin[0] != 0) {
    return false;
  }
  const bool halves = p.dy.dtype == DType::kFloat16;
  // Where sums in float16 were asked for, registers make them.
  MatrixUnits* units = halves && !ctx.accumulate_fp16() ? ctx.matrix_units() : nullptr;
  if (units != nullptr && units->lowering().empty()) units = nullptr;
  const std::string lowering = units != nullptr ? units->lowering() : "plain";
  const bool is_plain = lowering == "plain";

  TensorView x = planar(p.x), dy = planar(p.dy);
  Window w = planar(p.window);
  const bool patches = has_few_channels(p);
  const bool x_fits = !patches && x.dtype == dy.dtype && has_chunks(x, p.cg, p.groups);
  const bool d_fits = has_chunks(dy, p.kg, p.groups);
  if (p.groups != 1 && !(x_fits && d_fits)) return false;
  const int64_t stored = ceil_div(patches ? p.rows : p.cg, kTileChannels) * kTileChannels;
  const Extent extent{patches ? stored : p.window.taps() * stored, p.kg,
                      product(p.window.output) * dy.shape[0], p.groups};
  std::vector<TilePlan> plans;
  for (const MatrixTile& tile : kTiles.of(lowering)) {
    plans.push_back(plan_of(tile, is_plain, caps.compute_units, extent));
  }
  std::ranges::stable_sort(plans, {}, &TilePlan::microseconds);
  const auto plan = std::ranges::find_if(plans, [&](const TilePlan& candidate) {
    return units == nullptr || units->works(candidate.tile, MatrixUse::kTurned);
  });
  if (plan == plans.end()) return false;

  if (patches) {
    x = patches_of(ctx, x, w, stored, dy.dtype);
    w = Window{w.output, w.output, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}};
  } else if (!x_fits) {
    x = padded_image(ctx, x, dy.dtype);
  }
  if (!d_fits || pixel_step(dy) == 0) dy = padded_image(ctx, dy, dy.dtype);
  for (const TensorView* view : {&x, &dy}) require_32bit(ctx, *view);
  const TensorView sums =
      ctx.workspace(DType::kFloat32, {plan->slices, p.groups, extent.rows, p.kg});
  require_32bit(ctx, sums);
  const auto all = [](const Shape& values, int64_t value) {
    return std::ranges::all_of(values, [=](int64_t v) { return v == value; });
  };
  const bool point = w.taps() == 1 && all(w.stride, 1) && all(w.pad_begin, 0) &&
                     all(w.pad_end, 0) && pixel_step(x) != 0;
  KernelRequest request;
  request.name = "conv_weight_tile";
  request.types = {{"TX", x.dtype}, {"TD", dy.dtype}};
  plan->tile.set_constants(request, lowering);
  request.constants["POINT"] = point ? 1 : 0;
  request.constants["VECTOR_P"] = p.kg % 4 == 0 ? 1 : 0;
  const int64_t total = p.groups * ceil_div(extent.rows, plan->tile.bm) *
                        ceil_div(p.kg, plan->tile.bn) * plan->slices;
  Params params{{"total", total},
                {"pixels", extent.pixels},
                {"groups", p.groups},
                {"rows", extent.rows},
                {"stored", stored},
                {"cg", p.cg},
                {"kg", p.kg},
                {"slices", plan->slices},
                {"depth", plan->depth},
                {"d_pixel", pixel_step(dy)},
                {"x_pixel", pixel_step(x)}};
  if (!point) {
    params["xs"] = x.strides;
    add_window_params(params, w);
    params.erase("k_h");
  }
  ctx.dispatch(request, {x, dy, sums}, std::move(params), ctx.linear_groups(total));
  fold_weight_sums(ctx, p, sums, patches ? p.cg : stored);
  return true;
}

}  // namespace dlk
