// TopK. Long rows are first cut to the k best of each chunk, so that counting stays cheap.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/sorting.h"

namespace dlk {
namespace {

int64_t topk_axis(const NodeReader& node, int64_t rank) {
  return node.normalize_axis(node.attr_int("axis", -1), rank);
}

void infer_topk(InferContext& context) {
  Shape shape = context.shape(0);
  const auto axis = static_cast<size_t>(topk_axis(context, context.rank(0)));
  const auto k = required_ints(context, 1, "k");
  if (k.size() != 1 || k[0] < 0 || k[0] > shape[axis]) {
    context.fail("k must be one number from 0 to " + std::to_string(shape[axis]));
  }
  shape[axis] = k[0];
  if (context.has_output(0)) context.set_output(0, context.dtype(0), shape);
  if (context.has_output(1)) context.set_output(1, DType::kInt64, shape);
}

/// One pass: rows of `length` candidates in chunks; `indices` of the candidates where they are not
/// 0, 1, ... Positions are int32 (rank as values) or the words of int64 (one more axis).
struct Pass {
  TensorView candidates;
  std::optional<TensorView> indices;
  TensorView values, positions;
  int64_t axis = 0, chunk = 0, k = 0;
};

void dispatch_pass(LowerContext& context, const Pass& pass) {
  const auto a = static_cast<size_t>(pass.axis);
  const bool words = pass.positions.rank() > pass.values.rank();
  Shape positions = pass.positions.strides;
  positions.resize(pass.values.shape.size());
  const Shape none(pass.values.shape.size(), 0);
  Shape dims = pass.candidates.shape;
  std::vector<Shape> strides{pass.values.strides, pass.candidates.strides,
                             pass.indices ? pass.indices->strides : none, positions};
  const int64_t length = dims[a];
  Params params{{"length", length},        {"chunk", pass.chunk},     {"k", pass.k},
                {"v_step", strides[0][a]}, {"x_step", strides[1][a]}, {"i_step", strides[2][a]},
                {"p_step", strides[3][a]}};
  const auto drop = [&](Shape& s) { s.erase(s.begin() + static_cast<std::ptrdiff_t>(a)); };
  drop(dims);
  for (Shape& s : strides) drop(s);
  const LoopNest nest = collapse(dims, strides, {}, true);
  params["dims"] = nest.dims;
  params["vs"] = nest.strides[0];
  params["xs"] = nest.strides[1];
  params["is"] = nest.strides[2];
  params["ps"] = nest.strides[3];
  KernelRequest request;
  request.name = "top_k";
  request.constants = {{"KO", nest.rank()},
                       {"SMALLEST", context.attr_int("largest", 1) != 0 ? 0 : 1},
                       {"INDEXED", pass.indices ? 1 : 0},
                       {"WORDS", words ? 2 : 1}};
  request.types = {{"T", pass.candidates.dtype}};
  std::vector<TensorView> operands{pass.candidates};
  if (pass.indices) operands.push_back(*pass.indices);
  operands.push_back(pass.values);
  operands.push_back(pass.positions);
  dispatch_linear(context, request, operands, std::move(params), nest.size() * length);
}

/// Many of a long row: the whole row is sorted, which is cheaper than counting.
void lower_sorted(LowerContext& context, const TensorView& input, int64_t axis, int64_t k) {
  std::vector<int64_t> to_last = all_axes(input.rank());
  to_last.erase(to_last.begin() + axis);
  to_last.push_back(axis);
  TensorView keys = context.contiguous(permute_view(input, to_last));
  const int64_t n = keys.shape.back(), rows = keys.elements() / n;
  const Shape last = [&] {
    Shape shape = keys.shape;
    shape.back() = k;
    return shape;
  }();
  keys.shape = {rows, n, 1};
  keys.strides = contiguous_strides(keys.shape);
  const bool largest = context.attr_int("largest", 1) != 0;
  const TensorView order = sorted_indices(context, keys, largest);
  const TensorView values = context.workspace(input.dtype, last);
  const TensorView places = context.workspace(DType::kInt64, last);
  KernelRequest request;
  request.name = "take_sorted";
  const TensorView raw = raw_view(keys, context.caps());
  request.types = {{"T", raw.dtype}};
  request.constants = {{"PARTS", raw.rank() > keys.rank() ? 2 : 1}};
  dispatch_linear(context, request,
                  {raw, order, raw_view(values, context.caps()), word_view(places)},
                  {{"n", n}, {"width", order.shape[1]}, {"k", k}}, rows * k);
  std::vector<int64_t> back = all_axes(input.rank());
  back.pop_back();
  back.insert(back.begin() + axis, input.rank() - 1);
  for (size_t i = 0; i < 2; ++i) {
    if (!context.has_output(i)) continue;
    TensorView output = context.output(i);
    if (i == 0) output.dtype = input.dtype;
    context.copy(permute_view(i == 0 ? values : places, back), output);
  }
}

void lower_topk(LowerContext& context) {
  TensorView input = context.input(0);
  require_compute(context, input.dtype);
  if (input.dtype == DType::kBool) input.dtype = DType::kUInt8;
  Pass pass;
  pass.axis = topk_axis(context, input.rank());
  const auto a = static_cast<size_t>(pass.axis);
  pass.k = required_ints(context, 1, "k")[0];
  if (pass.k == 0 || input.elements() == 0) return;
  pass.candidates = input;
  Shape shape = input.shape;
  constexpr int64_t kChunk = 1024;
  if (shape[a] > 4 * kChunk && pass.k * 4 > kChunk) {
    return lower_sorted(context, input, pass.axis, pass.k);
  }
  while (shape[a] > 4 * kChunk && pass.k * 4 <= kChunk) {
    const int64_t chunks = ceil_div(shape[a], kChunk);
    const int64_t last = shape[a] - (chunks - 1) * kChunk;
    shape[a] = (chunks - 1) * pass.k + std::min(pass.k, last);
    pass.chunk = kChunk;
    pass.values = context.workspace(input.dtype, shape);
    pass.positions = context.workspace(DType::kInt32, shape);
    dispatch_pass(context, pass);
    pass.candidates = pass.values;
    pass.indices = pass.positions;
  }
  pass.chunk = shape[a];
  shape[a] = pass.k;
  pass.values = context.has_output(0) ? context.output(0) : context.workspace(input.dtype, shape);
  pass.values.dtype = input.dtype;
  pass.positions = context.has_output(1) ? word_view(context.output(1))
                                         : context.workspace(DType::kInt32, shape);
  dispatch_pass(context, pass);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "TopK",
               .since_version = 11,
               .doc = "The k largest (or smallest) along `axis` in order, and their indices.",
               .min_inputs = 2,
               .max_inputs = 2,
               .min_outputs = 0,
               .max_outputs = 2,
               .layout = LayoutRule::kContiguous,
               .infer = infer_topk,
               .lower = lower_topk,
               .gradient = top_k_gradient});
}

}  // namespace dlk
