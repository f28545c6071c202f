// Slice and Split: views of their input wherever the steps are positive.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

/// The elements start, start + step, ... (count of them) of one axis; step may be negative.
struct Range {
  int64_t start = 0, count = 0, step = 1;
};

Range make_range(int64_t size, int64_t start, int64_t end, int64_t step) {
  if (size == 0) return {0, 0, step};
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  start = start < -size ? -size - 1 : start;
  end = end < -size ? -size - 1 : end;
  start = std::clamp(start < 0 ? start + size : start, std::max<int64_t>(low, 0), high);
  end = std::clamp(end < 0 ? end + size : end, low, high);
  const int64_t span = step > 0 ? end - start : start - end;
  const int64_t stride = step > 0 ? step : -step;
  return {start, span > 0 ? (span - 1) / stride + 1 : 0, step};
}

/// One range for each axis of `shape`, from Slice's inputs 1 to 4.
template <typename Context>
std::vector<Range> slice_ranges(const Context& context, const Shape& shape) {
  std::vector<Range> ranges;
  for (int64_t size : shape) ranges.push_back({0, size, 1});
  const auto starts = required_ints(context, 1, "starts");
  const auto ends = required_ints(context, 2, "ends");
  const auto axes = read_axes(context, 3, "", static_cast<int64_t>(shape.size()),
                              all_axes(static_cast<int64_t>(starts.size())));
  const auto steps = context.has_input(4) ? required_ints(context, 4, "steps")
                                          : std::vector<int64_t>(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size()) {
    context.fail("starts, ends, axes and steps must have the same length");
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    if (steps[i] == 0) context.fail("a step of 0");
    const auto axis = static_cast<size_t>(axes[i]);
    ranges[axis] = make_range(shape[axis], starts[i], ends[i], std::max(steps[i], -INT64_MAX));
  }
  return ranges;
}

Shape counts(const std::vector<Range>& ranges) {
  Shape shape;
  for (const Range& r : ranges) shape.push_back(r.count);
  return shape;
}

void infer_slice(InferContext& context) {
  context.set_output(0, context.dtype(0), counts(slice_ranges(context, context.shape(0))));
}

void eval_slice(HostEvalContext& context) {
  if (!all_known(context)) return;
  const HostTensor& input = context.input(0);
  const auto ranges = slice_ranges(context, input.shape);
  Shape strides = contiguous_strides(input.shape);
  int64_t base = 0;
  for (size_t d = 0; d < ranges.size(); ++d) {
    base += ranges[d].start * strides[d];
    strides[d] *= ranges[d].step;
  }
  const Shape shape = counts(ranges);
  context.set_output(0, gather_host(input, shape, strided_indices(shape, base, strides)));
}

std::optional<AliasResult> alias_slice(const AliasContext& context) {
  TensorView view = context.input(0);
  const auto ranges = slice_ranges(context, view.shape);
  for (size_t d = 0; d < ranges.size(); ++d) {
    if (ranges[d].step < 0 && ranges[d].count > 1) return std::nullopt;
    const int64_t step = ranges[d].count > 1 ? ranges[d].step : 1;
    view = slice_view(view, static_cast<int64_t>(d), ranges[d].start, ranges[d].count, step);
  }
  return AliasResult{0, view};
}

