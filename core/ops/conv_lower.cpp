// Which convolution kernel runs, and with which parameters.
//
//   conv_depthwise  one channel a group, channels innermost
//   conv_panel      CPU drivers: register blocks, no local memory
//   conv_block      the same where a group is the SIMD lanes of a driver
//   winograd        windows of 3 where multiplications rule
//   fft             large windows
//   gemv            GPUs: a few rows of results, whatever the weights' size
//   conv_mma        matrix units, float16
//   conv_gemm       GPUs: implicit matrix product on gang tiles
//   conv_direct     everything else (3-D, a few channels a group)
#include <algorithm>

#include "core/ops/batch_slices.h"
#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

// Vectors as wide as both tensors allow; 1 where channels are not innermost.
int64_t depthwise_width(const LowerContext& ctx, const ConvProblem& p) {
  for (int64_t width = ctx.caps().vector_width; width >= 4; width /= 2) {
    if (vectors_along(p.x, 1, width) && vectors_along(p.y, 1, width)) return width;
  }
  return 1;
}

void lower_depthwise(LowerContext& ctx, const ConvProblem& p, int64_t width) {
  const ConvSizes s = sizes_of(p);
  // Packed as one group with one block of all channels.
  const TensorView packed = pack_weights(ctx, packing_of(p, 1, s.channels_out));
  const Window w = p.window.expanded(2);
  const std::vector<int64_t> xs = expanded_strides(p.x, 2), ys = expanded_strides(p.y, 2);
  // GPUs wait for memory more than they compute: many items, each with its whole window under way.
  constexpr int64_t kManyItems = 1 << 18, kLargestWindow = 25;
  const bool is_cpu = ctx.caps().is_cpu;
  const bool unrolled = !is_cpu && w.taps() <= kLargestWindow;
  const bool few = p.y.elements() / width < kManyItems;
  const int64_t tile = !unrolled ? 4 : few ? 1 : 2;
  KernelRequest request = request_with_epilogue(ctx, "conv_depthwise");
  set_types(request, p, packed.dtype);
  request.constants["VW"] = width;
  request.constants["TM"] = tile;
  request.constants["KH"] = unrolled ? w.kernel[0] : 0;
  request.constants["KW"] = unrolled ? w.kernel[1] : 0;
  const bool wide = is_cpu && ctx.caps().subgroup_size == 0;
  const int64_t group = wide ? 1 : kLinearGroup;
  request.constants["WG"] = group;
  const int64_t span = wide ? s.channels_out : width;
  const int64_t parts = ceil_div(s.channels_out, span);
  const int64_t strips = ceil_div(w.output[1], tile);
  const int64_t total = parts * strips * w.output[0] * s.batch;
  Params params{{"total", total},   {"channels", s.channels_out},
                {"span", span},     {"parts", parts},
                {"strips", strips}, {"xs_n", xs[0]},
                {"xs_h", xs[2]},    {"xs_w", xs[3]},
                {"ys_n", ys[0]},    {"ys_h", ys[2]},
                {"ys_w", ys[3]}};
  add_window_params(params, w);
  ctx.dispatch(request, operands_of(ctx, p, packed), std::move(params),
               ctx.linear_groups(ceil_div(total, group)));
}

// Few channels make short sums with much address arithmetic: their patches, written out, are a
// product of long rows. The weights are packed in the order of the rows already.
ConvProblem over_patches(LowerContext& ctx, const ConvProblem& p) {
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  const int64_t depth = s.taps * s.cg;
  const Shape rows{s.batch, w.output[0], w.output[1], depth};
  TensorView patches = ctx.workspace(p.x.dtype, rows);
  KernelRequest request;
  request.name = "conv_patches";
  request.types["T"] = p.x.dtype;
  Params params{{"channels", s.cg}, {"xs", expanded_strides(p.x, 2)}};
  add_window_params(params, w);
  dispatch_linear(ctx, std::move(request), {p.x, patches}, std::move(params),
                  s.batch * w.output[0] * w.output[1] * w.kernel[0]);
  ConvProblem product = p;
  product.x = patches;
  product.x.shape = {s.batch, depth, w.output[0], w.output[1]};
  product.x.strides = {patches.strides[0], 1, patches.strides[1], patches.strides[2]};
  product.y = with_spatial_rank(p.y, 2);
  product.window = Window{};
  product.window.input = product.window.output = w.output;
  product.window.kernel = product.window.stride = product.window.dilation = {1, 1};
  product.window.pad_begin = product.window.pad_end = {0, 0};
  return product;
}

