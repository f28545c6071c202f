// The gradients of RNN, GRU and LSTM by kernels of their own (rnn_backward.cpp): an LSTM saves its
// gates of all times, and two matrix products compute a GRU's sums again (h at every time is an
// output); one operator goes backwards through the cell, and three products give the gradients of
// the input and the weights. What has more attributes is written out step by step
// (rnn_gradient.cpp).
#include "core/ops/gradients.h"

namespace dlk {

namespace {

class RecurrentGradient {
 public:
  explicit RecurrentGradient(GradientContext& ctx)
      : ctx_(ctx),
        cell_(ctx.node().op),
        batch_first_(ctx.attr_int("layout", 0) != 0),
        linear_(ctx.attr_int("linear_before_reset", 0) != 0) {
    const Shape& r = ctx.example_shape(ctx.input(2));
    directions_ = r.at(0);
    units_ = r.at(2);
    gates_ = cell_ == "LSTM" ? 4 : cell_ == "GRU" ? 3 : 1;
  }

  void build() {
    x_ = turned(ctx_.input(0), {1, 0, 2});
    y_ = turned(ctx_.saved_output(0), {1, 2, 0, 3});
    dy_ = turned(ctx_.output_gradient(0), {1, 2, 0, 3});
    if (ctx_.has_input(4)) {
      lengths_ = ctx_.onnx("Cast", {ctx_.input(4)}, {{"to", std::string("int64")}});
    }
    std::vector<ValueId> w, r, b, h, c;
    ValueId x = kNoValue;
    for (int64_t d = 0; d < directions_; ++d) {
      const bool backward = d == 1 || ctx_.attr_string("direction", "forward") == "reverse";
      direction(d, backward);
      const ValueId part = backward ? reversed(dx_) : dx_;
      x = x == kNoValue ? part : ctx_.onnx("Add", {x, part});
      for (auto& [parts, value] : {std::pair{&w, dw_}, std::pair{&r, dr_}, std::pair{&b, db_},
                                   std::pair{&h, dh_}, std::pair{&c, dc_}}) {
        if (value != kNoValue) parts->push_back(unsqueezed(value));
      }
    }
    ctx_.set_gradient(0, turned(x, {1, 0, 2}));
    ctx_.set_gradient(1, joined(w));
    ctx_.set_gradient(2, joined(r));
    ctx_.set_gradient(3, joined(b));
    if (ctx_.has_input(5)) ctx_.set_gradient(5, turned(joined(h), {1, 0, 2}));
    if (ctx_.has_input(6)) ctx_.set_gradient(6, turned(joined(c), {1, 0, 2}));
  }

 private:
  /// With the axes of `layout` 0, and back: the permutations of x and of states are their own
  /// inverse.
  ValueId turned(ValueId v, std::vector<int64_t> perm) {
    if (!batch_first_ || v == kNoValue) return v;
    return ctx_.onnx("Transpose", {v}, {{"perm", std::move(perm)}});
  }
  ValueId state(ValueId v, int64_t d) { return entry(turned(v, {1, 0, 2}), 0, d); }
  ValueId unsqueezed(ValueId v) { return ctx_.onnx("Unsqueeze", {v, ctx_.ints({0})}); }
  ValueId joined(const std::vector<ValueId>& parts, int64_t axis = 0) {
    return parts.size() == 1 ? parts[0] : ctx_.onnx("Concat", parts, {{"axis", axis}});
  }
  ValueId transposed(ValueId v) {
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
    if (lengths_ != kNoValue) {
      return ctx_.onnx("ReverseSequence", {v, lengths_},
                       {{"time_axis", int64_t{0}}, {"batch_axis", int64_t{1}}});
    }
    return ctx_.onnx(
        "Slice", {v, ctx_.ints({-1}), ctx_.ints({INT64_MIN + 1}), ctx_.ints({0}), ctx_.ints({-1})});
  }
  ValueId rows(ValueId v, int64_t columns) {
    return ctx_.onnx("Reshape", {v, ctx_.ints({-1, columns})});
  }
  ValueId product(ValueId a, ValueId b) { return ctx_.onnx("MatMul", {a, b}); }
  /// v + a part of the bias.
  ValueId with_bias(ValueId v, int64_t start, int64_t end) {
    if (bias_ == kNoValue) return v;
    return ctx_.onnx("Add", {v, cut(bias_, 0, start * units_, end * units_)});
  }

  /// h before each time: (time, batch, units).
  ValueId hidden_before(ValueId y, int64_t d) {
    ValueId first = kNoValue;
    if (ctx_.has_input(5)) {
      first = unsqueezed(state(ctx_.input(5), d));
    } else {
      const ValueId zero = ctx_.scalar(0.0, ctx_.input(0));
      first = ctx_.onnx("Mul", {cut(y, 0, 0, 1), zero});
    }
    return ctx_.onnx("Concat", {first, cut(y, 0, 0, -1)}, {{"axis", int64_t{0}}});
  }

  ValueId gru_states(ValueId x) {
    const ValueId input = with_bias(product(x, transposed(w_)), 0, 3);
    ValueId hidden = kNoValue;
    if (linear_) {
      hidden = with_bias(product(before_, transposed(r_)), 3, 6);
    } else {
      const ValueId early =
          with_bias(product(before_, transposed(cut(r_, 0, 0, 2 * units_))), 3, 5);
      const ValueId reset =
          ctx_.onnx("Sigmoid", {ctx_.onnx("Add", {cut(input, 2, units_, 2 * units_),
                                                  cut(early, 2, units_, 2 * units_)})});
      reset_ = ctx_.onnx("Mul", {reset, before_});
      const ValueId late =
          with_bias(product(reset_, transposed(cut(r_, 0, 2 * units_, 3 * units_))), 5, 6);
      hidden = joined({early, late}, 2);
    }
    return ctx_.own("GRUStates", {input, hidden},
                    {{"linear_before_reset", int64_t{linear_ ? 1 : 0}}});
  }

