// LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization,
// MeanVarianceNormalization and LpNormalization: rows of a tensor, normalized.
#include "core/ops/normalization.h"

#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {

namespace {

void infer_same(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  ctx.set_output(0, ctx.dtype(0), ctx.shape(0));
}

void check_channel_vector(InferContext& ctx, size_t input, int64_t channels, const char* what) {
  if (ctx.shape(input) != Shape{channels}) {
    ctx.fail(std::string(what) + " " + shape_string(ctx.shape(input)) + " must be " +
             shape_string({channels}) + " for the input " + shape_string(ctx.shape(0)));
  }
}

// Scale and bias in one dtype, dense; the kernel reads both with one storage type.
void set_affine(LowerContext& ctx, RowNorm& norm, const TensorView& scale,
                const std::optional<TensorView>& bias) {
  norm.scale = ctx.contiguous(scale);
  if (!bias) return;
  norm.bias = ctx.contiguous(*bias);
  if (norm.bias->dtype != norm.scale->dtype) {
    norm.bias = ctx.workspace(norm.scale->dtype, bias->shape);
    ctx.copy(*bias, *norm.bias);
  }
}

std::optional<TensorView> optional_input(const LowerContext& ctx, size_t i) {
  if (!ctx.has_input(i)) return std::nullopt;
  return ctx.input(i);
}

// Layer and RMS ------------------------------------------------------------------------------

Shape normalized_part(const Shape& shape, int64_t axis) {
  return Shape(shape.begin() + axis, shape.end());
}

void infer_layer(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  const Shape& x = ctx.shape(0);
  const int64_t axis = ctx.normalize_axis(ctx.attr_int("axis", -1), ctx.rank(0));
  const Shape part = normalized_part(x, axis);
  for (size_t i = 1; i < ctx.input_count(); ++i) {
    if (ctx.has_input(i) && broadcast_shapes(ctx.shape(i), part) != part) {
      ctx.fail("input " + std::to_string(i) + " " + shape_string(ctx.shape(i)) +
               " cannot be broadcast to the normalized axes " + shape_string(part));
    }
  }
  ctx.set_output(0, ctx.dtype(0), x);
  Shape statistics = x;
  std::fill(statistics.begin() + axis, statistics.end(), 1);
  for (size_t i = 1; i < ctx.output_count(); ++i) {
    if (ctx.has_output(i)) ctx.set_output(i, DType::kFloat32, statistics);
  }
}

void lower_layer(LowerContext& ctx, RowMode mode) {
  const TensorView& x = ctx.input(0);
  const int64_t axis = ctx.normalize_axis(ctx.attr_int("axis", -1), x.rank());
  const Shape part = normalized_part(x.shape, axis);
  RowNorm norm;
  norm.mode = mode;
  norm.eps = ctx.attr_float("epsilon", 1e-5);
  std::optional<TensorView> bias = optional_input(ctx, 2);
  if (bias) bias = broadcast_view(*bias, part);
  set_affine(ctx, norm, broadcast_view(ctx.input(1), part), bias);
  norm.affine_inner = 1;
  if (ctx.has_output(1)) norm.mean = ctx.output(1);
  if (ctx.has_output(2)) norm.inv = ctx.output(2);
  normalize_rows(ctx, {x, ctx.output(0), static_cast<size_t>(axis), 0}, norm);
}

// Instance and group ---------------------------------------------------------------------------

void infer_instance(InferContext& ctx) {
  infer_same(ctx);
  if (ctx.rank(0) < 3) ctx.fail("the input " + shape_string(ctx.shape(0)) + " must be (N, C, ...)");
  check_channel_vector(ctx, 1, ctx.shape(0)[1], "the scale");
  check_channel_vector(ctx, 2, ctx.shape(0)[1], "the bias");
}

void lower_instance(LowerContext& ctx) {
  RowNorm norm;
  norm.eps = ctx.attr_float("epsilon", 1e-5);
  set_affine(ctx, norm, ctx.input(1), ctx.input(2));
  norm.affine_rows = ctx.input(0).shape[1];
  norm.affine_row = 1;
  normalize_rows(ctx, {ctx.input(0), ctx.output(0), 2, 0}, norm);
}

void infer_group(InferContext& ctx) {
  infer_same(ctx);
  if (ctx.rank(0) < 2) ctx.fail("the input " + shape_string(ctx.shape(0)) + " must be (N, C, ...)");
  const int64_t channels = ctx.shape(0)[1], groups = ctx.attr_int("num_groups", 0);
  if (groups < 1 || channels % groups != 0) {
    ctx.fail("num_groups is " + std::to_string(groups) + "; it must divide the " +
             std::to_string(channels) + " channels");
  }
  check_channel_vector(ctx, 1, channels, "the scale");
  check_channel_vector(ctx, 2, channels, "the bias");
}

void lower_group(LowerContext& ctx) {
  const int64_t groups = ctx.attr_int("num_groups", 1);
  const int64_t size = ctx.input(0).shape[1] / groups;
  RowNorm norm;
  norm.eps = ctx.attr_float("epsilon", 1e-5);
  set_affine(ctx, norm, ctx.input(1), ctx.input(2));
  norm.affine_rows = groups;
  norm.affine_row = size;
  norm.affine_outer = 1;
  normalize_rows(ctx,
                 {split_axis(ctx.input(0), 1, {groups, size}),
                  split_axis(ctx.output(0), 1, {groups, size}), 2, 1},
                 norm);
}

// Along given axes -----------------------------------------------------------------------------

// The view with `axes` last.
TensorView axes_last(const TensorView& view, const std::vector<int64_t>& axes) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < view.rank(); ++i) {
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) order.push_back(i);
  }
  order.insert(order.end(), axes.begin(), axes.end());
  return permute_view(view, order);
}