// Two vectors of results for each load of x, except where the second would be mostly padding.
int64_t block_width(const LowerContext& ctx, const ConvSizes& s) {
  const int64_t width = ctx.caps().vector_width;
  return width < 16 || ceil_div(s.kg, width) % 2 == 0 ? 2 * width : width;
}

void lower_block_packed(LowerContext& ctx, const ConvProblem& p, const WeightPacking& packing) {
  const ConvSizes s = sizes_of(p);
  const Caps& caps = ctx.caps();
  const int64_t width = caps.vector_width, tile = 8, bn = packing.bn, vectors = bn / width;
  const int64_t group = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : kLinearGroup;
  const TensorView packed = pack_weights(ctx, packing);
  const Window w = p.window.expanded(2);
  KernelRequest request = request_with_epilogue(ctx, "conv_block");
  set_types(request, p, packed.dtype);
  request.constants["VW"] = width;
  request.constants["TM"] = tile;
  request.constants["NV"] = vectors;
  request.constants["WG"] = group;
  const int64_t pixels = s.batch * w.output[0] * w.output[1];
  Params params{{"pixels", pixels},
                {"cg", s.cg},
                {"kg", s.kg},
                {"vector_store", vectors_along(p.y, 1, width) && s.kg % width == 0 ? 1 : 0},
                {"xs", expanded_strides(p.x, 2)},
                {"ys", expanded_strides(p.y, 2)}};
  add_window_params(params, w);
  const int64_t step = blocks_in_reach(ctx, p.groups, packed.shape, packed.dtype);
  for (int64_t first = 0; first < packed.shape[0]; first += step) {
    const int64_t count = std::min(step, packed.shape[0] - first);
    const int64_t total = ceil_div(pixels, tile) * count;
    params["first_block"] = first;
    params["total"] = total;
    ctx.dispatch(request, operands_of(ctx, p, slice_view(packed, 0, first, count)), params,
                 ctx.linear_groups(ceil_div(total, group)));
  }
}

void lower_block(LowerContext& ctx, const ConvProblem& p) {
  constexpr int64_t kFewChannels = 4;
  if (lower_conv_panel(ctx, p)) return;
  const ConvSizes whole = sizes_of(p);
  // Before the patches, whose problem is another: the weights are packed from the same input.
  if (p.groups == 1 && whole.taps > 1 && whole.cg <= kFewChannels &&
      whole.taps * whole.cg * p.y.elements() < INT32_MAX) {
    return lower_block_packed(ctx, over_patches(ctx, p), packing_of(p, 1, block_width(ctx, whole)));
  }
  lower_block_packed(ctx, p, packing_of(p, p.groups, block_width(ctx, whole)));
}

void lower_direct(LowerContext& ctx, const ConvProblem& p) {
  const ConvSizes s = sizes_of(p);
  const TensorView weight = ctx.contiguous(p.weight);
  const Window w = p.window.expanded(3);
  KernelRequest request = request_with_epilogue(ctx, "conv_direct");
  set_types(request, p, weight.dtype);
  Params params{{"channels", s.channels_out},
                {"cg", s.cg},
                {"kg", s.kg},
                {"channels_inner", p.y.strides[1] == 1 ? 1 : 0},
                {"xs", expanded_strides(p.x, 3)},
                {"ys", expanded_strides(p.y, 3)},
                {"ext", w.input},
                {"res", w.output},
                {"k", w.kernel},
                {"stride", w.stride},
                {"dil", w.dilation},
                {"pad", w.pad_begin}};
  dispatch_linear(ctx, std::move(request), operands_of(ctx, p, weight), std::move(params),
                  p.y.elements());
}

// "n,c,h,w,k,kh,kw,sh,sw,ph,pw,groups,dtype" of convolutions with two spatial axes, no dilation and
// the same padding on both sides; empty for others. The form is that of python/dlk/tune.py.
std::string problem_key(const ConvProblem& p) {
  if (p.window.rank() > 2) return "";
  const Window w = p.window.expanded(2);
  std::vector<int64_t> numbers{p.x.shape[0], p.x.shape[1],   w.input[0],     w.input[1],
                               p.y.shape[1], w.kernel[0],    w.kernel[1],    w.stride[0],
                               w.stride[1],  w.pad_begin[0], w.pad_begin[1], p.groups};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t symmetric = (w.input[i] + 2 * w.pad_begin[i] - w.kernel[i]) / w.stride[i] + 1;
    if (w.dilation[i] != 1 || symmetric != w.output[i]) return "";
  }
  std::string key;
  for (const int64_t number : numbers) key += std::to_string(number) + ",";
  return key + std::string(dtype_name(p.weight.dtype));
}

