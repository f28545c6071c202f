// Gradients of RNN, GRU and LSTM where recurrent_gradient.cpp has no kernels: peepholes,
// input_forget, clip, activations, float64. The layer is written out step by step in simpler
// operators, and those are differentiated: every attribute, both directions and variable lengths
// come with it. The number of steps must be the same in every run.
#include <algorithm>
#include <map>

#include "core/ops/gradients.h"
#include "core/ops/rnn_activations.h"

namespace dlk {

namespace {

class Unrolled {
 public:
  explicit Unrolled(GradientContext& ctx) : ctx_(ctx), op_(ctx.node().op) {
    const Shape& x = ctx.example_shape(ctx.input(0));
    const Shape& r = ctx.example_shape(ctx.input(2));
    batch_first_ = ctx.attr_int("layout", 0) != 0;
    times_ = x.at(batch_first_ ? 1 : 0);
    directions_ = r.at(0);
    units_ = r.at(2);
    gates_ = op_ == "LSTM" ? 4 : op_ == "GRU" ? 3 : 1;
    activations_ = read_activations(ctx, directions_);
    require_fixed_times();
  }

  /// Results in the order of the operator's outputs.
  std::vector<ValueId> build() {
    ValueId x = ctx_.input(0);
    if (batch_first_) x = turned(x, {1, 0, 2});
    std::vector<ValueId> ys, hs, cs;
    for (int64_t d = 0; d < directions_; ++d) {
      const bool backward = d == 1 || ctx_.attr_string("direction", "forward") == "reverse";
      ys.push_back(direction(d, backward ? reversed(x) : x, backward));
      hs.push_back(unsqueezed(h_, 0));
      if (op_ == "LSTM") cs.push_back(unsqueezed(c_, 0));
    }
    std::vector<ValueId> results{joined(ys, 1), joined(hs, 0)};
    if (op_ == "LSTM") results.push_back(joined(cs, 0));
    if (batch_first_) {
      results[0] = turned(results[0], {2, 0, 1, 3});
      for (size_t i = 1; i < results.size(); ++i) results[i] = turned(results[i], {1, 0, 2});
    }
    return results;
  }

 private:
  void require_fixed_times() {
    if (ctx_.is_fixed(ctx_.input(0), batch_first_ ? 1 : 0)) return;
    ctx_.unsupported(
        "has a gradient for any number of times only in float32 and float16 with the default "
        "activations, without clip, input_forget and peepholes; give the time axis a fixed size");
  }

