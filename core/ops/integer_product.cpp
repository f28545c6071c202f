// MatMulInteger, ConvInteger, QLinearMatMul and QLinearConv: products of 8-bit integers with zero
// points, summed in 32 bits.
#include "core/ops/integer_product.h"

#include <array>

#include "core/ops/window.h"

namespace dlk {
namespace {

bool is_byte(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kUInt8; }

void require_bytes(const InferContext& context, std::initializer_list<size_t> inputs) {
  for (const size_t i : inputs) {
    if (context.has_input(i) && !is_byte(context.dtype(i))) {
      context.fail("input " + std::to_string(i) + " is " +
                   std::string(dtype_name(context.dtype(i))) + "; it must be int8 or uint8");
    }
  }
}

void add_range(Params& params, DType dtype) {
  params["low"] = dtype == DType::kInt8 ? -128 : 0;
  params["high"] = dtype == DType::kInt8 ? 127 : 255;
}

Shape matmul_shape(const InferContext& context, size_t left, size_t right) {
  Shape a = context.shape(left), b = context.shape(right);
  if (a.empty() || b.empty()) context.fail("the operands must have at least one axis");
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  if (a.back() != b[b.size() - 2]) {
    context.fail("the operands " + shape_string(context.shape(left)) + " and " +
                 shape_string(context.shape(right)) + " do not fit");
  }
  Shape y = broadcast_shapes(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  if (!row) y.push_back(a[a.size() - 2]);
  if (!column) y.push_back(b.back());
  return y;
}

/// A scale or zero point of a matrix: one number, one a row of A (column of B), or that with the
/// matrix's batch axes. The result has the rank of `like`; what is not there has stride 0.
TensorView per_matrix(const LowerContext& context, size_t input, const TensorView& like,
                      bool is_left) {
  TensorView view = context.input(input);
  const size_t axis = like.shape.size() - (is_left ? 2 : 1);
  if (view.elements() == 1) {
    view.shape.assign(like.shape.size(), 1);
    view.strides.assign(like.shape.size(), 0);
  } else if (view.rank() == 1) {
    const int64_t step = view.strides[0];
    view.shape.assign(like.shape.size(), 1);
    view.strides.assign(like.shape.size(), 0);
    view.shape[axis] = like.shape[axis];
    view.strides[axis] = step;
  }
  if (view.shape[axis] != like.shape[axis] && view.shape[axis] != 1) {
    context.fail("scale or zero point " + shape_string(context.input(input).shape) +
                 " does not fit its matrix " + shape_string(like.shape));
  }
  return broadcast_view(view, [&] {
    Shape shape = like.shape;
    shape[is_left ? shape.size() - 1 : shape.size() - 2] = 1;
    return shape;
  }());
}

/// Inputs of the two operators, by role; none where an operator has no such input.
struct MatrixRoles {
  size_t a, b, a_zero, b_zero;
  bool scaled = false;
};

void lower_matmul(LowerContext& context, const MatrixRoles& roles) {
  TensorView a = context.input(roles.a), b = context.input(roles.b), y = context.output(0);
  if (y.elements() == 0) return;
  if (a.rank() == 1) {
    a = insert_axis(a, 0);
    y = insert_axis(y, b.rank() == 1 ? y.rank() : y.rank() - 1);
  }
  if (b.rank() == 1) {
    b = insert_axis(b, 1);
    y = insert_axis(y, y.rank());
  }
  const auto spread = [&](const TensorView& view) {
    Shape shape(y.shape.begin(), y.shape.end() - 2);
    shape.insert(shape.end(), view.shape.end() - 2, view.shape.end());
    return broadcast_view(view, shape);
  };
  a = spread(a);
  b = spread(b);
  const bool has_za = context.has_input(roles.a_zero), has_zb = context.has_input(roles.b_zero);
  const TensorView za = has_za ? spread(per_matrix(context, roles.a_zero, a, true)) : a;
  const TensorView zb = has_zb ? spread(per_matrix(context, roles.b_zero, b, false)) : b;
  const TensorView sa = roles.scaled ? spread(per_matrix(context, 1, a, true)) : a;
  const TensorView sb = roles.scaled ? spread(per_matrix(context, 4, b, false)) : b;
  const size_t m = y.shape.size() - 2, n = m + 1;
  std::vector<Shape> batch_strides;
  for (const TensorView* view :
       std::initializer_list<const TensorView*>{&a, &b, &y, &za, &zb, &sa, &sb}) {
    batch_strides.emplace_back(view->strides.begin(), view->strides.end() - 2);
  }
  const LoopNest batch = collapse(Shape(y.shape.begin(), y.shape.end() - 2), batch_strides);
  IntegerProduct product{a, b, y,      za,     zb,           sa,      sb,
                         y, y, has_za, has_zb, roles.scaled, roles.b, batch};
  if (roles.scaled) {
    product.sy = context.input(6);
    product.zy = context.input(7);
  }
  if (lower_integer_tiles(context, product)) return;
  KernelRequest request;
  request.name = "integer_matmul";
  request.types = {{"TA", a.dtype}, {"TB", b.dtype}, {"TY", y.dtype}};
  request.constants = {{"ND", batch.rank()},
                       {"A_ZERO", has_za ? 1 : 0},
                       {"B_ZERO", has_zb ? 1 : 0},
                       {"SCALED", roles.scaled ? 1 : 0}};
  std::vector<TensorView> views{a, b};
  if (has_za) views.push_back(za);
  if (has_zb) views.push_back(zb);
  if (roles.scaled) {
    request.types["TS"] = sa.dtype;
    views.insert(views.end(), {sa, sb, context.input(6), context.input(7)});
  }
  views.push_back(y);
  Params params{{"m", y.shape[m]},         {"n", y.shape[n]},         {"k", a.shape[n]},
                {"a_m", a.strides[m]},     {"a_k", a.strides[n]},     {"b_k", b.strides[m]},
                {"b_n", b.strides[n]},     {"y_m", y.strides[m]},     {"y_n", y.strides[n]},
                {"za_m", za.strides[m]},   {"zb_n", zb.strides[n]},   {"sa_m", sa.strides[m]},
                {"sb_n", sb.strides[n]},   {"dims", batch.dims},      {"as", batch.strides[0]},
                {"bs", batch.strides[1]},  {"ys", batch.strides[2]},  {"zas", batch.strides[3]},
                {"zbs", batch.strides[4]}, {"sas", batch.strides[5]}, {"sbs", batch.strides[6]}};
  add_range(params, y.dtype);
  dispatch_linear(context, request, views, std::move(params), y.elements());
}

void infer_matmul_integer(InferContext& context) {
  require_bytes(context, {0, 1, 2, 3});
  context.set_output(0, DType::kInt32, matmul_shape(context, 0, 1));
}

void infer_qlinear_matmul(InferContext& context) {
  require_bytes(context, {0, 2, 3, 5, 7});
  for (const size_t i : {1, 4, 6}) {
    if (!is_floating(context.dtype(i)) || context.dtype(i) != context.dtype(1)) {
      context.fail("the scales must be of one floating type");
    }
  }
  context.set_output(0, context.dtype(7), matmul_shape(context, 0, 3));
}

/// Inputs of the two convolutions, by role.
struct ConvRoles {
  size_t x, w, x_zero, w_zero;
  bool scaled = false;
};

Shape conv_shape(const InferContext& context, const ConvRoles& roles) {
  const Shape &x = context.shape(roles.x), &w = context.shape(roles.w);
  const int64_t groups = context.attr_int("group", 1);
  if (x.size() < 3 || x.size() > 5 || w.size() != x.size() || groups < 1 || x[1] != w[1] * groups ||
      w[0] % groups != 0) {
    context.fail("the input " + shape_string(x) + " and the weights " + shape_string(w) +
                 " do not fit with group " + std::to_string(groups));
  }
  const Window window = read_window(context, x, Shape(w.begin() + 2, w.end()));
  return with_spatial(x[0], w[0], window.output);
}

void lower_conv(LowerContext& context, const ConvRoles& roles) {
  const TensorView &x = context.input(roles.x), &y = context.output(0);
  if (y.elements() == 0) return;
  const int64_t groups = context.attr_int("group", 1);
  IntegerConv conv;
  conv.x = x;
  conv.weight = context.input(roles.w);
  conv.y = y;
  conv.w_input = roles.w;
  const Shape& taps = conv.weight.shape;
  conv.window = read_window(context, x.shape, Shape(taps.begin() + 2, taps.end()));
  conv.groups = groups;
  conv.scaled = roles.scaled;
  if (context.has_input(roles.x_zero)) conv.x_zero = roles.x_zero;
  if (context.has_input(roles.w_zero)) conv.w_zero = roles.w_zero;
  if (roles.scaled && context.has_input(8)) conv.bias = 8;
  if (lower_integer_conv_tiles(context, conv)) return;
  const TensorView w = context.contiguous(conv.weight);
  const Window window = conv.window.expanded(3);
  const bool has_zx = context.has_input(roles.x_zero), has_zw = context.has_input(roles.w_zero);
  const bool has_bias = roles.scaled && context.has_input(8);
  KernelRequest request;
  request.name = "integer_conv";
  request.types = {{"TX", x.dtype}, {"TW", w.dtype}, {"TY", y.dtype}};
  request.constants = {{"X_ZERO", has_zx ? 1 : 0},
                       {"W_ZERO", has_zw ? 1 : 0},
                       {"HAS_BIAS", has_bias ? 1 : 0},
                       {"SCALED", roles.scaled ? 1 : 0}};
  std::vector<TensorView> views{x, w};
  if (has_zx) views.push_back(context.input(roles.x_zero));
  if (has_zw) views.push_back(context.contiguous(context.input(roles.w_zero)));
  if (has_bias) views.push_back(context.contiguous(context.input(8)));
  if (roles.scaled) {
    views.insert(views.end(), {context.input(1), context.contiguous(context.input(4)),
                               context.input(6), context.input(7)});
  }
  views.push_back(y);
  const auto step = [&](size_t input) {
    return context.has_input(input) && context.input(input).elements() > 1 ? 1 : 0;
  };
  Params params{{"channels", y.shape[1]},
                {"cg", w.shape[1]},
                {"kg", y.shape[1] / groups},
                {"zero_step", step(roles.w_zero)},
                {"scale_step", roles.scaled ? step(4) : 0},
                {"xs", expanded_strides(x, 3)},
                {"ys", expanded_strides(y, 3)},
                {"ext", window.input},
                {"res", window.output},
                {"k", window.kernel},
                {"stride", window.stride},
                {"dil", window.dilation},
                {"pad", window.pad_begin}};
  add_range(params, y.dtype);
  dispatch_linear(context, request, views, std::move(params), y.elements());
}

constexpr MatrixRoles kMatMulInteger{0, 1, 2, 3, false}, kQLinearMatMul{0, 3, 2, 5, true};
constexpr ConvRoles kConvInteger{0, 1, 2, 3, false}, kQLinearConv{0, 3, 2, 5, true};

void infer_conv_integer(InferContext& context) {
  require_bytes(context, {0, 1, 2, 3});
  context.set_output(0, DType::kInt32, conv_shape(context, kConvInteger));
}

void infer_qlinear_conv(InferContext& context) {
  require_bytes(context, {0, 2, 3, 5, 7});
  for (const size_t i : {1, 4, 6}) {
    if (context.dtype(i) != DType::kFloat32) context.fail("the scales must be float32");
  }
  if (context.has_input(8) && context.dtype(8) != DType::kInt32) {
    context.fail("the bias must be int32");
  }
  context.set_output(0, context.dtype(7), conv_shape(context, kQLinearConv));
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "MatMulInteger",
               .since_version = 10,
               .doc = "int32 matrix product of 8-bit integers less their zero points.",
               .min_inputs = 2,
               .max_inputs = 4,
               .layout = LayoutRule::kContiguous,
               .infer = infer_matmul_integer,
               .lower = [](LowerContext& context) { lower_matmul(context, kMatMulInteger); }});
  register_op({.name = "QLinearMatMul",
               .since_version = 21,
               .doc = "Matrix product of quantized matrices, quantized again.",
               .min_inputs = 8,
               .max_inputs = 8,
               .layout = LayoutRule::kContiguous,
               .infer = infer_qlinear_matmul,
               .lower = [](LowerContext& context) { lower_matmul(context, kQLinearMatMul); }});
  register_op({.name = "ConvInteger",
               .since_version = 10,
               .doc = "int32 convolution of 8-bit integers less their zero points.",
               .min_inputs = 2,
               .max_inputs = 4,
               .layout = LayoutRule::kChannelsLast,
               .infer = infer_conv_integer,
               .lower = [](LowerContext& context) { lower_conv(context, kConvInteger); }});
  register_op({.name = "QLinearConv",
               .since_version = 10,
               .doc = "Convolution of quantized tensors, quantized again; int32 bias.",
               .min_inputs = 8,
               .max_inputs = 9,
               .layout = LayoutRule::kChannelsLast,
               .infer = infer_qlinear_conv,
               .lower = [](LowerContext& context) { lower_conv(context, kQLinearConv); }});
}

}  // namespace dlk
