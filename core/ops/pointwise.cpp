#include "core/ops/pointwise.h"

#include <algorithm>

#include "core/ops/pointwise_kernel.h"

namespace dlk {

namespace {

/// Elements that one work-item loads and stores at once: more than one where every tensor is walked
/// in step, in floats, from an aligned place. Wide CPU drivers make their own vectors of
/// work-items.
int64_t vector_width(const LowerContext& context, const PointwiseProgram& program,
                     const std::vector<TensorView>& views, const TensorView& output,
                     const IterationSpace& space) {
  constexpr int64_t kWidth = 4;
  const Caps& caps = context.caps();
  if (!space.is_linear() || caps.vector_width < kWidth) return 1;
  if (caps.is_cpu && caps.vector_width > kWidth) return 1;
  const auto vectors = [&](const TensorView& view, size_t tensor) {
    return compute_type(view.dtype) == "float" && !is_storage_only(view.dtype) &&
           (space.strides[tensor][0] == 0 || view.offset % kWidth == 0);
  };
  bool all = vectors(output, 0) && compute_type(program.dtype()) == "float";
  for (size_t i = 0; i < views.size(); ++i) all = all && vectors(views[i], i + 1);
  return all ? kWidth : 1;
}

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
  const IterationSpace space = make_space(output, views, view_is_weight);
  const int64_t n = output.elements();
  const int64_t width = vector_width(context, program, views, output, space);

  KernelRequest request;
  request.name = "pointwise";
  request.source = pointwise_kernel(program, binding_of, views, output, space, width);
  Params params;
  params["n"] = n;
  if (!space.is_linear()) {
    params["d"] = space.dims;
    for (size_t t = 0; t < space.strides.size(); ++t) {
      params["s" + IterationSpace::tensor_name(t)] = space.strides[t];
    }
  }
  for (size_t i = 0; i < program.values.size(); ++i) {
    params["v" + std::to_string(i)] = program.values[i];
  }
  views.push_back(output);
  const int64_t items = kPointwiseGroup * width;
  context.dispatch(request, views, std::move(params),
                   context.linear_groups((n + items - 1) / items));
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
