// Gradients of operators that address elements: by index, by position, by block, by resampling.
#include <algorithm>

#include "core/ops/gradients.h"

namespace dlk {

namespace {

ValueId zeros_like(GradientContext& ctx, ValueId like) {
  const HostTensor zero = HostTensor::from_doubles(ctx.dtype(like), {1}, {0.0});
  return ctx.onnx("ConstantOfShape", {ctx.shape_of(like)}, {{"value", zero}});
}

const std::string kAdd = "add";

}  // namespace

void gather_elements_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0);
  ctx.set_gradient(
      0, ctx.onnx("ScatterElements", {zeros_like(ctx, x), ctx.input(1), ctx.output_gradient(0)},
                  {{"axis", ctx.attr_int("axis", 0)}, {"reduction", kAdd}}));
}

void scatter_gradient(GradientContext& ctx) {
  const std::string reduction = ctx.attr_string("reduction", "none");
  if (reduction != "none" && reduction != "add") {
    ctx.unsupported("has a gradient with reduction none or add, not " + reduction);
  }
  const ValueId dy = ctx.output_gradient(0), indices = ctx.input(1), updates = ctx.input(2);
  const bool elements = ctx.node().op == "ScatterElements";
  Attributes attributes;
  if (elements) attributes["axis"] = ctx.attr_int("axis", 0);
  if (ctx.wants(2)) {
    ctx.set_gradient(2,
                     ctx.onnx(elements ? "GatherElements" : "GatherND", {dy, indices}, attributes));
  }
  if (!ctx.wants(0)) return;
  const bool replaced = reduction == "none";
  ctx.set_gradient(
      0,
      replaced ? ctx.onnx(ctx.node().op, {dy, indices, zeros_like(ctx, updates)}, attributes) : dy);
}

void top_k_gradient(GradientContext& ctx) {
  if (ctx.output_gradient(0) == kNoValue) return;
  ctx.set_gradient(
      0, ctx.onnx("ScatterElements",
                  {zeros_like(ctx, ctx.input(0)), ctx.saved_output(1), ctx.output_gradient(0)},
                  {{"axis", ctx.attr_int("axis", -1)}}));
}

void cumulative_sum_gradient(GradientContext& ctx) {
  Attributes attributes{{"exclusive", ctx.attr_int("exclusive", 0)},
                        {"reverse", 1 - ctx.attr_int("reverse", 0)}};
  ctx.set_gradient(0, ctx.onnx("CumSum", {ctx.output_gradient(0), ctx.input(1)}, attributes));
}

void same_operator_gradient(GradientContext& ctx) {
  std::vector<ValueId> inputs{ctx.output_gradient(0)};
  for (size_t i = 1; i < ctx.input_count(); ++i) inputs.push_back(ctx.input(i));
  ctx.set_gradient(0, ctx.onnx(ctx.node().op, inputs, ctx.node().attributes));
}

void depth_to_space_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0);
  const int64_t block = ctx.attr_int("blocksize", 1);
  ValueId blocks = ctx.onnx("SpaceToDepth", {ctx.output_gradient(0)}, {{"blocksize", block}});
  if (ctx.attr_string("mode", "DCR") == "CRD") {
    // (block, block, channel) to (channel, block, block).
    const int64_t area = block * block, channels = ctx.example_shape(x).at(1) / area;
    const ValueId parts = ctx.onnx("Reshape", {blocks, ctx.ints({0, area, channels, -1})});
    const ValueId turned =
        ctx.onnx("Transpose", {parts}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    blocks = ctx.reshape_like(turned, x);
  }
  ctx.set_gradient(0, blocks);
}

void space_to_depth_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.onnx("DepthToSpace", {ctx.output_gradient(0)},
                               {{"blocksize", ctx.attr_int("blocksize", 1)}}));
}

void resize_gradient(GradientContext& ctx) {
  // Resampling is linear and separable: along an axis it is a product with what resizing makes of
  // the identity matrix, and the gradient is the product with that matrix turned.
  if (ctx.attr_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize") {
    ctx.unsupported("has no gradient with tf_crop_and_resize");
  }
  if (ctx.attr_string("keep_aspect_ratio_policy", "stretch") != "stretch") {
    ctx.unsupported("has a gradient with keep_aspect_ratio_policy stretch only");
  }
  const ValueId x = ctx.input(0);
  const bool upsample = ctx.node().op == "Upsample";
  const int64_t rank = ctx.rank(x);
  const size_t factors = upsample ? 1 : ctx.has_input(3) ? 3 : 2;
  std::vector<int64_t> axes = ctx.attr_ints("axes");
  if (axes.empty()) {
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  Attributes attributes = ctx.node().attributes;
  attributes.erase("axes");
  ValueId dx = ctx.output_gradient(0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = ctx.normalize_axis(axes[i], rank);
    const auto at = static_cast<size_t>(axis);
    if (ctx.example_shape(x)[at] == ctx.example_shape(ctx.output(0))[at]) continue;
    const auto which = static_cast<int64_t>(i);
    const ValueId factor =
        ctx.onnx("Slice", {ctx.input(factors), ctx.ints({which}), ctx.ints({which + 1})});
    const ValueId size = ctx.onnx("Shape", {x}, {{"start", axis}, {"end", axis + 1}});
    const ValueId square = ctx.onnx("Concat", {size, size}, {{"axis", int64_t{0}}});
    const HostTensor zero = HostTensor::from_doubles(ctx.dtype(x), {1}, {0.0});
    const ValueId identity =
        ctx.onnx("EyeLike", {ctx.onnx("ConstantOfShape", {square}, {{"value", zero}})});
    const ValueId one =
        factors == 3 ? size
                     : ctx.add_constant(HostTensor::from_doubles(DType::kFloat32, {1}, {1.0}));
    const ValueId both = ctx.onnx("Concat", {one, factor}, {{"axis", int64_t{0}}});
    std::vector<ValueId> inputs{identity};
    if (upsample) {
      inputs.push_back(both);
    } else {
      inputs.resize(factors + 1, kNoValue);
      inputs[factors] = both;
    }
    const ValueId matrix = ctx.onnx(ctx.node().op, inputs, attributes);  // (in, out)
    std::vector<int64_t> order;
    for (int64_t d = 0; d < rank; ++d) order.push_back(d);
    std::swap(order[at], order.back());
    const auto turned = [&](ValueId v) {
      return axis == rank - 1 ? v : ctx.onnx("Transpose", {v}, {{"perm", order}});
    };
    const ValueId back = ctx.onnx("Transpose", {matrix}, {{"perm", std::vector<int64_t>{1, 0}}});
    dx = turned(ctx.onnx("MatMul", {turned(dx), back}));
  }
  ctx.set_gradient(0, dx);
}

}  // namespace dlk
