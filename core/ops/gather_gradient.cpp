// GatherGradient and GatherNDGradient: rows of a gradient are added up at their indices, in an
// order that depends on the indices alone, so that results are the same bits in every run. On GPUs
// the entries are sorted by their rows first, and chunks of them are added up side by side; CPU
// drivers walk them one after another, each thread some columns.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/sorting.h"
#include "core/ops/window.h"

namespace dlk {

void gather_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.own("GatherGradient",
                              {ctx.output_gradient(0), ctx.input(1), ctx.shape_of(ctx.input(0))},
                              {{"axis", ctx.attr_int("axis", 0)}}));
}

void gather_nd_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.own("GatherNDGradient",
                              {ctx.output_gradient(0), ctx.input(1), ctx.shape_of(ctx.input(0))},
                              {{"batch_dims", ctx.attr_int("batch_dims", 0)}}));
}

namespace {

void infer_gather_gradient(InferContext& ctx) {
  ctx.set_output(0, ctx.dtype(0), ctx.require_constant(2, "the shape").to_ints());
}

/// dy is (outer, count, inner), dx (outer, size, inner).
struct Sums {
  TensorView dy, rows, dx;
  int64_t outer = 1, inner = 1, size = 1, count = 0;

  Params params() const { return {{"inner", inner}, {"size", size}, {"count", count}}; }
};

/// The tuples of `indices`, whose last axis has their components where `tuples` is set.
TensorView rows_of(LowerContext& ctx, const Shape& sizes, bool tuples, int64_t per_batch) {
  const TensorView dense = ctx.contiguous(ctx.input(1));
  const TensorView indices = index_view(ctx, dense);
  if (const auto constant = ctx.constant(1)) check_indices(ctx, *constant, sizes);
  const int64_t words = dense.dtype == DType::kInt64 ? 2 : 1;
  const auto components = static_cast<int64_t>(sizes.size());
  const int64_t count = dense.elements() / (tuples ? components : 1);
  const TensorView rows = ctx.workspace(DType::kInt32, {count});
  KernelRequest request;
  request.name = "gather_rows";
  request.constants = {{"K", components}};
  dispatch_linear(ctx, std::move(request), {indices, rows},
                  {{"per_batch", per_batch},
                   {"span", product(sizes)},
                   {"step", words * components},
                   {"component", words},
                   {"sizes", sizes}},
                  count);
  return rows;
}

void add_one_by_one(LowerContext& ctx, const Sums& s) {
  const Caps& caps = ctx.caps();
  const bool vectors = caps.is_cpu && s.dx.dtype != DType::kFloat64;
  const int64_t width = vectors ? caps.vector_width : 1;
  // A thread's columns are neighbours on CPU drivers; work-items' are on GPUs.
  const int64_t threads = ceil_div(caps.is_cpu ? caps.compute_units : s.outer * s.inner, s.outer);
  const int64_t slab = ceil_div(ceil_div(s.inner, width), threads) * width;
  const int64_t slabs = ceil_div(s.inner, slab), total = s.outer * slabs;
  const int64_t group = caps.is_cpu ? 1 : kLinearGroup;
  KernelRequest request;
  request.name = "gather_gradient";
  request.types = {{"TX", s.dy.dtype}, {"TY", s.dx.dtype}};
  request.constants = {{"VW", width}, {"WG", group}};
  Params params = s.params();
  params["total"] = total;
  params["slabs"] = slabs;
  params["width"] = slab;
  ctx.dispatch(request, {s.dy, s.rows, s.dx}, std::move(params),
               ctx.linear_groups(ceil_div(total, group)));
}

constexpr int64_t kChunk = 16;

void add_sorted(LowerContext& ctx, const Sums& s) {
  TensorView keys = s.rows;
  keys.shape = {1, s.count, 1};
  keys.strides = contiguous_strides(keys.shape);
  const TensorView order = sorted_indices(ctx, keys, false);
  const int64_t chunks = ceil_div(s.count, kChunk);
  const TensorView parts = ctx.workspace(s.dx.dtype, {s.outer, chunks, 2, s.inner});
  require_32bit(ctx, parts);
  KernelRequest request;
  request.constants = {{"CHUNK", kChunk}};
  Params params = s.params();
  params["chunks"] = chunks;
  const int64_t items = s.outer * chunks * s.inner;
  request.name = "gather_sums";
  request.types = {{"TX", s.dy.dtype}, {"TY", s.dx.dtype}};
  dispatch_linear(ctx, request, {s.dy, s.rows, order, s.dx, parts}, params, items);
  request.name = "gather_joins";
  request.types.erase("TX");
  dispatch_linear(ctx, request, {s.rows, order, parts, s.dx}, params, items);
}

void add_rows(LowerContext& ctx, Sums s, const Shape& sizes, bool tuples, int64_t per_batch) {
  const TensorView& dx = ctx.output(0);
  s.dy = ctx.contiguous(ctx.input(0));
  require_float_storage(ctx, s.dy.dtype);
  require_32bit(ctx, s.dy);
  require_32bit(ctx, dx);
  if (dx.elements() == 0) return;
  const bool direct = dx.is_contiguous() && dtype_size(dx.dtype) >= 4;
  s.dx = direct ? dx : ctx.workspace(DType::kFloat32, dx.shape);
  fill_view(ctx, s.dx, 0);
  if (s.dy.elements() > 0) {
    s.rows = rows_of(ctx, sizes, tuples, per_batch);
    s.count = s.rows.elements();
    const bool sorts = !ctx.caps().is_cpu && s.count > kChunk;
    sorts ? add_sorted(ctx, s) : add_one_by_one(ctx, s);
  }
  if (!direct) ctx.copy(s.dx, dx);
}

void lower_gather_gradient(LowerContext& ctx) {
  const Shape& shape = ctx.output(0).shape;
  const int64_t rank = ctx.output(0).rank();
  const auto axis = static_cast<size_t>(ctx.normalize_axis(ctx.attr_int("axis", 0), rank));
  Sums s;
  s.outer = product(shape, 0, axis);
  s.size = shape[axis];
  s.inner = product(shape, axis + 1);
  add_rows(ctx, s, {s.size}, false, std::max<int64_t>(1, ctx.input(1).elements()));
}

void lower_gather_nd_gradient(LowerContext& ctx) {
  const Shape &shape = ctx.output(0).shape, &indices = ctx.input(1).shape;
  const auto batch = static_cast<size_t>(ctx.attr_int("batch_dims", 0));
  const auto end = batch + static_cast<size_t>(indices.back());
  const Shape sizes(shape.begin() + static_cast<std::ptrdiff_t>(batch),
                    shape.begin() + static_cast<std::ptrdiff_t>(end));
  Sums s;
  s.size = product(shape, 0, end);
  s.inner = product(shape, end);
  const int64_t per_batch = product(indices, batch, indices.size() - 1);
  add_rows(ctx, s, sizes, true, std::max<int64_t>(1, per_batch));
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "GatherGradient",
               .domain = "dlk",
               .doc = "Rows of a gradient added up at their indices; inputs: gradient, indices, "
                      "shape of the data; axis.",
               .min_inputs = 3,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_gather_gradient,
               .lower = lower_gather_gradient,
               .gradient = [](GradientContext& ctx) {
                 ctx.set_gradient(0, ctx.onnx("Gather", {ctx.output_gradient(0), ctx.input(1)},
                                              {{"axis", ctx.attr_int("axis", 0)}}));
               }});
  register_op({.name = "GatherNDGradient",
               .domain = "dlk",
               .doc = "Slices of a gradient added up at their index tuples; inputs: gradient, "
                      "indices, shape of the data; batch_dims.",
               .min_inputs = 3,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_gather_gradient,
               .lower = lower_gather_nd_gradient,
               .gradient = [](GradientContext& ctx) {
                 ctx.set_gradient(0, ctx.onnx("GatherND", {ctx.output_gradient(0), ctx.input(1)},
                                              {{"batch_dims", ctx.attr_int("batch_dims", 0)}}));
               }});
}

}  // namespace dlk