std::vector<int64_t> mean_variance_axes(const NodeReader& node, int64_t rank) {
  std::vector<int64_t> axes = node.attr_ints("axes", {0, 2, 3});
  for (int64_t& axis : axes) axis = node.normalize_axis(axis, rank);
  std::sort(axes.begin(), axes.end());
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end())
    node.fail("an axis is given twice");
  return axes;
}

void lower_mean_variance(LowerContext& ctx) {
  const std::vector<int64_t> axes = mean_variance_axes(ctx, ctx.input(0).rank());
  RowNorm norm;
  norm.mode = RowMode::kDeviation;
  norm.eps = 1e-9;
  const TensorView x = axes_last(ctx.input(0), axes), y = axes_last(ctx.output(0), axes);
  const size_t outer = axes.size() > 1 ? 1 : 0;
  normalize_rows(ctx, {x, y, x.shape.size() - axes.size(), outer}, norm);
}

void infer_lp(InferContext& ctx) {
  infer_same(ctx);
  ctx.normalize_axis(ctx.attr_int("axis", -1), ctx.rank(0));
  const int64_t p = ctx.attr_int("p", 2);
  if (p != 1 && p != 2) ctx.fail("p is " + std::to_string(p) + ", must be 1 or 2");
}

void lower_lp(LowerContext& ctx) {
  const int64_t axis = ctx.normalize_axis(ctx.attr_int("axis", -1), ctx.input(0).rank());
  RowNorm norm;
  norm.mode = ctx.attr_int("p", 2) == 1 ? RowMode::kL1 : RowMode::kL2;
  const TensorView x = axes_last(ctx.input(0), {axis}), y = axes_last(ctx.output(0), {axis});
  normalize_rows(ctx, {x, y, x.shape.size() - 1, 0}, norm);
}

OpSchema schema(const std::string& name, int version, const std::string& doc, int inputs,
                std::function<void(InferContext&)> infer, std::function<void(LowerContext&)> lower,
                std::function<void(GradientContext&)> gradient = {}) {
  OpSchema result;
  result.name = name;
  result.since_version = version;
  result.doc = doc;
  result.min_inputs = result.max_inputs = inputs;
  result.infer = std::move(infer);
  result.lower = std::move(lower);
  result.gradient = std::move(gradient);
  return result;
}

}  // namespace

DLK_REGISTER_OPS {
  OpSchema layer = schema(
      "LayerNormalization", 17,
      "(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on; also the "
      "mean and the inverse deviation.",
      2, infer_layer, [](LowerContext& ctx) { lower_layer(ctx, RowMode::kVariance); });
  layer.max_inputs = 3;
  layer.max_outputs = 3;
  layer.layout = LayoutRule::kContiguous;
  layer.gradient = layer_norm_gradient;
  register_op(layer);
  OpSchema rms = schema("RMSNormalization", 23,
                        "x / sqrt(mean of squares + epsilon) * scale over the axes from `axis` on.",
                        2, infer_layer, [](LowerContext& ctx) { lower_layer(ctx, RowMode::kRms); });
  rms.layout = LayoutRule::kContiguous;
  rms.gradient = layer_norm_gradient;
  register_op(rms);
  register_op(schema("InstanceNormalization", 22, "Normalizes each channel of each image.", 3,
                     infer_instance, lower_instance, group_norm_gradient));
  register_op(schema("GroupNormalization", 21, "Normalizes groups of channels of each image.", 3,
                     infer_group, lower_group, group_norm_gradient));
  register_op(schema(
      "MeanVarianceNormalization", 13, "(x - mean) / (deviation + 1e-9) over `axes`.", 1,
      [](InferContext& ctx) {
        infer_same(ctx);
        mean_variance_axes(ctx, ctx.rank(0));
      },
      lower_mean_variance, mean_variance_gradient));
  register_op(schema("LpNormalization", 22, "x over its p-norm along `axis`, p = 1 or 2.", 1,
                     infer_lp, lower_lp, lp_normalization_gradient));
}

}  // namespace dlk
