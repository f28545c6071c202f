// RNN, GRU and LSTM: one matrix product projects the inputs of all times. Then each time is a
// dispatch of kernels/rnn.k that computes all gates, directions and batch entries; or, on GPUs with
// small weights, one dispatch computes all times.
#include <algorithm>
#include <bit>

#include "core/ops/gradients.h"
#include "core/ops/matmul.h"
#include "core/ops/op_util.h"
#include "core/ops/rnn_activations.h"

namespace dlk {
namespace {

struct Cell {
  const char* name;
  int64_t code, gates;
};

const Cell& cell_of(const NodeReader& node) {
  static const Cell cells[] = {
      {"RNN", 0, 1},
      {"GRU", 1, 3},
      {"LSTM", 2, 4},
  };
  for (const Cell& cell : cells) {
    if (node.node().op == cell.name) return cell;
  }
  node.fail("is no recurrent operator");
}

int64_t direction_count(const NodeReader& node) {
  const std::string direction = node.attr_string("direction", "forward");
  if (direction == "forward" || direction == "reverse") return 1;
  if (direction == "bidirectional") return 2;
  node.fail("direction is forward, reverse or bidirectional, not " + direction);
}

/// What an LSTM saves for its gradient: its gates and cell at all times (time, direction, batch,
/// 5 * unit).
constexpr size_t kStatesOutput = 3;

/// ORDER of the kernels: how the gates of an LSTM's weights are sorted.
int64_t gate_order(const NodeReader& node) {
  const std::string order = node.attr_string("gate_order", "iofc");
  if (order == "iofc") return 0;
  if (order == "ifco" && node.node().op == "LSTM") return 1;
  node.fail("gate_order is iofc, or of an LSTM ifco, not " + order);
}

/// One bias a gate, which is the sum of ONNX's two.
bool is_sum_of_biases(const NodeReader& node) {
  if (node.attr_int("bias_sum", 0) == 0) return false;
  if (node.node().op == "GRU") node.fail("bias_sum is of RNN and LSTM");
  return true;
}

/// Sizes in ONNX's letters.
struct Sizes {
  int64_t times = 0, batch = 0, inputs = 0, directions = 1, units = 0;
};

Sizes read_sizes(const NodeReader& node, const Shape& x, const Shape& w, const Shape& r) {
  const int64_t gates = cell_of(node).gates;
  const bool batch_first = node.attr_int("layout", 0) != 0;
  if (x.size() != 3 || w.size() != 3 || r.size() != 3) node.fail("X, W and R must have rank 3");
  Sizes sizes{x[batch_first ? 1 : 0], x[batch_first ? 0 : 1], x[2], direction_count(node), r[2]};
  const Shape expected_w{sizes.directions, gates * sizes.units, sizes.inputs};
  const Shape expected_r{sizes.directions, gates * sizes.units, sizes.units};
  if (w != expected_w || r != expected_r ||
      node.attr_int("hidden_size", sizes.units) != sizes.units) {
    node.fail("W " + shape_string(w) + " and R " + shape_string(r) + " do not fit X " +
              shape_string(x) + ", direction and hidden_size; expected " +
              shape_string(expected_w) + " and " + shape_string(expected_r));
  }
  return sizes;
}

void infer_rnn(InferContext& context) {
  const Sizes s = read_sizes(context, context.shape(0), context.shape(1), context.shape(2));
  const bool batch_first = context.attr_int("layout", 0) != 0;
  const int64_t gates = cell_of(context).gates;
  const Shape state =
      batch_first ? Shape{s.batch, s.directions, s.units} : Shape{s.directions, s.batch, s.units};
  const bool has_sum = is_sum_of_biases(context);
  const std::vector<std::pair<size_t, Shape>> expected = {
      {3, {s.directions, (has_sum ? 1 : 2) * gates * s.units}},
      {4, {s.batch}},
      {5, state},
      {6, state},
      {7, {s.directions, 3 * s.units}}};
  for (const auto& [input, shape] : expected) {
    if (context.has_input(input) && context.shape(input) != shape) {
      context.fail("input " + std::to_string(input) + " is " + shape_string(context.shape(input)) +
                   ", expected " + shape_string(shape));
    }
  }
  const Shape y = batch_first ? Shape{s.batch, s.times, s.directions, s.units}
                              : Shape{s.times, s.directions, s.batch, s.units};
  if (context.has_output(0)) context.set_output(0, context.dtype(0), y);
  for (size_t i = 1; i < context.output_count(); ++i) {
    if (i != kStatesOutput && context.has_output(i)) {
      context.set_output(i, context.dtype(0), state);
    }
  }
  if (context.has_output(kStatesOutput)) {
    context.set_output(kStatesOutput, context.dtype(0),
                       {s.times, s.directions, s.batch, 5 * s.units});
  }
  gate_order(context);
}

/// Weights (direction, gate * unit, from) as (direction, from, gate * unit): neighbouring
/// work-items, which are neighbouring units, read neighbouring elements.
TensorView transposed_weights(LowerContext& context, size_t input) {
  const TensorView& w = context.input(input);
  return context.prepacked(input, "transposed", w.dtype, {w.shape[0], w.shape[2], w.shape[1]},
                           [input](LowerContext& make, const TensorView& destination) {
                             make.copy(permute_view(make.input(input), {0, 2, 1}), destination);
                           });
}

/// X * W^T for all times: (direction, time, batch, gate * unit), as it is accumulated.
TensorView project(LowerContext& context, const Sizes& s, const TensorView& x, int64_t gates) {
  const int64_t rows = s.times * s.batch, columns = gates * s.units;
  const TensorView result =
      context.workspace(accumulator_dtype(x.dtype), {s.directions, rows, columns});
  if (rows == 0) return result;
  TensorView flat = s.times == 1 || s.batch == 1 || x.strides[0] == x.strides[1] * s.batch
                        ? x
                        : context.contiguous(x);
  const int64_t row_stride = s.batch == 1 ? flat.strides[0] : flat.strides[1];
  flat.shape = {rows, s.inputs};
  flat.strides = {row_stride, flat.strides[2]};
  MatrixProblem problem;
  problem.b_input = 1;
  if (s.directions == 1) {
    problem.a = flat;
    problem.b = permute_view(drop_axis(context.input(1), 0), {1, 0});
    problem.b_transposed = true;
    problem.y = drop_axis(result, 0);
  } else {
    problem.a = insert_axis(flat, 0, s.directions);
    problem.b = transposed_weights(context, 1);
    problem.y = result;
  }
  lower_matrix_product(context, problem);
  return result;
}

/// Axes of (batch, direction, unit) states in the order (direction, batch, unit).
TensorView time_first(const TensorView& view, bool batch_first) {
  if (!batch_first) return view;
  return view.rank() == 4 ? permute_view(view, {1, 2, 0, 3}) : permute_view(view, {1, 0, 2});
}

/// Slots of the state workspace: h before and after a step (they take turns), c or z, r * h.
constexpr int64_t kSlots = 4, kCellSlot = 2, kResetSlot = 3;

class Recurrence {
 public:
  explicit Recurrence(LowerContext& context)
      : context_(context),
        cell_(cell_of(context)),
        sizes_(read_sizes(context, context.input(0).shape, context.input(1).shape,
                          context.input(2).shape)),
        batch_first_(context.attr_int("layout", 0) != 0) {}

