// Resize: nearest in one dispatch, linear and cubic one axis after the other. Upsample is Resize.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/resize_map.h"

namespace dlk {
namespace {

/// What the node asks for: one AxisResize for each axis of the input.
template <typename Context>
std::vector<AxisResize> read_resize(const Context& context, const Shape& shape) {
  const auto rank = static_cast<int64_t>(shape.size());
  std::vector<AxisResize> result;
  for (int64_t size : shape) result.push_back({size, size, 1.0, 0.0, 1.0});
  std::vector<int64_t> axes = all_axes(rank);
  if (context.has_attr("axes")) axes = context.attr_ints("axes");
  for (int64_t& axis : axes) axis = context.normalize_axis(axis, rank);
  // Upsample's second input is scales.
  const size_t scales_at = context.node().op == "Upsample" ? 1 : 2;
  const auto doubles = [&](size_t input, const char* what) -> std::vector<double> {
    if (!context.has_input(input)) return {};
    const auto value = context.constant(input);
    if (!value) context.fail(std::string(what) + " must be known before the run");
    return value->to_doubles();
  };
  const auto scales = doubles(scales_at, "scales"), sizes = doubles(3, "sizes");
  if (scales.empty() == sizes.empty()) context.fail("needs either scales or sizes");
  if ((scales.empty() ? sizes : scales).size() != axes.size()) {
    context.fail("scales or sizes must have one element for each of " +
                 std::to_string(axes.size()) + " axes");
  }
  const std::string policy = context.attr_string("keep_aspect_ratio_policy", "stretch");
  if (policy != "stretch" && policy != "not_larger" && policy != "not_smaller") {
    context.fail("keep_aspect_ratio_policy is stretch, not_larger or not_smaller");
  }
  double common = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    AxisResize& axis = result[static_cast<size_t>(axes[i])];
    const auto in = static_cast<double>(axis.in);
    if (!scales.empty()) {
      if (!(scales[i] > 0)) context.fail("scales must be greater than 0");
      axis.scale = scales[i];
      check_size(context, in * axis.scale, "a size");
      axis.out = static_cast<int64_t>(std::floor(in * axis.scale));
    } else {
      check_size(context, sizes[i], "a size");
      axis.out = static_cast<int64_t>(sizes[i]);
      axis.scale = axis.in > 0 ? sizes[i] / in : 1.0;
      const bool smaller = axis.scale < common;
      if (i == 0 || (policy == "not_larger" ? smaller : !smaller)) common = axis.scale;
    }
    if (axis.out < 0 || (axis.in == 0 && axis.out > 0)) {
      context.fail("cannot resize an axis of " + std::to_string(axis.in) + " to " +
                   std::to_string(axis.out));
    }
  }
  if (scales.empty() && policy != "stretch") {
    for (int64_t a : axes) {
      AxisResize& axis = result[static_cast<size_t>(a)];
      axis.scale = common;
      check_size(context, common * static_cast<double>(axis.in), "a size");
      axis.out = static_cast<int64_t>(std::floor(common * static_cast<double>(axis.in) + 0.5));
    }
  }
  if (context.attr_string("coordinate_transformation_mode", "") == "tf_crop_and_resize") {
    const auto roi = doubles(1, "roi");
    if (roi.size() != 2 * axes.size()) context.fail("roi needs two elements an axis");
    for (size_t i = 0; i < axes.size(); ++i) {
      result[static_cast<size_t>(axes[i])].roi_start = roi[i];
      result[static_cast<size_t>(axes[i])].roi_end = roi[i + axes.size()];
    }
  }
  return result;
}

std::string transformation(const NodeReader& node) {
  const bool upsample = node.node().op == "Upsample";
  return node.attr_string("coordinate_transformation_mode", upsample ? "asymmetric" : "half_pixel");
}

void infer_resize(InferContext& context) {
  Shape shape;
  for (const AxisResize& axis : read_resize(context, context.shape(0))) shape.push_back(axis.out);
  context.set_output(0, context.dtype(0), shape);
}

struct Resampling {
  std::vector<AxisMap> maps;
  bool extrapolate = false;
  double value = 0;
};

Resampling read_maps(const LowerContext& context) {
  Resampling result;
  const std::string mode = transformation(context);
  for (const AxisResize& axis : read_resize(context, context.input(0).shape)) {
    result.maps.push_back(make_axis_map(context, axis, mode));
  }
  result.extrapolate = mode == "tf_crop_and_resize";
  result.value = context.attr_float("extrapolation_value", 0.0);
  return result;
}

int64_t read_nearest_mode(const NodeReader& node) {
  const bool upsample = node.node().op == "Upsample";
  const std::string mode =
      node.attr_string("nearest_mode", upsample ? "floor" : "round_prefer_floor");
  const char* const names[] = {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"};
  for (int64_t i = 0; i < 4; ++i) {
    if (mode == names[i]) return i;
  }
  node.fail("nearest_mode is floor, ceil, round_prefer_floor or round_prefer_ceil, not " + mode);
}

void lower_nearest(LowerContext& context, const Resampling& resampling) {
  const bool typed = resampling.extrapolate;
  if (typed) require_compute(context, context.input(0).dtype);
  const TensorView from = typed ? context.input(0) : raw_view(context.input(0), context.caps());
  const TensorView to = typed ? context.output(0) : raw_view(context.output(0), context.caps());
  std::vector<int> groups(to.shape.size(), 0);
  for (size_t d = 0; d < resampling.maps.size(); ++d) {
    if (!resampling.maps[d].identity()) groups[d] = -1 - static_cast<int>(d);
  }
  const LoopNest nest = collapse(to.shape, {to.strides, from.strides}, groups);
  int64_t mask = 0;
  Shape sizes = nest.dims, a(nest.dims.size(), 1), b(nest.dims.size(), 0), divisor = a;
  for (size_t d = 0; d < nest.dims.size(); ++d) {
    if (nest.groups[d] >= 0) continue;
    const auto axis = static_cast<size_t>(-1 - nest.groups[d]);
    mask |= int64_t{1} << d;
    sizes[d] = from.shape[axis];
    a[d] = resampling.maps[axis].a;
    b[d] = resampling.maps[axis].b;
    divisor[d] = resampling.maps[axis].divisor;
  }
  // CPU drivers make a stretch of a row in one work-item; on GPUs neighbours make neighbours.
  const int64_t run = context.caps().is_cpu ? 16 : 1;
  const int64_t blocks = ceil_div(nest.dims.back(), run);
  KernelRequest request;
  request.name = "resize_nearest";
  request.constants = {{"ND", nest.rank()},
                       {"MASK", mask},
                       {"ROUND", read_nearest_mode(context)},
                       {"EXTRAPOLATE", typed ? 1 : 0},
                       {"RUN", run}};
  request.types = {{"T", from.dtype}};
  dispatch_linear(context, request, {from, to},
                  {{"blocks", blocks},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"sizes", sizes},
                   {"a", a},
                   {"b", b},
                   {"divisor", divisor},
                   {"value", resampling.value}},
                  nest.size() / nest.dims.back() * blocks);
}

/// Range of an integer type, as far as float32 can tell.
std::pair<double, double> integer_range(DType dtype) {
  const int bits = 8 * static_cast<int>(dtype_size(dtype));
  if (is_unsigned_integer(dtype)) return {0.0, std::ldexp(1.0, std::min(bits, 32)) - 1};
  return {-std::ldexp(1.0, std::min(bits, 32) - 1), std::ldexp(1.0, std::min(bits, 32) - 1) - 1};
}

void dispatch_axis(LowerContext& context, const Resampling& resampling, size_t axis,
                   const TensorView& from, const TensorView& to) {
  const AxisMap& map = resampling.maps[axis];
  const bool cubic = context.attr_string("mode", "nearest") == "cubic";
  const bool antialias = context.attr_int("antialias", 0) != 0;
  const bool exclude = context.attr_int("exclude_outside", 0) != 0;
  const double stretch = antialias ? std::min(map.scale, 1.0) : 1.0;
  const auto first = static_cast<int64_t>(std::floor((cubic ? -2 : -1) / stretch)) + 1;
  std::vector<int> groups(to.shape.size(), 0);
  groups[axis] = -1;
  const LoopNest nest = collapse(to.shape, {to.strides, from.strides}, groups);
  const auto at = std::find(nest.groups.begin(), nest.groups.end(), -1) - nest.groups.begin();
  const auto [low, high] = integer_range(to.dtype);
  const int64_t run = context.caps().is_cpu ? 16 : 1;
  const int64_t blocks = ceil_div(nest.dims.back(), run);
  KernelRequest request;
  request.name = "resize_axis";
  request.constants = {{"ND", nest.rank()},
                       {"AXIS", at},
                       {"CUBIC", cubic ? 1 : 0},
                       {"NORMALIZE", antialias || exclude ? 1 : 0},
                       {"EXCLUDE", exclude ? 1 : 0},
                       {"EXTRAPOLATE", resampling.extrapolate ? 1 : 0},
                       {"CLAMP", is_integer(to.dtype) ? 1 : 0},
                       {"RUN", run}};
  request.types = {{"TI", from.dtype}, {"TO", to.dtype}};
  dispatch_linear(context, request, {from, to},
                  {{"blocks", blocks},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"size", from.shape[axis]},
                   {"a", map.a},
                   {"b", map.b},
                   {"divisor", map.divisor},
                   {"first", first},
                   {"count", 2 - 2 * first},
                   {"step", from.strides[axis]},
                   {"stretch", stretch},
                   {"cubic", context.attr_float("cubic_coeff_a", -0.75)},
                   {"value", resampling.value},
                   {"low", low},
                   {"high", high}},
                  nest.size() / nest.dims.back() * blocks);
}

