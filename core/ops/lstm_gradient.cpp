// The gradient of an LSTM without peepholes or lengths: the gates of all times are computed again
// by two matrix products (h at every time is an output), one dispatch a time goes backwards through
// the cell, and three products give the gradients of the input and the weights. What has more
// attributes is written out step by step (rnn_gradient.cpp).
#include "core/ops/gradients.h"
#include "core/ops/matmul.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

// dlk::LSTMStates: sums of the gates (time, batch, 4 * units), first c (batch, units) or nothing,
// to (time, batch, 5 * units).

void infer_states(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  Shape shape = ctx.shape(0);
  if (shape.size() != 3 || shape[2] % 4 != 0) {
    ctx.fail("takes (time, batch, 4 * units), not " + shape_string(shape));
  }
  const int64_t units = shape[2] / 4;
  if (ctx.has_input(1) && ctx.shape(1) != Shape{shape[1], units}) {
    ctx.fail("c is " + shape_string(ctx.shape(1)) + ", must be " + shape_string({shape[1], units}));
  }
  shape[2] = 5 * units;
  ctx.set_output(0, ctx.dtype(0), shape);
}

void lower_states(LowerContext& ctx) {
  const TensorView& out = ctx.output(0);
  if (out.elements() == 0) return;
  const TensorView sums = ctx.contiguous(ctx.input(0));
  require_float_storage(ctx, sums.dtype);
  const int64_t units = sums.shape[2] / 4;
  const TensorView states = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
  KernelRequest request;
  request.name = "lstm_states";
  request.types = {{"TP", sums.dtype}, {"TS", states.dtype}};
  request.constants = {{"HAS_C0", ctx.has_input(1) ? 1 : 0}};
  std::vector<TensorView> operands{sums};
  if (ctx.has_input(1)) {
    operands.push_back(ctx.contiguous(ctx.input(1)));
    request.types["TC"] = operands.back().dtype;
  }
  operands.push_back(states);
  dispatch_linear(ctx, std::move(request), operands, {{"units", units}, {"times", sums.shape[0]}},
                  sums.shape[1] * units);
  if (!out.is_contiguous()) ctx.copy(states, out);
}

// dlk::LSTMBackward: states, R (4 * units, units), and where they are there the gradients of y, of
// the last h and of the last c, and the first c; to the gradients of the gates' sums, of the first
// h and of the first c.

enum : size_t { kStates, kWeights, kDy, kDh, kDc, kFirstC };

void infer_backward(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  const Shape& states = ctx.shape(kStates);
  const int64_t units = states.size() == 3 ? states[2] / 5 : 0;
  if (states.size() != 3 || states[2] % 5 != 0 || ctx.shape(kWeights) != Shape{4 * units, units}) {
    ctx.fail("states " + shape_string(states) + " and R " + shape_string(ctx.shape(kWeights)) +
             " do not fit");
  }
  const Shape state{states[1], units};
  const Shape whole{states[0], states[1], units};
  for (size_t i = kDy; i < ctx.input_count(); ++i) {
    const Shape& wanted = i == kDy ? whole : state;
    if (ctx.has_input(i) && ctx.shape(i) != wanted) {
      ctx.fail("input " + std::to_string(i) + " is " + shape_string(ctx.shape(i)) + ", must be " +
               shape_string(wanted));
    }
  }
  ctx.set_output(0, ctx.dtype(0), {states[0], states[1], 4 * units});
  for (size_t i = 1; i < ctx.output_count(); ++i) {
    if (ctx.has_output(i)) ctx.set_output(i, ctx.dtype(0), state);
  }
}

class Backward {
 public:
  explicit Backward(LowerContext& ctx)
      : ctx_(ctx),
        states_(ctx.contiguous(ctx.input(kStates))),
        weights_(ctx.contiguous(ctx.input(kWeights))),
        times_(states_.shape[0]),
        batch_(states_.shape[1]),
        units_(states_.shape[2] / 5) {
    require_float_storage(ctx, states_.dtype);
    const TensorView& out = ctx.output(0);
    gates_ = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
    carried_ = ctx.workspace(DType::kFloat32, {batch_, units_});
    // CPU drivers multiply matrices many times faster than each work-item its own row.
    product_first_ = ctx.caps().is_cpu;
    if (product_first_) product_ = ctx.workspace(gates_.dtype, {batch_, units_});
  }

  void lower() {
    prepare();
    for (int64_t t = times_; t-- > 0;) {
      if (product_first_ && t + 1 < times_) multiply(t + 1);
      step(t);
    }
    if (ctx_.has_output(1)) first_h();
    if (ctx_.has_output(2)) ctx_.copy(carried_, ctx_.output(2));
    if (!ctx_.output(0).is_contiguous()) ctx_.copy(gates_, ctx_.output(0));
  }

