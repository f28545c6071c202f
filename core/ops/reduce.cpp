// The Reduce* operators: axes, shapes, and values on the host for shape arithmetic.
#include "core/ops/reduce.h"

#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

/// The axes that a node reduces; none where `noop_with_empty_axes` says so.
template <typename Context>
std::vector<int64_t> reduced_axes(const Context& context, int64_t rank) {
  auto axes = read_axes(context, 1, "axes", rank, {});
  if (axes.empty() && context.attr_int("noop_with_empty_axes", 0) == 0) axes = all_axes(rank);
  return axes;
}

Shape reduced_shape(Shape shape, std::vector<int64_t> axes, bool keepdims) {
  std::sort(axes.rbegin(), axes.rend());
  for (int64_t axis : axes) {
    if (keepdims) {
      shape[static_cast<size_t>(axis)] = 1;
    } else {
      shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
    }
  }
  return shape;
}

bool keeps_dims(const NodeReader& node) { return node.attr_int("keepdims", 1) != 0; }

void infer_reduce(InferContext& context) {
  context.set_output(
      0, context.dtype(0),
      reduced_shape(context.shape(0), reduced_axes(context, context.rank(0)), keeps_dims(context)));
}

/// Rows of a single element of an operator that leaves it as it is.
std::optional<AliasResult> alias_reduce(const AliasContext& context) {
  TensorView view = context.input(0);
  auto axes = reduced_axes(context, view.rank());
  if (!keeps_single_elements(context.node().op)) return std::nullopt;
  std::sort(axes.rbegin(), axes.rend());
  for (int64_t axis : axes) {
    if (view.shape[static_cast<size_t>(axis)] != 1) return std::nullopt;
    if (!keeps_dims(context)) view = drop_axis(view, axis);
  }
  return AliasResult{0, view};
}

/// Sums and products wrap, as on devices.
int64_t reduce_values(const std::string& op, const std::vector<int64_t>& values) {
  int64_t result = op == "ReduceProd" ? 1 : 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t v = values[i];
    if (op == "ReduceProd") {
      result = static_cast<int64_t>(static_cast<uint64_t>(result) * static_cast<uint64_t>(v));
    } else if (op == "ReduceMax") {
      result = i == 0 ? v : std::max(result, v);
    } else if (op == "ReduceMin") {
      result = i == 0 ? v : std::min(result, v);
    } else {
      result = static_cast<int64_t>(static_cast<uint64_t>(result) + static_cast<uint64_t>(v));
    }
  }
  return result;
}

/// Shape arithmetic: sums, products and extremes of integers.
void eval_reduce(HostEvalContext& context) {
  if (!all_known(context) || !is_integer(context.input(0).dtype)) return;
  const HostTensor& input = context.input(0);
  const Shape strides = contiguous_strides(input.shape);
  const auto axes = reduced_axes(context, static_cast<int64_t>(input.shape.size()));
  Shape kept, kept_strides, reduced, reduced_strides;
  for (size_t d = 0; d < input.shape.size(); ++d) {
    const bool is_reduced = std::count(axes.begin(), axes.end(), static_cast<int64_t>(d)) > 0;
    (is_reduced ? reduced : kept).push_back(input.shape[d]);
    (is_reduced ? reduced_strides : kept_strides).push_back(strides[d]);
  }
  if (element_count(reduced) == 0) return;
  const auto values = input.to_ints();
  std::vector<int64_t> results;
  for (int64_t base : strided_indices(kept, 0, kept_strides)) {
    std::vector<int64_t> row;
    for (int64_t i : strided_indices(reduced, base, reduced_strides)) {
      row.push_back(values[static_cast<size_t>(i)]);
    }
    results.push_back(reduce_values(context.node().op, row));
  }
  context.set_output(0, HostTensor::from_ints(input.dtype, context.output_shape(0), results));
}

void lower_reduce(LowerContext& context) {
  const TensorView& input = context.input(0);
  TensorView output = context.output(0);
  auto axes = reduced_axes(context, input.rank());
  std::sort(axes.begin(), axes.end());
  if (!keeps_dims(context)) {
    for (int64_t axis : axes) output = insert_axis(output, axis);
  }
  dispatch_reduction(context, context.node().op, input, output, axes);
}

}  // namespace

DLK_REGISTER_OPS {
  for (const std::string& name : reduction_names()) {
    OpSchema schema;
    schema.name = name;
    schema.since_version = 18;
    schema.doc = "Reduces `axes` (all if none are given; keepdims, noop_with_empty_axes).";
    schema.max_inputs = 2;
    schema.infer = infer_reduce;
    schema.alias = alias_reduce;
    schema.lower = lower_reduce;
    schema.gradient = reduce_gradient;
    if (name == "ReduceSum" || name == "ReduceProd" || name == "ReduceMax" || name == "ReduceMin") {
      schema.host_eval = eval_reduce;
    }
    register_op(std::move(schema));
  }
}

}  // namespace dlk
