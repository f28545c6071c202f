// BatchNormalization (both modes) and LRN: normalization across the channel axis.
#include <algorithm>

#include "core/ops/conv.h"
#include "core/ops/gradients.h"
#include "core/ops/normalization.h"

namespace dlk {

namespace {

void infer_batch(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  const Shape& x = ctx.shape(0);
  if (x.empty()) ctx.fail("the input is a scalar, must be (N, C, ...)");
  const int64_t channels = x.size() > 1 ? x[1] : 1;
  static constexpr const char* kNames[] = {"scale", "bias", "mean", "variance"};
  for (size_t i = 1; i < 5; ++i) {
    if (ctx.shape(i) != Shape{channels}) {
      ctx.fail("the " + std::string(kNames[i - 1]) + " " + shape_string(ctx.shape(i)) +
               " must be " + shape_string({channels}) + " for the input " + shape_string(x));
    }
  }
  const bool training = ctx.attr_int("training_mode", 0) != 0;
  ctx.set_output(0, ctx.dtype(0), x);
  for (size_t i = 1; i < ctx.output_count(); ++i) {
    if (!ctx.has_output(i)) continue;
    if (!training) ctx.fail("outputs after the first exist only with training_mode = 1");
    // The batch's own mean and variance, which the gradient asks for.
    const bool is_saved = i > 2;
    ctx.set_output(i, is_saved ? accumulator_dtype(ctx.dtype(0)) : ctx.dtype(i + 2), {channels});
  }
}

// Both of one dtype, dense.
std::pair<TensorView, TensorView> dense_pair(LowerContext& ctx, const TensorView& a,
                                             const TensorView& b) {
  const TensorView first = ctx.contiguous(a);
  if (b.dtype == a.dtype) return {first, ctx.contiguous(b)};
  const TensorView second = ctx.workspace(a.dtype, b.shape);
  ctx.copy(b, second);
  return {first, second};
}

void update_running(LowerContext& ctx, size_t input, size_t output, const TensorView& batch) {
  if (!ctx.has_output(output)) return;
  const TensorView running = ctx.contiguous(ctx.input(input));
  KernelRequest request;
  request.name = "running_average";
  request.types["T"] = running.dtype;
  dispatch_linear(ctx, std::move(request), {running, batch, ctx.output(output)},
                  {{"momentum", ctx.attr_float("momentum", 0.9)}}, running.elements());
}

void lower_batch(LowerContext& ctx) {
  TensorView x = ctx.input(0), y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  require_32bit(ctx, x);
  require_32bit(ctx, y);
  if (y.elements() == 0) return;
  if (x.rank() == 1) {
    x = insert_axis(x, 1);
    y = insert_axis(y, 1);
  }
  const auto [scale, bias] = dense_pair(ctx, ctx.input(1), ctx.input(2));
  auto [mean, variance] = dense_pair(ctx, ctx.input(3), ctx.input(4));
  if (ctx.attr_int("training_mode", 0) != 0) {
    const int64_t channels = x.shape[1];
    const DType statistics = accumulator_dtype(x.dtype);
    const auto saved = [&](size_t output) {
      const bool fits = ctx.has_output(output) && ctx.output(output).is_contiguous() &&
                        ctx.output(output).dtype == statistics;
      return fits ? ctx.output(output) : ctx.workspace(statistics, {channels});
    };
    mean = saved(3);
    variance = saved(4);
    std::vector<int64_t> order{1, 0};
    for (int64_t i = 2; i < x.rank(); ++i) order.push_back(i);
    const TensorView rows = permute_view(x, order);
    moments_of_rows(ctx, {rows, rows, 1, 1}, mean, variance);
    update_running(ctx, 3, 1, mean);
    update_running(ctx, 4, 2, variance);
    for (const size_t output : {3, 4}) {
      if (ctx.has_output(output)) ctx.copy(output == 3 ? mean : variance, ctx.output(output));
    }
  }
  Shape channel_step(x.shape.size(), 0);
  channel_step[1] = 1;
  // Loops in the order of the result's memory.
  const LoopNest nest = collapse(y.shape, {y.strides, x.strides, channel_step}, {}, true);
  KernelRequest request = request_with_epilogue(ctx, "batch_norm");
  request.types = {{"T", x.dtype}, {"TS", scale.dtype}, {"TM", mean.dtype}};
  request.constants["ND"] = nest.rank();
  dispatch_linear(ctx, std::move(request),
                  with_epilogue_views(ctx, {x, scale, bias, mean, variance, y}),
                  {{"eps", ctx.attr_float("epsilon", 1e-5)},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"order", nest.strides[2]}},
                  y.elements());
}

void infer_lrn(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  const Shape& x = ctx.shape(0);
  if (x.size() < 3 || x.size() > 5) {
    ctx.fail("the input " + shape_string(x) + " must be (N, C, ...) with 1 to 3 spatial axes");
  }
  if (ctx.attr_int("size", 0) < 1) ctx.fail("size must be at least 1");
  ctx.set_output(0, ctx.dtype(0), x);
}

void lower_lrn(LowerContext& ctx) {
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  require_32bit(ctx, x);
  if (y.elements() == 0) return;
  const int64_t size = ctx.attr_int("size", 1);
  Shape dims{1};
  dims.insert(dims.end(), 5 - x.shape.size(), 1);
  dims.insert(dims.end(), x.shape.begin() + 2, x.shape.end());
  KernelRequest request;
  request.name = "lrn";
  request.types["T"] = x.dtype;
  dispatch_linear(ctx, std::move(request), {x, y},
                  {{"channels", x.shape[1]},
                   {"before", (size - 1) / 2},
                   {"after", size - 1 - (size - 1) / 2},
                   {"scale", ctx.attr_float("alpha", 1e-4) / static_cast<double>(size)},
                   {"beta", ctx.attr_float("beta", 0.75)},
                   {"bias", ctx.attr_float("bias", 1.0)},
                   {"dims", dims},
                   {"xs", expanded_strides(x, 3)},
                   {"ys", expanded_strides(y, 3)}},
                  y.elements());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({
      .name = "BatchNormalization",
      .since_version = 15,
      .doc = "(x - mean) / sqrt(variance + epsilon) * scale + bias a channel; with training_mode "
             "the batch's own statistics; then the updated running ones and the batch's.",
      .min_inputs = 5,
      .max_inputs = 5,
      .max_outputs = 5,
      .fuses_epilogue = true,
      .epilogue_channel_axis = 1,
      .infer = infer_batch,
      .lower = lower_batch,
      .gradient = batch_norm_gradient,
  });
  register_op({
      .name = "LRN",
      .since_version = 13,
      .doc = "x / (bias + alpha / size * sum of squares of `size` channels around) ^ beta.",
      .infer = infer_lrn,
      .lower = lower_lrn,
      .gradient = lrn_gradient,
  });
}

}  // namespace dlk
