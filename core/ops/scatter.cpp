// ScatterElements and ScatterND. The output starts as a copy of the data; then updates are written.
// Without a reduction all updates go in parallel (ONNX leaves equal indices undefined). With one,
// a work-item walks every update that can meet another, in order: results are deterministic.
#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

int64_t read_reduction(const NodeReader& node) {
  const std::string reduction = node.attr_string("reduction", "none");
  const char* const names[] = {"none", "add", "mul", "max", "min"};
  for (int64_t i = 0; i < 5; ++i) {
    if (reduction == names[i]) return i;
  }
  node.fail("reduction is none, add, mul, max or min, not " + reduction);
}

/// What the scatter kernel runs over: strides of updates, indices and output in each dimension of
/// the updates (`met`: along it, updates may name the same element), and the indexed axes.
struct ScatterLoop {
  Shape dims, us, is, ys;
  std::vector<int> met;
  Shape sizes, steps;
  int64_t component = 0;

  void add(int64_t dim, int64_t u, int64_t i, int64_t y, bool may_meet) {
    dims.push_back(dim);
    us.push_back(u);
    is.push_back(i);
    ys.push_back(y);
    met.push_back(may_meet ? 1 : 0);
  }
};

void dispatch_scatter(LowerContext& context, const TensorView& updates, const TensorView& indices,
                      const TensorView& output, ScatterLoop loop, int64_t reduction) {
  if (const auto constant = context.constant(1)) check_indices(context, *constant, loop.sizes);
  if (reduction == 0) loop.met.assign(loop.met.size(), 0);
  const LoopNest nest = collapse(loop.dims, {loop.us, loop.is, loop.ys}, loop.met);
  const LoopNest parallel = nest.of_group(0), serial = nest.of_group(1);
  KernelRequest request;
  request.name = "scatter";
  request.constants = {{"NP", parallel.rank()},
                       {"NS", serial.rank()},
                       {"K", static_cast<int64_t>(loop.sizes.size())},
                       {"RED", reduction}};
  request.types = {{"T", output.dtype}};
  dispatch_linear(context, request, {updates, indices, output},
                  {{"serial", serial.size()},
                   {"dims", parallel.dims},
                   {"us", parallel.strides[0]},
                   {"is", parallel.strides[1]},
                   {"ys", parallel.strides[2]},
                   {"sdims", serial.dims},
                   {"sus", serial.strides[0]},
                   {"sis", serial.strides[1]},
                   {"sys", serial.strides[2]},
                   {"sizes", loop.sizes},
                   {"steps", loop.steps},
                   {"component", loop.component}},
                  serial.size() == 0 ? 0 : parallel.size());
}

/// Updates and output as the kernel takes them: raw unless they are computed with.
struct ScatterViews {
  TensorView updates, output;
};

ScatterViews prepare(LowerContext& context, int64_t reduction) {
  if (!same_view(context.input(0), context.output(0))) {
    context.copy(context.input(0), context.output(0));
  }
  TensorView updates = context.input(2), output = context.output(0);
  if (reduction == 0) {
    return {raw_view(updates, context.caps()), raw_view(output, context.caps())};
  }
  require_compute(context, output.dtype);
  if (output.dtype == DType::kBool) context.unsupported("a reduction of bool tensors");
  return {updates, output};
}

void infer_scatter_elements(InferContext& context) {
  const Shape& data = context.shape(0);
  const Shape& indices = context.shape(1);
  read_reduction(context);
  const auto axis =
      static_cast<size_t>(context.normalize_axis(context.attr_int("axis", 0), context.rank(0)));
  if (indices.size() != data.size() || context.shape(2) != indices) {
    context.fail("indices " + shape_string(indices) + " and updates " +
                 shape_string(context.shape(2)) + " must have one shape, of the rank of data " +
                 shape_string(data));
  }
  for (size_t d = 0; d < data.size(); ++d) {
    if (d != axis && indices[d] > data[d]) context.fail("indices are larger than data");
  }
  if (context.dtype(2) != context.dtype(0)) context.fail("data and updates differ in type");
  context.set_output(0, context.dtype(0), data);
}

void lower_scatter_elements(LowerContext& context) {
  const int64_t reduction = read_reduction(context);
  const auto [updates, output] = prepare(context, reduction);
  const TensorView indices = index_view(context, context.input(1));
  const auto axis = static_cast<size_t>(
      context.normalize_axis(context.attr_int("axis", 0), context.input(0).rank()));
  if (updates.elements() == 0) return;
  ScatterLoop loop;
  loop.sizes = {output.shape[axis]};
  loop.steps = {output.strides[axis]};
  for (size_t d = 0; d < updates.shape.size(); ++d) {
    const int64_t i = d < indices.strides.size() ? indices.strides[d] : 0;
    loop.add(updates.shape[d], updates.strides[d], i, d == axis ? 0 : output.strides[d], d == axis);
  }
  dispatch_scatter(context, updates, indices, output, loop, reduction);
}

void infer_scatter_nd(InferContext& context) {
  const Shape& data = context.shape(0);
  const Shape& indices = context.shape(1);
  read_reduction(context);
  if (data.empty() || indices.empty()) context.fail("data and indices need a rank of at least 1");
  const int64_t k = indices.back();
  if (k < 1 || k > context.rank(0)) {
    context.fail("index tuples of " + std::to_string(k) + " for data " + shape_string(data));
  }
  Shape expected(indices.begin(), indices.end() - 1);
  expected.insert(expected.end(), data.begin() + static_cast<std::ptrdiff_t>(k), data.end());
  if (context.shape(2) != expected) {
    context.fail("updates are " + shape_string(context.shape(2)) + ", expected " +
                 shape_string(expected));
  }
  if (context.dtype(2) != context.dtype(0)) context.fail("data and updates differ in type");
  context.set_output(0, context.dtype(0), data);
}

void lower_scatter_nd(LowerContext& context) {
  const int64_t reduction = read_reduction(context);
  const auto [updates, output] = prepare(context, reduction);
  const TensorView indices = index_view(context, context.input(1));
  if (updates.elements() == 0) return;
  const auto k = static_cast<size_t>(indices.shape.back());
  ScatterLoop loop;
  loop.component = indices.strides.back();
  for (size_t d = 0; d < k; ++d) {
    loop.sizes.push_back(output.shape[d]);
    loop.steps.push_back(output.strides[d]);
  }
  size_t u = 0;
  for (; u + 1 < indices.shape.size(); ++u) {
    loop.add(updates.shape[u], updates.strides[u], indices.strides[u], 0, true);
  }
  for (size_t d = k; d < output.shape.size(); ++d, ++u) {
    loop.add(updates.shape[u], updates.strides[u], 0, output.strides[d], false);
  }
  dispatch_scatter(context, updates, indices, output, loop, reduction);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op(
      {.name = "ScatterElements",
       .since_version = 18,
       .doc = "data with updates at indices along `axis`; reduction none, add, mul, max, min.",
       .min_inputs = 3,
       .max_inputs = 3,
       .infer = infer_scatter_elements,
       .lower = lower_scatter_elements,
       .gradient = scatter_gradient});
  register_op({.name = "ScatterND",
               .since_version = 18,
               .doc = "data with slices replaced at index tuples; reduction as ScatterElements.",
               .min_inputs = 3,
               .max_inputs = 3,
               .infer = infer_scatter_nd,
               .lower = lower_scatter_nd,
               .gradient = scatter_gradient});
}

}  // namespace dlk
