// RoiAlign, MaxRoiPool, DeformConv, MaxUnpool and Col2Im.
#include <algorithm>

#include "core/ops/gradient.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {
namespace {

void require_image(const InferContext& context) {
  require_arithmetic_dtype(context, 0);
  if (context.rank(0) != 4) {
    context.fail("the input " + shape_string(context.shape(0)) + " must be (N, C, H, W)");
  }
}

/// Of the regions: rows of at least `columns` numbers.
void require_regions(const InferContext& context, int64_t columns) {
  if (context.rank(1) != 2 || context.shape(1)[1] != columns) {
    context.fail("the regions " + shape_string(context.shape(1)) + " must be (count, " +
                 std::to_string(columns) + ")");
  }
}

bool takes_largest(const NodeReader& node) {
  const std::string mode = node.attr_string("mode", "avg");
  if (mode != "avg" && mode != "max") node.fail("mode is avg or max, not " + mode);
  return mode == "max";
}

bool is_half_pixel(const NodeReader& node) {
  const std::string mode = node.attr_string("coordinate_transformation_mode", "half_pixel");
  if (mode != "half_pixel" && mode != "output_half_pixel") {
    node.fail("coordinate_transformation_mode is half_pixel or output_half_pixel, not " + mode);
  }
  return mode == "half_pixel";
}

void infer_roi_align(InferContext& context) {
  require_image(context);
  require_regions(context, 4);
  takes_largest(context);
  is_half_pixel(context);
  const int64_t count = context.shape(1)[0];
  if (context.shape(2) != Shape{count}) context.fail("needs one batch index a region");
  context.set_output(0, context.dtype(0),
                     {count, context.shape(0)[1], context.attr_int("output_height", 1),
                      context.attr_int("output_width", 1)});
}

void lower_roi_align(LowerContext& context) {
  const TensorView &x = context.input(0), &regions = context.input(1), &y = context.output(0);
  require_float_storage(context, x.dtype);
  const TensorView indices = index_view(context, context.input(2));
  KernelRequest request;
  request.name = "roi_align";
  request.types = {{"T", x.dtype}, {"TR", regions.dtype}};
  request.constants = {{"MODE", takes_largest(context) ? 1 : 0}};
  dispatch_linear(context, request, {x, regions, indices, y},
                  {{"channels", y.shape[1]},
                   {"out_h", y.shape[2]},
                   {"out_w", y.shape[3]},
                   {"samples", std::max<int64_t>(0, context.attr_int("sampling_ratio", 0))},
                   {"r_row", regions.strides[0]},
                   {"r_col", regions.strides[1]},
                   {"i_step", indices.strides[0]},
                   {"xs", x.strides},
                   {"ys", y.strides},
                   {"height", x.shape[2]},
                   {"width", x.shape[3]},
                   {"scale", context.attr_float("spatial_scale", 1.0)},
                   {"offset", is_half_pixel(context) ? 0.5 : 0.0}},
                  y.elements());
}

void infer_roi_pool(InferContext& context) {
  require_image(context);
  require_regions(context, 5);
  const Shape pooled = context.attr_ints("pooled_shape");
  if (pooled.size() != 2) context.fail("pooled_shape must be two numbers");
  context.set_output(0, context.dtype(0),
                     {context.shape(1)[0], context.shape(0)[1], pooled[0], pooled[1]});
}

void lower_roi_pool(LowerContext& context) {
  const TensorView &x = context.input(0), &regions = context.input(1), &y = context.output(0);
  require_float_storage(context, x.dtype);
  KernelRequest request;
  request.name = "roi_max_pool";
  request.types = {{"T", x.dtype}};
  dispatch_linear(context, request, {x, regions, y},
                  {{"channels", y.shape[1]},
                   {"out_h", y.shape[2]},
                   {"out_w", y.shape[3]},
                   {"r_row", regions.strides[0]},
                   {"r_col", regions.strides[1]},
                   {"xs", x.strides},
                   {"ys", y.strides},
                   {"height", x.shape[2]},
                   {"width", x.shape[3]},
                   {"scale", context.attr_float("spatial_scale", 1.0)}},
                  y.elements());
}

void infer_deform_conv(InferContext& context) {
  require_image(context);
  const Shape &x = context.shape(0), &w = context.shape(1), &offset = context.shape(2);
  const int64_t groups = context.attr_int("group", 1);
  const int64_t offsets = context.attr_int("offset_group", 1);
  if (w.size() != 4 || groups < 1 || x[1] != w[1] * groups || w[0] % groups != 0) {
    context.fail("the weights " + shape_string(w) + " do not fit the input " + shape_string(x));
  }
  if (offsets < 1 || x[1] % offsets != 0) context.fail("offset_group does not divide the channels");
  const Window window = read_window(context, x, {w[2], w[3]});
  const int64_t taps = w[2] * w[3];
  if (offset != with_spatial(x[0], offsets * taps * 2, window.output)) {
    context.fail("the offsets are " + shape_string(offset) + ", expected " +
                 shape_string(with_spatial(x[0], offsets * taps * 2, window.output)));
  }
  if (context.has_input(3) && context.shape(3) != Shape{w[0]}) {
    context.fail("the bias must be " + shape_string({w[0]}));
  }
  if (context.has_input(4) &&
      context.shape(4) != with_spatial(x[0], offsets * taps, window.output)) {
    context.fail("the mask is " + shape_string(context.shape(4)));
  }
  context.set_output(0, context.dtype(0), with_spatial(x[0], w[0], window.output));
}

void lower_deform_conv(LowerContext& context) {
  const TensorView &x = context.input(0), &offset = context.input(2), &y = context.output(0);
  const TensorView w = context.contiguous(context.input(1));
  require_float_storage(context, x.dtype);
  const bool has_bias = context.has_input(3), has_mask = context.has_input(4);
  const Window window = read_window(context, x.shape, {w.shape[2], w.shape[3]});
  KernelRequest request;
  request.name = "deform_conv";
  request.types = {{"T", x.dtype}};
  request.constants = {{"HAS_BIAS", has_bias ? 1 : 0}, {"HAS_MASK", has_mask ? 1 : 0}};
  std::vector<TensorView> views{x, w, offset};
  if (has_bias) views.push_back(context.contiguous(context.input(3)));
  if (has_mask) views.push_back(context.input(4));
  views.push_back(y);
  dispatch_linear(context, request, views,
                  {{"channels", y.shape[1]},
                   {"cg", w.shape[1]},
                   {"kg", y.shape[1] / context.attr_int("group", 1)},
                   {"per_offset", x.shape[1] / context.attr_int("offset_group", 1)},
                   {"k_h", w.shape[2]},
                   {"k_w", w.shape[3]},
                   {"out_h", y.shape[2]},
                   {"out_w", y.shape[3]},
                   {"stride_h", window.stride[0]},
                   {"stride_w", window.stride[1]},
                   {"dil_h", window.dilation[0]},
                   {"dil_w", window.dilation[1]},
                   {"pad_h", window.pad_begin[0]},
                   {"pad_w", window.pad_begin[1]},
                   {"height", x.shape[2]},
                   {"width", x.shape[3]},
                   {"xs", x.strides},
                   {"os", offset.strides},
                   {"ms", has_mask ? context.input(4).strides : Shape(4, 0)},
                   {"ys", y.strides}},
                  y.elements());
}

/// The shape that the pool which gave the indices had read.
Shape unpooled_shape(const NodeReader& node, const Shape& x) {
  const Shape kernel = node.attr_ints("kernel_shape");
  const size_t axes = x.size() < 3 ? 0 : x.size() - 2;
  if (axes == 0 || kernel.size() != axes) {
    node.fail("kernel_shape " + shape_string(kernel) + " does not fit the input " +
              shape_string(x));
  }
  const Shape strides = node.attr_ints("strides", Shape(axes, 1));
  const Shape pads = node.attr_ints("pads", Shape(2 * axes, 0));
  if (strides.size() != axes || pads.size() != 2 * axes) {
    node.fail("strides or pads do not fit the input " + shape_string(x));
  }
  Shape shape{x[0], x[1]};
  for (size_t i = 0; i < axes; ++i) {
    shape.push_back((x[i + 2] - 1) * strides[i] - pads[i] - pads[i + axes] + kernel[i]);
    if (shape.back() < 0) node.fail("strides, pads and kernel_shape leave no output");
  }
  return shape;
}

void infer_max_unpool(InferContext& context) {
  if (context.shape(1) != context.shape(0)) context.fail("needs one index an element");
  const Shape inner = unpooled_shape(context, context.shape(0));
  Shape shape = inner;
  if (context.has_input(2)) {
    shape = required_ints(context, 2, "output_shape");
    for (size_t i = 0; i < inner.size(); ++i) {
      if (shape.size() != inner.size() || shape[i] < inner[i]) {
        context.fail("output_shape " + shape_string(shape) + " must be at least " +
                     shape_string(inner));
      }
    }
  }
  context.set_output(0, context.dtype(0), shape);
}

void lower_max_unpool(LowerContext& context) {
  const TensorView& y = context.output(0);
  fill_view(context, y, 0);
  const TensorView x = context.contiguous(context.input(0));
  const TensorView raw = raw_view(x, context.caps());
  if (raw.rank() != x.rank()) context.unsupported("8-byte elements without 64-bit integers");
  const TensorView indices = index_view(context, context.contiguous(context.input(1)));
  const Shape inner = unpooled_shape(context, x.shape);
  KernelRequest request;
  request.name = "max_unpool";
  request.types = {{"T", raw.dtype}};
  request.constants = {{"ND", static_cast<int64_t>(inner.size())}};
  dispatch_linear(context, request, {raw, indices, raw_view(y, context.caps())},
                  {{"x_step", 1},
                   {"i_step", dtype_size(context.input(1).dtype) / 4},
                   {"inner", inner},
                   {"ys", y.strides}},
                  x.elements());
}

/// Sizes and steps of Col2Im over three spatial axes; added leading ones have one block.
struct Columns {
  Shape image, block, dilation, stride, pad, counts;
  int64_t axes = 0;

