// Gather, GatherElements and GatherND: one kernel. Indices that are constants are checked when the
// plan is made; others are clamped on the device, so that no read leaves the tensor.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

/// Axis of Gather and GatherElements.
int64_t gather_axis(const NodeReader& node, int64_t rank) {
  return node.normalize_axis(node.attr_int("axis", 0), rank);
}

void infer_gather(InferContext& context) {
  const Shape& data = context.shape(0);
  const auto axis = static_cast<size_t>(gather_axis(context, context.rank(0)));
  const Shape& indices = context.shape(1);
  Shape shape(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(axis));
  shape.insert(shape.end(), indices.begin(), indices.end());
  shape.insert(shape.end(), data.begin() + static_cast<std::ptrdiff_t>(axis) + 1, data.end());
  if (data[axis] == 0 && element_count(shape) > 0) context.fail("gathers from an empty axis");
  context.set_output(0, context.dtype(0), shape);
}

void eval_gather(HostEvalContext& context) {
  if (!all_known(context)) return;
  const HostTensor& data = context.input(0);
  const auto axis =
      static_cast<size_t>(gather_axis(context, static_cast<int64_t>(data.shape.size())));
  check_indices(context, context.input(1), {data.shape[axis]});
  const auto indices = context.input(1).to_ints();
  const int64_t size = data.shape[axis], inner = product(data.shape, axis + 1);
  std::vector<int64_t> elements;
  for (int64_t o = 0; o < product(data.shape, 0, axis); ++o) {
    for (int64_t index : indices) {
      const int64_t row = (o * size + (index < 0 ? index + size : index)) * inner;
      for (int64_t i = 0; i < inner; ++i) elements.push_back(row + i);
    }
  }
  context.set_output(0, gather_host(data, context.output_shape(0), elements));
}

/// One constant index, or evenly rising ones, are a slice.
std::optional<AliasResult> alias_gather(const AliasContext& context) {
  const auto indices = context.constant(1);
  if (!indices || indices->shape.size() > 1 || indices->elements() == 0) return std::nullopt;
  const TensorView& data = context.input(0);
  const int64_t axis = gather_axis(context, data.rank());
  const int64_t size = data.shape[static_cast<size_t>(axis)];
  check_indices(context, *indices, {size});
  auto values = indices->to_ints();
  for (int64_t& v : values) v = v < 0 ? v + size : v;
  const int64_t step = values.size() > 1 ? values[1] - values[0] : 1;
  if (step <= 0) return std::nullopt;
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] - values[i - 1] != step) return std::nullopt;
  }
  const TensorView view =
      slice_view(data, axis, values[0], static_cast<int64_t>(values.size()), step);
  return AliasResult{0, indices->shape.empty() ? drop_axis(view, axis) : view};
}

/// What the gather kernel runs over: strides of output, indices and data in each dimension of the
/// output, and the indexed axes of the data with the stride between components of an index tuple.
struct GatherLoop {
  Shape dims, ys, is, xs;
  Shape sizes, steps;
  int64_t component = 0;

  void add(int64_t dim, int64_t y, int64_t i, int64_t x) {
    dims.push_back(dim);
    ys.push_back(y);
    is.push_back(i);
    xs.push_back(x);
  }
};

void dispatch_gather(LowerContext& context, const TensorView& data, const TensorView& indices,
                     const TensorView& output, const GatherLoop& loop) {
  if (const auto constant = context.constant(1)) check_indices(context, *constant, loop.sizes);
  const LoopNest nest = collapse(loop.dims, {loop.ys, loop.is, loop.xs}, {}, true);
  KernelRequest request;
  request.name = "gather";
  // CPU drivers make a stretch of a row in one work-item; on GPUs neighbours make neighbours.
  const int64_t run = context.caps().is_cpu ? 16 : 1;
  const int64_t blocks = ceil_div(std::max<int64_t>(nest.dims.back(), 1), run);
  request.constants = {{"ND", nest.rank()},
                       {"K", static_cast<int64_t>(loop.sizes.size())},
                       {"RUN", run},
                       {"SHARED", nest.strides[1].back() == 0 ? 1 : 0}};
  request.types = {{"T", data.dtype}};
  dispatch_linear(context, request, {data, indices, output},
                  {{"blocks", blocks},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"is", nest.strides[1]},
                   {"xs", nest.strides[2]},
                   {"sizes", loop.sizes},
                   {"steps", loop.steps},
                   {"component", loop.component}},
                  nest.size() == 0 ? 0 : nest.size() / nest.dims.back() * blocks);
}

