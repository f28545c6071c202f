// The operators that the gradients of RNN, GRU and LSTM are made of (recurrent_gradient.cpp): the
// gates of a GRU at all times from their sums, and backwards through the cell, a dispatch a time
// or, on GPUs with small weights, one for all times (kernels/rnn_gradient.k).
#include <algorithm>
#include <bit>

#include "core/ops/matmul.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

// dlk::GRUStates: sums of the gates by the input and by the state (time, batch, 3 * units) to
// (time, batch, 4 * units).

void infer_gru_states(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  Shape shape = ctx.shape(0);
  if (shape.size() != 3 || shape[2] % 3 != 0 || ctx.shape(1) != shape) {
    ctx.fail("takes two of (time, batch, 3 * units), not " + shape_string(shape) + " and " +
             shape_string(ctx.shape(1)));
  }
  shape[2] = shape[2] / 3 * 4;
  ctx.set_output(0, ctx.dtype(0), shape);
}

void lower_gru_states(LowerContext& ctx) {
  const TensorView& out = ctx.output(0);
  if (out.elements() == 0) return;
  const TensorView input = ctx.contiguous(ctx.input(0)), hidden = ctx.contiguous(ctx.input(1));
  require_float_storage(ctx, input.dtype);
  const TensorView states = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
  KernelRequest request;
  request.name = "gru_states";
  request.types = {{"TP", input.dtype}, {"TQ", hidden.dtype}, {"TS", states.dtype}};
  request.constants = {{"LINEAR", ctx.attr_int("linear_before_reset", 0) != 0 ? 1 : 0}};
  dispatch_linear(ctx, std::move(request), {input, hidden, states}, {{"units", out.shape[2] / 4}},
                  out.elements() / 4);
  if (!out.is_contiguous()) ctx.copy(states, out);
}

// dlk::RecurrentBackward, for one direction, in the order of its times: states (an RNN's result),
// R (gates * units, units), and where they are there the gradients of y, of the last h and of the
// last c, the first c, the lengths, and h before each time; to the gradients of the gates' sums (by
// the input, then by the state where these differ), of the first h and of the first c.

enum : size_t { kStates, kWeights, kDy, kDh, kDc, kFirstC, kLengths, kBefore };

/// Numbers of (units) in a row of the states, of R, and of the gates' gradients.
struct CellWidths {
  int64_t code, states, gates, gradients;
};

CellWidths widths_of(const NodeReader& node) {
  const std::string cell = node.attr_string("cell", "");
  if (cell == "RNN") return {0, 1, 1, 1};
  if (cell == "GRU") return {1, 4, 3, 6};
  if (cell == "LSTM") return {2, 5, 4, 4};
  node.fail("cell is RNN, GRU or LSTM, not " + cell);
}

void infer_backward(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  const CellWidths cell = widths_of(ctx);
  const Shape& states = ctx.shape(kStates);
  const int64_t units = states.size() == 3 ? states[2] / cell.states : 0;
  if (states.size() != 3 || states[2] % cell.states != 0 ||
      ctx.shape(kWeights) != Shape{cell.gates * units, units}) {
    ctx.fail("states " + shape_string(states) + " and R " + shape_string(ctx.shape(kWeights)) +
             " do not fit");
  }
  if (cell.code == 1 && !ctx.has_input(kBefore)) ctx.fail("a GRU needs h before each time");
  const Shape state{states[1], units};
  const Shape whole{states[0], states[1], units};
  for (size_t i = kDy; i < ctx.input_count(); ++i) {
    const Shape& wanted = i == kLengths              ? Shape{states[1]}
                          : i == kDy || i == kBefore ? whole
                                                     : state;
    if (ctx.has_input(i) && ctx.shape(i) != wanted) {
      ctx.fail("input " + std::to_string(i) + " is " + shape_string(ctx.shape(i)) + ", must be " +
               shape_string(wanted));
    }
  }
  ctx.set_output(0, ctx.dtype(0), {states[0], states[1], cell.gradients * units});
  for (size_t i = 1; i < ctx.output_count(); ++i) {
    if (ctx.has_output(i)) ctx.set_output(i, ctx.dtype(0), state);
  }
}

class Backward {
  static constexpr int64_t kFloatBytes = 4;

 public:
  explicit Backward(LowerContext& ctx)
      : ctx_(ctx),
        cell_(widths_of(ctx)),
        states_(ctx.contiguous(ctx.input(kStates))),
        weights_(ctx.contiguous(ctx.input(kWeights))),
        times_(states_.shape[0]),
        batch_(states_.shape[1]),
        units_(states_.shape[2] / cell_.states),
        gate_order_(ctx.attr_string("gate_order", "iofc") == "ifco" ? 1 : 0),
        resets_first_(cell_.code == 1 && ctx.attr_int("linear_before_reset", 0) == 0) {
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
    if (in_one_dispatch()) {
      sequence();
    } else {
      steps();
    }
    if (ctx_.has_output(2)) ctx_.copy(carried_, ctx_.output(2));
    if (!ctx_.output(0).is_contiguous()) ctx_.copy(gates_, ctx_.output(0));
  }