  int64_t taps() const { return product(block); }
};

template <typename Context>
Columns read_columns(const Context& context) {
  Columns c;
  c.image = required_sizes(context, 1, "image_shape");
  c.block = required_sizes(context, 2, "block_shape");
  const size_t axes = c.image.size();
  c.axes = static_cast<int64_t>(axes);
  if (axes < 1 || axes > 3 || c.block.size() != axes) {
    context.unsupported("image_shape and block_shape of other than 1 to 3 axes");
  }
  c.dilation = context.attr_ints("dilations", Shape(axes, 1));
  c.stride = context.attr_ints("strides", Shape(axes, 1));
  Shape pads = context.attr_ints("pads", Shape(2 * axes, 0));
  if (c.dilation.size() != axes || c.stride.size() != axes || pads.size() != 2 * axes) {
    context.fail("dilations, strides or pads do not fit image_shape");
  }
  for (size_t i = 0; i < axes; ++i) {
    if (c.stride[i] < 1 || c.dilation[i] < 1 || c.block[i] < 1 || c.image[i] < 0) {
      context.fail("strides, dilations and block_shape must be at least 1");
    }
    const int64_t room =
        c.image[i] + pads[i] + pads[i + axes] - c.dilation[i] * (c.block[i] - 1) - 1;
    c.counts.push_back(room < 0 ? 0 : room / c.stride[i] + 1);
  }
  c.pad.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(axes));
  for (Shape* s : {&c.image, &c.block, &c.dilation, &c.stride, &c.counts}) {
    s->insert(s->begin(), 3 - axes, 1);
  }
  c.pad.insert(c.pad.begin(), 3 - axes, 0);
  return c;
}

