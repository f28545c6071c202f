// dlk::Dropout: dropout whose mask is a function of seed, step and place, so that training is
// reproducible, resumes exactly, and stores no mask. Inputs: x, the step (int32, one number).
#include "core/ops/gradient.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

double ratio_of(const NodeReader& node) {
  const double ratio = node.attr_float("ratio", 0.5);
  if (!(ratio >= 0.0 && ratio < 1.0)) {
    node.fail("ratio is " + std::to_string(ratio) + "; it must be at least 0 and below 1");
  }
  return ratio;
}

void infer(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  ratio_of(ctx);
  if (ctx.dtype(1) != DType::kInt32 || element_count(ctx.shape(1)) != 1) {
    ctx.fail("the step must be one int32");
  }
  ctx.set_output(0, ctx.dtype(0), ctx.shape(0));
}

void lower(LowerContext& ctx) {
  const TensorView &x = ctx.input(0), &y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  // In logical order, whatever the strides: the mask is the same in every layout.
  const LoopNest nest = collapse(y.shape, {x.strides, y.strides});
  const auto seed = static_cast<uint64_t>(ctx.attr_int("seed", 0));
  KernelRequest request;
  request.name = "dropout_step";
  request.types = {{"T", x.dtype}};
  request.constants = {{"ND", nest.rank()}};
  dispatch_linear(ctx, std::move(request), {x, ctx.input(1), y},
                  {{"key_low", static_cast<int64_t>(seed & 0xffffffffu)},
                   {"key_high", static_cast<int64_t>(seed >> 32)},
                   {"ratio", ratio_of(ctx)},
                   {"dims", nest.dims},
                   {"xs", nest.strides[0]},
                   {"ys", nest.strides[1]}},
                  y.elements());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Dropout",
               .domain = "dlk",
               .doc = "x / (1 - ratio), or 0 with probability `ratio`, by `seed` and step; inputs: "
                      "x, the step (int32).",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer,
               .lower = lower,
               .gradient = [](GradientContext& ctx) {
                 const ValueId dy = ctx.output_gradient(0);
                 ctx.set_gradient(0, ctx.own("Dropout", {dy, ctx.input(1)}, ctx.node().attributes));
               }});
}

}  // namespace dlk