 private:
  void steps() {
    const Rows all{0, (resets_first_ ? 2 : cell_.gates) * units_};
    const Rows fresh{2 * units_, units_};
    for (int64_t t = times_; t-- > 0;) {
      if (t + 1 < times_) multiply(t + 1, all);
      step(resets_first_ ? 1 : 0, t, t + 1, all);
      if (!resets_first_) continue;
      multiply(t, fresh);
      step(2, t, t, fresh);
    }
    if (ctx_.has_output(1)) first_h(all);
  }

  /// As for the forward (rnn.cpp): a group, on one compute unit, for each batch entry.
  bool in_one_dispatch() const {
    constexpr int64_t kMostWeightBytes = 1 << 20;
    const int64_t weights = cell_.gates * units_ * units_;
    return !ctx_.caps().is_cpu && !resets_first_ && times_ > 1 &&
           weights * dtype_size(weights_.dtype) <= kMostWeightBytes && units_ <= items() &&
           (1 + cell_.gates) * room() * kFloatBytes <= ctx_.caps().local_memory_bytes;
  }

  int64_t vector_width() const { return units_ % 4 == 0 && weights_.offset % 4 == 0 ? 4 : 1; }
  int64_t vectors() const { return units_ / vector_width(); }
  int64_t room() const {
    return static_cast<int64_t>(
        std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(units_, 64))));
  }

  /// Of a group. Sizes are compiled in by powers of two, so that few pipelines serve all.
  int64_t items() const {
    constexpr int64_t kMostParts = 32;
    const int64_t most = std::min<int64_t>(ctx_.caps().max_group_invocations, 1024);
    int64_t items = std::min<int64_t>(most, 64);
    while (2 * items <= most && (items < kMostParts * vectors() || items < units_)) items *= 2;
    return items;
  }

  void sequence() {
    request_.name = "rnn_back_sequence";
    for (const char* name : {"SPLIT", "PRODUCT", "DONE"}) request_.constants.erase(name);
    const int64_t local = ctx_.caps().local_memory_bytes - cell_.gates * room() * kFloatBytes;
    request_.constants["GATES"] = cell_.gates;
    request_.constants["WG"] = items();
    request_.constants["UNITS"] = room();
    request_.constants["VW"] = vector_width();
    request_.constants["PARTS"] =
        std::clamp<int64_t>(items() / vectors(), 1, local / (room() * kFloatBytes));
    request_.constants["HAS_H"] = ctx_.has_output(1) ? 1 : 0;
    request_.constants["HAS_B"] = ctx_.has_output(2) ? 1 : 0;
    if (ctx_.caps().binary_import) request_.lowering = "ptx";
    operands_.pop_back();  // what is carried is in registers
    TensorView first;
    if (ctx_.has_output(1)) {
      const TensorView& out = ctx_.output(1);
      first = out.is_contiguous() ? out : ctx_.workspace(out.dtype, out.shape);
      bind("TH", first);
    }
    if (ctx_.has_output(2)) operands_.push_back(carried_);
    params_.erase("blocks");
    params_["d_t"] = steps_[0];
    params_["d_b"] = steps_[1];
    params_["d_u"] = steps_[2];
    ctx_.dispatch(request_, operands_, params_, ctx_.linear_groups(batch_));
    if (ctx_.has_output(1) && !ctx_.output(1).is_contiguous()) ctx_.copy(first, ctx_.output(1));
  }

  /// Rows of R.
  struct Rows {
    int64_t first, count;
  };

  /// Where the gradients by the state of a row of R begin in a row of the gates' gradients.
  int64_t column_of(const Rows& rows) const {
    return (cell_.gradients - cell_.gates) * units_ + rows.first;
  }

  void prepare() {
    const int64_t split = ctx_.caps().is_cpu || units_ < 32 ? 1 : 8;
    const int64_t group = split == 1 ? kLinearGroup : 256;
    units_per_group_ = group / split;
    request_.name = "rnn_back";
    request_.constants = {{"CELL", cell_.code},   {"SPLIT", split},
                          {"WG", group},          {"PRODUCT", product_first_ ? 1 : 0},
                          {"ORDER", gate_order_}, {"DONE", 0}};
    request_.types = {{"TS", states_.dtype}, {"TG", gates_.dtype}};
    operands_ = {states_, product_first_ ? product_ : weights_};
    request_.types[product_first_ ? "TQ" : "TR"] = operands_.back().dtype;
    const char* const flags[] = {"HAS_D", "HAS_E", "HAS_F", "HAS_Z"};
    const char* const types[] = {"TD", "TE", "TF", "TZ"};
    for (size_t i = kDy; i <= kFirstC; ++i) {
      const bool there = ctx_.has_input(i);
      request_.constants[flags[i - kDy]] = there ? 1 : 0;
      if (!there) continue;
      const TensorView view = i == kDy ? result_gradient() : ctx_.contiguous(ctx_.input(i));
      bind(types[i - kDy], view);
      if (i == kDy) steps_ = view.strides;
    }
    int64_t length_stride = 0;
    request_.constants["HAS_L"] = ctx_.has_input(kLengths) ? 1 : 0;
    if (ctx_.has_input(kLengths)) {
      operands_.push_back(index_view(ctx_, ctx_.input(kLengths)));
      length_stride = operands_.back().strides[0];
    }
    if (cell_.code == 1) bind("TM", ctx_.contiguous(ctx_.input(kBefore)));
    operands_.push_back(gates_);
    operands_.push_back(carried_);
    params_ = {{"blocks", ceil_div(units_, units_per_group_)},
               {"units", units_},
               {"batch", batch_},
               {"times", times_},
               {"l_b", length_stride},
               {"width", gates_.shape[2]}};
  }

  /// That of y; the kernel of all times takes any strides.
  TensorView result_gradient() {
    const TensorView& dy = ctx_.input(kDy);
    const bool forward = std::ranges::all_of(dy.strides, [](int64_t step) { return step >= 0; });
    return forward && in_one_dispatch() ? dy : ctx_.contiguous(dy);
  }

  void bind(const char* type, const TensorView& view) {
    operands_.push_back(view);
    request_.types[type] = view.dtype;
  }

  /// The gates' gradients at a time times rows of R.
  void multiply(int64_t t, const Rows& rows) {
    if (!product_first_) return;
    MatrixProblem problem;
    const TensorView gates = drop_axis(slice_view(gates_, 0, t, 1), 0);
    problem.a = slice_view(gates, 1, column_of(rows), rows.count);
    problem.b = slice_view(weights_, 0, rows.first, rows.count);
    // A part of R is none of the packed weights that the product would look for.
    problem.b_input = rows.count == weights_.shape[0] ? kWeights : kStates;
    problem.y = product_;
    lower_matrix_product(ctx_, problem);
  }

  void step(int64_t phase, int64_t t, int64_t source, const Rows& rows) {
    request_.constants["PHASE"] = phase;
    params_["t"] = t;
    params_["source"] = source;
    params_["g_first"] = column_of(rows);
    params_["r_first"] = rows.first;
    params_["count"] = rows.count;
    ctx_.dispatch(request_, operands_, params_,
                  ctx_.linear_groups(ceil_div(units_, units_per_group_) * batch_));
  }

  void first_h(const Rows& rows) {
    multiply(0, rows);
    const TensorView& out = ctx_.output(1);
    const TensorView dense = out.is_contiguous() ? out : ctx_.workspace(out.dtype, out.shape);
    request_.constants["DONE"] = 1;
    bind("TH", dense);
    step(0, 0, 0, rows);
    if (!out.is_contiguous()) ctx_.copy(dense, out);
  }

  LowerContext& ctx_;
  CellWidths cell_;
  TensorView states_, weights_, gates_, carried_, product_;
  int64_t times_, batch_, units_, gate_order_, units_per_group_ = kLinearGroup;
  bool resets_first_, product_first_ = false;
  KernelRequest request_;
  std::vector<TensorView> operands_;
  Params params_;
  Shape steps_{0, 0, 0};  // of y's gradient
};

