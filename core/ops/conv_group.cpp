// Grouped convolutions with a window of 1 on CPU drivers, for kernels/conv_group.k.
#include <algorithm>
#include <array>

#include "core/ops/conv_parts.h"
#include "core/ops/op_util.h"

namespace dlk {

namespace {

// Pixels and vectors of channels of one item: with the weights and a pixel they fill the registers.
struct Tile {
  int64_t pixels, vectors;
};

Tile tile_of(int64_t vectors) {
  constexpr std::array<Tile, 5> kTiles = {{{12, 2}, {8, 3}, {5, 5}, {6, 4}, {16, 1}}};
  const auto padded = [&](const Tile& tile) {
    return ceil_div(vectors, tile.vectors) * tile.vectors;
  };
  return *std::ranges::min_element(
      kTiles, [&](const Tile& a, const Tile& b) { return padded(a) < padded(b); });
}

bool is_pointwise(const Window& window) {
  const auto all = [](const Shape& values, int64_t value) {
    return std::ranges::all_of(values, [&](int64_t v) { return v == value; });
  };
  return all(window.kernel, 1) && all(window.stride, 1) && all(window.pad_begin, 0) &&
         window.output == window.input;
}

}  // namespace

bool lower_conv_group(LowerContext& ctx, const ConvProblem& p) {
  const ConvSizes s = sizes_of(p);
  const bool fits_device = ctx.caps().is_cpu && ctx.caps().subgroup_size == 0;
  if (!fits_device || p.groups < 2 || s.cg < 2 || p.x.dtype == DType::kFloat64) return false;
  if (p.window.rank() > 2 || !is_pointwise(p.window)) return false;
  if (p.shuffle > 1 && p.shuffle != p.groups) return false;
  const TensorView x = with_spatial_rank(p.x, 2), y = with_spatial_rank(p.y, 2);
  const int64_t x_pixel = pixel_step(x), y_pixel = pixel_step(y);
  const bool ordered = p.shuffle > 1 || y.strides[1] == 1;
  if (x.strides[1] != 1 || !ordered || x_pixel == 0 || y_pixel == 0) return false;
  const int64_t width = ctx.caps().vector_width, vectors = ceil_div(s.kg, width);
  const Tile tile = tile_of(vectors);
  const TensorView packed = pack_weights(ctx, packing_of(p, p.groups, tile.vectors * width));
  const int64_t pixels = s.batch * product(y.shape, 2);
  const int64_t tiles = ceil_div(pixels, tile.pixels), total = tiles * packed.shape[0];
  const int64_t channel = y.strides[1];
  KernelRequest request = request_with_epilogue(ctx, "conv_group");
  set_types(request, p, packed.dtype);
  request.constants["VW"] = width;
  request.constants["TM"] = tile.pixels;
  request.constants["NV"] = tile.vectors;
  request.constants["TAIL"] = s.kg - (vectors - 1) * width;
  request.constants["DENSE"] = p.shuffle > 1 ? 0 : 1;
  ctx.dispatch(request, operands_of(ctx, p, packed),
               {{"pixels", pixels},
                {"total", total},
                {"tiles", tiles},
                {"blocks", packed.shape[0] / p.groups},
                {"cg", s.cg},
                {"kg", s.kg},
                {"x_pixel", x_pixel},
                {"y_pixel", y_pixel},
                {"y_group", p.shuffle > 1 ? channel : s.kg * channel},
                {"y_channel", p.shuffle > 1 ? p.groups * channel : channel}},
               ctx.linear_groups(total));
  return true;
}

}  // namespace dlk
