// dlk::CrossEntropy: softmax cross-entropy of logits with integer labels, and its gradient, in one
// kernel each (kernels/cross_entropy.k). dlk.nn.losses builds it.
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

enum : size_t { kLogits, kLabels, kLossGradient };

/// The labels' shape: that of the logits without the classes.
Shape rows_of(const InferContext& ctx) {
  Shape rows = ctx.shape(kLogits);
  if (rows.size() < 2) {
    ctx.fail("logits are (sample, class, ...), not " + shape_string(rows));
  }
  rows.erase(rows.begin() + 1);
  if (ctx.shape(kLabels) != rows) {
    ctx.fail("labels are " + shape_string(ctx.shape(kLabels)) + ", must be " + shape_string(rows));
  }
  return rows;
}

void infer_loss(InferContext& ctx) {
  require_arithmetic_dtype(ctx, kLogits);
  ctx.set_output(0, ctx.dtype(kLogits), rows_of(ctx));
}

void infer_gradient(InferContext& ctx) {
  const Shape rows = rows_of(ctx);
  if (ctx.shape(kLossGradient) != rows) {
    ctx.fail("the losses' gradients are " + shape_string(ctx.shape(kLossGradient)) + ", must be " +
             shape_string(rows));
  }
  ctx.set_output(0, ctx.dtype(kLogits), ctx.shape(kLogits));
}

void lower(LowerContext& ctx, bool is_gradient) {
  const TensorView& out = ctx.output(0);
  if (out.elements() == 0) return;
  const TensorView logits = ctx.contiguous(ctx.input(kLogits));
  require_compute(ctx, logits.dtype);
  require_32bit(ctx, logits);
  const int64_t classes = logits.shape[1], inner = product(logits.shape, 2);
  const int64_t rows = logits.shape[0] * inner;
  if (classes == 0) return fill_view(ctx, out, 0);
  const TensorView labels = ctx.contiguous(ctx.input(kLabels));
  const TensorView indices = index_view(ctx, labels);
  const TensorView result = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
  // Rows of few classes are an item's each.
  constexpr int64_t kShort = 16;
  const int64_t items = ctx.caps().is_cpu || classes <= kShort ? 1 : kLinearGroup;
  KernelRequest request;
  request.name = "cross_entropy";
  request.types = {{"TX", logits.dtype}, {"TY", result.dtype}};
  request.constants = {{"WG", kLinearGroup}, {"ITEMS", items}, {"GRADIENT", is_gradient ? 1 : 0}};
  std::vector<TensorView> operands{logits, indices};
  const int64_t step = dtype_size(labels.dtype) == 8 ? 2 : 1;
  Params params{{"rows", rows}, {"classes", classes}, {"inner", inner}, {"l_step", step}};
  if (is_gradient) {
    // One for all rows, of a mean or a sum, or one for each.
    const TensorView& d = ctx.input(kLossGradient);
    const bool is_shared = std::ranges::all_of(d.strides, [](int64_t s) { return s == 0; });
    operands.push_back(is_shared ? d : ctx.contiguous(d));
    request.types["TD"] = operands.back().dtype;
    params["d_step"] = is_shared ? 0 : 1;
  }
  operands.push_back(result);
  ctx.dispatch(request, operands, params, ctx.linear_groups(ceil_div(rows, kLinearGroup / items)));
  if (!out.is_contiguous()) ctx.copy(result, out);
}

void gradient(GradientContext& ctx) {
  ctx.set_gradient(kLogits, ctx.own("CrossEntropyGradient", {ctx.input(kLogits), ctx.input(kLabels),
                                                             ctx.output_gradient(0)}));
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "CrossEntropy",
               .domain = "dlk",
               .doc = "-log softmax of logits (sample, class, ...) at the labels (sample, ...); 0 "
                      "where a label is none of the classes.",
               .min_inputs = 2,
               .max_inputs = 2,
               .layout = LayoutRule::kContiguous,
               .infer = infer_loss,
               .lower = [](LowerContext& ctx) { lower(ctx, false); },
               .gradient = gradient});
  register_op({.name = "CrossEntropyGradient",
               .domain = "dlk",
               .doc = "The logits' gradient of CrossEntropy; inputs: its inputs, the gradients of "
                      "the losses.",
               .min_inputs = 3,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_gradient,
               .lower = [](LowerContext& ctx) { lower(ctx, true); }});
}

}  // namespace dlk