  void lower() {
    const DType dtype = context_.input(0).dtype;
    require_compute(context_, dtype);
    if (!is_floating(dtype)) {
      context_.unsupported("type " + std::string(dtype_name(dtype)) + "; use a floating type");
    }
    state_ = context_.workspace(accumulator_dtype(dtype),
                                {kSlots, sizes_.directions, sizes_.batch, sizes_.units});
    one_dispatch_ = in_one_dispatch();
    start(0, 5);
    if (cell_.code == 2) start(kCellSlot, 6);
    if (sizes_.batch * sizes_.units > 0) steps();
    finish(sizes_.times % 2, 1);
    if (cell_.code == 2) finish(kCellSlot, 2);
    if (states_.storage < 0) return;
    const TensorView& saved = context_.output(kStatesOutput);
    if (!saved.is_contiguous()) context_.copy(states_, saved);
  }

 private:
  TensorView slot(int64_t index) const { return drop_axis(slice_view(state_, 0, index, 1), 0); }
  int64_t slot_offset(int64_t index) const { return index * state_.strides[0]; }

  void start(int64_t index, size_t input) {
    if (context_.has_input(input)) {
      context_.copy(time_first(context_.input(input), batch_first_), slot(index));
    } else if (!one_dispatch_ || sizes_.batch * sizes_.units == 0) {
      fill_view(context_, slot(index), 0);
    }
  }