void lower_slice(LowerContext& context) {
  const TensorView input = raw_view(context.input(0), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const auto ranges = slice_ranges(context, context.input(0).shape);
  int64_t base = 0;
  Shape steps = input.strides;
  for (size_t d = 0; d < ranges.size(); ++d) {
    base += ranges[d].start * steps[d];
    steps[d] *= ranges[d].step;
  }
  const LoopNest nest = collapse(output.shape, {output.strides, steps}, {}, true);
  KernelRequest request;
  request.name = "strided_gather";
  request.constants = {{"ND", nest.rank()}};
  request.types = {{"T", input.dtype}};
  dispatch_linear(
      context, request, {input, output},
      {{"base", base}, {"dims", nest.dims}, {"ys", nest.strides[0]}, {"xs", nest.strides[1]}},
      nest.size());
}

/// Sizes of Split's outputs.
template <typename Context>
std::vector<int64_t> split_sizes(const Context& context, int64_t size) {
  const auto outputs = static_cast<int64_t>(context.output_count());
  std::vector<int64_t> sizes;
  if (context.has_input(1)) {
    sizes = required_sizes(context, 1, "split");
  } else if (context.has_attr("split")) {
    sizes = context.attr_ints("split");
  } else {
    const int64_t parts = context.attr_int("num_outputs", outputs);
    if (parts < 1 || parts != outputs) {
      context.fail("num_outputs is " + std::to_string(parts) + ", the node has " +
                   std::to_string(outputs) + " outputs");
    }
    const int64_t chunk = ceil_div(size, parts);
    for (int64_t i = 0; i < parts; ++i) {
      sizes.push_back(std::clamp<int64_t>(size - i * chunk, 0, chunk));
    }
  }
  int64_t sum = 0;
  for (int64_t s : sizes) sum += s;
  if (static_cast<int64_t>(sizes.size()) != outputs || sum != size ||
      std::any_of(sizes.begin(), sizes.end(), [](int64_t s) { return s < 0; })) {
    context.fail("split " + shape_string(sizes) + " does not cut an axis of " +
                 std::to_string(size) + " into " + std::to_string(outputs) + " outputs");
  }
  return sizes;
}

/// Axis, start and size of one output.
struct Piece {
  int64_t axis = 0, start = 0, size = 0;
};

template <typename Context>
Piece split_piece(const Context& context, const Shape& shape, size_t output) {
  const int64_t axis =
      context.normalize_axis(context.attr_int("axis", 0), static_cast<int64_t>(shape.size()));
  const auto sizes = split_sizes(context, shape[static_cast<size_t>(axis)]);
  int64_t start = 0;
  for (size_t i = 0; i < output; ++i) start += sizes[i];
  return {axis, start, sizes[output]};
}

void infer_split(InferContext& context) {
  for (size_t i = 0; i < context.output_count(); ++i) {
    const Piece piece = split_piece(context, context.shape(0), i);
    Shape shape = context.shape(0);
    shape[static_cast<size_t>(piece.axis)] = piece.size;
    if (context.has_output(i)) context.set_output(i, context.dtype(0), shape);
  }
}

void eval_split(HostEvalContext& context) {
  if (!all_known(context)) return;
  const HostTensor& input = context.input(0);
  const Shape strides = contiguous_strides(input.shape);
  for (size_t i = 0; i < context.output_count(); ++i) {
    if (!context.has_output(i)) continue;
    const Piece piece = split_piece(context, input.shape, i);
    const Shape& shape = context.output_shape(i);
    const int64_t base = piece.start * strides[static_cast<size_t>(piece.axis)];
    context.set_output(i, gather_host(input, shape, strided_indices(shape, base, strides)));
  }
}

std::optional<AliasResult> alias_split(const AliasContext& context) {
  const TensorView& input = context.input(0);
  const Piece piece = split_piece(context, input.shape, context.output());
  return AliasResult{0, slice_view(input, piece.axis, piece.start, piece.size)};
}

void lower_split(LowerContext& context) {
  const TensorView& input = context.input(0);
  for (size_t i = 0; i < context.output_count(); ++i) {
    if (!context.has_output(i)) continue;
    const Piece piece = split_piece(context, input.shape, i);
    const TensorView from = slice_view(input, piece.axis, piece.start, piece.size);
    if (!same_view(from, context.output(i))) context.copy(from, context.output(i));
  }
}

// SliceGradient: zeros with the gradient where the slice was. Inputs: gradient, starts, ends, axes,
// steps, shape of the sliced tensor.
void infer_slice_gradient(InferContext& context) {
  context.set_output(0, context.dtype(0), context.require_constant(5, "the shape").to_ints());
}

void lower_slice_gradient(LowerContext& context) {
  const TensorView& whole = context.output(0);
  const auto ranges = slice_ranges(context, required_ints(context, 5, "the shape"));
  fill_view(context, whole, 0);
  const TensorView from = raw_view(context.input(0), context.caps());
  TensorView to = raw_view(whole, context.caps());
  int64_t base = 0;
  Shape steps = from.strides;
  for (size_t d = 0; d < ranges.size(); ++d) {
    const Range& r = ranges[d];
    if (r.count == 0) return;
    const bool reversed = r.step < 0 && r.count > 1;
    const int64_t first = reversed ? r.start + (r.count - 1) * r.step : r.start;
    const int64_t step = r.count > 1 ? std::abs(r.step) : 1;
    to = slice_view(to, static_cast<int64_t>(d), first, r.count, step);
    if (!reversed) continue;
    base += (r.count - 1) * steps[d];
    steps[d] = -steps[d];
  }
  const LoopNest nest = collapse(to.shape, {to.strides, steps}, {}, true);
  KernelRequest request;
  request.name = "strided_gather";
  request.constants = {{"ND", nest.rank()}};
  request.types = {{"T", from.dtype}};
  dispatch_linear(
      context, request, {from, to},
      {{"base", base}, {"dims", nest.dims}, {"ys", nest.strides[0]}, {"xs", nest.strides[1]}},
      nest.size());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "SliceGradient",
               .domain = "dlk",
               .doc = "Zeros with a gradient where a Slice read; inputs: gradient, starts, ends, "
                      "axes, steps, shape.",
               .min_inputs = 1,
               .max_inputs = 6,
               .layout = LayoutRule::kContiguous,
               .infer = infer_slice_gradient,
               .lower = lower_slice_gradient});
  register_op(
      {.name = "Slice",
       .since_version = 13,
       .doc = "Every step-th element from start to end of some axes; steps may be negative.",
       .min_inputs = 3,
       .max_inputs = 5,
       .infer = infer_slice,
       .host_eval = eval_slice,
       .alias = alias_slice,
       .lower = lower_slice,
       .gradient = slice_gradient});
  register_op({.name = "Split",
               .since_version = 18,
               .doc = "Cuts one axis into pieces: sizes from the input, or num_outputs equal ones.",
               .min_inputs = 1,
               .max_inputs = 2,
               .min_outputs = 1,
               .max_outputs = -1,
               .infer = infer_split,
               .host_eval = eval_split,
               .alias = alias_split,
               .lower = lower_split,
               .gradient = split_gradient});
}

}  // namespace dlk