void infer_col2im(InferContext& context) {
  if (!is_floating(context.dtype(0)) && !is_integer(context.dtype(0))) {
    context.fail("sums numbers, not " + std::string(dtype_name(context.dtype(0))));
  }
  const Columns c = read_columns(context);
  const Shape& x = context.shape(0);
  if (x.size() != 3 || x[1] % c.taps() != 0 || x[2] != product(c.counts)) {
    context.fail("the input " + shape_string(x) + " must be (N, C * " + std::to_string(c.taps()) +
                 ", " + std::to_string(product(c.counts)) + ")");
  }
  Shape shape{x[0], x[1] / c.taps()};
  shape.insert(shape.end(), c.image.end() - c.axes, c.image.end());
  context.set_output(0, context.dtype(0), shape);
}

void lower_col2im(LowerContext& context) {
  const TensorView &x = context.input(0), &y = context.output(0);
  require_compute(context, x.dtype);
  const Columns c = read_columns(context);
  KernelRequest request;
  request.name = "col2im";
  request.types = {{"T", x.dtype}, {"A", accumulator_dtype(x.dtype)}};
  dispatch_linear(context, request, {x, y},
                  {{"channels", y.shape[1]},
                   {"xs", x.strides},
                   {"ys", expanded_strides(y, 3)},
                   {"image", c.image},
                   {"k", c.block},
                   {"blocks", c.counts},
                   {"stride", c.stride},
                   {"dil", c.dilation},
                   {"pad", c.pad}},
                  y.elements());
}

