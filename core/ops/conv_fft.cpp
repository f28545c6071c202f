// Convolution by Fourier transforms of tiles (kernels/fft.k): the spectra of the filters are made
// once, a product at each frequency takes the place of the window's taps.
#include <algorithm>
#include <array>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

struct TileSize {
  int64_t size, radix, pairs, group;  // kernels/fft.k: S, R1, P, WG
};
constexpr TileSize kSizes[] = {{8, 8, 16, 128}, {16, 4, 4, 128}, {32, 8, 1, 128}, {64, 8, 1, 256}};

struct FftPlan {
  TileSize tile{};
  std::array<int64_t, 2> results{};  // of a tile along each axis
  std::array<int64_t, 2> tiles{};    // of an image along each axis
  int64_t images = 0;                // at a time
  double microseconds = 0;

  int64_t frequencies() const { return tile.size * (tile.size / 2 + 1); }
  int64_t image_tiles() const { return tiles[0] * tiles[1]; }
};

// Tiles and filters of an item: as many as an image and a group of channels fill.
int64_t block_of(int64_t count) {
  if (count <= 4) return count == 3 ? 3 : count >= 4 ? 4 : count;
  return ceil_div(count, 4) * 4 <= ceil_div(count, 3) * 3 ? 4 : 3;
}

// Fewer filters where items are few: they wait for their loads side by side.
int64_t filter_block(const ConvProblem& p, const FftPlan& plan) {
  constexpr int64_t kFewItems = 1 << 15;
  const ConvSizes s = sizes_of(p);
  const int64_t tiles = ceil_div(plan.image_tiles(), block_of(plan.image_tiles()));
  int64_t block = s.kg >= 4 ? 4 : s.kg >= 2 ? 2 : 1;
  while (block > 1 && plan.frequencies() * tiles * s.channels_out / block < kFewItems) block /= 2;
  return block;
}

// Microseconds, as measured on an H200: each of three dispatches waits for the one before. Tiles
// wait in a group's local memory, which a compute unit has for a few; the product streams spectra
// from the second-level cache, the filters' once for each block of tiles, and hides half of the
// shorter of streaming and multiplying behind the other.
double time_of(const FftPlan& plan, const ConvSizes& s, const Caps& caps) {
  constexpr double kImages = 6.0, kProduct = 4.0, kResults = 8.0;
  const double bytes_per_us = 3.0e6 * share_of_h200(caps);
  const double flops_per_us = 1.2e7 * share_of_h200(caps);
  const int64_t units = std::max<int64_t>(1, caps.compute_units);
  constexpr double kTileUs =
      0.8e-3;  // a round of four steps of a group, for each element of an item
  const double frequencies = static_cast<double>(plan.frequencies());
  const double tiles = static_cast<double>(s.batch * plan.image_tiles());
  const auto transforms = [&](int64_t channels, double start, double factor) {
    const double pixels = static_cast<double>(plan.tile.size * plan.tile.size);
    const int64_t groups =
        ceil_div(s.batch * plan.image_tiles() * ceil_div(channels, 2), plan.tile.pairs);
    const int64_t waves = ceil_div(groups, 4 * units);
    const double each = pixels * static_cast<double>(plan.tile.pairs) * kTileUs;
    const double bytes = tiles * static_cast<double>(channels) * (8 * frequencies + 4 * pixels);
    return start + factor * std::max(static_cast<double>(waves) * each, bytes / bytes_per_us);
  };
  const double blocks =
      static_cast<double>(ceil_div(s.batch * plan.image_tiles(), block_of(plan.image_tiles())));
  const double weights = static_cast<double>(s.channels_out * s.cg) * frequencies * 8;
  const double flops = 8 * tiles * frequencies * static_cast<double>(s.channels_out * s.cg);
  const double streamed = weights * std::max(1.0, 0.7 * blocks) / bytes_per_us;
  const double multiplied = flops / flops_per_us;
  const double product =
      kProduct + std::max(streamed, multiplied) + std::min(streamed, multiplied) / 2;
  constexpr double kWrites = 1.3;  // that results of windows take more than spectra
  return transforms(s.channels_in, kImages, 1.0) + product +
         transforms(s.channels_out, kResults, kWrites);
}

