#include "core/ops/pointwise.h"

#include <algorithm>
#include <numeric>

namespace dlk {

namespace {

constexpr int64_t kGroupSize = 64;

/// An iteration space: dimensions from the outermost, and for each tensor its strides along them.
/// Tensor 0 is the output.
struct Space {
  std::vector<int64_t> dims;
  std::vector<std::vector<int64_t>> strides;  // [tensor][dimension]
};

/// Strides of `view` as seen from the output's axes: 0 where it is broadcast. A weight's axis of
/// size 1 counts as broadcast even where the output's is 1 too: the kernel must not depend on the
/// batch size.
std::vector<int64_t> broadcast_strides(const TensorView& view, const Shape& shape, bool weight) {
  std::vector<int64_t> strides(shape.size(), 0);
  const size_t missing = shape.size() - view.shape.size();
  for (size_t i = 0; i < view.shape.size(); ++i) {
    const bool broadcast = view.shape[i] == 1 && (weight || shape[missing + i] != 1);
    strides[missing + i] = broadcast ? 0 : view.strides[i];
  }
  return strides;
}

/// Orders the axes as the output stores them and joins those that every tensor steps through alike.
/// Axis 0 stays even at size 1 (a batch of one takes the kernel of any batch).
Space make_space(const TensorView& output, const std::vector<TensorView>& operands,
                 const std::vector<bool>& weights) {
  std::vector<std::vector<int64_t>> strides{output.strides};
  for (size_t i = 0; i < operands.size(); ++i) {
    strides.push_back(broadcast_strides(operands[i], output.shape, weights[i]));
  }
  std::vector<size_t> order;
  for (size_t axis = 0; axis < output.shape.size(); ++axis) {
    if (axis == 0 || output.shape[axis] != 1) order.push_back(axis);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return output.strides[a] > output.strides[b]; });
  Space space;
  space.strides.resize(strides.size());
  for (const size_t axis : order) {
    const int64_t dim = output.shape[axis];
    bool joins = !space.dims.empty();
    for (size_t t = 0; joins && t < strides.size(); ++t) {
      joins = space.strides[t].back() == strides[t][axis] * dim;
    }
    if (joins) space.dims.back() *= dim;
    if (!joins) space.dims.push_back(dim);
    for (size_t t = 0; t < strides.size(); ++t) {
      if (joins) space.strides[t].back() = strides[t][axis];
      if (!joins) space.strides[t].push_back(strides[t][axis]);
    }
  }
  if (space.dims.empty()) {
    space.dims.push_back(1);
    for (auto& tensor : space.strides) tensor.push_back(1);
  }
  return space;
}

bool is_linear(const Space& space) {
  if (space.dims.size() != 1) return false;
  for (const auto& tensor : space.strides) {
    if (tensor[0] != 0 && tensor[0] != 1) return false;
  }
  return space.strides[0][0] == 1;
}

std::string tensor_name(size_t tensor) {
  return tensor == 0 ? "Y" : "A" + std::to_string(tensor - 1);
}

std::string_view storage_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "f32";
    case DType::kFloat16:
      return "f16";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat64:
      return "f64";
    case DType::kInt8:
      return "i8";
    case DType::kInt16:
      return "i16";
    case DType::kInt32:
      return "i32";
    case DType::kInt64:
      return "i64";
    case DType::kUInt8:
      return "u8";
    case DType::kUInt16:
      return "u16";
    case DType::kUInt32:
      return "u32";
    case DType::kUInt64:
      return "u64";
    case DType::kBool:
      return "bool";
  }
  return "f32";
}

/// Writes the kernel of one program for one kind of iteration space.
class KernelText {
 public:
  KernelText(const PointwiseProgram& program, const std::vector<int>& binding_of,
             const std::vector<TensorView>& views, const TensorView& output, const Space& space)
      : program_(program), binding_of_(binding_of), space_(space), linear_(is_linear(space)) {
    for (const TensorView& view : views) dtypes_.push_back(view.dtype);
    output_dtype_ = output.dtype;
  }

  std::string print() const {
    std::string text = "kernel pointwise\n";
    for (size_t i = 0; i < dtypes_.size(); ++i) {
      text += "in " + tensor_name(i + 1) + " : " + std::string(storage_name(dtypes_[i])) + "\n";
    }
    text += "out Y : " + std::string(storage_name(output_dtype_)) + "\nparam n : uint\n";
    if (!linear_) {
      const std::string rank = "[" + std::to_string(space_.dims.size()) + "] : uint\n";
      text += "param d" + rank;
      for (size_t t = 0; t < space_.strides.size(); ++t) text += "param s" + tensor_name(t) + rank;
    }
    for (size_t i = 0; i < program_.values.size(); ++i) {
      text += "param v" + std::to_string(i) + " : float\n";
    }
    text += "group " + std::to_string(kGroupSize) + "\n{\n  uint i = WL * " +
            std::to_string(kGroupSize) + "u + LX;\n  if (i < n) {\n";
    return text + indices() + loads() + steps() + "  }\n}\n";
  }