void lower_interpolation(LowerContext& context, const Resampling& resampling) {
  TensorView from = context.input(0);
  const TensorView& to = context.output(0);
  if (from.dtype == DType::kBool || (is_integer(from.dtype) && dtype_size(from.dtype) == 8)) {
    context.unsupported("interpolation of " + std::string(dtype_name(from.dtype)) +
                        "; use float32");
  }
  require_compute(context, from.dtype);
  const bool wide = from.dtype == DType::kFloat64;
  std::vector<size_t> axes;
  for (size_t d = 0; d < resampling.maps.size(); ++d) {
    const bool filtered = context.attr_int("antialias", 0) != 0 && resampling.maps[d].scale < 1;
    if (!resampling.maps[d].identity() || filtered) axes.push_back(d);
  }
  if (axes.empty()) return context.copy(from, to);
  // What shrinks goes first: less work for the rest.
  std::stable_sort(axes.begin(), axes.end(), [&](size_t l, size_t r) {
    return resampling.maps[l].scale < resampling.maps[r].scale;
  });
  for (size_t i = 0; i < axes.size(); ++i) {
    if (i + 1 == axes.size()) {
      dispatch_axis(context, resampling, axes[i], from, to);
      break;
    }
    Shape shape = from.shape;
    shape[axes[i]] = to.shape[axes[i]];
    const TensorView next =
        workspace_like(context, wide ? DType::kFloat64 : DType::kFloat32, shape, to);
    dispatch_axis(context, resampling, axes[i], from, next);
    from = next;
  }
}

void lower_resize(LowerContext& context) {
  if (context.output(0).elements() == 0) return;
  const std::string mode = context.attr_string("mode", "nearest");
  const Resampling resampling = read_maps(context);
  if (mode == "nearest") {
    if (context.attr_int("antialias", 0) != 0) context.fail("antialias needs linear or cubic");
    return lower_nearest(context, resampling);
  }
  if (mode != "linear" && mode != "cubic") {
    context.fail("mode is nearest, linear or cubic, not " + mode);
  }
  lower_interpolation(context, resampling);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Resize",
               .since_version = 19,
               .doc = "Resamples axes to given scales or sizes; nearest, linear or cubic.",
               .min_inputs = 1,
               .max_inputs = 4,
               .infer = infer_resize,
               .lower = lower_resize,
               .gradient = resize_gradient});
  register_op({.name = "Upsample",
               .since_version = 9,
               .doc = "Resize with asymmetric coordinates, rounded down; nearest or linear.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_resize,
               .lower = lower_resize,
               .gradient = resize_gradient});
}

}  // namespace dlk