void lower_gather(LowerContext& context) {
  const TensorView data = raw_view(context.input(0), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const TensorView indices = index_view(context, context.input(1));
  const auto axis = static_cast<size_t>(gather_axis(context, context.input(0).rank()));
  GatherLoop loop;
  loop.sizes = {data.shape[axis]};
  loop.steps = {data.strides[axis]};
  size_t y = 0;
  for (size_t d = 0; d < data.shape.size(); ++d) {
    if (d == axis) {
      for (size_t i = 0; i < indices.shape.size(); ++i, ++y) {
        loop.add(indices.shape[i], output.strides[y], indices.strides[i], 0);
      }
    } else {
      loop.add(data.shape[d], output.strides[y++], 0, data.strides[d]);
    }
  }
  dispatch_gather(context, data, indices, output, loop);
}

void infer_gather_elements(InferContext& context) {
  const Shape& data = context.shape(0);
  const Shape& indices = context.shape(1);
  const auto axis = static_cast<size_t>(gather_axis(context, context.rank(0)));
  if (indices.size() != data.size()) context.fail("data and indices must have the same rank");
  for (size_t d = 0; d < data.size(); ++d) {
    if (d != axis && indices[d] > data[d]) {
      context.fail("indices " + shape_string(indices) + " are larger than data " +
                   shape_string(data) + " on axis " + std::to_string(d));
    }
  }
  if (data[axis] == 0 && element_count(indices) > 0) context.fail("gathers from an empty axis");
  context.set_output(0, context.dtype(0), indices);
}

void lower_gather_elements(LowerContext& context) {
  const TensorView data = raw_view(context.input(0), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const TensorView indices = index_view(context, context.input(1));
  const auto axis = static_cast<size_t>(gather_axis(context, context.input(0).rank()));
  GatherLoop loop;
  loop.sizes = {data.shape[axis]};
  loop.steps = {data.strides[axis]};
  for (size_t d = 0; d < output.shape.size(); ++d) {
    const int64_t i = d < indices.strides.size() ? indices.strides[d] : 0;
    loop.add(output.shape[d], output.strides[d], i, d == axis ? 0 : data.strides[d]);
  }
  dispatch_gather(context, data, indices, output, loop);
}

void infer_gather_nd(InferContext& context) {
  const Shape& data = context.shape(0);
  const Shape& indices = context.shape(1);
  const int64_t batch = context.attr_int("batch_dims", 0);
  if (data.empty() || indices.empty()) context.fail("data and indices need a rank of at least 1");
  const int64_t k = indices.back();
  const auto last = static_cast<int64_t>(indices.size()) - 1;
  if (batch < 0 || batch > last || k < 1 || batch + k > context.rank(0)) {
    context.fail("batch_dims " + std::to_string(batch) + " and indices " + shape_string(indices) +
                 " do not fit data " + shape_string(data));
  }
  for (size_t d = 0; d < static_cast<size_t>(batch); ++d) {
    if (data[d] != indices[d]) context.fail("batch dimensions of data and indices differ");
  }
  Shape shape(indices.begin(), indices.end() - 1);
  shape.insert(shape.end(), data.begin() + static_cast<std::ptrdiff_t>(batch + k), data.end());
  for (int64_t d = batch; d < batch + k; ++d) {
    if (data[static_cast<size_t>(d)] == 0 && element_count(shape) > 0) {
      context.fail("gathers from an empty axis");
    }
  }
  context.set_output(0, context.dtype(0), shape);
}

void lower_gather_nd(LowerContext& context) {
  const TensorView data = raw_view(context.input(0), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const TensorView indices = index_view(context, context.input(1));
  const auto batch = static_cast<size_t>(context.attr_int("batch_dims", 0));
  const auto k = static_cast<size_t>(indices.shape.back());
  GatherLoop loop;
  loop.component = indices.strides.back();
  for (size_t d = batch; d < batch + k; ++d) {
    loop.sizes.push_back(data.shape[d]);
    loop.steps.push_back(data.strides[d]);
  }
  size_t y = 0;
  for (; y + 1 < indices.shape.size(); ++y) {
    loop.add(indices.shape[y], output.strides[y], indices.strides[y],
             y < batch ? data.strides[y] : 0);
  }
  for (size_t d = batch + k; d < data.shape.size(); ++d, ++y) {
    loop.add(data.shape[d], output.strides[y], 0, data.strides[d]);
  }
  dispatch_gather(context, data, indices, output, loop);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Gather",
               .since_version = 13,
               .doc = "Slices of `data` along `axis` named by int32 or int64 indices.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_gather,
               .host_eval = eval_gather,
               .alias = alias_gather,
               .lower = lower_gather,
               .gradient = gather_gradient});
  register_op({.name = "GatherElements",
               .since_version = 13,
               .doc = "output[i][j] = data[indices[i][j]][j] (axis 0).",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_gather_elements,
               .lower = lower_gather_elements,
               .gradient = gather_elements_gradient});
  register_op({.name = "GatherND",
               .since_version = 13,
               .doc = "Slices of `data` named by index tuples, after `batch_dims` common axes.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_gather_nd,
               .lower = lower_gather_nd,
               .gradient = gather_nd_gradient});
}

}  // namespace dlk
