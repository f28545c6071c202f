// ArgMax and ArgMin.
#include <algorithm>

#include "core/ops/op_util.h"

namespace dlk {
namespace {

bool keeps_dims(const NodeReader& node) { return node.attr_int("keepdims", 1) != 0; }

int64_t arg_axis(const NodeReader& node, int64_t rank) {
  return node.normalize_axis(node.attr_int("axis", 0), rank);
}

void infer_arg(InferContext& context) {
  Shape shape = context.shape(0);
  const int64_t axis = arg_axis(context, context.rank(0));
  if (shape[static_cast<size_t>(axis)] == 0) context.fail("there is no extreme of an empty axis");
  shape[static_cast<size_t>(axis)] = 1;
  if (!keeps_dims(context)) shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
  context.set_output(0, DType::kInt64, shape);
}

void eval_arg(HostEvalContext& context) {
  if (!all_known(context) || !is_integer(context.input(0).dtype)) return;
  const HostTensor& input = context.input(0);
  const auto axis =
      static_cast<size_t>(arg_axis(context, static_cast<int64_t>(input.shape.size())));
  const bool minimum = context.node().op == "ArgMin";
  const bool last = context.attr_int("select_last_index", 0) != 0;
  const auto values = input.to_ints();
  const int64_t size = input.shape[axis], inner = product(input.shape, axis + 1);
  std::vector<int64_t> places;
  for (int64_t o = 0; o < product(input.shape, 0, axis); ++o) {
    for (int64_t i = 0; i < inner; ++i) {
      const auto at = [&](int64_t p) {
        return values[static_cast<size_t>((o * size + p) * inner + i)];
      };
      int64_t best = 0;
      for (int64_t p = 1; p < size; ++p) {
        const bool better = minimum ? at(p) < at(best) : at(p) > at(best);
        if (better || (last && at(p) == at(best))) best = p;
      }
      places.push_back(best);
    }
  }
  context.set_output(0, HostTensor::from_ints(DType::kInt64, context.output_shape(0), places));
}

void lower_arg(LowerContext& context) {
  TensorView input = context.input(0);
  require_compute(context, input.dtype);
  if (input.dtype == DType::kBool) input.dtype = DType::kUInt8;
  const int64_t axis = arg_axis(context, input.rank());
  TensorView output = context.output(0);
  if (!keeps_dims(context)) output = insert_axis(output, axis);
  const TensorView words = word_view(output);
  const auto a = static_cast<size_t>(axis);
  const int64_t length = input.shape[a], step = input.strides[a];
  const LoopNest nest =
      collapse(drop_axis(output, axis).shape,
               {drop_axis(output, axis).strides, drop_axis(input, axis).strides}, {}, true);
  const int64_t rows = nest.size();
  if (rows == 0) return;
  Shape word_strides = nest.strides[0];
  for (int64_t& s : word_strides) s *= 2;
  const bool group = !context.caps().is_cpu && is_floating(input.dtype) &&
                     input.dtype != DType::kFloat64 && length >= 128 && (step == 1 || rows < 4096);
  const Caps& caps = context.caps();
  const int64_t items = group         ? 128
                        : caps.is_cpu ? cpu_group(rows, caps.compute_units)
                                      : kLinearGroup;
  KernelRequest request;
  request.name = "arg_extreme";
  request.constants = {{"KO", nest.rank()},
                       {"MINIMUM", context.node().op == "ArgMin" ? 1 : 0},
                       {"LAST", context.attr_int("select_last_index", 0) != 0 ? 1 : 0},
                       {"GROUP", group ? 1 : 0},
                       {"WG", items}};
  request.types = {{"T", input.dtype}};
  context.dispatch(request, {input, words},
                   {{"rows", rows},
                    {"length", length},
                    {"step", step},
                    {"dims", nest.dims},
                    {"ys", word_strides},
                    {"xs", nest.strides[1]}},
                   context.linear_groups(group ? rows : ceil_div(rows, items)));
}

}  // namespace

DLK_REGISTER_OPS {
  for (const char* name : {"ArgMax", "ArgMin"}) {
    OpSchema schema;
    schema.name = name;
    schema.since_version = 13;
    schema.doc = "Index of the extreme along `axis` (keepdims, select_last_index), as int64.";
    schema.infer = infer_arg;
    schema.host_eval = eval_arg;
    schema.lower = lower_arg;
    register_op(std::move(schema));
  }
}

}  // namespace dlk