/// What stands where the elements were put.
void max_unpool_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0);
  ValueId dy = ctx.output_gradient(0);
  if (ctx.has_input(2)) {
    // Indices count in the part that kernel, strides and pads give.
    const size_t axes = static_cast<size_t>(ctx.rank(x)) - 2;
    const Shape kernel = ctx.attr_ints("kernel_shape"),
                pads = ctx.attr_ints("pads", Shape(2 * axes, 0));
    Shape scale = ctx.attr_ints("strides", Shape(axes, 1)), shift{0, 0};
    for (size_t i = 0; i < axes; ++i) {
      shift.push_back(kernel.at(i) - scale.at(i) - pads.at(i) - pads.at(i + axes));
    }
    scale.insert(scale.begin(), 2, 1);
    const ValueId scaled = ctx.onnx("Mul", {ctx.shape_of(x), ctx.ints(scale)});
    dy = ctx.onnx("Slice",
                  {dy, ctx.ints(Shape(axes + 2, 0)), ctx.onnx("Add", {scaled, ctx.ints(shift)})});
  }
  const ValueId flat = ctx.onnx("Reshape", {dy, ctx.ints({-1})});
  ctx.set_gradient(0, ctx.onnx("Gather", {flat, ctx.input(1)}));
}

/// Col2Im's gradient, and its transpose: the windows of an image as columns.
void col2im_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.own("Im2Col", {ctx.output_gradient(0), ctx.input(1), ctx.input(2)},
                              ctx.node().attributes));
}

void im2col_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.onnx("Col2Im", {ctx.output_gradient(0), ctx.input(1), ctx.input(2)},
                               ctx.node().attributes));
}

void infer_im2col(InferContext& context) {
  const Columns c = read_columns(context);
  const Shape& x = context.shape(0);
  if (x.size() != static_cast<size_t>(c.axes) + 2 ||
      !std::equal(x.begin() + 2, x.end(), c.image.end() - c.axes)) {
    context.fail("the input " + shape_string(x) + " must be (N, C, image_shape...)");
  }
  context.set_output(0, context.dtype(0), {x[0], x[1] * c.taps(), product(c.counts)});
}

void lower_im2col(LowerContext& context) {
  const TensorView &x = context.input(0), &y = context.output(0);
  require_compute(context, x.dtype);
  const Columns c = read_columns(context);
  KernelRequest request;
  request.name = "im2col";
  request.types = {{"T", x.dtype}};
  dispatch_linear(context, request, {x, y},
                  {{"xs", expanded_strides(x, 3)},
                   {"ys", y.strides},
                   {"image", c.image},
                   {"k", c.block},
                   {"blocks", c.counts},
                   {"rows", y.shape[1]},
                   {"stride", c.stride},
                   {"dil", c.dilation},
                   {"pad", c.pad}},
                  y.elements());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "RoiAlign",
               .since_version = 22,
               .doc = "Bilinear samples of regions (mode avg or max, sampling_ratio).",
               .min_inputs = 3,
               .max_inputs = 3,
               .infer = infer_roi_align,
               .lower = lower_roi_align});
  register_op({.name = "MaxRoiPool",
               .since_version = 22,
               .doc = "Maximum over the bins of regions; pooled_shape, spatial_scale.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_roi_pool,
               .lower = lower_roi_pool});
  register_op({.name = "DeformConv",
               .since_version = 22,
               .doc = "2-D convolution whose taps are moved by offsets and weighted by a mask.",
               .min_inputs = 3,
               .max_inputs = 5,
               .infer = infer_deform_conv,
               .lower = lower_deform_conv});
  register_op({.name = "MaxUnpool",
               .since_version = 22,
               .doc = "Elements back to where MaxPool found them, zeros elsewhere.",
               .min_inputs = 2,
               .max_inputs = 3,
               .infer = infer_max_unpool,
               .lower = lower_max_unpool,
               .gradient = max_unpool_gradient});
  register_op({.name = "Col2Im",
               .since_version = 18,
               .doc = "Sums overlapping columns to images of 1 to 3 spatial axes.",
               .min_inputs = 3,
               .max_inputs = 3,
               .infer = infer_col2im,
               .lower = lower_col2im,
               .gradient = col2im_gradient});
  register_op({.name = "Im2Col",
               .domain = "dlk",
               .doc = "The windows of images as columns, zeros in the padding: the transpose of "
                      "Col2Im, with its further inputs and attributes.",
               .min_inputs = 3,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_im2col,
               .lower = lower_im2col,
               .gradient = im2col_gradient});
}

}  // namespace dlk
