// dlk::CTCLoss and its gradient: alignments of label sequences with longer sequences of
// predictions, summed over all of them (kernels/ctc.k). Inputs: log probabilities (time, sample,
// class), labels (sample, label), lengths of both (sample), all int32 but the first. The gradient
// computes the forward sums again: stored ones would be rounded where activations are 16 bits.
#include "core/ops/gradient.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

void check_inputs(InferContext& ctx) {
  require_arithmetic_dtype(ctx, 0);
  const Shape &x = ctx.shape(0), &labels = ctx.shape(1);
  if (x.size() != 3 || labels.size() != 2 || labels[0] != x[1]) {
    ctx.fail("takes log probabilities (time, sample, class) and labels (sample, label), not " +
             shape_string(x) + " and " + shape_string(labels));
  }
  if (x[0] < 1 || x[2] < 1) ctx.fail("has no time or no class: " + shape_string(x));
  for (size_t i = 1; i < 4; ++i) {
    if (ctx.dtype(i) != DType::kInt32) ctx.fail("labels and lengths are int32");
    if (i > 1 && ctx.shape(i) != Shape{x[1]}) {
      ctx.fail("lengths are " + shape_string(ctx.shape(i)) + ", must be " + shape_string({x[1]}));
    }
  }
  const int64_t blank = ctx.attr_int("blank", 0);
  if (blank < 0 || blank >= x[2]) {
    ctx.fail("the blank is class " + std::to_string(blank) + " of " + std::to_string(x[2]));
  }
}

/// What the kernels share: their first operands and parameters.
struct Alignment {
  explicit Alignment(LowerContext& ctx)
      : x(ctx.contiguous(ctx.input(0))),
        labels(ctx.contiguous(ctx.input(1))),
        lengths(ctx.contiguous(ctx.input(2))),
        label_lengths(ctx.contiguous(ctx.input(3))),
        width(2 * labels.shape[1] + 1),
        states(ctx.workspace(DType::kFloat32, {x.shape[1], x.shape[0], width})) {
    require_float_storage(ctx, x.dtype);
    params = {{"samples", x.shape[1]},
              {"times", x.shape[0]},
              {"classes", x.shape[2]},
              {"labels", labels.shape[1]},
              {"blank", ctx.attr_int("blank", 0)}};
  }

  void forward(LowerContext& ctx, const TensorView* loss) {
    KernelRequest request;
    request.name = "ctc_forward";
    request.types = {{"TX", x.dtype}};
    request.constants = {{"HAS_Y", loss ? 1 : 0}};
    std::vector<TensorView> operands{x, labels, lengths, label_lengths, states};
    Params all = params;
    all["y_step"] = loss ? loss->strides[0] : 0;
    if (loss) {
      request.types["TY"] = loss->dtype;
      operands.push_back(*loss);
    }
    ctx.dispatch(request, operands, all, ctx.linear_groups(x.shape[1]));
  }

  TensorView x, labels, lengths, label_lengths;
  int64_t width;
  TensorView states;
  Params params;
};

void infer_loss(InferContext& ctx) {
  check_inputs(ctx);
  ctx.set_output(0, ctx.dtype(0), {ctx.shape(0)[1]});
}

void lower_loss(LowerContext& ctx) {
  if (ctx.output(0).elements() == 0) return;
  Alignment(ctx).forward(ctx, &ctx.output(0));
}

void infer_gradient(InferContext& ctx) {
  check_inputs(ctx);
  if (ctx.shape(4) != Shape{ctx.shape(0)[1]}) ctx.fail("needs a gradient for each sample");
  ctx.set_output(0, ctx.dtype(0), ctx.shape(0));
}

void lower_gradient(LowerContext& ctx) {
  if (ctx.output(0).elements() == 0) return;
  Alignment alignment(ctx);
  alignment.forward(ctx, nullptr);
  const Shape& shape = alignment.x.shape;
  const TensorView ends = ctx.workspace(DType::kFloat32, {shape[1], int64_t{2}, alignment.width});
  KernelRequest backward;
  backward.name = "ctc_backward";
  backward.types = {{"TX", alignment.x.dtype}};
  ctx.dispatch(backward,
               {alignment.x, alignment.labels, alignment.lengths, alignment.label_lengths,
                alignment.states, ends},
               alignment.params, ctx.linear_groups(shape[1]));
  const TensorView& out = ctx.output(0);
  const TensorView result = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
  const TensorView& dy = ctx.input(4);
  KernelRequest gather;
  gather.name = "ctc_gather";
  gather.types = {{"TD", dy.dtype}, {"TG", result.dtype}};
  Params params = alignment.params;
  params["d_step"] = dy.strides[0];
  dispatch_linear(ctx, std::move(gather),
                  {alignment.states, alignment.labels, alignment.label_lengths, dy, result}, params,
                  result.elements());
  if (!out.is_contiguous()) ctx.copy(result, out);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "CTCLoss",
               .domain = "dlk",
               .doc = "Losses of label sequences (blank); inputs: log probabilities (time, sample, "
                      "class), labels, lengths of both.",
               .min_inputs = 4,
               .max_inputs = 4,
               .layout = LayoutRule::kContiguous,
               .infer = infer_loss,
               .lower = lower_loss,
               .mixed_floats = true,
               .gradient = [](GradientContext& ctx) {
                 ctx.set_gradient(0, ctx.own("CTCLossGradient",
                                             {ctx.input(0), ctx.input(1), ctx.input(2),
                                              ctx.input(3), ctx.output_gradient(0)},
                                             ctx.node().attributes));
               }});
  register_op({.name = "CTCLossGradient",
               .domain = "dlk",
               .doc = "The gradient of CTCLoss; inputs: its inputs, the gradients of the losses.",
               .min_inputs = 5,
               .max_inputs = 5,
               .layout = LayoutRule::kContiguous,
               .infer = infer_gradient,
               .lower = lower_gradient,
               .mixed_floats = true});
}

}  // namespace dlk
