// OptimizerStep: one step of an optimizer for one tensor of parameters, written over the parameters
// and the optimizer's state (kernels/optimizer.k). What differs from step to step is a tensor, what
// an optimizer is made with are attributes.
#include <map>

#include "core/ops/op_util.h"

namespace dlk {

namespace {

constexpr size_t kStep = 0, kScale = 1, kGradient = 2, kParameter = 3;
constexpr int64_t kStepValues = 5;

int64_t kind_of(const NodeReader& node) {
  static const std::map<std::string, int64_t> kinds = {{"sgd", 0},     {"adam", 1},    {"adamw", 2},
                                                       {"rmsprop", 3}, {"adagrad", 4}, {"lion", 5}};
  const std::string kind = node.attr_string("kind", "");
  const auto found = kinds.find(kind);
  if (found == kinds.end()) node.fail("there is no optimizer '" + kind + "'");
  return found->second;
}

size_t state_count(const NodeReader& node) { return node.input_count() - kParameter - 1; }

void infer(InferContext& ctx) {
  kind_of(ctx);
  const Shape& shape = ctx.shape(kParameter);
  if (ctx.shape(kStep) != Shape{kStepValues}) {
    ctx.fail("the step's numbers are " + shape_string(ctx.shape(kStep)) + ", must be " +
             shape_string({kStepValues}));
  }
  if (element_count(ctx.shape(kScale)) != 1) ctx.fail("the scale must be one number");
  if (ctx.output_count() != state_count(ctx) + 1) ctx.fail("needs an output for each state");
  for (size_t i = kGradient; i < ctx.input_count(); ++i) {
    if (ctx.shape(i) != shape) {
      ctx.fail("input " + std::to_string(i) + " is " + shape_string(ctx.shape(i)) +
               ", the parameters are " + shape_string(shape));
    }
    if (i > kGradient && ctx.dtype(i) != DType::kFloat32) {
      ctx.unsupported("parameters and state are float32");
    }
  }
  for (size_t i = 0; i < ctx.output_count(); ++i) {
    ctx.set_output(i, ctx.dtype(kParameter + i), shape);
  }
}

void lower(LowerContext& ctx) {
  const size_t states = state_count(ctx);
  KernelRequest request;
  request.name = "parameter_update";
  request.constants = {{"KIND", kind_of(ctx)},
                       {"STATES", static_cast<int64_t>(states)},
                       {"NESTEROV", ctx.attr_int("nesterov", 0) != 0 ? 1 : 0}};
  const TensorView gradient = ctx.contiguous(ctx.input(kGradient));
  request.types = {{"TG", gradient.dtype}};
  std::vector<TensorView> views{ctx.contiguous(ctx.input(kStep)), ctx.contiguous(ctx.input(kScale)),
                                gradient};
  std::vector<std::pair<TensorView, TensorView>> copies;
  for (size_t i = 0; i <= states; ++i) {
    const TensorView& out = ctx.output(i);
    const TensorView target = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
    ctx.copy(ctx.input(kParameter + i), target);  // nothing where the planner put them in one place
    views.push_back(target);
    if (!out.is_contiguous()) copies.emplace_back(target, out);
  }
  dispatch_linear(ctx, std::move(request), views,
                  {{"a", ctx.attr_float("a", 0.0)},
                   {"b", ctx.attr_float("b", 0.0)},
                   {"epsilon", ctx.attr_float("epsilon", 0.0)}},
                  ctx.output(0).elements());
  for (const auto& [from, to] : copies) ctx.copy(from, to);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "OptimizerStep",
               .domain = "dlk",
               .doc =
                   "One step of an optimizer (kind, a, b, epsilon, nesterov); inputs: numbers of "
                   "the step, scale of the gradients, gradients, parameters, state; outputs: "
                   "parameters, state.",
               .min_inputs = 4,
               .max_inputs = 7,
               .min_outputs = 1,
               .max_outputs = 4,
               .layout = LayoutRule::kContiguous,
               .infer = infer,
               .lower = lower,
               .mixed_floats = true,
               .updates_in_place = true});
}

}  // namespace dlk
