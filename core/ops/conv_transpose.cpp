// ConvTranspose: schema, shape rule and lowering to kernels/conv_transpose.k.
#include <algorithm>

#include "core/ops/batch_slices.h"
#include "core/ops/conv.h"
#include "core/ops/gradients.h"

namespace dlk {

namespace {

constexpr size_t kInput = 0, kWeight = 1, kBias = 2;

Shape kernel_of(const Shape& weight) { return Shape(weight.begin() + 2, weight.end()); }

void infer(InferContext& ctx) {
  require_arithmetic_dtype(ctx, kInput);
  const Shape &x = ctx.shape(kInput), &w = ctx.shape(kWeight);
  const int64_t groups = ctx.attr_int("group", 1);
  if (x.size() < 3) ctx.fail("the input " + shape_string(x) + " must be (N, C, spatial axes...)");
  if (w.size() != x.size()) {
    ctx.fail("the weights " + shape_string(w) + " must have the rank of the input " +
             shape_string(x));
  }
  if (x[1] != w[0]) {
    ctx.fail("the input " + shape_string(x) + " has " + std::to_string(x[1]) +
             " channels, the weights " + shape_string(w) + " want " + std::to_string(w[0]));
  }
  if (groups < 1 || x[1] % groups != 0) {
    ctx.fail("group is " + std::to_string(groups) + "; it must divide the " + std::to_string(x[1]) +
             " input channels");
  }
  const Shape declared = ctx.attr_ints("kernel_shape");
  if (!declared.empty() && declared != kernel_of(w)) {
    ctx.fail("kernel_shape " + shape_string(declared) + " does not fit the weights " +
             shape_string(w));
  }
  if (ctx.dtype(kWeight) != ctx.dtype(kInput)) {
    ctx.fail("the weights are " + std::string(dtype_name(ctx.dtype(kWeight))) + ", the input is " +
             std::string(dtype_name(ctx.dtype(kInput))));
  }
  const int64_t channels = w[1] * groups;
  if (ctx.has_input(kBias) && ctx.shape(kBias) != Shape{channels}) {
    ctx.fail("the bias " + shape_string(ctx.shape(kBias)) + " must be " + shape_string({channels}));
  }
  const Window window = read_transposed_window(ctx, x, kernel_of(w));
  ctx.set_output(0, ctx.dtype(kInput), with_spatial(x[0], channels, window.output));
}

using Problem = TransposedProblem;

void dispatch(LowerContext& ctx, const Problem& p, KernelRequest request, const TensorView& weight,
              Params params, int64_t group, int64_t total) {
  request.types = {{"TX", p.x.dtype}, {"TW", weight.dtype}, {"TY", p.y.dtype}};
  request.constants["HAS_BIAS"] = p.bias ? 1 : 0;
  request.constants["WG"] = group;
  std::vector<TensorView> views{p.x, weight};
  if (p.bias) {
    request.types["TB"] = p.bias->dtype;
    views.push_back(*p.bias);
  }
  views.push_back(p.y);
  params["total"] = total;
  params["cg"] = p.cg;
  params["kg"] = p.kg;
  ctx.dispatch(request, with_epilogue_views(ctx, std::move(views)), std::move(params),
               ctx.linear_groups(ceil_div(total, group)));
}

void lower_block(LowerContext& ctx, const Problem& p) {
  const Caps& caps = ctx.caps();
  const int64_t width = caps.vector_width, vectors = width >= 16 ? 1 : 2, tile = 4;
  const int64_t groups = p.groups;
  WeightPacking packing;
  packing.input = kWeight;
  packing.key = "transposed";
  packing.view = [groups](const TensorView& input) {
    const TensorView weight = with_spatial_rank(input, 3);
    return permute_view(split_axis(weight, 0, {groups, weight.shape[0] / groups}),
                        {0, 2, 1, 3, 4, 5});
  };
  packing.bn = width * vectors;
  const TensorView packed = pack_weights(ctx, packing);
  const Window w = p.window.expanded(2);
  KernelRequest request = request_with_epilogue(ctx, "conv_transpose_block");
  request.constants = {{"VW", width}, {"TM", tile}, {"NV", vectors}};
  Params params{
      {"images", p.x.shape[0]}, {"xs", expanded_strides(p.x, 2)}, {"ys", expanded_strides(p.y, 2)}};
  add_window_params(params, w);
  const int64_t strips = ceil_div(w.output[1], w.stride[1] * tile) * w.stride[1];
  const int64_t total = packed.shape[0] * p.x.shape[0] * w.output[0] * strips;
  const int64_t group = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : kLinearGroup;
  dispatch(ctx, p, std::move(request), packed, std::move(params), group, total);
}

void lower_direct(LowerContext& ctx, const Problem& p) {
  const TensorView weight = ctx.contiguous(ctx.input(kWeight));
  const Window w = p.window.expanded(3);
  Params params{{"channels", p.y.shape[1]},
                {"channels_inner", p.y.strides[1] == 1 ? 1 : 0},
                {"xs", expanded_strides(p.x, 3)},
                {"ys", expanded_strides(p.y, 3)},
                {"ext", w.input},
                {"res", w.output},
                {"k", w.kernel},
                {"stride", w.stride},
                {"dil", w.dilation},
                {"pad", w.pad_begin}};
  dispatch(ctx, p, request_with_epilogue(ctx, "conv_transpose_direct"), weight, std::move(params),
           kLinearGroup, p.y.elements());
}

void lower_transpose(LowerContext& ctx) {
  Problem p;
  p.x = ctx.input(kInput);
  p.y = ctx.output(0);
  const TensorView& weight = ctx.input(kWeight);
  if (ctx.has_input(kBias)) p.bias = ctx.contiguous(ctx.input(kBias));
  p.window = read_transposed_window(ctx, p.x.shape, kernel_of(weight.shape));
  p.groups = ctx.attr_int("group", 1);
  p.cg = p.x.shape[1] / p.groups;
  p.kg = weight.shape[1];
  lower_transposed_convolution(ctx, p);
}

}  // namespace

void lower_transposed_convolution(LowerContext& ctx, const TransposedProblem& p) {
  require_float_storage(ctx, p.x.dtype);
  if (p.y.elements() == 0) return;
  for (const TensorView* view : {&p.x, &p.y, &ctx.input(kWeight)}) require_32bit(ctx, *view);
  const int64_t fewest = ctx.caps().vector_width / 2;
  const bool narrow = p.x.dtype != DType::kFloat64;
  const bool blocks = narrow && p.window.rank() <= 2 && p.kg >= fewest;
  return blocks ? lower_block(ctx, p) : lower_direct(ctx, p);
}

DLK_REGISTER_OPS {
  register_op({
      .name = "ConvTranspose",
      .since_version = 22,
      .doc = "Transposed convolution of 1 to 3 spatial axes with groups, strides, dilations, pads, "
             "auto_pad, output_padding and output_shape.",
      .min_inputs = 2,
      .max_inputs = 3,
      .layout = LayoutRule::kChannelsLast,
      .fuses_epilogue = true,
      .epilogue_channel_axis = 1,
      .infer = infer,
      .lower = [](LowerContext& ctx) { lower_in_batch_slices(ctx, lower_transpose); },
      .mixed_floats = true,
      .gradient = conv_transpose_gradient,
  });
}

}  // namespace dlk