FftPlan plan_of(const LowerContext& ctx, const ConvProblem& p, const Window& w) {
  const ConvSizes s = sizes_of(p);
  const auto reach =
      std::min<int64_t>(static_cast<int64_t>(ctx.caps().max_binding_bytes) / 4, INT32_MAX);
  FftPlan best;
  for (const TileSize& size : kSizes) {
    FftPlan plan{size, {}, {}, 0};
    bool fits = size.group <= static_cast<int64_t>(ctx.caps().max_group_invocations) &&
                8 * size.pairs * size.size * size.size <=
                    static_cast<int64_t>(ctx.caps().local_memory_bytes);
    for (size_t i = 0; i < 2; ++i) {
      const int64_t spare = size.size - ((w.kernel[i] - 1) * w.dilation[i] + 1);
      fits = fits && spare >= 0;
      if (!fits) break;
      plan.results[i] = std::min(spare / w.stride[i] + 1, w.output[i]);
      plan.tiles[i] = ceil_div(w.output[i], plan.results[i]);
    }
    if (!fits) continue;
    const int64_t an_image = plan.image_tiles() * std::max(s.channels_in, s.channels_out);
    const int64_t most = reach / (2 * plan.frequencies());
    constexpr int64_t kMostGroups = 65535;
    fits = std::max(an_image, s.channels_out * s.cg) <= most && plan.image_tiles() <= kMostGroups;
    if (!fits) continue;
    // Images go in parts that leave memory for the rest.
    constexpr int64_t kMostElements = 1 << 27;
    plan.images =
        std::min({std::max<int64_t>(kMostElements / (2 * plan.frequencies() * an_image), 1),
                  most / an_image, kMostGroups / plan.image_tiles(), s.batch});
    // The size of a tile follows from one image: a new batch size needs no new pipeline.
    ConvSizes one = s;
    one.batch = 1;
    plan.microseconds = time_of(plan, one, ctx.caps());
    if (best.tile.size == 0 || plan.microseconds < best.microseconds) best = plan;
  }
  if (best.tile.size != 0) best.microseconds = time_of(best, s, ctx.caps());
  return best;
}

bool is_planar(const ConvProblem& p) {
  return p.window.rank() <= 2 && p.x.dtype != DType::kFloat64;
}

KernelRequest transform_request(KernelRequest request, const TileSize& tile) {
  request.constants["S"] = tile.size;
  request.constants["R1"] = tile.radix;
  request.constants["P"] = tile.pairs;
  request.constants["WG"] = tile.group;
  return request;
}

/// Tiles of an image, or of its results.
struct Side {
  TensorView image;
  int64_t channels = 0, count = 0;  // tiles in all
  std::array<int64_t, 2> tiles{1, 1}, extent{}, step{}, gap{1, 1};
};

void dispatch_transform(LowerContext& ctx, const KernelRequest& request, const Side& side,
                        const std::vector<TensorView>& views, Params params) {
  const int64_t parts = ceil_div(side.channels, 2), total = side.count * parts;
  params["total"] = total;
  params["channels"] = side.channels;
  params["parts"] = parts;
  static constexpr const char* kAxes[2] = {"h", "w"};
  for (size_t i = 0; i < 2; ++i) {
    const std::string axis = kAxes[i];
    params["tiles_" + axis] = side.tiles[i];
    params["ext_" + axis] = side.extent[i];
    params["step_" + axis] = side.step[i];
    params["gap_" + axis] = side.gap[i];
  }
  params["zs"] = expanded_strides(side.image, 2);
  ctx.dispatch(request, views, std::move(params),
               ctx.linear_groups(ceil_div(total, request.constants.at("P"))));
}

TensorView filter_spectra(LowerContext& ctx, const ConvProblem& p, const FftPlan& plan) {
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  // In float16 where the weights are: their sums stay far inside of its range.
  const DType dtype = p.weight.dtype == DType::kFloat16 ? DType::kFloat16 : DType::kFloat32;
  const auto make = [tile = plan.tile, reshape = p.reshape_weight, input = p.weight_input, w](
                        LowerContext& to, const TensorView& destination) {
    const TensorView filters =
        with_spatial_rank(reshape ? reshape(to.input(input)) : to.input(input), 2);
    KernelRequest request;
    request.name = "fft_tiles";
    request.types = {{"TX", filters.dtype}, {"TY", destination.dtype}};
    request.constants = {{"CONJUGATE", 1}, {"DILATED", 1}};
    const Side side{filters,
                    filters.shape[1],
                    filters.shape[0],
                    {1, 1},
                    {w.kernel[0], w.kernel[1]},
                    {0, 0},
                    {w.dilation[0], w.dilation[1]}};
    dispatch_transform(to, transform_request(std::move(request), tile), side,
                       {filters, destination}, {{"pad_h", 0}, {"pad_w", 0}});
  };
  return ctx.prepacked(p.weight_input, p.weight_key + ":fft:" + std::to_string(plan.tile.size),
                       dtype, {s.channels_out, s.cg, 2 * plan.frequencies()}, make);
}

