// OneHot, EyeLike, Trilu, ReverseSequence and CumSum.

#include "core/ops/elementwise.h"
#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

Shape unit_strides(int64_t rank, int64_t axis) {
  Shape strides(static_cast<size_t>(rank), 0);
  strides[static_cast<size_t>(axis)] = 1;
  return strides;
}

int64_t one_element(const NodeReader& node, const std::vector<int64_t>& values, const char* what) {
  if (values.size() != 1) node.fail(std::string(what) + " must have one element");
  return values[0];
}

int64_t one_hot_axis(const NodeReader& node, int64_t index_rank) {
  return node.normalize_axis(node.attr_int("axis", -1), index_rank + 1);
}

void infer_one_hot(InferContext& context) {
  const int64_t depth = one_element(context, required_sizes(context, 1, "depth"), "depth");
  if (depth < 0) context.fail("depth must not be negative");
  if (context.shape(2) != Shape{2}) context.fail("values must be [off, on]");
  Shape shape = context.shape(0);
  const int64_t axis = one_hot_axis(context, context.rank(0));
  shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(axis), depth);
  context.set_output(0, context.dtype(2), shape);
}

void lower_one_hot(LowerContext& context) {
  const TensorView values = raw_view(context.input(2), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  TensorView indices = context.input(0);
  if (indices.dtype == DType::kFloat64) require_compute(context, indices.dtype);
  if (is_integer(indices.dtype) && dtype_size(indices.dtype) >= 4) {
    indices = index_view(context, indices);
  }
  const int64_t axis = one_hot_axis(context, indices.rank());
  TensorView spread = insert_axis(indices, axis);
  Shape is = spread.strides, vs(output.shape.size(), 0);
  is.resize(output.shape.size(), 0);
  if (values.rank() == 2) vs.back() = 1;  // the words of 8-byte values
  const LoopNest nest = collapse(
      output.shape, {output.strides, is, unit_strides(output.rank(), axis), vs}, {}, false);
  KernelRequest request;
  request.name = "one_hot";
  request.constants = {{"ND", nest.rank()}};
  request.types = {{"T", output.dtype}, {"TI", indices.dtype}};
  dispatch_linear(context, request, {indices, values, output},
                  {{"vstep", values.strides[0]},
                   {"depth", context.output(0).shape[static_cast<size_t>(axis)]},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"is", nest.strides[1]},
                   {"places", nest.strides[2]},
                   {"vs", nest.strides[3]}},
                  nest.size());
}

void infer_eye_like(InferContext& context) {
  if (context.rank(0) != 2) context.fail("needs a matrix");
  context.set_output(0,
                     context.has_attr("dtype") ? cast_target(context, "dtype") : context.dtype(0),
                     context.shape(0));
}

void lower_eye_like(LowerContext& context) {
  TensorView output = context.output(0);
  if (output.dtype == DType::kBool) output.dtype = DType::kUInt8;
  require_compute(context, output.dtype);
  KernelRequest request;
  request.name = "eye_like";
  request.types = {{"T", output.dtype}};
  dispatch_linear(context, request, {output},
                  {{"columns", output.shape[1]},
                   {"y_r", output.strides[0]},
                   {"y_c", output.strides[1]},
                   {"k", context.attr_int("k", 0)}},
                  output.elements());
}

void infer_trilu(InferContext& context) {
  if (context.rank(0) < 2) context.fail("needs a rank of at least 2");
  if (context.has_input(1)) one_element(context, required_ints(context, 1, "k"), "k");
  context.set_output(0, context.dtype(0), context.shape(0));
}

void lower_trilu(LowerContext& context) {
  const TensorView input = raw_view(context.input(0), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const int64_t rank = context.input(0).rank(), full = input.rank();
  int64_t k = context.has_input(1) ? required_ints(context, 1, "k")[0] : 0;
  k = std::min<int64_t>(std::max<int64_t>(k, -INT32_MAX), INT32_MAX);
  const LoopNest nest = collapse(
      output.shape,
      {output.strides, input.strides, unit_strides(full, rank - 2), unit_strides(full, rank - 1)},
      {}, true);
  KernelRequest request;
  request.name = "triangle";
  request.constants = {{"ND", nest.rank()}, {"UPPER", context.attr_int("upper", 1) != 0 ? 1 : 0}};
  request.types = {{"T", output.dtype}};
  dispatch_linear(context, request, {input, output},
                  {{"k", k},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"rows", nest.strides[2]},
                   {"columns", nest.strides[3]}},
                  nest.size());
}

struct SequenceAxes {
  int64_t batch = 1, time = 0;
};