 private:
  void prepare() {
    const int64_t split = ctx_.caps().is_cpu || units_ < 32 ? 1 : 8;
    const int64_t group = split == 1 ? kLinearGroup : 256;
    units_per_group_ = group / split;
    request_.name = "lstm_back";
    request_.constants = {
        {"SPLIT", split}, {"WG", group}, {"PRODUCT", product_first_ ? 1 : 0}, {"DONE", 0}};
    request_.types = {{"TS", states_.dtype}, {"TG", gates_.dtype}};
    operands_ = {states_, product_first_ ? product_ : weights_};
    request_.types[product_first_ ? "TQ" : "TR"] = operands_.back().dtype;
    const char* const flags[] = {"HAS_D", "HAS_E", "HAS_F", "HAS_Z"};
    const char* const types[] = {"TD", "TE", "TF", "TZ"};
    for (size_t i = kDy; i <= kFirstC; ++i) {
      const bool there = ctx_.has_input(i);
      request_.constants[flags[i - kDy]] = there ? 1 : 0;
      if (!there) continue;
      operands_.push_back(ctx_.contiguous(ctx_.input(i)));
      request_.types[types[i - kDy]] = operands_.back().dtype;
    }
    operands_.push_back(gates_);
    operands_.push_back(carried_);
    params_ = {{"blocks", ceil_div(units_, units_per_group_)},
               {"units", units_},
               {"batch", batch_},
               {"times", times_}};
  }

  /// The gates' gradients at a time times R.
  void multiply(int64_t t) {
    MatrixProblem problem;
    problem.a = drop_axis(slice_view(gates_, 0, t, 1), 0);
    problem.b = weights_;
    problem.b_input = kWeights;
    problem.y = product_;
    lower_matrix_product(ctx_, problem);
  }

  void step(int64_t t) {
    params_["t"] = t;
    ctx_.dispatch(request_, operands_, params_,
                  ctx_.linear_groups(ceil_div(units_, units_per_group_) * batch_));
  }

  void first_h() {
    if (product_first_) {
      multiply(0);
      ctx_.copy(product_, ctx_.output(1));
      return;
    }
    const TensorView& out = ctx_.output(1);
    const TensorView dense = out.is_contiguous() ? out : ctx_.workspace(out.dtype, out.shape);
    request_.constants["DONE"] = 1;
    request_.types["TH"] = dense.dtype;
    operands_.push_back(dense);
    step(0);
    if (!out.is_contiguous()) ctx_.copy(dense, out);
  }

  LowerContext& ctx_;
  TensorView states_, weights_, gates_, carried_, product_;
  int64_t times_, batch_, units_, units_per_group_ = kLinearGroup;
  bool product_first_ = false;
  KernelRequest request_;
  std::vector<TensorView> operands_;
  Params params_;
};

void lower_backward(LowerContext& ctx) {
  if (ctx.output(0).elements() == 0) {
    for (size_t i = 1; i < ctx.output_count(); ++i) {
      if (ctx.has_output(i)) fill_view(ctx, ctx.output(i), 0);
    }
    return;
  }
  Backward(ctx).lower();
}

// The gradient of LSTM in terms of these.

class LstmGradient {
 public:
  explicit LstmGradient(GradientContext& ctx) : ctx_(ctx) {
    const Shape& r = ctx.example_shape(ctx.input(2));
    directions_ = r.at(0);
    units_ = r.at(2);
  }

  void build() {
    y_ = ctx_.saved_output(0);
    std::vector<ValueId> w, r, b, h, c;
    ValueId x = kNoValue;
    for (int64_t d = 0; d < directions_; ++d) {
      const bool backward = d == 1 || ctx_.attr_string("direction", "forward") == "reverse";
      direction(d, backward);
      const ValueId part = backward ? reversed(dx_) : dx_;
      x = x == kNoValue ? part : ctx_.onnx("Add", {x, part});
      for (auto& [parts, value] : {std::pair{&w, dw_}, std::pair{&r, dr_}, std::pair{&b, db_},
                                   std::pair{&h, dh_}, std::pair{&c, dc_}}) {
        parts->push_back(unsqueezed(value));
      }
    }
    ctx_.set_gradient(0, x);
    ctx_.set_gradient(1, joined(w));
    ctx_.set_gradient(2, joined(r));
    ctx_.set_gradient(3, joined(b));
    ctx_.set_gradient(5, joined(h));
    ctx_.set_gradient(6, joined(c));
  }

 private:
  ValueId unsqueezed(ValueId v) { return ctx_.onnx("Unsqueeze", {v, ctx_.ints({0})}); }
  ValueId joined(const std::vector<ValueId>& parts) {
    return parts.size() == 1 ? parts[0] : ctx_.onnx("Concat", parts, {{"axis", int64_t{0}}});
  }
  ValueId turned(ValueId v) {
    return ctx_.onnx("Transpose", {v}, {{"perm", std::vector<int64_t>{1, 0}}});
  }
  ValueId cut(ValueId v, int64_t axis, int64_t start, int64_t end) {
    return ctx_.onnx("Slice", {v, ctx_.ints({start}), ctx_.ints({end}), ctx_.ints({axis})});
  }
  ValueId entry(ValueId v, int64_t axis, int64_t index) {
    if (v == kNoValue) return v;
    return ctx_.onnx("Squeeze", {cut(v, axis, index, index + 1), ctx_.ints({axis})});
  }
  ValueId reversed(ValueId v) {
    if (v == kNoValue) return v;
    return ctx_.onnx(
        "Slice", {v, ctx_.ints({-1}), ctx_.ints({INT64_MIN + 1}), ctx_.ints({0}), ctx_.ints({-1})});
  }
  ValueId rows(ValueId v, int64_t columns) {
    return ctx_.onnx("Reshape", {v, ctx_.ints({-1, columns})});
  }

