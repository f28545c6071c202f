// Gradients of operators that only move elements, and SumTo, which undoes broadcasting.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/reduce.h"

namespace dlk {

void reshape_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.reshape_like(ctx.output_gradient(0), ctx.input(0)));
}

void transpose_gradient(GradientContext& ctx) {
  const auto count = static_cast<size_t>(ctx.rank(ctx.input(0)));
  std::vector<int64_t> perm = ctx.attr_ints("perm"), inverse(count, 0);
  if (!ctx.has_attr("perm")) {
    perm = all_axes(static_cast<int64_t>(count));
    std::reverse(perm.begin(), perm.end());
  }
  for (size_t i = 0; i < count; ++i)
    inverse.at(static_cast<size_t>(perm[i])) = static_cast<int64_t>(i);
  ctx.set_gradient(0, ctx.onnx("Transpose", {ctx.output_gradient(0)}, {{"perm", inverse}}));
}

void expand_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.sum_to(ctx.output_gradient(0), ctx.input(0)));
}

void concat_gradient(GradientContext& ctx) {
  const int64_t rank = ctx.rank(ctx.input(0));
  const int64_t axis = ctx.normalize_axis(ctx.attr_int("axis", 0), rank);
  std::vector<ValueId> sizes;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    sizes.push_back(ctx.onnx("Shape", {ctx.input(i)}, {{"start", axis}, {"end", axis + 1}}));
  }
  const ValueId split = ctx.onnx("Concat", sizes, {{"axis", int64_t{0}}});
  const auto pieces = ctx.add_node("Split", {ctx.output_gradient(0), split}, {{"axis", axis}},
                                   static_cast<int>(ctx.input_count()), "");
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (ctx.wants(i)) ctx.set_gradient(i, pieces[i]);
  }
}

void split_gradient(GradientContext& ctx) {
  std::vector<ValueId> parts;
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    ValueId part = ctx.output_gradient(i);
    if (part == kNoValue) {
      const HostTensor zero = HostTensor::from_doubles(ctx.dtype(ctx.input(0)), {1}, {0.0});
      part = ctx.onnx("ConstantOfShape", {ctx.shape_of(ctx.saved_output(i))}, {{"value", zero}});
    }
    parts.push_back(part);
  }
  ctx.set_gradient(0, ctx.onnx("Concat", parts, {{"axis", ctx.attr_int("axis", 0)}}));
}

void slice_gradient(GradientContext& ctx) {
  std::vector<ValueId> inputs{ctx.output_gradient(0)};
  for (size_t i = 1; i < 5; ++i) inputs.push_back(ctx.input(i));
  inputs.push_back(ctx.shape_of(ctx.input(0)));
  ctx.set_gradient(0, ctx.own("SliceGradient", inputs));
}

namespace {

/// Of the modes that repeat elements. Along each axis the result is a Gather, whose indices are
/// what padding makes of 0, 1, 2, ...
void repeated_pad_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0);
  const auto pads = ctx.constant(ctx.input(1));
  const auto given = ctx.has_input(3) ? ctx.constant(ctx.input(3)) : std::nullopt;
  if (!pads || (ctx.has_input(3) && !given)) {
    ctx.unsupported(
        "has a gradient in modes other than constant where pads and axes are constants");
  }
  const std::vector<int64_t> amounts = pads->to_ints();
  const std::vector<int64_t> axes = given ? given->to_ints() : all_axes(ctx.rank(x));
  if (amounts.size() != 2 * axes.size()) ctx.fail("pads must be two numbers for each axis");
  ValueId dx = ctx.output_gradient(0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = ctx.normalize_axis(axes[i], ctx.rank(x));
    const int64_t begin = amounts[i], end = amounts[i + axes.size()];
    if (begin == 0 && end == 0) continue;
    const ValueId size = ctx.onnx("Shape", {x}, {{"start", axis}, {"end", axis + 1}});
    const ValueId zero = ctx.add_constant(HostTensor::scalar(DType::kInt64, 0));
    const ValueId one = ctx.add_constant(HostTensor::scalar(DType::kInt64, 1));
    const ValueId count = ctx.onnx("Squeeze", {size, ctx.ints({0})});
    const ValueId places =
        ctx.onnx("Pad", {ctx.onnx("Range", {zero, count, one}), ctx.ints({begin, end})},
                 {{"mode", ctx.attr_string("mode", "constant")}});
    const ValueId before = ctx.onnx("Shape", {dx}, {{"start", int64_t{0}}, {"end", axis}});
    const ValueId after = ctx.onnx("Shape", {dx}, {{"start", axis + 1}});
    const ValueId shape = ctx.onnx("Concat", {before, size, after}, {{"axis", int64_t{0}}});
    dx = ctx.own("GatherGradient", {dx, places, shape}, {{"axis", axis}});
  }
  ctx.set_gradient(0, dx);
}

}  // namespace