// On CPU drivers, where multiplications rule: a quarter of them for two passes over the operands.
// Few tiles would stream 36 transformed filters for few results each; those of one image count, so
// that a new batch size needs no new pipeline.
bool winograd_pays(const ConvProblem& p) {
  constexpr int64_t kFewChannels = 16, kFewTiles = 12;
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  const int64_t tiles = ceil_div(w.output[0], 4) * ceil_div(w.output[1], 4);
  return s.cg >= kFewChannels && s.kg >= kFewChannels && tiles >= kFewTiles &&
         p.weight.dtype == DType::kFloat32;
}

// By the cost models: "" where the implicit product, or the depthwise kernel, is as good. Filters
// are transformed once, so that only constant ones count. What must gain is the models' doubt.
std::string gpu_choice(const LowerContext& ctx, const ConvProblem& p, bool is_depthwise) {
  constexpr int64_t kLeastTaps = 9, kFftTaps = 25, kManyTaps = 81;
  constexpr double kGain = 0.95, kGainOfHalves = 0.85, kDepthwiseGain = 0.85,
                   kDepthwiseFlopsPerUs = 8.0e6;
  const int64_t taps = p.window.taps();
  if (!ctx.is_weight(p.weight_input) || taps < kLeastTaps) return "";
  const double fft = taps >= kFftTaps ? fft_microseconds(ctx, p) : 0;
  if (is_depthwise) {
    const auto flops = static_cast<double>(2 * taps * p.y.elements());
    const double direct = 4 + flops / (kDepthwiseFlopsPerUs * share_of_h200(ctx.caps()));
    return taps >= kManyTaps && fft != 0 && fft < kDepthwiseGain * direct ? "fft" : "";
  }
  const double units = mma_microseconds(ctx, p);
  const bool in_floats = p.x.dtype == DType::kFloat32;
  double best = units == 0  ? kGain * gemm_microseconds(ctx, p)
                : in_floats ? kGain * units
                            : kGainOfHalves * units;
  std::string name;
  const auto offer = [&](const std::string& algorithm, double microseconds) {
    if (microseconds == 0 || microseconds >= best) return;
    best = microseconds;
    name = algorithm;
  };
  // In float16 larger tiles would round too much; it was measured beside PTX only.
  const bool in_singles = units == 0 || in_floats;
  if (in_singles || (taps == kLeastTaps && ctx.matrix_units()->lowering() == "ptx")) {
    offer("winograd2", winograd_microseconds(ctx, p, 2));
  }
  if (in_singles) offer("winograd4", winograd_microseconds(ctx, p, 4));
  offer("fft", fft);
  return name;
}

}  // namespace

ConvSizes sizes_of(const ConvProblem& p) {
  ConvSizes s{};
  s.batch = p.x.shape[0];
  s.channels_in = p.x.shape[1];
  s.channels_out = p.y.shape[1];
  s.cg = s.channels_in / p.groups;
  s.kg = s.channels_out / p.groups;
  s.taps = p.window.taps();
  return s;
}

void lower_in_parts(LowerContext& ctx, const ConvProblem& p, int64_t images,
                    const std::function<void(LowerContext&, const ConvProblem&)>& lower) {
  const int64_t batch = p.x.shape[0];
  for (int64_t first = 0; first < batch; first += images) {
    const int64_t count = std::min(images, batch - first);
    lower_batch_slice(ctx, first, count, [&](LowerContext& to) {
      ConvProblem part = p;
      part.x = slice_view(p.x, 0, first, count);
      part.y = slice_view(p.y, 0, first, count);
      lower(to, part);
    });
  }
}

void set_types(KernelRequest& request, const ConvProblem& p, DType weight) {
  request.types = {{"TX", p.x.dtype}, {"TW", weight}, {"TY", p.y.dtype}};
  if (p.bias) request.types["TB"] = p.bias->dtype;
  request.constants["HAS_BIAS"] = p.bias ? 1 : 0;
}

