// Gradients of RNN, GRU and LSTM where recurrent_gradient.cpp has no kernels. The layer is
// written out step by step in simpler operators, and those are differentiated: every attribute,
// both directions and variable lengths come with it. The number of steps must be the same in every
// run.
#include <algorithm>
#include <map>

#include "core/ops/gradients.h"

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
    check_attributes();
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
  void check_attributes() const {
    for (const char* name : {"activations", "activation_alpha", "activation_beta"}) {
      if (!ctx_.has_attr(name)) continue;
      ctx_.unsupported(std::string("has a gradient for the default activations, not with ") + name);
    }
    if (ctx_.has_attr("clip")) ctx_.unsupported("has no gradient with clip");
  }

  ValueId add(ValueId a, ValueId b) { return ctx_.onnx("Add", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return ctx_.onnx("Mul", {a, b}); }
  ValueId sigmoid(ValueId a) { return ctx_.onnx("Sigmoid", {a}); }
  ValueId tanh(ValueId a) { return ctx_.onnx("Tanh", {a}); }
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
    const ValueId w = turned(entry(ctx_.input(1), d), {1, 0});
    r_ = turned(entry(ctx_.input(2), d), {1, 0});
    ValueId projected = ctx_.onnx("MatMul", {x, w});
    hidden_bias_ = kNoValue;
    if (ctx_.has_input(3)) {
      const ValueId bias = entry(ctx_.input(3), d);
      projected = add(projected, cut(bias, 0, 0, gates_ * units_));
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
        const ValueId zero = ctx_.scalar(0.0, ctx_.input(0));
        y = ctx_.onnx("Where", {live, h_, zero});
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
      h_ = tanh(sums);
      return;
    }
    const ValueId in = sigmoid(with_peephole(gate(sums, 0), 0, c_));
    const ValueId one = ctx_.scalar(1.0, ctx_.input(0));
    const ValueId forget = ctx_.attr_int("input_forget", 0) != 0
                               ? ctx_.onnx("Sub", {one, in})
                               : sigmoid(with_peephole(gate(sums, 2), 2, c_));
    c_ = add(mul(forget, c_), mul(in, tanh(gate(sums, 3))));
    const ValueId out = sigmoid(with_peephole(gate(sums, 1), 1, c_));
    h_ = mul(out, tanh(c_));
  }

  void gru_step(ValueId x) {
    const ValueId product = hidden_product(h_);
    const ValueId z = sigmoid(add(gate(x, 0), gate(product, 0)));
    const ValueId r = sigmoid(add(gate(x, 1), gate(product, 1)));
    ValueId hidden = kNoValue;
    if (ctx_.attr_int("linear_before_reset", 0) != 0) {
      hidden = mul(r, gate(product, 2));
    } else {
      hidden = ctx_.onnx("MatMul", {mul(r, h_), gate(r_, 2)});
      if (hidden_bias_ != kNoValue) {
        hidden = add(hidden, cut(hidden_bias_, 0, 2 * units_, units_));
      }
    }
    const ValueId fresh = tanh(add(gate(x, 2), hidden));
    // (1 - z) fresh + z h
    h_ = add(fresh, mul(z, ctx_.onnx("Sub", {h_, fresh})));
  }

  GradientContext& ctx_;
  const std::string op_;
  bool batch_first_ = false;
  int64_t times_ = 0, directions_ = 1, units_ = 0, gates_ = 1;
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