  /// R's gradient from the gradients (time, batch, gates) of the sums that it made.
  ValueId hidden_weights(ValueId sums, ValueId y) {
    const int64_t width = (cell_ == "GRU" ? 3 : gates_) * units_;
    if (before_ == kNoValue) {
      // h before the first time is 0.
      return product(transposed(rows(cut(sums, 0, 1, INT64_MAX), width)),
                     rows(cut(y, 0, 0, -1), units_));
    }
    const ValueId columns = transposed(rows(sums, width)), before = rows(before_, units_);
    if (cell_ != "GRU" || linear_) return product(columns, before);
    return joined({product(cut(columns, 0, 0, 2 * units_), before),
                   product(cut(columns, 0, 2 * units_, 3 * units_), rows(reset_, units_))});
  }

  bool has_many_times() const {
    const size_t axis = batch_first_ ? 1 : 0;
    return ctx_.is_fixed(ctx_.input(0), static_cast<int64_t>(axis)) &&
           ctx_.example_shape(ctx_.input(0)).at(axis) > 1;
  }

  /// The gates and the cell at all times, in their order.
  ValueId saved_states(int64_t d, bool backward) {
    const ValueId states = entry(ctx_.saved_output(3), 1, d);
    return backward ? reversed(states) : states;
  }

  void direction(int64_t d, bool backward) {
    ValueId x = x_, y = entry(y_, 1, d), dy = entry(dy_, 1, d);
    if (backward) {
      x = reversed(x);
      y = reversed(y);
      dy = reversed(dy);
    }
    w_ = entry(ctx_.input(1), 0, d);
    r_ = entry(ctx_.input(2), 0, d);
    bias_ = ctx_.has_input(3) ? entry(ctx_.input(3), 0, d) : kNoValue;
    const bool is_lstm = cell_ == "LSTM", is_gru = cell_ == "GRU";
    const bool starts_at_zero = !is_gru && !ctx_.has_input(5) && has_many_times();
    before_ = starts_at_zero ? kNoValue : hidden_before(y, d);
    const ValueId first_c = is_lstm && ctx_.has_input(6) ? state(ctx_.input(6), d) : kNoValue;
    const ValueId states = is_lstm ? saved_states(d, backward) : is_gru ? gru_states(x) : y;
    const ValueId last_h = state(ctx_.output_gradient(1), d);
    const ValueId last_c = is_lstm ? state(ctx_.output_gradient(2), d) : kNoValue;
    const auto made = ctx_.add_node(
        "RecurrentBackward",
        {states, r_, dy, last_h, last_c, first_c, ctx_.input(4), is_gru ? before_ : kNoValue},
        {{"cell", cell_},
         {"linear_before_reset", int64_t{linear_ ? 1 : 0}},
         {"gate_order", ctx_.attr_string("gate_order", "iofc")}},
        is_lstm && ctx_.has_input(6) ? 3
        : ctx_.has_input(5)          ? 2
                                     : 1,
        "dlk");
    dh_ = ctx_.has_input(5) ? made[1] : kNoValue;
    dc_ = is_lstm && ctx_.has_input(6) ? made[2] : kNoValue;
    const int64_t width = (is_gru ? 2 : 1) * gates_ * units_, each = gates_ * units_;
    const ValueId sums = made[0];
    const ValueId by_input = is_gru ? cut(sums, 2, 0, each) : sums;
    dx_ = product(by_input, w_);
    const ValueId columns = transposed(rows(sums, width));
    dw_ = product(is_gru ? cut(columns, 0, 0, each) : columns,
                  rows(x, ctx_.example_shape(ctx_.input(1)).at(2)));
    dr_ = hidden_weights(is_gru ? cut(sums, 2, each, width) : sums, y);
    const ValueId sum = ctx_.reduce_sum(sums, {0, 1}, false);
    db_ = is_gru || ctx_.attr_int("bias_sum", 0) != 0 ? sum : joined({sum, sum});
  }

  GradientContext& ctx_;
  const std::string cell_;
  const bool batch_first_, linear_;
  int64_t directions_ = 1, units_ = 0, gates_ = 1;
  ValueId x_ = kNoValue, y_ = kNoValue, dy_ = kNoValue, lengths_ = kNoValue;
  ValueId w_ = kNoValue, r_ = kNoValue, bias_ = kNoValue;
  ValueId before_ = kNoValue, reset_ = kNoValue;  // h, and the reset gate times h
  ValueId dx_ = kNoValue, dw_ = kNoValue, dr_ = kNoValue, db_ = kNoValue, dh_ = kNoValue,
          dc_ = kNoValue;
};

}  // namespace

bool recurrent_gradient(GradientContext& ctx) {
  for (const char* name : {"activations", "activation_alpha", "activation_beta", "clip"}) {
    if (ctx.has_attr(name)) return false;
  }
  const bool plain = ctx.dtype(ctx.input(0)) != DType::kFloat64 &&
                     ctx.attr_int("input_forget", 0) == 0 && !ctx.has_input(7);
  if (plain) RecurrentGradient(ctx).build();
  return plain;
}

}  // namespace dlk
