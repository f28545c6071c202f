// Gradients of the Reduce* operators and of Softmax and LogSoftmax, as expressions.
#include <functional>
#include <map>

#include "core/ops/gradients.h"

namespace dlk {

namespace {

/// A result of the reduction (or its gradient) with the reduced axes as axes of size 1.
ValueId with_axes(GradientContext& ctx, ValueId reduced) {
  if (ctx.attr_int("keepdims", 1) != 0) return reduced;
  if (ctx.has_input(1)) return ctx.onnx("Unsqueeze", {reduced, ctx.input(1)});
  if (ctx.has_attr("axes")) {
    return ctx.onnx("Unsqueeze", {reduced, ctx.ints(ctx.attr_ints("axes"))});
  }
  return reduced;  // a scalar, which broadcasts as it is
}

/// Gradients by the input x, from the result y and its gradient d, both broadcastable to x.
using Rule = std::function<ValueId(GradientContext&, ValueId x, ValueId y, ValueId d)>;

ValueId shared_by_hits(GradientContext& ctx, ValueId x, ValueId y, ValueId d) {
  // Ties share, as in torch.amax.
  const ValueId hits = ctx.onnx("CastLike", {ctx.onnx("Equal", {x, y}), x});
  const ValueId count = ctx.own("SumTo", {hits, ctx.shape_of(y)});
  return ctx.onnx("Mul", {hits, ctx.onnx("Div", {d, count})});
}

ValueId mean_rule(GradientContext& ctx, ValueId x, ValueId y, ValueId d) {
  const ValueId rows = ctx.onnx("Div", {ctx.onnx("Size", {x}), ctx.onnx("Size", {y})});
  return ctx.onnx("Div", {d, ctx.onnx("CastLike", {rows, x})});
}

const std::map<std::string, Rule>& rules() {
  static const std::map<std::string, Rule> table = {
      {"ReduceSum", [](GradientContext&, ValueId, ValueId, ValueId d) { return d; }},
      {"ReduceMean", mean_rule},
      {"ReduceMax", shared_by_hits},
      {"ReduceMin", shared_by_hits},
      {"ReduceProd", [](GradientContext& ctx, ValueId x, ValueId y,
                        ValueId d) { return ctx.onnx("Div", {ctx.onnx("Mul", {d, y}), x}); }},
      {"ReduceL1", [](GradientContext& ctx, ValueId x, ValueId,
                      ValueId d) { return ctx.onnx("Mul", {d, ctx.onnx("Sign", {x})}); }},
      {"ReduceL2", [](GradientContext& ctx, ValueId x, ValueId y,
                      ValueId d) { return ctx.onnx("Mul", {x, ctx.onnx("Div", {d, y})}); }},
      {"ReduceSumSquare",
       [](GradientContext& ctx, ValueId x, ValueId, ValueId d) {
         return ctx.onnx("Mul", {x, ctx.onnx("Mul", {d, ctx.scalar(2.0, x)})});
       }},
      {"ReduceLogSum",
       [](GradientContext& ctx, ValueId, ValueId y, ValueId d) {
         return ctx.onnx("Mul", {d, ctx.onnx("Exp", {ctx.onnx("Neg", {y})})});
       }},
      {"ReduceLogSumExp",
       [](GradientContext& ctx, ValueId x, ValueId y, ValueId d) {
         return ctx.onnx("Mul", {d, ctx.onnx("Exp", {ctx.onnx("Sub", {x, y})})});
       }},
  };
  return table;
}

}  // namespace

void reduce_gradient(GradientContext& ctx) {
  const auto rule = rules().find(ctx.node().op);
  if (rule == rules().end()) ctx.unsupported("has no gradient");
  const ValueId x = ctx.input(0), dy = ctx.output_gradient(0);
  const bool is_noop =
      ctx.attr_int("noop_with_empty_axes", 0) != 0 && !ctx.has_input(1) && !ctx.has_attr("axes");
  const auto whole = [&](ValueId v) { return is_noop ? v : with_axes(ctx, v); };
  const ValueId dx = rule->second(ctx, x, whole(ctx.output(0)), whole(dy));
  ctx.set_gradient(0, ctx.expand_like(dx, x));
}

void softmax_gradient(GradientContext& ctx) {
  const int64_t axis = ctx.attr_int("axis", -1);
  const ValueId y = ctx.output(0), dy = ctx.output_gradient(0);
  const ValueId sum = ctx.reduce_sum(ctx.onnx("Mul", {dy, y}), {axis}, true);
  ctx.set_gradient(0, ctx.onnx("Mul", {y, ctx.onnx("Sub", {dy, sum})}));
}

void log_softmax_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0);
  const ValueId sum = ctx.reduce_sum(dy, {ctx.attr_int("axis", -1)}, true);
  const ValueId share = ctx.onnx("Mul", {ctx.onnx("Exp", {ctx.output(0)}), sum});
  ctx.set_gradient(0, ctx.onnx("Sub", {dy, share}));
}

}  // namespace dlk
