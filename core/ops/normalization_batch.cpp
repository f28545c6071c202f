// BatchNormalization (both modes) and LRN: normalization across the channel axis.
#include <algorithm>

#include "core/ops/channel_sums.h"
#include "core/ops/conv.h"
#include "core/ops/gradients.h"
#include "core/ops/normalization.h"
#include "core/ops/sorting.h"

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

/// Statistics of the batch, in the accumulator's dtype; the running ones are updated beside them.
std::pair<TensorView, TensorView> batch_statistics(LowerContext& ctx, const TensorView& x) {
  const DType dtype = accumulator_dtype(x.dtype);
  const auto dense = [&](size_t output, DType wanted) {
    const bool fits = ctx.has_output(output) && ctx.output(output).is_contiguous() &&
                      ctx.output(output).dtype == wanted;
    return fits ? ctx.output(output) : ctx.workspace(wanted, {x.shape[1]});
  };
  const TensorView mean = dense(3, dtype), variance = dense(4, dtype);
  std::optional<RunningStatistics> running;
  if (ctx.has_output(1) || ctx.has_output(2)) {
    const auto [old_mean, old_variance] = dense_pair(ctx, ctx.input(3), ctx.input(4));
    running = RunningStatistics{old_mean, old_variance, dense(1, old_mean.dtype),
                                dense(2, old_mean.dtype), ctx.attr_float("momentum", 0.9)};
  }
  channel_moments(ctx, x, mean, variance, running);
  const TensorView made[] = {running ? running->new_mean : mean,
                             running ? running->new_variance : variance, mean, variance};
  for (size_t output = 1; output < 5; ++output) {
    if (ctx.has_output(output)) ctx.copy(made[output - 1], ctx.output(output));
  }
  return {mean, variance};
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
  const auto [mean, variance] = ctx.attr_int("training_mode", 0) != 0
                                    ? batch_statistics(ctx, x)
                                    : dense_pair(ctx, ctx.input(3), ctx.input(4));
  const double epsilon = ctx.attr_float("epsilon", 1e-5);
  if (normalize_channels(ctx, x, y, {scale, bias, mean, variance}, epsilon)) return;
  Shape channel_step(x.shape.size(), 0);
  channel_step[1] = 1;
  // Loops in the order of the result's memory.
  const LoopNest nest = collapse(y.shape, {y.strides, x.strides, channel_step}, {}, true);
  KernelRequest request = request_with_epilogue(ctx, "batch_norm");
  request.types = {{"TX", x.dtype}, {"TY", y.dtype}, {"TS", scale.dtype}, {"TM", mean.dtype}};
  request.constants["ND"] = nest.rank();
  dispatch_linear(ctx, std::move(request),
                  with_epilogue_views(ctx, {x, scale, bias, mean, variance, y}),
                  {{"eps", epsilon},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"order", nest.strides[2]}},
                  y.elements());
}

void infer_batch_gradient(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  if (ctx.shape(1) != x)
    ctx.fail("the gradient " + shape_string(ctx.shape(1)) + " must be " + shape_string(x));
  ctx.set_output(0, ctx.dtype(0), x);
  for (size_t i = 1; i < ctx.output_count(); ++i) ctx.set_output(i, ctx.dtype(2), ctx.shape(2));
}

void lower_batch_gradient(LowerContext& ctx) {
  BatchNormGradient p;
  p.x = ctx.input(0);
  p.dy = ctx.input(1);
  require_float_storage(ctx, p.x.dtype);
  for (const TensorView& view : {p.x, p.dy, ctx.output(0)}) require_32bit(ctx, view);
  std::vector<DenseOutput> results;
  for (const size_t output : {1, 2}) results.emplace_back(ctx, ctx.output(output));
  p.dscale = results[0].view();
  p.dbias = results[1].view();
  if (p.x.elements() == 0) {
    for (DenseOutput& result : results) {
      fill_view(ctx, result.view(), 0);
      result.finish();
    }
    return;
  }
  p.dx = ctx.output(0);
  if (p.x.rank() == 1) {
    for (TensorView* view : {&p.x, &p.dy, &*p.dx}) *view = insert_axis(*view, 1);
  }
  const DType sums = accumulator_dtype(p.x.dtype);
  const auto widened = [&](const TensorView& view) {
    if (view.dtype == sums) return ctx.contiguous(view);
    const TensorView wide = ctx.workspace(sums, view.shape);
    ctx.copy(view, wide);
    return wide;
  };
  p.scale = ctx.contiguous(ctx.input(2));
  p.mean = widened(ctx.input(3));
  p.variance = widened(ctx.input(4));
  p.epsilon = ctx.attr_float("epsilon", 1e-5);
  lower_batch_norm_gradient(ctx, p);
  for (DenseOutput& result : results) result.finish();
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

// Vectors of channels that reach no further than into the next one on either side; 1 for others.
int64_t lrn_width(const LowerContext& ctx, int64_t after) {
  for (int64_t width = ctx.caps().vector_width; width >= 4; width /= 2) {
    const bool fits = after <= width && vectors_along(ctx.input(0), 1, width);
    if (fits && vectors_along(ctx.output(0), 1, width)) return width;
  }
  return 1;
}

void lower_lrn(LowerContext& ctx) {
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  require_32bit(ctx, x);
  if (y.elements() == 0) return;
  const int64_t size = ctx.attr_int("size", 1);
  const int64_t before = (size - 1) / 2, after = size - 1 - before;
  const double beta = ctx.attr_float("beta", 0.75);
  Shape dims(5 - x.shape.size(), 1);
  dims.insert(dims.end(), x.shape.begin() + 2, x.shape.end());
  Shape xs = expanded_strides(x, 3), ys = expanded_strides(y, 3);
  KernelRequest request;
  request.name = "lrn";
  request.types["T"] = x.dtype;
  Params params{{"channels", x.shape[1]},
                {"scale", ctx.attr_float("alpha", 1e-4) / static_cast<double>(size)},
                {"beta", beta},
                {"bias", ctx.attr_float("bias", 1.0)}};
  const int64_t width = lrn_width(ctx, after);
  if (width > 1) {
    request.name = "lrn_vectors";
    request.constants["VW"] = width;
    request.constants["BEFORE"] = before;
    request.constants["AFTER"] = after;
    request.constants["ROOTS"] = beta == 0.75 ? 1 : 0;
    xs.erase(xs.begin() + 1);
    ys.erase(ys.begin() + 1);
  } else {
    params["before"] = before;
    params["after"] = after;
    dims.insert(dims.begin(), 1);
  }
  params["dims"] = dims;
  params["xs"] = xs;
  params["ys"] = ys;
  dispatch_linear(ctx, std::move(request), {x, y}, std::move(params), y.elements() / width);
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
      .mixed_floats = true,
      .gradient = batch_norm_gradient,
      .updates_in_place = true,
      .float32_outputs = 1,
  });
  register_op({
      .name = "BatchNormalizationGradient",
      .domain = "dlk",
      .doc = "Gradients of a batch normalization's data, scale and bias in training; inputs: data, "
             "gradient, scale, mean and variance of the batch; epsilon.",
      .min_inputs = 5,
      .max_inputs = 5,
      .min_outputs = 3,
      .max_outputs = 3,
      .infer = infer_batch_gradient,
      .lower = lower_batch_gradient,
      .mixed_floats = true,
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