std::vector<TensorView> operands_of(const LowerContext& ctx, const ConvProblem& p,
                                    const TensorView& weight) {
  std::vector<TensorView> views{p.x, weight};
  if (p.bias) views.push_back(*p.bias);
  views.push_back(p.y);
  return with_epilogue_views(ctx, std::move(views));
}

std::vector<TensorView> ending_of(const LowerContext& ctx, KernelRequest& request,
                                  const ConvProblem& p, const TensorView& parts) {
  request.constants["HAS_BIAS"] = p.bias ? 1 : 0;
  std::vector<TensorView> views{parts};
  if (p.bias) {
    request.types["TB"] = p.bias->dtype;
    views.push_back(*p.bias);
  }
  views.push_back(p.y);
  return with_epilogue_views(ctx, std::move(views));
}

WeightPacking packing_of(const ConvProblem& p, int64_t groups, int64_t bn) {
  const auto reshape = p.reshape_weight;
  WeightPacking packing;
  packing.input = p.weight_input;
  packing.key = p.weight_key;
  packing.view = [reshape, groups](const TensorView& input) {
    const TensorView weight = with_spatial_rank(reshape ? reshape(input) : input, 3);
    return split_axis(weight, 0, {groups, weight.shape[0] / groups});
  };
  packing.bn = bn;
  return packing;
}

void add_window_params(Params& params, const Window& w) {
  static constexpr const char* kAxes[2] = {"h", "w"};
  for (size_t i = 0; i < 2; ++i) {
    const std::string axis = kAxes[i];
    params["in_" + axis] = w.input[i];
    params["out_" + axis] = w.output[i];
    params["k_" + axis] = w.kernel[i];
    params["stride_" + axis] = w.stride[i];
    params["dil_" + axis] = w.dilation[i];
    params["pad_" + axis] = w.pad_begin[i];
  }
}

KernelRequest request_with_epilogue(const LowerContext& ctx, const std::string& name) {
  KernelRequest request;
  request.name = name;
  request.epilogue = ctx.epilogue();
  return request;
}

std::vector<TensorView> with_epilogue_views(const LowerContext& ctx,
                                            std::vector<TensorView> views) {
  const std::vector<TensorView>& extra = ctx.epilogue_views();
  views.insert(views.end(), extra.begin(), extra.end());
  return views;
}

TensorView with_spatial_rank(const TensorView& view, int64_t rank) {
  TensorView result = view;
  while (result.rank() < rank + 2) result = insert_axis(result, 2);
  return result;
}

int64_t blocks_in_reach(const LowerContext& ctx, int64_t groups, const Shape& packed, DType dtype) {
  const auto reach = static_cast<int64_t>(ctx.caps().max_binding_bytes);
  const int64_t bytes = packed[1] * packed[2] * dtype_size(dtype);
  if (packed[0] * bytes <= reach || groups != 1) return packed[0];
  return std::max<int64_t>(1, reach / bytes);
}

TensorView packed_weights(LowerContext& ctx, const ConvProblem& p, const WeightPacking& packing) {
  return p.pack ? p.pack(ctx, packing) : pack_weights(ctx, packing);
}

TensorView pack_weights(LowerContext& ctx, const WeightPacking& packing) {
  const TensorView now = packing.view(ctx.input(packing.input));
  const int64_t groups = now.shape[0], kg = now.shape[1], cg = now.shape[2], bn = packing.bn;
  const int64_t taps = product(now.shape, 3), blocks = ceil_div(kg, bn);
  const int64_t stored = ceil_div(cg, packing.channel_multiple) * packing.channel_multiple;
  const int64_t rows = ceil_div(taps * stored, packing.row_multiple) * packing.row_multiple;
  const Shape shape{groups * blocks, rows, bn};
  const DType dtype = packing.dtype.value_or(now.dtype);
  const int64_t step = blocks_in_reach(ctx, groups, shape, dtype);
  const auto make = [=](LowerContext& to, const TensorView& destination) {
    const TensorView source = packing.view(to.input(packing.input));
    KernelRequest request;
    request.name = "conv_pack";
    request.types = {{"TX", source.dtype}, {"TY", destination.dtype}};
    for (int64_t first = 0; first < shape[0]; first += step) {
      const int64_t count = std::min(step, shape[0] - first);
      const int64_t channel = first * bn, channels = std::min(count * bn, kg - channel);
      const bool whole = count == shape[0];
      const TensorView from = whole ? source : slice_view(source, 1, channel, channels);
      const TensorView part = slice_view(destination, 0, first, count);
      dispatch_linear(to, request, {from, part},
                      {{"first_block", first},
                       {"bn", bn},
                       {"rows", rows},
                       {"blocks", blocks},
                       {"kg", kg},
                       {"cg", cg},
                       {"stored", stored},
                       {"taps", taps},
                       {"k_h", source.shape[4]},
                       {"k_w", source.shape[5]},
                       {"xs", source.strides}},
                      part.elements());
    }
  };
  const std::string key = "conv_pack:" + packing.key + ":" + std::to_string(groups) + ":" +
                          std::to_string(bn) + ":" + std::to_string(packing.row_multiple) + ":" +
                          std::to_string(stored) + ":" + std::string(dtype_name(dtype));
  return ctx.prepacked(packing.input, key, dtype, shape, make);
}