  /// h before each time: (time, batch, units).
  ValueId hidden_before(ValueId y, int64_t d) {
    ValueId first = kNoValue;
    if (ctx_.has_input(5)) {
      first = cut(ctx_.input(5), 0, d, d + 1);
    } else {
      const ValueId zero = ctx_.scalar(0.0, ctx_.input(0));
      first = ctx_.onnx("Mul", {cut(y, 0, 0, 1), zero});
    }
    return ctx_.onnx("Concat", {first, cut(y, 0, 0, -1)}, {{"axis", int64_t{0}}});
  }

  void direction(int64_t d, bool backward) {
    ValueId x = ctx_.input(0), y = entry(y_, 1, d);
    ValueId dy = entry(ctx_.output_gradient(0), 1, d);
    if (backward) {
      x = reversed(x);
      y = reversed(y);
      dy = reversed(dy);
    }
    const ValueId w = entry(ctx_.input(1), 0, d), r = entry(ctx_.input(2), 0, d);
    const ValueId before = hidden_before(y, d);
    ValueId sums = ctx_.onnx(
        "Add", {ctx_.onnx("MatMul", {x, turned(w)}), ctx_.onnx("MatMul", {before, turned(r)})});
    if (ctx_.has_input(3)) {
      const ValueId bias = entry(ctx_.input(3), 0, d);
      const int64_t gates = 4 * units_;
      sums = ctx_.onnx(
          "Add",
          {sums, ctx_.onnx("Add", {cut(bias, 0, 0, gates), cut(bias, 0, gates, 2 * gates)})});
    }
    const ValueId first_c = ctx_.has_input(6) ? entry(ctx_.input(6), 0, d) : kNoValue;
    const ValueId states = ctx_.own("LSTMStates", {sums, first_c});
    const auto made = ctx_.add_node("LSTMBackward",
                                    {states, r, dy, entry(ctx_.output_gradient(1), 0, d),
                                     entry(ctx_.output_gradient(2), 0, d), first_c},
                                    {}, 3, "dlk");
    const ValueId gates = made[0];
    dh_ = made[1];
    dc_ = made[2];
    dx_ = ctx_.onnx("MatMul", {gates, w});
    const ValueId columns = turned(rows(gates, 4 * units_));
    dw_ = ctx_.onnx("MatMul", {columns, rows(x, ctx_.example_shape(ctx_.input(1)).at(2))});
    dr_ = ctx_.onnx("MatMul", {columns, rows(before, units_)});
    const ValueId sum = ctx_.reduce_sum(gates, {0, 1}, false);
    db_ = ctx_.onnx("Concat", {sum, sum}, {{"axis", int64_t{0}}});
  }

  GradientContext& ctx_;
  int64_t directions_ = 1, units_ = 0;
  ValueId y_ = kNoValue;
  ValueId dx_ = kNoValue, dw_ = kNoValue, dr_ = kNoValue, db_ = kNoValue, dh_ = kNoValue,
          dc_ = kNoValue;
};

}  // namespace

bool lstm_gradient(GradientContext& ctx) {
  for (const char* name : {"activations", "activation_alpha", "activation_beta", "clip"}) {
    if (ctx.has_attr(name)) return false;
  }
  const bool plain = ctx.node().op == "LSTM" && ctx.dtype(ctx.input(0)) != DType::kFloat64 &&
                     ctx.attr_int("layout", 0) == 0 && ctx.attr_int("input_forget", 0) == 0 &&
                     !ctx.has_input(4) && !ctx.has_input(7);
  if (plain) LstmGradient(ctx).build();
  return plain;
}

DLK_REGISTER_OPS {
  register_op(
      {.name = "LSTMStates",
       .domain = "dlk",
       .doc = "Gates and cell of an LSTM at all times, from the gates' sums and the first c.",
       .min_inputs = 1,
       .max_inputs = 2,
       .layout = LayoutRule::kContiguous,
       .infer = infer_states,
       .lower = lower_states,
       .mixed_floats = true});
  register_op({.name = "LSTMBackward",
               .domain = "dlk",
               .doc = "Backward through time of an LSTM: gradients of the gates' sums, the first h "
                      "and the first c.",
               .min_inputs = 2,
               .max_inputs = 6,
               .min_outputs = 1,
               .max_outputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_backward,
               .lower = lower_backward,
               .mixed_floats = true});
}

}  // namespace dlk
