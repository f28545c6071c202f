// Det: determinants of square matrices.
#include "core/ops/op_util.h"
#include "core/ops/sorting.h"

namespace dlk {
namespace {

void infer(InferContext& context) {
  const Shape& x = context.shape(0);
  if (!is_floating(context.dtype(0))) context.fail("takes floating point matrices only");
  if (x.size() < 2 || x[x.size() - 1] != x[x.size() - 2]) {
    context.fail("the input " + shape_string(x) + " must end in square matrices");
  }
  context.set_output(0, context.dtype(0), Shape(x.begin(), x.end() - 2));
}

void lower(LowerContext& context) {
  const TensorView& x = context.input(0);
  require_compute(context, x.dtype);
  const DType compute = accumulator_dtype(x.dtype);
  const TensorView matrices = context.workspace(compute, x.shape);
  context.copy(x, matrices);
  DenseOutput output(context, context.output(0));
  const bool narrow = compute != output.view().dtype;
  const TensorView result =
      narrow ? context.workspace(compute, output.view().shape) : output.view();
  KernelRequest request;
  request.name = "det";
  request.types = {{"T", compute}};
  dispatch_linear(context, request, {matrices, result}, {{"n", x.shape.back()}, {"y_step", 1}},
                  result.elements());
  if (narrow) context.copy(result, output.view());
  output.finish();
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Det",
               .since_version = 22,
               .doc = "Determinants of the matrices in the last two axes.",
               .layout = LayoutRule::kContiguous,
               .infer = infer,
               .lower = lower});
}

}  // namespace dlk