 private:
  std::string indices() const {
    if (linear_) return {};
    std::string text = "    uint r = i;\n";
    for (size_t axis = space_.dims.size(); axis-- > 0;) {
      const std::string k = std::to_string(axis);
      if (axis == 0) {
        text += "    uint i0 = r;\n";
      } else {
        text += "    uint i" + k + " = r % d[" + k + "];\n    r = r / d[" + k + "];\n";
      }
    }
    return text;
  }

  std::string index(size_t tensor) const {
    if (linear_) return space_.strides[tensor][0] == 0 ? "0u" : "i";
    std::string text;
    for (size_t axis = 0; axis < space_.dims.size(); ++axis) {
      const std::string k = std::to_string(axis);
      text += (axis ? " + i" : "i") + k + " * s" + tensor_name(tensor) + "[" + k + "]";
    }
    return text;
  }

  std::string loads() const {
    std::string text;
    for (size_t i = 0; i < dtypes_.size(); ++i) {
      text += "    " + compute_type(dtypes_[i]) + " a" + std::to_string(i) + " = ld(" +
              tensor_name(i + 1) + ", " + index(i + 1) + ");\n";
    }
    return text;
  }

  std::string steps() const {
    std::string text;
    for (size_t s = 0; s < program_.steps.size(); ++s) {
      const PointwiseStep& step = program_.steps[s];
      std::vector<std::string> args;
      std::vector<DType> dtypes;
      for (const PointwiseArg& arg : step.args) {
        const bool operand = arg.kind == PointwiseArg::Kind::kOperand;
        const bool value = arg.kind == PointwiseArg::Kind::kValue;
        args.push_back((operand ? "a"
                        : value ? "v"
                                : "t") +
                       std::to_string(operand ? binding_of_[arg.index] : arg.index));
        dtypes.push_back(operand ? program_.operands[arg.index]
                         : value ? DType::kFloat32
                                 : program_.steps[arg.index].dtype);
      }
      text += "    " + compute_type(step.dtype) + " t" + std::to_string(s) + " = " +
              step_expression(step, dtypes, args) + ";\n";
    }
    const std::string last = "t" + std::to_string(program_.steps.size() - 1);
    return text + "    st(Y, " + index(0) + ", " + last + ");\n";
  }

  const PointwiseProgram& program_;
  const std::vector<int>& binding_of_;
  const Space& space_;
  bool linear_;
  std::vector<DType> dtypes_;
  DType output_dtype_;
};

bool same_view(const TensorView& a, const TensorView& b) {
  return a.storage == b.storage && a.offset == b.offset && a.dtype == b.dtype &&
         a.shape == b.shape && a.strides == b.strides;
}

/// Scalar float constants become parameters, so that their values cost no pipeline and no buffer.
PointwiseProgram with_constants_as_values(LowerContext& context, PointwiseProgram program) {
  std::map<int, PointwiseArg> value_of;
  for (size_t i = 0; i < program.operands.size(); ++i) {
    if (compute_type(program.operands[i]) != "float" || !context.has_input(i)) continue;
    if (!context.is_weight(i) || context.input(i).elements() != 1) continue;
    if (const auto known = context.constant(i)) {
      value_of[static_cast<int>(i)] = program.add_value(known->to_doubles()[0]);
    }
  }
  for (PointwiseStep& step : program.steps) {
    for (PointwiseArg& arg : step.args) {
      if (arg.kind != PointwiseArg::Kind::kOperand) continue;
      if (const auto found = value_of.find(arg.index); found != value_of.end()) {
        arg = found->second;
      }
    }
  }
  return program;
}

/// `count` elements from `start` of the axis that is `from_end` axes before the last; views that
/// are broadcast along it stay as they are.
TensorView narrowed(TensorView view, size_t from_end, int64_t start, int64_t count) {
  if (view.shape.size() <= from_end) return view;
  const size_t axis = view.shape.size() - 1 - from_end;
  if (view.shape[axis] == 1) return view;
  view.offset += start * view.strides[axis];
  view.shape[axis] = count;
  return view;
}

bool reaches_too_far(const TensorView& view, uint64_t limit) {
  return static_cast<uint64_t>(view.span()) * dtype_size(view.dtype) > limit;
}