  void finish(int64_t index, size_t output) {
    if (!context_.has_output(output)) return;
    context_.copy(slot(index), time_first(context_.output(output), batch_first_));
  }

  void bind(size_t input, const char* flag, TensorView view) {
    const bool there = context_.has_input(input);
    request_.constants[flag] = there ? 1 : 0;
    if (there) operands_.push_back(std::move(view));
  }

  void prepare() {
    const int64_t gates = cell_.gates;
    const TensorView x =
        batch_first_ ? permute_view(context_.input(0), {1, 0, 2}) : context_.input(0);
    const TensorView none{-1, DType::kFloat32, {0, 0}, {0, 0}, 0};
    const auto optional = [&](size_t input) {
      return context_.has_input(input) ? context_.input(input) : none;
    };
    const TensorView bias = optional(3), peephole = optional(7);
    TensorView lengths = none;
    if (context_.has_input(4)) lengths = index_view(context_, context_.input(4));
    request_.name = "rnn_step";
    // CPU drivers run the packed product many times faster than a loop in each work-item.
    product_first_ = context_.caps().is_cpu && sizes_.directions == 1 && sizes_.units >= 32 &&
                     context_.is_weight(2) && !resets_first();
    request_.constants["PRODUCT"] = product_first_ ? 1 : 0;
    if (product_first_) {
      product_ = context_.workspace(state_.dtype, {sizes_.batch, gates * sizes_.units});
    }
    operands_ = {project(context_, sizes_, x, gates),
                 product_first_ ? product_ : transposed_weights(context_, 2)};
    bind(3, "HAS_BIAS", bias);
    bind(7, "HAS_PEEPHOLE", peephole);
    bind(4, "HAS_LENGTHS", lengths);
    operands_.push_back(state_);
    const bool has_y = context_.has_output(0);
    TensorView y{-1, DType::kFloat32, {0, 0, 0, 0}, {0, 0, 0, 0}, 0};
    if (has_y) {
      operands_.push_back(context_.output(0));
      y = time_first(context_.output(0), batch_first_);
    }
    const bool has_states = cell_.code == 2 && context_.has_output(kStatesOutput);
    if (has_states) {
      const TensorView& saved = context_.output(kStatesOutput);
      states_ = saved.is_contiguous() ? saved : context_.workspace(saved.dtype, saved.shape);
      operands_.push_back(states_);
    }
    request_.constants["HAS_STATES"] = has_states ? 1 : 0;
    request_.constants["BIAS_SUM"] = is_sum_of_biases(context_) ? 1 : 0;
    request_.constants["ORDER"] = gate_order(context_);
    request_.types = {{"TS", state_.dtype},
                      {"TW", context_.input(2).dtype},
                      {"TB", context_.has_input(3) ? bias.dtype : context_.input(2).dtype},
                      {"TY", y.dtype}};
    if (has_states) request_.types["TT"] = states_.dtype;
    const Activations activations = read_activations(context_, sizes_.directions);
    const char* const names[] = {"F0", "G0", "H0", "F1", "G1", "H1"};
    for (size_t i = 0; i < 6; ++i) request_.constants[names[i]] = activations.codes[i];
    request_.constants["CELL"] = cell_.code;
    request_.constants["GATES"] = gates;
    request_.constants["HAS_Y"] = has_y ? 1 : 0;
    request_.constants["DIRECTIONS"] = sizes_.directions;
    request_.constants["REVERSE"] =
        context_.attr_string("direction", "forward") == "reverse" ? 1 : 0;
    request_.constants["COUPLED"] = context_.attr_int("input_forget", 0) != 0 ? 1 : 0;
    // On GPUs several work-items share the product of a unit: small batches would idle otherwise.
    const int64_t split = context_.caps().is_cpu || sizes_.units < 32 ? 1 : 4;
    units_per_group_ = kLinearGroup / split;
    request_.constants["SPLIT"] = split;
    request_.constants["WG"] = kLinearGroup;
    const double clip = context_.attr_float("clip", 3.0e38);
    params_ = {{"units", sizes_.units},
               {"batch", sizes_.batch},
               {"times", sizes_.times},
               {"cell", slot_offset(kCellSlot)},
               {"b_d", bias.strides[0]},
               {"b_n", bias.strides[1]},
               {"w_d", peephole.strides[0]},
               {"w_n", peephole.strides[1]},
               {"l_b", lengths.strides[0]},
               {"reset", slot_offset(kResetSlot)},
               {"y_t", y.strides[0]},
               {"y_d", y.strides[1]},
               {"y_b", y.strides[2]},
               {"y_h", y.strides[3]},
               {"clip", clip},
               {"alpha", activations.alpha},
               {"beta", activations.beta}};
  }

