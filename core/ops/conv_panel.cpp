// Convolutions on CPU drivers that run one work-item to a group (kernels/conv_panel.k).
#include <algorithm>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

constexpr int64_t kPanelCache = 384 << 10;  // bytes of a core's second cache that weights may fill

bool one_item_groups(const Caps& caps) { return caps.is_cpu && caps.subgroup_size == 0; }

// Enough groups for the driver to share them out evenly, and few enough to cost nothing.
int64_t items_a_group(const Caps& caps, int64_t items) {
  constexpr int64_t kGroupsPerUnit = 16;
  return std::max<int64_t>(1, items / (caps.compute_units * kGroupsPerUnit));
}

struct PanelTile {
  int64_t pixels, vectors;
};

// Tiles that leave room in the registers for a row of weights and a pixel; what is padded counts.
PanelTile panel_tile(int64_t width, int64_t pixels, int64_t channels) {
  constexpr PanelTile kWide[] = {{7, 3}, {7, 2}, {14, 1}}, kNarrow[] = {{4, 2}, {5, 2}, {6, 1}};
  const bool wide = width >= 16;
  PanelTile best{};
  double least = 0;
  for (const PanelTile& tile : wide ? kWide : kNarrow) {
    const double rows = static_cast<double>(ceil_div(pixels, tile.pixels));
    const auto columns = static_cast<double>(ceil_div(channels, tile.vectors * width));
    // Cycles of a step: two multiplications at a time, or two loads.
    const auto t = static_cast<double>(tile.pixels), v = static_cast<double>(tile.vectors);
    const double cost = rows * columns * std::max(t * v, t + v);
    if (best.pixels == 0 || cost < least) {
      best = tile;
      least = cost;
    }
  }
  return best;
}

}  // namespace

bool lower_conv_panel(LowerContext& ctx, const ConvProblem& p, const GroupSteps& steps) {
  if (!one_item_groups(ctx.caps())) return false;
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  ConvProblem planar = p;
  planar.x = with_spatial_rank(p.x, 2);
  planar.y = with_spatial_rank(p.y, 2);
  const int64_t width = ctx.caps().vector_width;
  const int64_t pixels = s.batch * w.output[0] * w.output[1];
  const PanelTile tile = panel_tile(width, w.output[0] * w.output[1], s.kg);
  const TensorView packed = packed_weights(ctx, p, packing_of(p, p.groups, tile.vectors * width));
  const int64_t x_step = w.is_pointwise() ? pixel_step(planar.x) : 0, y_step = pixel_step(planar.y);
  const bool point = x_step != 0 && y_step != 0;
  KernelRequest request = request_with_epilogue(ctx, "conv_panel");
  set_types(request, p, packed.dtype);
  request.constants["VW"] = width;
  request.constants["TM"] = tile.pixels;
  request.constants["NV"] = tile.vectors;
  request.constants["POINT"] = point ? 1 : 0;
  request.constants["RUNS"] = planar.y.strides[1] == 1 ? 1 : 0;
  Params params{{"pixels", pixels},
                {"tiles", ceil_div(pixels, tile.pixels)},
                {"cg", s.cg},
                {"kg", s.kg},
                {"x_group", steps.x != 0 ? steps.x : s.cg * planar.x.strides[1]},
                {"y_group", steps.y != 0 ? steps.y : s.kg * planar.y.strides[1]},
                {"xs", planar.x.strides},
                {"ys", planar.y.strides}};
  if (point) {
    params["x_step"] = x_step;
    params["y_step"] = y_step;
  } else {
    add_window_params(params, w);
  }
  const int64_t step = blocks_in_reach(ctx, p.groups, packed.shape, packed.dtype);
  for (int64_t first = 0; first < packed.shape[0]; first += step) {
    const int64_t count = std::min(step, packed.shape[0] - first);
    const int64_t total = ceil_div(pixels, tile.pixels) * count;
    const int64_t each = items_a_group(ctx.caps(), total);
    const int64_t weight_bytes = count * packed.shape[1] * packed.shape[2] * 4;
    params["first_block"] = first;
    params["blocks_here"] = count;
    params["total"] = total;
    params["each"] = each;
    params["blocks_first"] = p.groups == 1 && weight_bytes <= kPanelCache ? 1 : 0;
    ctx.dispatch(request, operands_of(ctx, p, slice_view(packed, 0, first, count)), params,
                 ctx.linear_groups(ceil_div(total, each)));
  }
  return true;
}

bool lower_depthwise_panel(LowerContext& ctx, const ConvProblem& p, int64_t width) {
  constexpr int64_t kLargestSide = 5, kLargestStride = 2, kWidest = 7;
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  if (!one_item_groups(ctx.caps()) || w.dilation[1] != 1 || w.stride[1] > kLargestStride ||
      std::max(w.kernel[0], w.kernel[1]) > kLargestSide) {
    return false;
  }
  const TensorView packed = pack_weights(ctx, packing_of(p, 1, s.channels_out));
  const std::vector<int64_t> xs = expanded_strides(p.x, 2), ys = expanded_strides(p.y, 2);
  KernelRequest request = request_with_epilogue(ctx, "depthwise_panel");
  set_types(request, p, packed.dtype);
  // Accumulators and a row of the window in registers, of which short vectors have half as many.
  const int64_t tile = width >= 16 ? kWidest : 4;
  request.constants["VW"] = width;
  request.constants["TM"] = tile;
  request.constants["KH"] = w.kernel[0];
  request.constants["KW"] = w.kernel[1];
  request.constants["S"] = w.stride[1];
  const int64_t strips = ceil_div(w.output[1], tile), total = strips * w.output[0] * s.batch;
  const int64_t each = items_a_group(ctx.caps(), total);
  Params params{{"total", total},   {"each", each},  {"channels", s.channels_out},
                {"strips", strips}, {"xs_n", xs[0]}, {"xs_h", xs[2]},
                {"xs_w", xs[3]},    {"ys_n", ys[0]}, {"ys_h", ys[2]},
                {"ys_w", ys[3]}};
  add_window_params(params, w);
  ctx.dispatch(request, operands_of(ctx, p, packed), std::move(params),
               ctx.linear_groups(ceil_div(total, each)));
  return true;
}

}  // namespace dlk
