// Gradients of the normalizations, as expressions. All are one formula: with n = (x - mean) * inv
// over some axes and g the gradient by n,  dx = inv * (g - mean(g) - n * mean(g * n)).
#include "core/ops/gradients.h"

namespace dlk {

namespace {

using Axes = std::vector<int64_t>;

ValueId mean_over(GradientContext& ctx, ValueId x, const Axes& axes) {
  return ctx.onnx("ReduceMean", {x, ctx.ints(axes)}, {{"keepdims", int64_t{1}}});
}

/// A tensor of C numbers as (C, 1, ...), which broadcasts along axis 1 of rank `rank`.
ValueId by_channel(GradientContext& ctx, ValueId v, int64_t rank) {
  if (rank <= 2) return v;
  Axes axes;
  for (int64_t i = 1; i < rank - 1; ++i) axes.push_back(i);
  return ctx.onnx("Unsqueeze", {v, ctx.ints(axes)});
}

Axes all_but_channels(int64_t rank) {
  Axes axes{0};
  for (int64_t i = 2; i < rank; ++i) axes.push_back(i);
  return axes;
}

ValueId inverse_deviation(GradientContext& ctx, ValueId variance, double epsilon) {
  const ValueId safe = ctx.onnx("Add", {variance, ctx.scalar(epsilon, variance)});
  return ctx.onnx("Reciprocal", {ctx.onnx("Sqrt", {safe})});
}

ValueId normalized(GradientContext& ctx, ValueId x, ValueId mean, ValueId inverse) {
  return ctx.onnx("Mul", {ctx.onnx("Sub", {x, mean}), inverse});
}

/// dx, from the normalized x, the gradient by it and the inverse deviation.
ValueId through_statistics(GradientContext& ctx, ValueId n, ValueId g, ValueId inverse,
                           const Axes& axes, bool centred = true) {
  const ValueId along = ctx.onnx("Mul", {n, mean_over(ctx, ctx.onnx("Mul", {g, n}), axes)});
  ValueId rest = ctx.onnx("Sub", {g, along});
  if (centred) rest = ctx.onnx("Sub", {rest, mean_over(ctx, g, axes)});
  return ctx.onnx("Mul", {rest, inverse});
}

}  // namespace

void batch_norm_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0), dy = ctx.output_gradient(0);
  if (dy == kNoValue) return;
  const int64_t rank = ctx.rank(x);
  const double epsilon = ctx.attr_float("epsilon", 1e-5);
  if (ctx.attr_int("training_mode", 0) != 0) {
    const auto made = ctx.add_node("BatchNormalizationGradient",
                                   {x, dy, ctx.input(1), ctx.saved_output(3), ctx.saved_output(4)},
                                   {{"epsilon", epsilon}}, 3, "dlk");
    for (size_t i = 0; i < made.size(); ++i) ctx.set_gradient(i, made[i]);
    return;
  }
  const ValueId mean = ctx.input(3), variance = ctx.input(4);
  const ValueId inverse = by_channel(ctx, inverse_deviation(ctx, variance, epsilon), rank);
  const ValueId scale = by_channel(ctx, ctx.input(1), rank);
  const Axes axes = all_but_channels(rank);
  const ValueId n = normalized(ctx, x, by_channel(ctx, mean, rank), inverse);
  const ValueId slope = ctx.onnx("Mul", {scale, inverse});
  const ValueId sum = ctx.reduce_sum(dy, axes, false);
  const ValueId inverse_c = inverse_deviation(ctx, variance, epsilon);
  const ValueId slope_c = ctx.onnx("Mul", {ctx.input(1), inverse_c});
  if (ctx.wants(3)) ctx.set_gradient(3, ctx.onnx("Neg", {ctx.onnx("Mul", {sum, slope_c})}));
  if (ctx.wants(4)) {
    const ValueId along = ctx.reduce_sum(ctx.onnx("Mul", {dy, n}), axes, false);
    const ValueId half = ctx.onnx("Mul", {along, ctx.scalar(-0.5, along)});
    ctx.set_gradient(4, ctx.onnx("Mul", {half, ctx.onnx("Mul", {slope_c, inverse_c})}));
  }
  ctx.set_gradient(0, ctx.onnx("Mul", {dy, slope}));
  if (ctx.wants(1)) ctx.set_gradient(1, ctx.reduce_sum(ctx.onnx("Mul", {dy, n}), axes, false));
  if (ctx.wants(2)) ctx.set_gradient(2, ctx.reduce_sum(dy, axes, false));
}

void layer_norm_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0), scale = ctx.input(1), dy = ctx.output_gradient(0);
  if (dy == kNoValue) ctx.unsupported("only its first output has a gradient");
  const bool centred = ctx.node().op == "LayerNormalization";
  const int64_t rank = ctx.rank(x);
  Axes axes;
  for (int64_t i = ctx.normalize_axis(ctx.attr_int("axis", -1), rank); i < rank; ++i) {
    axes.push_back(i);
  }
  ValueId inverse = kNoValue, n = kNoValue;
  if (centred) {
    inverse = ctx.saved_output(2);
    n = normalized(ctx, x, ctx.saved_output(1), inverse);
  } else {
    const ValueId square = mean_over(ctx, ctx.onnx("Mul", {x, x}), axes);
    inverse = inverse_deviation(ctx, square, ctx.attr_float("epsilon", 1e-5));
    n = ctx.onnx("Mul", {x, inverse});
  }
  if (ctx.wants(0)) {
    const ValueId g = ctx.onnx("Mul", {dy, scale});
    ctx.set_gradient(0, through_statistics(ctx, n, g, inverse, axes, centred));
  }
  if (ctx.wants(1)) ctx.set_gradient(1, ctx.sum_to(ctx.onnx("Mul", {dy, n}), scale));
  if (ctx.has_input(2) && ctx.wants(2)) ctx.set_gradient(2, ctx.sum_to(dy, ctx.input(2)));
}