  /// A GRU that multiplies h by r before its product.
  bool resets_first() const {
    return cell_.code == 1 && context_.attr_int("linear_before_reset", 0) == 0;
  }

  /// h * R^T of all gates.
  void multiply(int64_t from) {
    MatrixProblem problem;
    problem.a = drop_axis(slot(from), 0);
    problem.b = permute_view(drop_axis(context_.input(2), 0), {1, 0});
    problem.b_input = 2;
    problem.b_transposed = true;
    problem.y = product_;
    lower_matrix_product(context_, problem);
  }

  /// Whether each batch entry goes through all times in a group of its own, on one compute unit:
  /// reading all weights in each step then takes less than a dispatch of all units.
  bool in_one_dispatch() const {
    constexpr int64_t kMostWeightBytes = 1 << 20;
    const int64_t weights = columns() * sizes_.units;
    return !context_.caps().is_cpu && !resets_first() && sizes_.times > 1 &&
           weights * dtype_size(context_.input(2).dtype) <= kMostWeightBytes &&
           columns() / vector_width() <= items() && sizes_.units <= items() &&
           (1 + cell_.gates) * room() * dtype_size(state_.dtype) <=
               context_.caps().local_memory_bytes;
  }

  int64_t columns() const { return cell_.gates * sizes_.units; }
  int64_t vector_width() const {
    return columns() % 4 == 0 && state_.dtype == DType::kFloat32 ? 4 : 1;
  }

  /// Of a group. Sizes are compiled in by powers of two, so that few pipelines serve all.
  int64_t items() const {
    const int64_t most = std::min<int64_t>(context_.caps().max_group_invocations, 1024);
    constexpr int64_t kMostParts = 8;
    int64_t items = std::min<int64_t>(most, 64);
    while (2 * items <= most && items < kMostParts * columns() / vector_width()) items *= 2;
    return items;
  }

  int64_t room() const {
    const auto units = static_cast<uint64_t>(std::max<int64_t>(sizes_.units, 64));
    return static_cast<int64_t>(std::bit_ceil(units));
  }

