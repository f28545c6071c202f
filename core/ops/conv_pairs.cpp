// First layers on matrix units: images of at most 4 channels are written as pairs of neighbouring
// pixels, 4 channels each, so that the 8 channels that a copy takes hold two columns of the window:
// the product is half as deep as with each pixel padded to 8 channels. Pairs start where windows
// do; with an odd stride they overlap, and the window is dilated.
#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

constexpr int64_t kPixels = 2, kChannels = 4;  // of a pair

struct Pairs {
  Window window;  // of the problem
  int64_t step, columns, taps;
};

Pairs pairs_of(const ConvProblem& p) {
  const Window w = p.window.expanded(2);
  const int64_t step = w.stride[1] % kPixels == 0 ? kPixels : 1;
  return {w, step, ceil_div(w.input[1] + w.pad_begin[1], step), ceil_div(w.kernel[1], kPixels)};
}

TensorView packed_pairs(LowerContext& ctx, const ConvProblem& p, const WeightPacking& packing) {
  const Pairs pairs = pairs_of(p);
  const int64_t kg = p.y.shape[1], depth = pairs.window.kernel[0] * pairs.taps * kTileChannels;
  const Shape shape{ceil_div(kg, packing.bn),
                    ceil_div(depth, packing.row_multiple) * packing.row_multiple, packing.bn};
  const auto reshape = p.reshape_weight;
  const auto make = [=](LowerContext& to, const TensorView& destination) {
    const TensorView input = to.input(packing.input);
    const TensorView source = with_spatial_rank(reshape ? reshape(input) : input, 2);
    KernelRequest request;
    request.name = "conv_pack_pairs";
    request.types = {{"TX", source.dtype}, {"TY", destination.dtype}};
    dispatch_linear(to, std::move(request), {source, destination},
                    {{"bn", shape[2]},
                     {"rows", shape[1]},
                     {"kg", kg},
                     {"cg", source.shape[1]},
                     {"k_h", source.shape[2]},
                     {"k_w", source.shape[3]},
                     {"pairs", pairs.taps},
                     {"xs", source.strides}},
                    destination.elements());
  };
  const DType dtype = packing.dtype.value_or(p.weight.dtype);
  const std::string key = "conv_pack_pairs:" + packing.key + ":" + std::to_string(packing.bn) +
                          ":" + std::to_string(packing.row_multiple);
  return ctx.prepacked(packing.input, key, dtype, shape, make);
}

/// The problem over pairs; its x has no memory yet.
ConvProblem over_pairs(const ConvProblem& p, DType dtype) {
  const Pairs pairs = pairs_of(p);
  const Window& w = pairs.window;
  ConvProblem q = p;
  q.x = TensorView{};
  q.x.dtype = dtype;
  q.x.shape = {p.x.shape[0], kTileChannels, w.input[0], pairs.columns};
  const int64_t line = pairs.columns * kTileChannels;
  q.x.strides = {w.input[0] * line, 1, line, kTileChannels};
  q.y = with_spatial_rank(p.y, 2);
  q.window = w;
  q.window.input[1] = pairs.columns;
  q.window.kernel[1] = pairs.taps;
  q.window.stride[1] = w.stride[1] / pairs.step;
  q.window.dilation[1] = kPixels / pairs.step;
  q.window.pad_begin[1] = 0;
  q.pack = [p](LowerContext& to, const WeightPacking& packing) {
    return packed_pairs(to, p, packing);
  };
  return q;
}

}  // namespace

bool lower_pixel_pairs(LowerContext& ctx, const ConvProblem& p, const ConvChoice& choice) {
  const ConvSizes s = sizes_of(p);
  if (p.groups != 1 || p.pack || p.flattened || s.cg > kChannels) return false;
  const Pairs pairs = pairs_of(p);
  if (pairs.window.kernel[1] < 2 || pairs.window.dilation[1] != 1) return false;
  const bool brains = p.weight.dtype == DType::kBFloat16 && p.x.dtype == DType::kBFloat16;
  ConvProblem q = over_pairs(p, brains ? DType::kBFloat16 : DType::kFloat16);
  const int64_t places = pairs.window.input[0] * pairs.columns;
  const std::array<int64_t, 3> groups{ceil_div(places, kLinearGroup), s.batch, 1};
  const Caps& caps = ctx.caps();
  if (groups[0] > caps.max_group_count[0] || groups[1] > caps.max_group_count[1]) return false;
  if (mma_microseconds(ctx, q) == 0) return false;
  const Shape shape{s.batch, pairs.window.input[0], pairs.columns, kTileChannels};
  const TensorView image = ctx.workspace(q.x.dtype, shape);
  q.x.storage = image.storage;
  require_32bit(ctx, q.x);
  KernelRequest request;
  request.name = "conv_pixel_pairs";
  request.types = {{"TX", p.x.dtype}, {"TY", image.dtype}};
  request.constants = {{"WG", kLinearGroup}, {"CHANNELS", s.cg}};
  ctx.dispatch(request, {p.x, image},
               {{"places", places},
                {"columns", pairs.columns},
                {"width", pairs.window.input[1]},
                {"step", pairs.step},
                {"pad", pairs.window.pad_begin[1]},
                {"xs", expanded_strides(p.x, 2)}},
               groups);
  if (!lower_conv_mma(ctx, q, choice)) lower_conv_gemm(ctx, q);
  return true;
}

}  // namespace dlk