SequenceAxes sequence_axes(const NodeReader& node, int64_t rank) {
  const SequenceAxes axes{node.normalize_axis(node.attr_int("batch_axis", 1), rank),
                          node.normalize_axis(node.attr_int("time_axis", 0), rank)};
  if (axes.batch + axes.time != 1) node.fail("batch_axis and time_axis are 0 and 1, or 1 and 0");
  return axes;
}

void infer_reverse_sequence(InferContext& context) {
  const Shape& shape = context.shape(0);
  const SequenceAxes axes = sequence_axes(context, context.rank(0));
  if (context.shape(1) != Shape{shape[static_cast<size_t>(axes.batch)]}) {
    context.fail("sequence_lens must have one element a batch entry");
  }
  context.set_output(0, context.dtype(0), shape);
}

void lower_reverse_sequence(LowerContext& context) {
  const TensorView input = raw_view(context.input(0), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const TensorView lengths = index_view(context, context.input(1));
  const SequenceAxes axes = sequence_axes(context, context.input(0).rank());
  const auto time = static_cast<size_t>(axes.time);
  Shape xs = input.strides, ls(output.shape.size(), 0);
  xs[time] = 0;
  ls[static_cast<size_t>(axes.batch)] = lengths.strides[0];
  const LoopNest nest = collapse(
      output.shape, {output.strides, xs, ls, unit_strides(output.rank(), axes.time)}, {}, true);
  KernelRequest request;
  request.name = "reverse_sequence";
  request.constants = {{"ND", nest.rank()}};
  request.types = {{"T", output.dtype}};
  dispatch_linear(context, request, {input, lengths, output},
                  {{"step", input.strides[time]},
                   {"length", input.shape[time]},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"ls", nest.strides[2]},
                   {"times", nest.strides[3]}},
                  nest.size());
}

void infer_cumsum(InferContext& context) {
  const int64_t axis = one_element(context, required_ints(context, 1, "axis"), "axis");
  context.normalize_axis(axis, context.rank(0));
  context.set_output(0, context.dtype(0), context.shape(0));
}

void lower_cumsum(LowerContext& context) {
  const TensorView &input = context.input(0), &output = context.output(0);
  require_compute(context, input.dtype);
  const int64_t axis = context.normalize_axis(required_ints(context, 1, "axis")[0], input.rank());
  const auto a = static_cast<size_t>(axis);
  if (output.elements() == 0) return;
  const TensorView x = drop_axis(input, axis), y = drop_axis(output, axis);
  const LoopNest nest = collapse(y.shape, {y.strides, x.strides}, {}, true);
  KernelRequest request;
  request.name = "cumulative_sum";
  request.constants = {{"KO", nest.rank()},
                       {"REVERSE", context.attr_int("reverse", 0) != 0 ? 1 : 0},
                       {"EXCLUSIVE", context.attr_int("exclusive", 0) != 0 ? 1 : 0}};
  request.types = {{"T", input.dtype}};
  dispatch_linear(context, request, {input, output},
                  {{"length", input.shape[a]},
                   {"x_step", input.strides[a]},
                   {"y_step", output.strides[a]},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]}},
                  nest.size());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op(
      {.name = "OneHot",
       .since_version = 11,
       .doc = "Vectors of `depth` along `axis`, values[1] at the index, values[0] elsewhere.",
       .min_inputs = 3,
       .max_inputs = 3,
       .layout = LayoutRule::kContiguous,
       .infer = infer_one_hot,
       .lower = lower_one_hot});
  register_op({.name = "EyeLike",
               .since_version = 9,
               .doc = "Ones on diagonal `k` of a matrix shaped like the input, of type `dtype`.",
               .infer = infer_eye_like,
               .lower = lower_eye_like});
  register_op({.name = "Trilu",
               .since_version = 14,
               .doc = "The upper (upper=1) or lower triangle of each matrix, from diagonal k.",
               .min_inputs = 1,
               .max_inputs = 2,
               .infer = infer_trilu,
               .lower = lower_trilu,
               .gradient = same_operator_gradient});
  register_op({.name = "ReverseSequence",
               .since_version = 10,
               .doc = "Reverses the first sequence_lens[i] elements of each batch entry.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_reverse_sequence,
               .lower = lower_reverse_sequence,
               .gradient = same_operator_gradient});
  register_op({.name = "CumSum",
               .since_version = 14,
               .doc = "Running sums along an axis (exclusive, reverse).",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_cumsum,
               .lower = lower_cumsum,
               .gradient = cumulative_sum_gradient});
}

}  // namespace dlk
