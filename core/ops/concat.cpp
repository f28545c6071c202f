// Concat: its inputs are made in place in the output where the planner can; what is left is copied.
#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

void infer_concat(InferContext& context) {
  const int64_t axis = context.normalize_axis(context.attr_int("axis", 0), context.rank(0));
  const auto a = static_cast<size_t>(axis);
  Shape shape = context.shape(0);
  for (size_t i = 1; i < context.input_count(); ++i) {
    Shape other = context.shape(i);
    if (context.dtype(i) != context.dtype(0)) {
      context.fail("input " + std::to_string(i) + " is " +
                   std::string(dtype_name(context.dtype(i))) + ", input 0 is " +
                   std::string(dtype_name(context.dtype(0))));
    }
    if (other.size() != shape.size()) {
      context.fail("inputs of different rank: " + shape_string(context.shape(0)) + " and " +
                   shape_string(other));
    }
    const int64_t size = other[a];
    other[a] = shape[a];
    if (other != shape) {
      context.fail("inputs " + shape_string(context.shape(0)) + " and " +
                   shape_string(context.shape(i)) + " differ on an axis other than " +
                   std::to_string(axis));
    }
    shape[a] += size;
  }
  context.set_output(0, context.dtype(0), shape);
}

void eval_concat(HostEvalContext& context) {
  if (!all_known(context)) return;
  const Shape& shape = context.output_shape(0);
  const auto axis = static_cast<size_t>(
      context.normalize_axis(context.attr_int("axis", 0), static_cast<int64_t>(shape.size())));
  const int64_t outer = product(shape, 0, axis);
  std::vector<std::byte> bytes;
  for (int64_t o = 0; o < outer; ++o) {
    for (size_t i = 0; i < context.input_count(); ++i) {
      const auto part = context.input(i).bytes();
      const size_t run = part.size() / static_cast<size_t>(outer);
      const auto row = part.subspan(static_cast<size_t>(o) * run, run);
      bytes.insert(bytes.end(), row.begin(), row.end());
    }
  }
  context.set_output(0, HostTensor::copy_of(context.output_dtype(0), shape, bytes));
}

std::optional<AliasResult> alias_concat(const AliasContext& context) {
  if (context.input_count() != 1) return std::nullopt;
  return AliasResult{0, context.input(0)};
}

void lower_concat(LowerContext& context) {
  const TensorView& output = context.output(0);
  const int64_t axis = context.normalize_axis(context.attr_int("axis", 0), output.rank());
  int64_t start = 0;
  for (size_t i = 0; i < context.input_count(); ++i) {
    const TensorView& input = context.input(i);
    const int64_t size = input.shape[static_cast<size_t>(axis)];
    const TensorView place = slice_view(output, axis, start, size);
    start += size;
    if (input.elements() > 0 && !same_view(input, place)) context.copy(input, place);
  }
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Concat",
               .since_version = 13,
               .doc = "Joins tensors along `axis`.",
               .min_inputs = 1,
               .max_inputs = -1,
               .infer = infer_concat,
               .host_eval = eval_concat,
               .alias = alias_concat,
               .lower = lower_concat,
               .gradient = concat_gradient});
}

}  // namespace dlk
