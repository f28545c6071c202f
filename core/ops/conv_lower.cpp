// Which convolution kernel runs, and with which parameters.
//
//   conv_depthwise  one channel a group, channels innermost
//   conv_block      CPU drivers: register blocks, no local memory
//   conv_gemm       GPUs: implicit matrix product on gang tiles
//   conv_direct     everything else (3-D, a few channels a group)
#include <algorithm>

#include "core/ops/conv.h"

namespace dlk {

namespace {

struct Sizes {
  int64_t batch, channels_in, channels_out;
  int64_t cg, kg;  // a group
  int64_t taps;
};

Sizes sizes_of(const ConvProblem& p) {
  Sizes s{};
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

// Blocks of packed weights that one binding can reach; of a single group also on the source's side.
int64_t blocks_in_reach(const LowerContext& ctx, const ConvProblem& p, const Shape& packed) {
  const auto reach = static_cast<int64_t>(ctx.caps().max_binding_bytes);
  const int64_t bytes = packed[1] * packed[2] * dtype_size(p.weight.dtype);
  if (packed[0] * bytes <= reach || p.groups != 1) return packed[0];
  return std::max<int64_t>(1, reach / bytes);
}

// Vectors as wide as both tensors allow; 1 where channels are not innermost.
int64_t depthwise_width(const LowerContext& ctx, const ConvProblem& p) {
  for (int64_t width = ctx.caps().vector_width; width >= 4; width /= 2) {
    if (vectors_along(p.x, 1, width) && vectors_along(p.y, 1, width)) return width;
  }
  return 1;
}

void lower_depthwise(LowerContext& ctx, const ConvProblem& p, int64_t width) {
  const Sizes s = sizes_of(p);
  ConvProblem as_channels = p;  // packed as one group whose blocks hold every channel
  as_channels.groups = 1;
  const TensorView packed = pack_weights(ctx, as_channels, s.channels_out, 1);
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
  const Sizes s = sizes_of(p);
  const Caps& caps = ctx.caps();
  const int64_t width = caps.vector_width;
  // Wide vectors fill the registers alone; narrow ones come in pairs to pay for the loads.
  const int64_t tile = 8, vectors = width >= 16 ? 1 : 2;
  const int64_t bn = width * vectors;
  const int64_t group = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : kLinearGroup;
  const TensorView packed = pack_weights(ctx, p, bn, 1);
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
  const int64_t step = blocks_in_reach(ctx, p, packed.shape);
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
  const Sizes s = sizes_of(p);
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

TensorView pack_weights(LowerContext& ctx, const ConvProblem& p, int64_t bn, int64_t row_multiple) {
  const Window w = p.window.expanded(3);
  const int64_t cg = p.weight.shape[1], kg = p.weight.shape[0] / p.groups, taps = w.taps();
  const int64_t blocks = ceil_div(kg, bn);
  const int64_t rows = ceil_div(taps * cg, row_multiple) * row_multiple;
  const Shape shape{p.groups * blocks, rows, bn};
  const int64_t groups = p.groups, step = blocks_in_reach(ctx, p, shape);
  const size_t input = p.weight_input;
  const auto view_of = p.reshape_weight ? p.reshape_weight : [](const TensorView& v) { return v; };
  const auto make = [=](LowerContext& to, const TensorView& destination) {
    const TensorView source = view_of(to.input(input));
    KernelRequest request;
    request.name = "conv_pack";
    request.types = {{"TX", source.dtype}, {"TY", destination.dtype}};
    for (int64_t first = 0; first < shape[0]; first += step) {
      const int64_t count = std::min(step, shape[0] - first);
      const bool whole = count == shape[0];
      const int64_t channel = first * bn, channels = std::min(count * bn, kg - channel);
      const TensorView from = whole ? source : slice_view(source, 0, channel, channels);
      const TensorView part = slice_view(destination, 0, first, count);
      dispatch_linear(to, request, {from, part},
                      {{"first_block", first},
                       {"bn", bn},
                       {"rows", rows},
                       {"blocks", blocks},
                       {"kg", kg},
                       {"cg", cg},
                       {"taps", taps},
                       {"k_h", w.kernel[1]},
                       {"k_w", w.kernel[2]},
                       {"xs", expanded_strides(source, 3)}},
                      part.elements());
    }
  };
  const std::string key = "conv_pack:" + std::to_string(groups) + ":" + std::to_string(bn) + ":" +
                          std::to_string(row_multiple);
  return ctx.prepacked(p.weight_input, key, p.weight.dtype, shape, make);
}

void lower_convolution(LowerContext& ctx, const ConvProblem& p) {
  require_float_storage(ctx, p.x.dtype);
  if (p.y.elements() == 0) return;
  for (const TensorView* view : {&p.x, &p.y, &p.weight}) require_32bit(ctx, *view);
  const Sizes s = sizes_of(p);
  const bool planar = p.window.rank() <= 2;
  if (planar && s.cg == 1 && s.kg == 1) {
    const int64_t width = depthwise_width(ctx, p);
    if (width > 1) return lower_depthwise(ctx, p, width);
  }
  // Blocks waste the lanes that a narrow group does not fill.
  const int64_t fewest = ctx.caps().vector_width / 2;
  if (planar && (p.groups == 1 || s.kg >= fewest)) return lower_block(ctx, p);
  lower_direct(ctx, p);
}

}  // namespace dlk
