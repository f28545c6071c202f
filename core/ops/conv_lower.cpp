// Which convolution kernel runs, and with which parameters.
//
//   conv_depthwise  one channel a group, channels innermost
//   conv_block      CPU drivers: register blocks, no local memory
//   conv_gemm       GPUs: implicit matrix product on gang tiles
//   conv_direct     everything else (3-D, a few channels a group)
#include <algorithm>

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
  const int64_t tile = 4;
  KernelRequest request = request_with_epilogue(ctx, "conv_depthwise");
  set_types(request, p, packed.dtype);
  request.constants["VW"] = width;
  request.constants["TM"] = tile;
  const bool wide = ctx.caps().is_cpu && ctx.caps().subgroup_size == 0;
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

void lower_block(LowerContext& ctx, const ConvProblem& p) {
  const ConvSizes s = sizes_of(p);
  const Caps& caps = ctx.caps();
  const int64_t width = caps.vector_width;
  // Wide vectors fill the registers alone; narrow ones come in pairs to pay for the loads.
  const int64_t tile = 8, vectors = width >= 16 ? 1 : 2;
  const int64_t bn = width * vectors;
  const int64_t group = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : kLinearGroup;
  const TensorView packed = pack_weights(ctx, packing_of(p, p.groups, bn));
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

TensorView pack_weights(LowerContext& ctx, const WeightPacking& packing) {
  const TensorView now = packing.view(ctx.input(packing.input));
  const int64_t groups = now.shape[0], kg = now.shape[1], cg = now.shape[2], bn = packing.bn;
  const int64_t taps = product(now.shape, 3), blocks = ceil_div(kg, bn);
  const int64_t rows = ceil_div(taps * cg, packing.row_multiple) * packing.row_multiple;
  const Shape shape{groups * blocks, rows, bn};
  const int64_t step = blocks_in_reach(ctx, groups, shape, now.dtype);
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
                       {"taps", taps},
                       {"k_h", source.shape[4]},
                       {"k_w", source.shape[5]},
                       {"xs", source.strides}},
                      part.elements());
    }
  };
  const std::string key = "conv_pack:" + packing.key + ":" + std::to_string(groups) + ":" +
                          std::to_string(bn) + ":" + std::to_string(packing.row_multiple);
  return ctx.prepacked(packing.input, key, now.dtype, shape, make);
}

void lower_convolution(LowerContext& ctx, const ConvProblem& p) {
  require_float_storage(ctx, p.x.dtype);
  if (p.y.elements() == 0) return;
  for (const TensorView* view : {&p.x, &p.y, &p.weight}) require_32bit(ctx, *view);
  const ConvSizes s = sizes_of(p);
  const bool planar = p.window.rank() <= 2 && p.x.dtype != DType::kFloat64;
  if (planar && s.cg == 1 && s.kg == 1) {
    const int64_t width = depthwise_width(ctx, p);
    if (width > 1) return lower_depthwise(ctx, p, width);
  }
  // Blocks and tiles waste the lanes that a narrow group does not fill.
  const bool is_cpu = ctx.caps().is_cpu;
  const int64_t fewest = is_cpu ? ctx.caps().vector_width / 2 : 16;
  if (!planar || (p.groups != 1 && s.kg < fewest)) return lower_direct(ctx, p);
  is_cpu ? lower_block(ctx, p) : lower_conv_gemm(ctx, p);
}

}  // namespace dlk