void transform_images(LowerContext& ctx, const ConvProblem& p, const FftPlan& plan,
                      const TensorView& spectra) {
  const Window w = p.window.expanded(2);
  KernelRequest request;
  request.name = "fft_tiles";
  request.types = {{"TX", p.x.dtype}, {"TY", spectra.dtype}};
  const Side side{p.x,
                  p.x.shape[1],
                  spectra.shape[0],
                  plan.tiles,
                  {w.input[0], w.input[1]},
                  {plan.results[0] * w.stride[0], plan.results[1] * w.stride[1]}};
  dispatch_transform(ctx, transform_request(std::move(request), plan.tile), side, {p.x, spectra},
                     {{"pad_h", w.pad_begin[0]}, {"pad_w", w.pad_begin[1]}});
}

void multiply(LowerContext& ctx, const ConvProblem& p, const FftPlan& plan, const TensorView& x,
              const TensorView& filters, const TensorView& y) {
  constexpr int64_t kLanes = 32, kRows = 8;
  const ConvSizes s = sizes_of(p);
  const int64_t tiles = block_of(plan.image_tiles()), block = filter_block(p, plan);
  const int64_t blocks = ceil_div(s.kg, block);
  KernelRequest request;
  request.name = "fft_product";
  request.types = {{"TW", filters.dtype}};
  request.constants = {{"TT", tiles},
                       {"TK", block},
                       {"LANES", kLanes},
                       {"ROWS", kRows},
                       {"DEPTH", s.cg == 1   ? 1
                                 : block > 1 ? 2
                                             : 4}};
  ctx.dispatch(request, {x, filters, y},
               {{"frequencies", plan.frequencies()},
                {"tiles", x.shape[0]},
                {"channels", s.channels_in},
                {"filters", s.channels_out},
                {"groups", p.groups},
                {"blocks", blocks},
                {"cg", s.cg},
                {"kg", s.kg}},
               {ceil_div(plan.frequencies(), kLanes), ceil_div(p.groups * blocks, kRows),
                ceil_div(x.shape[0], tiles)});
}

void transform_products(LowerContext& ctx, const ConvProblem& p, const FftPlan& plan,
                        const TensorView& spectra) {
  const Window w = p.window.expanded(2);
  KernelRequest request = request_with_epilogue(ctx, "fft_tiles");
  request.types = {{"TX", spectra.dtype}, {"TY", p.y.dtype}};
  request.constants = {{"INVERSE", 1}, {"HAS_BIAS", p.bias ? 1 : 0}};
  std::vector<TensorView> views{spectra};
  if (p.bias) {
    request.types["TB"] = p.bias->dtype;
    views.push_back(*p.bias);
  }
  views.push_back(p.y);
  const Side side{p.y,
                  p.y.shape[1],
                  spectra.shape[0],
                  plan.tiles,
                  {w.output[0], w.output[1]},
                  plan.results,
                  {w.stride[0], w.stride[1]}};
  dispatch_transform(ctx, transform_request(std::move(request), plan.tile), side,
                     with_epilogue_views(ctx, std::move(views)), {});
}

}  // namespace

double fft_microseconds(const LowerContext& ctx, const ConvProblem& p) {
  if (!is_planar(p)) return 0;
  return plan_of(ctx, p, p.window.expanded(2)).microseconds;
}

bool lower_conv_fft(LowerContext& ctx, const ConvProblem& p) {
  if (!is_planar(p)) return false;
  const FftPlan plan = plan_of(ctx, p, p.window.expanded(2));
  if (plan.tile.size == 0) return false;
  const ConvSizes s = sizes_of(p);
  const auto is_batch = [&](const TensorView& view) { return view.shape[0] == s.batch; };
  if (plan.images < s.batch && !(is_batch(ctx.input(0)) && is_batch(ctx.output(0)))) return false;
  const int64_t images = ceil_div(s.batch, ceil_div(s.batch, plan.images));
  const int64_t most = images * plan.image_tiles(), numbers = 2 * plan.frequencies();
  const TensorView filters = filter_spectra(ctx, p, plan);
  const TensorView spectra = ctx.workspace(DType::kFloat32, {most, s.channels_in, numbers});
  const TensorView products = ctx.workspace(DType::kFloat32, {most, s.channels_out, numbers});
  lower_in_parts(ctx, p, images, [&](LowerContext& to, const ConvProblem& part) {
    const int64_t tiles = part.x.shape[0] * plan.image_tiles();
    const TensorView from = slice_view(spectra, 0, 0, tiles);
    const TensorView into = slice_view(products, 0, 0, tiles);
    transform_images(to, part, plan, from);
    multiply(to, part, plan, from, filters, into);
    transform_products(to, part, plan, into);
  });
  return true;
}

}  // namespace dlk
