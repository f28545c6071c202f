// Adagrad, Adam and Momentum of the domain ai.onnx.preview.training: a step on any number of
// tensors. Inputs are the rate, the number of steps, then all tensors, all gradients, all states.
#include "core/ops/op_util.h"
#include "core/ops/sorting.h"

namespace dlk {
namespace {

constexpr const char* kDomain = "ai.onnx.preview.training";

size_t states_of(const NodeReader& node) { return node.node().op == "Adam" ? 2 : 1; }

size_t tensors_of(const NodeReader& node) {
  const size_t each = 2 + states_of(node), inputs = node.input_count();
  if (inputs < 2 + each || (inputs - 2) % each != 0) {
    node.fail("needs a rate, a step number and " + std::to_string(each) + " inputs a tensor");
  }
  const size_t tensors = (inputs - 2) / each;
  if (node.output_count() > tensors * (1 + states_of(node))) node.fail("has too many outputs");
  return tensors;
}

void infer(InferContext& context) {
  const size_t tensors = tensors_of(context), states = states_of(context);
  for (size_t i = 0; i < tensors; ++i) {
    for (size_t k = 0; k < 2 + states; ++k) {
      const size_t input = 2 + k * tensors + i;
      if (context.shape(input) != context.shape(2 + i) ||
          context.dtype(input) != context.dtype(2 + i)) {
        context.fail("tensor " + std::to_string(i) + ", its gradient and its states differ");
      }
    }
    if (!is_floating(context.dtype(2 + i))) context.fail("takes floating point tensors only");
    for (size_t k = 0; k < 1 + states; ++k) {
      const size_t output = k * tensors + i;
      if (context.has_output(output)) {
        context.set_output(output, context.dtype(2 + i), context.shape(2 + i));
      }
    }
  }
}

int64_t mode_of(const NodeReader& node) {
  const std::string& op = node.node().op;
  if (op == "Adagrad") return 0;
  if (op == "Adam") return 1;
  const std::string mode = node.attr_string("mode", "standard");
  if (mode != "standard" && mode != "nesterov") node.fail("mode is standard or nesterov");
  return mode == "standard" ? 2 : 3;
}

void lower(LowerContext& context) {
  const size_t tensors = tensors_of(context), states = states_of(context);
  const TensorView rate = context.input(0), steps = index_view(context, context.input(1));
  KernelRequest request;
  request.name = "optimizer_step";
  request.constants = {{"MODE", mode_of(context)}};
  request.types["TR"] = rate.dtype;
  const Params params{{"norm", context.attr_float("norm_coefficient", 0.0)},
                      {"norm_post", context.attr_float("norm_coefficient_post", 0.0)},
                      {"decay", context.attr_float("decay_factor", 0.0)},
                      {"alpha", context.attr_float("alpha", 0.9)},
                      {"beta", context.attr_float("beta", 0.999)},
                      {"epsilon", context.attr_float("epsilon", 1e-6)}};
  for (size_t i = 0; i < tensors; ++i) {
    std::vector<TensorView> views{rate, steps};
    for (size_t k = 0; k < 2 + states; ++k) {
      views.push_back(context.contiguous(context.input(2 + k * tensors + i)));
    }
    const TensorView& x = context.input(2 + i);
    request.types["T"] = x.dtype;
    require_compute(context, x.dtype);
    std::vector<DenseOutput> outputs;
    for (size_t k = 0; k < 1 + states; ++k) {
      const size_t output = k * tensors + i;
      outputs.emplace_back(context, context.has_output(output)
                                        ? context.output(output)
                                        : context.workspace(x.dtype, x.shape));
      views.push_back(outputs.back().view());
    }
    dispatch_linear(context, request, views, params, x.elements());
    for (DenseOutput& output : outputs) output.finish();
  }
}

OpSchema step(const std::string& name, const std::string& doc) {
  OpSchema schema;
  schema.name = name;
  schema.domain = kDomain;
  schema.doc = doc;
  schema.min_inputs = 5;
  schema.max_inputs = -1;
  schema.max_outputs = -1;
  schema.layout = LayoutRule::kContiguous;
  schema.infer = infer;
  schema.lower = lower;
  return schema;
}

}  // namespace

DLK_REGISTER_OPS {
  register_op(step("Adagrad", "a step of Adagrad; norm_coefficient, decay_factor, epsilon"));
  register_op(step("Adam", "a step of Adam; alpha, beta, epsilon, norm_coefficient(_post)"));
  register_op(step("Momentum", "a step with momentum; mode=standard|nesterov, alpha, beta"));
}

}  // namespace dlk