/// Where one kernel argument cannot reach a whole tensor: half of the work at a time, cut along the
/// axis with the largest steps.
bool dispatch_halves(LowerContext& context, const PointwiseProgram& program,
                     const std::vector<TensorView>& operands, const std::vector<bool>& weights,
                     const TensorView& output) {
  const uint64_t limit = context.caps().max_binding_bytes;
  bool too_far = reaches_too_far(output, limit);
  for (const TensorView& view : operands)
    too_far |= view.storage >= 0 && reaches_too_far(view, limit);
  if (!too_far) return false;
  size_t widest = 0;
  for (size_t axis = 0; axis < output.shape.size(); ++axis) {
    const auto extent = [&](size_t a) { return (output.shape[a] - 1) * output.strides[a]; };
    if (extent(axis) > extent(widest)) widest = axis;
  }
  if (output.shape.empty() || output.shape[widest] < 2) return false;
  const size_t from_end = output.shape.size() - 1 - widest;
  const int64_t half = output.shape[widest] / 2;
  for (const int64_t start : {int64_t{0}, half}) {
    const int64_t count = start == 0 ? half : output.shape[widest] - half;
    std::vector<TensorView> parts;
    for (const TensorView& view : operands) parts.push_back(narrowed(view, from_end, start, count));
    dispatch_pointwise(context, program, parts, weights, narrowed(output, from_end, start, count));
  }
  return true;
}

}  // namespace

void dispatch_pointwise(LowerContext& context, const PointwiseProgram& program,
                        const std::vector<TensorView>& operands, const std::vector<bool>& weights,
                        const TensorView& output) {
  if (output.elements() == 0) return;
  if (dispatch_halves(context, program, operands, weights, output)) return;
  std::vector<TensorView> views;  // one a binding
  std::vector<bool> view_is_weight;
  std::vector<int> binding_of(operands.size(), -1);
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!program.uses_operand(i)) continue;
    for (size_t b = 0; b < views.size() && binding_of[i] < 0; ++b) {
      if (same_view(views[b], operands[i])) binding_of[i] = static_cast<int>(b);
    }
    if (binding_of[i] >= 0) continue;
    binding_of[i] = static_cast<int>(views.size());
    views.push_back(operands[i]);
    view_is_weight.push_back(weights[i]);
  }
  const Space space = make_space(output, views, view_is_weight);
  const int64_t n = output.elements();

  KernelRequest request;
  request.name = "pointwise";
  request.source = KernelText(program, binding_of, views, output, space).print();
  Params params;
  params["n"] = n;
  if (!is_linear(space)) {
    params["d"] = space.dims;
    for (size_t t = 0; t < space.strides.size(); ++t) {
      params["s" + tensor_name(t)] = space.strides[t];
    }
  }
  for (size_t i = 0; i < program.values.size(); ++i) {
    params["v" + std::to_string(i)] = program.values[i];
  }
  views.push_back(output);
  context.dispatch(request, views, std::move(params),
                   context.linear_groups((n + kGroupSize - 1) / kGroupSize));
}

void infer_pointwise(InferContext& context) {
  const OpSchema* schema = find_op(context.node().op, context.node().domain);
  std::vector<DType> dtypes(context.input_count(), DType::kFloat32);
  std::optional<Shape> shape;
  for (size_t i = 0; i < context.input_count(); ++i) {
    if (!context.has_input(i)) continue;
    dtypes[i] = context.dtype(i);
    try {
      shape = shape ? broadcast_shapes(*shape, context.shape(i)) : context.shape(i);
    } catch (const Error& error) {
      context.fail(error.what());
    }
  }
  if (!shape) context.fail("has no inputs");
  context.set_output(0, program_of(*schema, context.node(), std::move(dtypes)).dtype(), *shape);
}

void lower_pointwise(LowerContext& context) {
  PointwiseProgram program;
  if (context.program()) {
    program = *context.program();
  } else {
    const OpSchema* schema = find_op(context.node().op, context.node().domain);
    std::vector<DType> dtypes(context.input_count(), DType::kFloat32);
    for (size_t i = 0; i < context.input_count(); ++i) {
      if (context.has_input(i)) dtypes[i] = context.input(i).dtype;
    }
    program = program_of(*schema, context.node(), std::move(dtypes));
  }
  program = with_constants_as_values(context, std::move(program));
  std::vector<TensorView> operands;
  std::vector<bool> weights;
  for (size_t i = 0; i < context.input_count(); ++i) {
    operands.push_back(context.has_input(i) ? context.input(i) : TensorView{});
    weights.push_back(context.has_input(i) && context.is_weight(i));
  }
  dispatch_pointwise(context, program, operands, weights, context.output(0));
}

}  // namespace dlk
