// Softmax, LogSoftmax and Hardmax along one axis.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

void infer(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  if (ctx.rank(0) == 0) ctx.fail("the input is a scalar; an axis is needed");
  ctx.normalize_axis(ctx.attr_int("axis", -1), ctx.rank(0));
  ctx.set_output(0, ctx.dtype(0), ctx.shape(0));
}

struct Rows {
  LoopNest nest;
  int64_t count, length, x_step, y_step;
};

Rows rows_of(const LowerContext& ctx) {
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  const int64_t axis = ctx.normalize_axis(ctx.attr_int("axis", -1), x.rank());
  const auto at = static_cast<size_t>(axis);
  const TensorView xr = drop_axis(x, axis), yr = drop_axis(y, axis);
  Rows rows{collapse(xr.shape, {xr.strides, yr.strides}), xr.elements(), x.shape[at], x.strides[at],
            y.strides[at]};
  return rows;
}

void lower_rows(LowerContext& ctx, const std::string& kernel, bool log) {
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  require_32bit(ctx, x);
  require_32bit(ctx, y);
  if (x.elements() == 0) return;
  const Rows rows = rows_of(ctx);
  KernelRequest request;
  request.name = kernel;
  request.types["T"] = x.dtype;
  request.constants["ND"] = rows.nest.rank();
  Params params{{"n", rows.length},           {"xa", rows.x_step},
                {"ya", rows.y_step},          {"dims", rows.nest.dims},
                {"xs", rows.nest.strides[0]}, {"ys", rows.nest.strides[1]}};
  if (kernel == "hardmax") {
    return dispatch_linear(ctx, std::move(request), {x, y}, std::move(params), rows.count);
  }
  constexpr int64_t kShortRow = 32;
  const bool split = !ctx.caps().is_cpu && rows.length > kShortRow;
  request.constants["LOG"] = log ? 1 : 0;
  request.constants["SPLIT"] = split ? 1 : 0;
  const int64_t lanes = std::max<int64_t>(1, ctx.caps().subgroup_size);
  const int64_t items = split ? 128 : ctx.caps().is_cpu ? lanes : kLinearGroup;
  request.constants["WG"] = items;
  params["rows"] = rows.count;
  ctx.dispatch(request, {x, y}, std::move(params),
               ctx.linear_groups(split ? rows.count : ceil_div(rows.count, items)));
}

OpSchema schema(const std::string& name, const std::string& doc,
                std::function<void(LowerContext&)> lower,
                std::function<void(GradientContext&)> gradient) {
  OpSchema result;
  result.name = name;
  result.since_version = 13;
  result.doc = doc;
  result.infer = infer;
  result.lower = std::move(lower);
  result.gradient = std::move(gradient);
  return result;
}

}  // namespace

DLK_REGISTER_OPS {
  register_op(schema(
      "Softmax", "exp(x) over its sum along `axis`.",
      [](LowerContext& ctx) { lower_rows(ctx, "softmax", false); }, softmax_gradient));
  register_op(schema(
      "LogSoftmax", "Logarithm of Softmax.",
      [](LowerContext& ctx) { lower_rows(ctx, "softmax", true); }, log_softmax_gradient));
  register_op(schema(
      "Hardmax", "1 at the first maximum along `axis`, else 0.",
      [](LowerContext& ctx) { lower_rows(ctx, "hardmax", false); }, zero_gradient));
}

}  // namespace dlk