void pad_gradient(GradientContext& ctx) {
  const std::string mode = ctx.attr_string("mode", "constant");
  if (!ctx.has_input(1)) ctx.unsupported("pads must be an input to have a gradient");
  if (mode != "constant") return repeated_pad_gradient(ctx);
  const ValueId dy = ctx.output_gradient(0);
  std::vector<ValueId> inputs{dy, ctx.onnx("Neg", {ctx.input(1)})};
  if (ctx.has_input(3)) {
    inputs.push_back(kNoValue);
    inputs.push_back(ctx.input(3));
  }
  const ValueId dx = ctx.onnx("Pad", inputs);
  ctx.set_gradient(0, dx);
  if (!ctx.wants(2)) return;
  const ValueId padding =
      ctx.onnx("Sub", {ctx.onnx("ReduceSum", {dy}, {{"keepdims", int64_t{0}}}),
                       ctx.onnx("ReduceSum", {dx}, {{"keepdims", int64_t{0}}})});
  ctx.set_gradient(2, ctx.reshape_like(padding, ctx.input(2)));
}

void tile_gradient(GradientContext& ctx) {
  // (r0, d0, r1, d1, ...), summed over the repeats.
  const auto as_column = [&](ValueId v) { return ctx.onnx("Unsqueeze", {v, ctx.ints({1})}); };
  const ValueId repeats = as_column(ctx.input(1)), dims = as_column(ctx.shape_of(ctx.input(0)));
  const ValueId pairs = ctx.onnx("Concat", {repeats, dims}, {{"axis", int64_t{1}}});
  const ValueId shape = ctx.onnx("Reshape", {pairs, ctx.ints({-1})});
  const ValueId parts =
      ctx.onnx("Reshape", {ctx.output_gradient(0), shape}, {{"allowzero", int64_t{1}}});
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < ctx.rank(ctx.input(0)); ++i) axes.push_back(2 * i);
  ctx.set_gradient(
      0, axes.empty() ? ctx.reshape_like(parts, ctx.input(0)) : ctx.reduce_sum(parts, axes, false));
}

namespace {

/// The input as a view of the target's rank, and the axes to sum.
std::vector<int64_t> summed_axes(const NodeReader& node, const Shape& from, const Shape& to) {
  if (to.size() > from.size() || broadcast_shapes(from, to) != from) {
    node.fail(shape_string(from) + " is no broadcast of " + shape_string(to));
  }
  const size_t added = from.size() - to.size();
  std::vector<int64_t> axes;
  for (size_t i = 0; i < from.size(); ++i) {
    if (i < added || (to[i - added] == 1 && from[i] != 1)) axes.push_back(static_cast<int64_t>(i));
  }
  return axes;
}

void infer_sum_to(InferContext& ctx) {
  const Shape shape = ctx.require_constant(1, "the shape").to_ints();
  summed_axes(ctx, ctx.shape(0), shape);
  ctx.set_output(0, ctx.dtype(0), shape);
}

std::optional<AliasResult> alias_sum_to(const AliasContext& ctx) {
  if (ctx.input(0).shape != ctx.output_shape(0)) return std::nullopt;
  return AliasResult{0, ctx.input(0)};
}

void lower_sum_to(LowerContext& ctx) {
  const TensorView& from = ctx.input(0);
  TensorView to = ctx.output(0);
  const std::vector<int64_t> axes = summed_axes(ctx, from.shape, to.shape);
  if (axes.empty()) return ctx.copy(from, to);
  while (to.rank() < from.rank()) to = insert_axis(to, 0);
  dispatch_reduction(ctx, "ReduceSum", from, to, axes);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "SumTo",
               .domain = "dlk",
               .doc = "The sum over the axes that broadcasting from a shape repeated.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_sum_to,
               .alias = alias_sum_to,
               .lower = lower_sum_to,
               .gradient = [](GradientContext& ctx) {
                 ctx.set_gradient(0, ctx.expand_like(ctx.output_gradient(0), ctx.input(0)));
               }});
}

}  // namespace dlk