void lower_backward(LowerContext& ctx) {
  if (ctx.output(0).elements() == 0) {
    for (size_t i = 1; i < ctx.output_count(); ++i) {
      if (!ctx.has_output(i) || ctx.output(i).elements() == 0) continue;
      // Without a time, the last states are the first ones.
      if (ctx.has_input(kDy + i)) {
        ctx.copy(ctx.input(kDy + i), ctx.output(i));
      } else {
        fill_view(ctx, ctx.output(i), 0);
      }
    }
    return;
  }
  Backward(ctx).lower();
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "GRUStates",
               .domain = "dlk",
               .doc = "Gates of a GRU at all times, from their sums by the input and by the state; "
                      "linear_before_reset.",
               .min_inputs = 2,
               .max_inputs = 2,
               .layout = LayoutRule::kContiguous,
               .infer = infer_gru_states,
               .lower = lower_gru_states,
               .mixed_floats = true});
  register_op({.name = "RecurrentBackward",
               .domain = "dlk",
               .doc = "Backward through time of a cell (RNN, GRU, LSTM): gradients of the gates' "
                      "sums, the first h and the first c; linear_before_reset.",
               .min_inputs = 2,
               .max_inputs = 8,
               .min_outputs = 1,
               .max_outputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_backward,
               .lower = lower_backward,
               .mixed_floats = true});
}

}  // namespace dlk
