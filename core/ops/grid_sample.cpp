// GridSample over two or three spatial axes.
#include "core/ops/op_util.h"

namespace dlk {
namespace {

int64_t read_taps(const NodeReader& node) {
  const std::string mode = node.attr_string("mode", "linear");
  if (mode == "nearest") return 1;
  if (mode == "linear" || mode == "bilinear") return 2;
  if (mode == "cubic" || mode == "bicubic") return 4;
  node.fail("mode is nearest, linear or cubic, not " + mode);
}

int64_t read_padding(const NodeReader& node) {
  const std::string mode = node.attr_string("padding_mode", "zeros");
  if (mode == "zeros") return 0;
  if (mode == "border") return 1;
  if (mode == "reflection") return 2;
  node.fail("padding_mode is zeros, border or reflection, not " + mode);
}

void infer_grid_sample(InferContext& context) {
  const Shape &x = context.shape(0), &grid = context.shape(1);
  const size_t space = x.size() - 2;
  if (x.size() < 3 || grid.size() != x.size() || grid[0] != x[0] ||
      grid.back() != static_cast<int64_t>(space)) {
    context.fail("grid " + shape_string(grid) + " does not fit X " + shape_string(x));
  }
  if (space != 2 && space != 3) context.unsupported("inputs of rank other than 4 and 5");
  read_taps(context);
  read_padding(context);
  Shape shape{x[0], x[1]};
  shape.insert(shape.end(), grid.begin() + 1, grid.end() - 1);
  if (element_count(shape) > 0 && product(x, 2) == 0) context.fail("samples from an empty image");
  context.set_output(0, context.dtype(0), shape);
}

/// The entries of a shape or strides that belong to spatial axes.
Shape spatial(const Shape& values, size_t first, size_t count) {
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

void lower_grid_sample(LowerContext& context) {
  const TensorView &x = context.input(0), &grid = context.input(1), &y = context.output(0);
  require_compute(context, x.dtype);
  if (!is_floating(x.dtype) && read_taps(context) != 1) {
    context.unsupported("interpolation of " + std::string(dtype_name(x.dtype)) +
                        "; use a floating type, or mode nearest");
  }
  const size_t space = x.shape.size() - 2;
  KernelRequest request;
  request.name = "grid_sample";
  request.constants = {{"SPACE", static_cast<int64_t>(space)},
                       {"TAPS", read_taps(context)},
                       {"PADDING", read_padding(context)},
                       {"ALIGN", context.attr_int("align_corners", 0) != 0 ? 1 : 0}};
  // A pixel is moved as it is; only floats are mixed.
  const bool moves = !is_floating(x.dtype);
  request.constants["MOVES"] = moves ? 1 : 0;
  request.types = {{"T", moves ? raw_dtype(x.dtype, context.caps()) : x.dtype}, {"TG", grid.dtype}};
  dispatch_linear(context, request, {x, grid, y},
                  {{"channels", x.shape[1]},
                   {"points", product(y.shape, 2)},
                   {"x_n", x.strides[0]},
                   {"x_c", x.strides[1]},
                   {"y_n", y.strides[0]},
                   {"y_c", y.strides[1]},
                   {"g_n", grid.strides[0]},
                   {"g_last", grid.strides.back()},
                   {"sizes", spatial(x.shape, 2, space)},
                   {"xs", spatial(x.strides, 2, space)},
                   {"outs", spatial(y.shape, 2, space)},
                   {"gs", spatial(grid.strides, 1, space)},
                   {"ys", spatial(y.strides, 2, space)}},
                  y.elements());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "GridSample",
               .since_version = 20,
               .doc = "Samples an image at normalized coordinates (mode, padding_mode, "
                      "align_corners).",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_grid_sample,
               .lower = lower_grid_sample});
}

}  // namespace dlk
