// Conv: schema and shape rule. The kernels are chosen in conv_lower.cpp.
#include "core/ops/conv.h"

#include "core/ops/batch_slices.h"
#include "core/ops/gradients.h"

namespace dlk {

namespace {

constexpr size_t kInput = 0, kWeight = 1, kBias = 2;

Shape kernel_of(const Shape& weight) { return Shape(weight.begin() + 2, weight.end()); }

void check_channels(InferContext& ctx, int64_t groups) {
  const Shape& x = ctx.shape(kInput);
  const Shape& w = ctx.shape(kWeight);
  if (x.size() < 3) ctx.fail("the input " + shape_string(x) + " must be (N, C, spatial axes...)");
  if (w.size() != x.size()) {
    ctx.fail("the weights " + shape_string(w) + " must have the rank of the input " +
             shape_string(x));
  }
  if (groups < 1) ctx.fail("group is " + std::to_string(groups) + ", must be at least 1");
  if (x[1] != w[1] * groups) {
    ctx.fail("the input " + shape_string(x) + " has " + std::to_string(x[1]) +
             " channels, the weights " + shape_string(w) + " with group " + std::to_string(groups) +
             " want " + std::to_string(w[1] * groups));
  }
  if (w[0] % groups != 0) {
    ctx.fail("the weights' " + std::to_string(w[0]) +
             " output channels are not divisible by group " + std::to_string(groups));
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
  if (ctx.has_input(kBias) && ctx.shape(kBias) != Shape{w[0]}) {
    ctx.fail("the bias " + shape_string(ctx.shape(kBias)) + " must be " + shape_string({w[0]}));
  }
}

void infer(InferContext& ctx) {
  require_arithmetic_dtype(ctx, kInput);
  check_channels(ctx, ctx.attr_int("group", 1));
  const Shape& w = ctx.shape(kWeight);
  const Window window = read_window(ctx, ctx.shape(kInput), kernel_of(w));
  ctx.set_output(0, ctx.dtype(kInput), with_spatial(ctx.shape(kInput)[0], w[0], window.output));
}

void lower(LowerContext& ctx) {
  ConvProblem problem;
  problem.x = ctx.input(kInput);
  problem.y = ctx.output(0);
  problem.weight_input = kWeight;
  problem.weight = ctx.input(kWeight);
  if (ctx.has_input(kBias)) problem.bias = ctx.contiguous(ctx.input(kBias));
  problem.window = read_window(ctx, problem.x.shape, kernel_of(problem.weight.shape));
  problem.groups = ctx.attr_int("group", 1);
  problem.shuffle = ctx.attr_int(kChannelShuffle, 1);
  lower_convolution(ctx, problem);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({
      .name = "Conv",
      .since_version = 22,
      .doc =
          "Convolution of 1 to 3 spatial axes with groups, strides, dilations, pads or auto_pad.",
      .min_inputs = 2,
      .max_inputs = 3,
      .layout = LayoutRule::kChannelsLast,
      .fuses_epilogue = true,
      .epilogue_channel_axis = 1,
      .infer = infer,
      .lower = [](LowerContext& ctx) { lower_in_batch_slices(ctx, lower); },
      .mixed_floats = true,
      .gradient = conv_gradient,
  });
}

}  // namespace dlk