/// InstanceNormalization and GroupNormalization: rows of (N, groups, rest).
void group_norm_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0), dy = ctx.output_gradient(0);
  const int64_t rank = ctx.rank(x);
  const int64_t groups = ctx.attr_int("num_groups", 0);
  const auto rows = [&](ValueId v) {
    return ctx.onnx("Reshape", {v, ctx.ints({0, groups, -1})});  // 0 groups: one a channel
  };
  const ValueId scale = by_channel(ctx, ctx.input(1), rank);
  const ValueId xr = rows(x);
  const ValueId mean = mean_over(ctx, xr, {2});
  const ValueId centred = ctx.onnx("Sub", {xr, mean});
  const ValueId variance = mean_over(ctx, ctx.onnx("Mul", {centred, centred}), {2});
  const ValueId inverse = inverse_deviation(ctx, variance, ctx.attr_float("epsilon", 1e-5));
  const ValueId n = ctx.onnx("Mul", {centred, inverse});
  if (ctx.wants(0)) {
    const ValueId g = rows(ctx.onnx("Mul", {dy, scale}));
    ctx.set_gradient(0, ctx.reshape_like(through_statistics(ctx, n, g, inverse, {2}), x));
  }
  const Axes axes = all_but_channels(rank);
  if (ctx.wants(1)) {
    const ValueId along = ctx.onnx("Mul", {dy, ctx.reshape_like(n, x)});
    ctx.set_gradient(1, ctx.reduce_sum(along, axes, false));
  }
  if (ctx.wants(2)) ctx.set_gradient(2, ctx.reduce_sum(dy, axes, false));
}

void mean_variance_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0);
  const Axes axes = ctx.attr_ints("axes", {0, 2, 3});
  const ValueId centred = ctx.onnx("Sub", {x, mean_over(ctx, x, axes)});
  const ValueId variance = mean_over(ctx, ctx.onnx("Mul", {centred, centred}), axes);
  const ValueId inverse = inverse_deviation(ctx, variance, 0.0);
  const ValueId n = ctx.onnx("Mul", {centred, inverse});
  ctx.set_gradient(0, through_statistics(ctx, n, ctx.output_gradient(0), inverse, axes));
}

void lp_normalization_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0), y = ctx.output(0), dy = ctx.output_gradient(0);
  const Axes axes{ctx.attr_int("axis", -1)};
  const bool first = ctx.attr_int("p", 2) == 1;
  const std::string norm_op = first ? "ReduceL1" : "ReduceL2";
  const ValueId norm = ctx.onnx(norm_op, {x, ctx.ints(axes)}, {{"keepdims", int64_t{1}}});
  const ValueId along = ctx.reduce_sum(ctx.onnx("Mul", {dy, y}), axes, true);
  const ValueId direction = first ? ctx.onnx("Sign", {x}) : y;
  const ValueId rest = ctx.onnx("Sub", {dy, ctx.onnx("Mul", {direction, along})});
  ctx.set_gradient(0, ctx.onnx("Div", {rest, norm}));
}

void lrn_gradient(GradientContext& ctx) {
  // y = x * s^-beta with s = bias + k * (sum of squares of the channels around), k = alpha / size:
  // dx = dy * s^-beta - 2 k beta x * (sum around of dy * x * s^(-beta - 1)).
  const ValueId x = ctx.input(0), dy = ctx.output_gradient(0);
  const int64_t size = ctx.attr_int("size", 1), before = (size - 1) / 2, after = size - 1 - before;
  const double beta = ctx.attr_float("beta", 0.75), bias = ctx.attr_float("bias", 1.0);
  const double k = ctx.attr_float("alpha", 1e-4) / static_cast<double>(size);
  const auto sum_around = [&](ValueId v, int64_t begin, int64_t end) {
    const ValueId pixels = ctx.onnx("Shape", {v}, {{"start", int64_t{1}}, {"end", int64_t{2}}});
    const ValueId shape = ctx.onnx("Concat", {ctx.ints({0}), ctx.ints({1}), pixels, ctx.ints({-1})},
                                   {{"axis", int64_t{0}}});
    const ValueId mean = ctx.onnx("AveragePool", {ctx.onnx("Reshape", {v, shape})},
                                  {{"kernel_shape", std::vector<int64_t>{size, 1}},
                                   {"pads", std::vector<int64_t>{begin, 0, end, 0}},
                                   {"count_include_pad", int64_t{1}}});
    const ValueId sum = ctx.onnx("Mul", {mean, ctx.scalar(static_cast<double>(size), x)});
    return ctx.reshape_like(sum, x);
  };
  const ValueId squares = sum_around(ctx.onnx("Mul", {x, x}), before, after);
  const ValueId s =
      ctx.onnx("Add", {ctx.onnx("Mul", {squares, ctx.scalar(k, x)}), ctx.scalar(bias, x)});
  const ValueId power = ctx.onnx("Pow", {s, ctx.scalar(-beta, x)});
  const ValueId inner = ctx.onnx("Div", {ctx.onnx("Mul", {ctx.onnx("Mul", {dy, x}), power}), s});
  const ValueId around = sum_around(inner, after, before);
  const ValueId far =
      ctx.onnx("Mul", {ctx.onnx("Mul", {x, around}), ctx.scalar(2.0 * k * beta, x)});
  ctx.set_gradient(0, ctx.onnx("Sub", {ctx.onnx("Mul", {dy, power}), far}));
}

}  // namespace dlk
