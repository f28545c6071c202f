// Grouped convolutions with a window of 1 and shuffled results on CPU drivers:
// kernels/conv_group.k.
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
  constexpr std::array<Tile, 5> kTiles = {{{8, 2}, {6, 3}, {4, 5}, {5, 4}, {14, 1}}};
  const auto padded = [&](const Tile& tile) {
    return ceil_div(vectors, tile.vectors) * tile.vectors;
  };
  return *std::ranges::min_element(
      kTiles, [&](const Tile& a, const Tile& b) { return padded(a) < padded(b); });
}

}  // namespace

bool lower_conv_group(LowerContext& ctx, const ConvProblem& p) {
  constexpr int64_t kMostShuffled = 8;
  const ConvSizes s = sizes_of(p);
  const bool fits_device = ctx.caps().is_cpu && ctx.caps().subgroup_size == 0;
  if (!fits_device || p.groups < 2 || s.cg < 2 || p.x.dtype == DType::kFloat64) return false;
  if (p.window.rank() > 2 || !p.window.is_pointwise()) return false;
  if (p.shuffle != p.groups || p.shuffle > kMostShuffled) return false;
  const TensorView x = with_spatial_rank(p.x, 2), y = with_spatial_rank(p.y, 2);
  const int64_t x_pixel = pixel_step(x), y_pixel = pixel_step(y);
  if (x.strides[1] != 1 || y.strides[1] != 1 || x_pixel == 0 || y_pixel == 0) return false;
  const int64_t width = ctx.caps().vector_width;
  const Tile tile = tile_of(ceil_div(s.kg, width));
  const TensorView packed = pack_weights(ctx, packing_of(p, p.groups, tile.vectors * width));
  const int64_t pixels = s.batch * product(y.shape, 2), tiles = ceil_div(pixels, tile.pixels);
  const int64_t blocks = packed.shape[0] / p.groups;
  const int64_t total = tiles * blocks;
  KernelRequest request = request_with_epilogue(ctx, "conv_group");
  set_types(request, p, packed.dtype);
  request.constants["VW"] = width;
  request.constants["TM"] = tile.pixels;
  request.constants["NV"] = tile.vectors;
  request.constants["GROUPS"] = p.groups;
  ctx.dispatch(request, operands_of(ctx, p, packed),
               {{"total", total},
                {"pixels", pixels},
                {"tiles", tiles},
                {"blocks", blocks},
                {"cg", s.cg},
                {"kg", s.kg},
                {"x_pixel", x_pixel},
                {"y_pixel", y_pixel}},
               ctx.linear_groups(total));
  return true;
}

}  // namespace dlk