// By a kernel that can, else by a copy afterwards.
void lower_shuffled(LowerContext& ctx, const ConvProblem& p) {
  if (lower_conv_group(ctx, p)) return;
  ConvProblem plain = p;
  plain.shuffle = 1;
  plain.y = workspace_like(ctx, p.y.dtype, p.y.shape, p.y);
  lower_convolution(ctx, plain);
  const int64_t each = p.y.shape[1] / p.shuffle;
  std::vector<int64_t> swapped = all_axes(p.y.rank() + 1);
  std::swap(swapped[1], swapped[2]);
  ctx.copy(permute_view(split_axis(plain.y, 1, {p.shuffle, each}), swapped),
           split_axis(p.y, 1, {each, p.shuffle}));
}

void lower_convolution(LowerContext& ctx, const ConvProblem& p) {
  require_float_storage(ctx, p.x.dtype);
  if (p.y.elements() == 0) return;
  for (const TensorView* view : {&p.x, &p.y, &p.weight}) require_32bit(ctx, *view);
  const ConvSizes s = sizes_of(p);
  const bool planar = p.window.rank() <= 2 && p.x.dtype != DType::kFloat64;
  const ConvChoice choice = convolution_choice(ctx.caps(), problem_key(p));
  if (p.shuffle > 1) return lower_shuffled(ctx, p);
  const bool is_cpu = ctx.caps().is_cpu;
  const int64_t width = planar && s.cg == 1 && s.kg == 1 ? depthwise_width(ctx, p) : 1;
  // Blocks and tiles waste the lanes that a narrow group does not fill.
  const int64_t fewest = is_cpu ? ctx.caps().vector_width / 2 : 16;
  const bool is_wide = planar && (p.groups == 1 || s.kg >= fewest);
  std::string algorithm = choice.algorithm;
  // Of the others some read the weights as they are.
  if (p.flattened && algorithm != "gemm" && algorithm != "mma") algorithm.clear();
  const bool takes_rows = planar && (algorithm.empty() || algorithm == "gemv");
  if (takes_rows && lower_gemv(ctx, p, choice)) return;
  if (algorithm.empty() && !is_cpu && (width > 1 || is_wide)) {
    algorithm = gpu_choice(ctx, p, width > 1);
  }
  if (algorithm == "direct") return lower_direct(ctx, p);
  if (algorithm == "fft" && lower_conv_fft(ctx, p)) return;
  if (width > 1 && lower_depthwise_panel(ctx, p, width)) return;
  if (width > 1) return lower_depthwise(ctx, p, width);
  if (!is_wide) return lower_direct(ctx, p);
  if (algorithm == "winograd2" && lower_conv_winograd(ctx, p, 2)) return;
  if (algorithm == "winograd4" && lower_conv_winograd(ctx, p, 4)) return;
  if (algorithm == "block") return lower_block(ctx, p);
  if (algorithm.empty() && is_cpu && ctx.is_weight(p.weight_input) && winograd_pays(p) &&
      lower_conv_winograd(ctx, p, 4))
    return;
  if (algorithm == "gemm") return lower_conv_gemm(ctx, p);
  if (lower_pixel_pairs(ctx, p, choice) || lower_conv_mma(ctx, p, choice)) return;
  is_cpu ? lower_block(ctx, p) : lower_conv_gemm(ctx, p);
}

}  // namespace dlk