  void sequence() {
    request_.name = "rnn_sequence";
    for (const char* name : {"PRODUCT", "SPLIT"}) request_.constants.erase(name);
    params_.erase("reset");
    const int64_t bytes = cell_.gates * room() * dtype_size(state_.dtype);
    const int64_t local = context_.caps().local_memory_bytes - bytes / cell_.gates;
    request_.constants["WG"] = items();
    request_.constants["UNITS"] = room();
    request_.constants["VW"] = vector_width();
    request_.constants["PARTS"] =
        std::clamp<int64_t>(items() / (columns() / vector_width()), 1, local / bytes);
    if (context_.caps().binary_import) request_.lowering = "ptx";
    request_.constants["START_H"] = context_.has_input(5) ? 1 : 0;
    request_.constants["START_C"] = cell_.code == 2 && context_.has_input(6) ? 1 : 0;
    params_["from"] = slot_offset(0);
    params_["to"] = slot_offset(sizes_.times % 2);
    context_.dispatch(request_, operands_, params_,
                      context_.linear_groups(sizes_.batch * sizes_.directions));
  }

  void steps() {
    prepare();
    if (one_dispatch_) return sequence();
    for (int64_t t = 0; t < sizes_.times; ++t) {
      params_["t"] = t;
      params_["from"] = slot_offset(t % 2);
      params_["to"] = slot_offset((t + 1) % 2);
      if (product_first_) multiply(t % 2);
      if (resets_first()) {
        pass(1, 0, 2, slot_offset(t % 2));
        pass(2, 2, 1, slot_offset(kResetSlot));
      } else {
        pass(0, 0, cell_.gates, slot_offset(t % 2));
      }
    }
  }

  void pass(int64_t phase, int64_t first, int64_t count, int64_t source) {
    request_.constants["PHASE"] = phase;
    request_.constants["FIRST"] = first;
    request_.constants["COUNT"] = count;
    params_["source"] = source;
    const int64_t blocks = ceil_div(sizes_.units, units_per_group_);
    params_["blocks"] = blocks;
    context_.dispatch(request_, operands_, params_,
                      context_.linear_groups(blocks * sizes_.batch * sizes_.directions));
  }

  LowerContext& context_;
  const Cell& cell_;
  Sizes sizes_;
  bool batch_first_;
  TensorView state_, product_;
  TensorView states_{
      -1, DType::kFloat32, {}, {}, 0};  // of all times, where its gradient wants them
  bool product_first_ = false, one_dispatch_ = false;
  KernelRequest request_;
  std::vector<TensorView> operands_;
  Params params_;
  int64_t units_per_group_ = kLinearGroup;
};

void lower_rnn(LowerContext& context) { Recurrence(context).lower(); }

}  // namespace

DLK_REGISTER_OPS {
  const std::pair<const char*, int> operators[] = {{"RNN", 6}, {"GRU", 6}, {"LSTM", 8}};
  for (const auto& [name, inputs] : operators) {
    OpSchema schema;
    schema.name = name;
    schema.since_version = 14;
    schema.doc =
        "Recurrent layer: direction, activations, clip, layout, hidden_size; GRU "
        "linear_before_reset; LSTM input_forget and peepholes. Beyond ONNX, RNN and LSTM have "
        "bias_sum (B is the sum of the two), and an LSTM has gate_order (iofc, or PyTorch's ifco) "
        "and saves its gates and cell at all times.";
    schema.min_inputs = 3;
    schema.max_inputs = inputs;
    schema.min_outputs = 0;
    schema.max_outputs = inputs == 8 ? 4 : 2;
    schema.layout = LayoutRule::kContiguous;
    schema.infer = infer_rnn;
    schema.lower = lower_rnn;
    schema.gradient = rnn_gradient;
    register_op(std::move(schema));
  }
}

}  // namespace dlk