  ValueId add(ValueId a, ValueId b) { return ctx_.onnx("Add", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return ctx_.onnx("Mul", {a, b}); }
  ValueId factor(double value) { return ctx_.scalar(value, ctx_.input(0)); }
  /// f, g or h (0, 1, 2) of what `clip` leaves of a sum.
  ValueId activated(size_t which, ValueId a) {
    if (ctx_.has_attr("clip")) {
      const double limit = ctx_.attr_float("clip", 0);
      a = ctx_.onnx("Clip", {a, factor(-limit), factor(limit)});
    }
    const size_t slot = static_cast<size_t>(direction_) * 3 + which;
    const double alpha = activations_.alpha[slot], beta = activations_.beta[slot];
    const auto affine = [&](ValueId v) { return add(mul(v, factor(alpha)), factor(beta)); };
    switch (static_cast<Activation>(activations_.codes[slot])) {
      case Activation::kSigmoid:
        return ctx_.onnx("Sigmoid", {a});
      case Activation::kTanh:
        return ctx_.onnx("Tanh", {a});
      case Activation::kRelu:
        return ctx_.onnx("Relu", {a});
      case Activation::kAffine:
        return affine(a);
      case Activation::kLeakyRelu:
        return ctx_.onnx("LeakyRelu", {a}, {{"alpha", alpha}});
      case Activation::kThresholdedRelu:
        return ctx_.onnx("ThresholdedRelu", {a}, {{"alpha", alpha}});
      case Activation::kScaledTanh:
        return mul(ctx_.onnx("Tanh", {mul(a, factor(beta))}), factor(alpha));
      case Activation::kHardSigmoid:
        return ctx_.onnx("HardSigmoid", {a}, {{"alpha", alpha}, {"beta", beta}});
      case Activation::kElu:
        return ctx_.onnx("Elu", {a}, {{"alpha", alpha}});
      case Activation::kSoftsign:
        return ctx_.onnx("Softsign", {a});
      case Activation::kSoftplus:
        return ctx_.onnx("Softplus", {a});
    }
    ctx_.fail("has an activation without a gradient");
  }
  ValueId turned(ValueId v, std::vector<int64_t> perm) {
    return ctx_.onnx("Transpose", {v}, {{"perm", std::move(perm)}});
  }
  ValueId unsqueezed(ValueId v, int64_t axis) {
    return ctx_.onnx("Unsqueeze", {v, ctx_.ints({axis})});
  }
  ValueId squeezed(ValueId v, int64_t axis) { return ctx_.onnx("Squeeze", {v, ctx_.ints({axis})}); }
  ValueId joined(const std::vector<ValueId>& parts, int64_t axis) {
    return parts.size() == 1 ? parts[0] : ctx_.onnx("Concat", parts, {{"axis", axis}});
  }
  ValueId cut(ValueId v, int64_t axis, int64_t start, int64_t count) {
    return ctx_.onnx("Slice",
                     {v, ctx_.ints({start}), ctx_.ints({start + count}), ctx_.ints({axis})});
  }
  /// Entry `index` of axis 0.
  ValueId entry(ValueId v, int64_t index) { return squeezed(cut(v, 0, index, 1), 0); }
  ValueId reversed(ValueId x) {
    if (!ctx_.has_input(4)) {
      return ctx_.onnx("Slice", {x, ctx_.ints({-1}), ctx_.ints({INT64_MIN + 1}), ctx_.ints({0}),
                                 ctx_.ints({-1})});
    }
    return ctx_.onnx("ReverseSequence",
                     {x, ctx_.onnx("Cast", {ctx_.input(4)}, {{"to", std::string("int64")}})},
                     {{"time_axis", int64_t{0}}, {"batch_axis", int64_t{1}}});
  }

  /// (batch, units) of the state that input `input` gives one direction, zeros without it.
  ValueId initial(size_t input, int64_t d, ValueId like) {
    if (ctx_.has_input(input)) {
      const ValueId state = batch_first_ ? turned(ctx_.input(input), {1, 0, 2}) : ctx_.input(input);
      return entry(state, d);
    }
    const ValueId rows = ctx_.onnx("Shape", {like}, {{"start", int64_t{1}}, {"end", int64_t{2}}});
    const ValueId shape = ctx_.onnx("Concat", {rows, ctx_.ints({units_})}, {{"axis", int64_t{0}}});
    const HostTensor zero = HostTensor::from_doubles(ctx_.dtype(ctx_.input(0)), {1}, {0.0});
    return ctx_.onnx("ConstantOfShape", {shape}, {{"value", zero}});
  }

  /// Y of one direction as (time, 1, batch, units); leaves the last states in h_ and c_.
  ValueId direction(int64_t d, ValueId x, bool backward) {
    direction_ = d;
    const ValueId w = turned(entry(ctx_.input(1), d), {1, 0});
    r_ = turned(entry(ctx_.input(2), d), {1, 0});
    ValueId projected = ctx_.onnx("MatMul", {x, w});
    hidden_bias_ = kNoValue;
    if (ctx_.has_input(3)) {
      const ValueId bias = entry(ctx_.input(3), d);
      projected = add(projected, cut(bias, 0, 0, gates_ * units_));
      if (ctx_.attr_int("bias_sum", 0) == 0)
        hidden_bias_ = cut(bias, 0, gates_ * units_, gates_ * units_);
    }
    peephole_ = op_ == "LSTM" && ctx_.has_input(7) ? entry(ctx_.input(7), d) : kNoValue;
    h_ = initial(5, d, x);
    if (op_ == "LSTM") c_ = initial(6, d, x);
    std::vector<ValueId> ys;
    for (int64_t t = 0; t < times_; ++t) {
      const ValueId h = h_, c = c_;
      step(entry(projected, t));
      ValueId y = h_;
      if (ctx_.has_input(4)) {
        const ValueId number = ctx_.onnx("Cast", {ctx_.input(4)}, {{"to", std::string("int32")}});
        const ValueId time = ctx_.add_constant(HostTensor::from_ints(DType::kInt32, {}, {t}));
        const ValueId live = unsqueezed(ctx_.onnx("Greater", {number, time}), 1);
        y = ctx_.onnx("Where", {live, h_, factor(0.0)});
        h_ = ctx_.onnx("Where", {live, h_, h});
        if (op_ == "LSTM") c_ = ctx_.onnx("Where", {live, c_, c});
      }
      ys.push_back(unsqueezed(y, 0));
    }
    ValueId y = joined(ys, 0);
    if (backward) y = reversed(y);
    return unsqueezed(y, 1);
  }

  ValueId gate(ValueId all, int64_t index) { return cut(all, 1, index * units_, units_); }
  ValueId hidden_product(ValueId h) {
    const ValueId product = ctx_.onnx("MatMul", {h, r_});
    return hidden_bias_ == kNoValue ? product : add(product, hidden_bias_);
  }
  ValueId with_peephole(ValueId gate_sum, int64_t index, ValueId c) {
    if (peephole_ == kNoValue) return gate_sum;
    return add(gate_sum, mul(cut(peephole_, 0, index * units_, units_), c));
  }

  void step(ValueId x) {
    if (op_ == "GRU") return gru_step(x);
    const ValueId sums = add(x, hidden_product(h_));
    if (op_ == "RNN") {
      h_ = activated(0, sums);
      return;
    }
    const bool forget_second = ctx_.attr_string("gate_order", "iofc") == "ifco";
    const int64_t o = forget_second ? 3 : 1, f = forget_second ? 1 : 2, c = forget_second ? 2 : 3;
    const ValueId in = activated(0, with_peephole(gate(sums, 0), 0, c_));
    const ValueId forget = ctx_.attr_int("input_forget", 0) != 0
                               ? ctx_.onnx("Sub", {factor(1.0), in})
                               : activated(0, with_peephole(gate(sums, f), 2, c_));
    c_ = add(mul(forget, c_), mul(in, activated(1, gate(sums, c))));
    const ValueId out = activated(0, with_peephole(gate(sums, o), 1, c_));
    h_ = mul(out, activated(2, c_));
  }

  void gru_step(ValueId x) {
    const ValueId product = hidden_product(h_);
    const ValueId z = activated(0, add(gate(x, 0), gate(product, 0)));
    const ValueId r = activated(0, add(gate(x, 1), gate(product, 1)));
    ValueId hidden = kNoValue;
    if (ctx_.attr_int("linear_before_reset", 0) != 0) {
      hidden = mul(r, gate(product, 2));
    } else {
      hidden = ctx_.onnx("MatMul", {mul(r, h_), gate(r_, 2)});
      if (hidden_bias_ != kNoValue) {
        hidden = add(hidden, cut(hidden_bias_, 0, 2 * units_, units_));
      }
    }
    const ValueId fresh = activated(1, add(gate(x, 2), hidden));
    // (1 - z) fresh + z h
    h_ = add(fresh, mul(z, ctx_.onnx("Sub", {h_, fresh})));
  }

  GradientContext& ctx_;
  const std::string op_;
  Activations activations_;
  bool batch_first_ = false;
  int64_t direction_ = 0, times_ = 0, directions_ = 1, units_ = 0, gates_ = 1;
  ValueId r_ = kNoValue, hidden_bias_ = kNoValue, peephole_ = kNoValue, h_ = kNoValue,
          c_ = kNoValue;
};

}  // namespace

void rnn_gradient(GradientContext& ctx) {
  if (recurrent_gradient(ctx)) return;
  const std::vector<ValueId> results = Unrolled(ctx).build();
  ctx.differentiate(results);
}

}  // namespace dlk
