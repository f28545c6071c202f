// QuantizeLinear, DequantizeLinear (per tensor, per axis, per block) and DynamicQuantizeLinear.
#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/op_util.h"
#include "core/ops/reduce.h"

namespace dlk {
namespace {

std::pair<double, double> range_of(const NodeReader& node, DType dtype) {
  if (is_small_float(dtype) && dtype != DType::kFloat8E8M0FNU) {
    return {-largest_of_small_float(dtype), largest_of_small_float(dtype)};
  }
  const int bits = static_cast<int>(bits_of(dtype));
  if ((!is_integer(dtype) && !is_small_integer(dtype)) || bits > 16) {
    node.unsupported("quantized type " + std::string(dtype_name(dtype)) +
                     "; 2, 4, 8 and 16-bit integers, float8 and float4 are there");
  }
  if (is_unsigned_integer(dtype) || dtype == DType::kUInt4 || dtype == DType::kUInt2)
    return {0.0, std::ldexp(1.0, bits) - 1};
  return {-std::ldexp(1.0, bits - 1), std::ldexp(1.0, bits - 1) - 1};
}

/// Checks the scale's shape against the data's: one number, one an axis element, or one a block.
void check_scale(const InferContext& context) {
  const Shape &data = context.shape(0), &scale = context.shape(1);
  if (context.has_input(2) && element_count(context.shape(2)) != element_count(scale)) {
    context.fail("scale and zero point differ in shape");
  }
  const int64_t block = context.attr_int("block_size", 0);
  if (element_count(scale) == 1 && block == 0) return;
  const auto axis =
      static_cast<size_t>(context.normalize_axis(context.attr_int("axis", 1), context.rank(0)));
  if (block == 0) {
    if (scale.size() != 1 || scale[0] != data[axis]) {
      context.fail("scale " + shape_string(scale) + " does not fit axis " + std::to_string(axis) +
                   " of " + shape_string(data));
    }
    return;
  }
  Shape expected = data;
  if (block < 0 || data[axis] % block != 0) {
    context.unsupported("block_size " + std::to_string(block) +
                        " that does not divide an axis of " + std::to_string(data[axis]));
  }
  expected[axis] = data[axis] / block;
  if (scale != expected) {
    context.fail("scale " + shape_string(scale) + ", expected " + shape_string(expected));
  }
}

/// Strides of the scale over the data's axes, of which the blocked one is split in two.
struct ScaledViews {
  TensorView x, y, scale, zero;
  bool has_zero = false;
};

ScaledViews align(const LowerContext& context) {
  ScaledViews v{context.input(0), context.output(0), context.input(1), context.input(1),
                context.has_input(2)};
  if (v.has_zero) v.zero = context.input(2);
  const int64_t block = context.attr_int("block_size", 0);
  const bool whole = element_count(v.scale.shape) == 1 && block == 0;
  const int64_t axis = whole ? 0 : context.normalize_axis(context.attr_int("axis", 1), v.x.rank());
  const auto spread = [&](TensorView& view) {
    if (whole) {
      view.shape.assign(v.x.shape.size(), 1);
      view.strides.assign(v.x.shape.size(), 0);
    } else if (block == 0) {
      const int64_t step = view.strides[0];
      view.shape.assign(v.x.shape.size(), 1);
      view.strides.assign(v.x.shape.size(), 0);
      view.shape[static_cast<size_t>(axis)] = v.x.shape[static_cast<size_t>(axis)];
      view.strides[static_cast<size_t>(axis)] = step;
    } else {
      view = insert_axis(view, axis + 1, block, 0);
    }
  };
  spread(v.scale);
  spread(v.zero);
  if (block != 0) {
    const int64_t blocks = v.x.shape[static_cast<size_t>(axis)] / block;
    v.x = split_axis(v.x, axis, {blocks, block});
    v.y = split_axis(v.y, axis, {blocks, block});
  }
  return v;
}

void dispatch_scaled(LowerContext& context, KernelRequest request, const ScaledViews& v,
                     Params params) {
  const LoopNest nest =
      collapse(v.y.shape, {v.y.strides, v.x.strides, v.scale.strides, v.zero.strides}, {}, true);
  request.constants["ND"] = nest.rank();
  request.constants["HAS_ZERO"] = v.has_zero ? 1 : 0;
  params["dims"] = nest.dims;
  params["ys"] = nest.strides[0];
  params["xs"] = nest.strides[1];
  params["ss"] = nest.strides[2];
  params["zs"] = nest.strides[3];
  std::vector<TensorView> operands{v.x, v.scale};
  if (v.has_zero) operands.push_back(v.zero);
  operands.push_back(v.y);
  dispatch_linear(context, std::move(request), operands, std::move(params), nest.size());
}

void dispatch_quantize(LowerContext& context, const ScaledViews& v) {
  const auto [low, high] = range_of(context, v.y.dtype);
  KernelRequest request;
  request.name = "quantize";
  request.types = {{"T", v.x.dtype}, {"TS", v.scale.dtype}, {"TQ", v.y.dtype}};
  request.constants["FLOATS"] = is_small_float(v.y.dtype) ? 1 : 0;
  dispatch_scaled(context, std::move(request), v, {{"low", low}, {"high", high}});
}

void infer_quantize(InferContext& context) {
  check_scale(context);
  DType dtype = DType::kUInt8;
  const int64_t wanted = context.attr_int("output_dtype", 0);
  if (context.has_input(2)) {
    dtype = context.dtype(2);
  } else if (wanted != 0) {
    dtype = cast_target(context, "output_dtype");
  }
  range_of(context, dtype);
  context.set_output(0, dtype, context.shape(0));
}

void lower_quantize(LowerContext& context) {
  require_compute(context, context.input(0).dtype);
  dispatch_quantize(context, align(context));
}

void infer_dequantize(InferContext& context) {
  check_scale(context);
  const DType dtype = context.dtype(0);
  if (dtype != DType::kInt32) range_of(context, dtype);
  const bool asked = context.attr_int("output_dtype", 0) != 0;
  context.set_output(0, asked ? cast_target(context, "output_dtype") : context.dtype(1),
                     context.shape(0));
}

void lower_dequantize(LowerContext& context) {
  const ScaledViews v = align(context);
  KernelRequest request;
  request.name = "dequantize";
  request.types = {{"T", v.y.dtype}, {"TS", v.scale.dtype}, {"TQ", v.x.dtype}};
  request.constants["FLOATS"] = is_small_float(v.x.dtype) ? 1 : 0;
  dispatch_scaled(context, std::move(request), v, {});
}

void infer_dynamic(InferContext& context) {
  if (context.dtype(0) != DType::kFloat32 && context.dtype(0) != DType::kFloat16) {
    context.fail("needs float32");
  }
  if (context.has_output(0)) context.set_output(0, DType::kUInt8, context.shape(0));
  if (context.has_output(1)) context.set_output(1, DType::kFloat32, {});
  if (context.has_output(2)) context.set_output(2, DType::kUInt8, {});
}

void lower_dynamic(LowerContext& context) {
  const TensorView& x = context.input(0);
  const Shape ones(x.shape.size(), 1);
  const TensorView low = context.workspace(DType::kFloat32, ones);
  const TensorView high = context.workspace(DType::kFloat32, ones);
  if (x.elements() == 0) {
    fill_view(context, low, 0);
    fill_view(context, high, 0);
  } else {
    dispatch_reduction(context, "ReduceMin", x, low, all_axes(x.rank()));
    dispatch_reduction(context, "ReduceMax", x, high, all_axes(x.rank()));
  }
  const auto result = [&](size_t i, DType dtype) {
    return context.has_output(i) ? context.output(i) : context.workspace(dtype, {});
  };
  TensorView scale = result(1, DType::kFloat32), zero = result(2, DType::kUInt8);
  KernelRequest request;
  request.name = "dynamic_scale";
  context.dispatch(request, {low, high, scale, zero}, {}, {1, 1, 1});
  if (!context.has_output(0)) return;
  scale.shape = zero.shape = ones;
  scale.strides = zero.strides = Shape(x.shape.size(), 0);
  dispatch_quantize(context, {x, context.output(0), scale, zero, true});
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "QuantizeLinear",
               .since_version = 21,
               .doc = "clamp(round(x / scale) + zero point); per tensor, per `axis` or per block.",
               .min_inputs = 2,
               .max_inputs = 3,
               .infer = infer_quantize,
               .lower = lower_quantize});
  register_op({.name = "DequantizeLinear",
               .since_version = 21,
               .doc = "(x - zero point) * scale; per tensor, per `axis` or per block.",
               .min_inputs = 2,
               .max_inputs = 3,
               .infer = infer_dequantize,
               .lower = lower_dequantize});
  register_op(
      {.name = "DynamicQuantizeLinear",
       .since_version = 11,
       .doc = "uint8 quantization over the data's own range; also its scale and zero point.",
       .min_outputs = 0,
       .max_outputs = 3,
       .infer = infer_dynamic,
       .lower = lower_dynamic});
}

}  // namespace dlk
