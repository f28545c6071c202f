// OptimizerStep: one step of an optimizer for any number of tensors of parameters, written over the
// parameters and the optimizer's state, a few tensors a dispatch. What differs from step to step is
// a tensor, what an optimizer is made with are attributes.
#include <map>

#include "core/train/tensor_lists.h"

namespace dlk {

namespace {

constexpr size_t kStep = 0, kScale = 1, kFirst = 2;
constexpr int64_t kStepValues = 5;

// P parameters, G gradients, up to three tensors of state. H holds what changes from step to step,
// so that a schedule costs nothing: H[0] learning rate, H[1] and H[2] bias corrections, H[3] weight
// decay, H[4] L1 penalty. C holds one number that gradients are multiplied with (clipping, loss
// scaling); where it is not finite, nothing is changed. KIND: 0 SGD, 1 Adam, 2 AdamW, 3 RMSProp,
// 4 Adagrad, 5 Lion. STATES: how many tensors of state there are. The order of the arithmetic is
// PyTorch's.
constexpr const char* kHeader = R"(
kernel parameter_update
type T = f32, TG = f32
const KIND = 0, STATES = 0, NESTEROV = 0
in H : f32
in C : f32
param a, b, epsilon : float
)";

constexpr const char* kBuffers = R"(
in G@ : TG
inout P@ : T
inout S@ : T when STATES > 0
inout R@ : T when STATES > 1
inout Q@ : T when STATES > 2
)";

constexpr const char* kBefore = R"(
    float scale = ld(C, 0u);
    bool good = !isnan(scale) && !isinf(scale);
    float lr = ld(H, 0u);
    float decay = ld(H, 3u);
)";

constexpr const char* kBody = R"(
    float p = float(ld(P@, i));
    float s = 0.0f;
    float r = 0.0f;
    float q = 0.0f;
    static if (STATES > 0) s = float(ld(S@, i));
    static if (STATES > 1) r = float(ld(R@, i));
    static if (STATES > 2) q = float(ld(Q@, i));
    if (good) {
      float g = float(ld(G@, i)) * scale;
      float l1 = ld(H, 4u);
      g += l1 * (p > 0.0f ? 1.0f : (p < 0.0f ? -1.0f : 0.0f));
      static if (KIND == 2 || KIND == 5) {
        p = p * (1.0f - lr * decay);
      } else {
        g = g + decay * p;
      }
      static if (KIND == 0) {
        static if (STATES > 0) {
          s = a * s + b * g;
          static if (NESTEROV) {
            g = g + a * s;
          } else {
            g = s;
          }
        }
        p = p - lr * g;
      }
      static if (KIND == 1 || KIND == 2) {
        s = s + (g - s) * (1.0f - a);
        r = b * r + (1.0f - b) * g * g;
        float d = sqrt(r) / ld(H, 2u) + epsilon;
        p = p - lr / ld(H, 1u) * (s / d);
      }
      static if (KIND == 3) {
        // S: mean square; R: momentum; Q: mean (centred).
        s = a * s + (1.0f - a) * g * g;
        float v = s;
        static if (STATES > 2) {
          q = q + (g - q) * (1.0f - a);
          v = s - q * q;
        }
        float d = g / (sqrt(v) + epsilon);
        static if (STATES > 1) {
          r = b * r + d;
          d = r;
        }
        p = p - lr * d;
      }
      static if (KIND == 4) {
        s = s + g * g;
        p = p - lr * (g / (sqrt(s) + epsilon));
      }
      static if (KIND == 5) {
        float u = a * s + (1.0f - a) * g;
        p = p - lr * (u > 0.0f ? 1.0f : (u < 0.0f ? -1.0f : 0.0f));
        s = b * s + (1.0f - b) * g;
      }
    }
    st(P@, i, T(p));
    static if (STATES > 0) st(S@, i, T(s));
    static if (STATES > 1) st(R@, i, T(r));
    static if (STATES > 2) st(Q@, i, T(q));
)";

int64_t kind_of(const NodeReader& node) {
  static const std::map<std::string, int64_t> kinds = {{"sgd", 0},     {"adam", 1},    {"adamw", 2},
                                                       {"rmsprop", 3}, {"adagrad", 4}, {"lion", 5}};
  const std::string kind = node.attr_string("kind", "");
  const auto found = kinds.find(kind);
  if (found == kinds.end()) node.fail("there is no optimizer '" + kind + "'");
  return found->second;
}

/// Each tensor has inputs (gradient, parameters, states) and outputs (parameters, states).
struct Tensors {
  size_t count = 0, states = 0;
  size_t input(size_t tensor) const { return kFirst + tensor * (2 + states); }
  size_t output(size_t tensor) const { return tensor * (1 + states); }
};

Tensors tensors_of(const NodeReader& node) {
  constexpr size_t kMostStates = 3;
  const auto count = static_cast<size_t>(node.attr_int("tensors", 1));
  const size_t inputs = node.input_count() - kFirst;
  if (count < 1 || inputs % count != 0 || inputs / count < 2 || inputs / count > 2 + kMostStates) {
    node.fail("needs a gradient, parameters and at most " + std::to_string(kMostStates) +
              " states for each of its tensors");
  }
  const Tensors tensors{count, inputs / count - 2};
  if (node.output_count() != count * (tensors.states + 1)) {
    node.fail("needs an output for all parameters and states");
  }
  return tensors;
}

void infer(InferContext& ctx) {
  kind_of(ctx);
  const Tensors tensors = tensors_of(ctx);
  if (ctx.shape(kStep) != Shape{kStepValues}) {
    ctx.fail("the step's numbers are " + shape_string(ctx.shape(kStep)) + ", must be " +
             shape_string({kStepValues}));
  }
  if (element_count(ctx.shape(kScale)) != 1) ctx.fail("the scale must be one number");
  for (size_t t = 0; t < tensors.count; ++t) {
    const size_t gradient = tensors.input(t), parameter = gradient + 1;
    const Shape& shape = ctx.shape(parameter);
    for (size_t i = gradient; i <= parameter + tensors.states; ++i) {
      if (ctx.shape(i) != shape) {
        ctx.fail("input " + std::to_string(i) + " is " + shape_string(ctx.shape(i)) +
                 ", the parameters are " + shape_string(shape));
      }
      if (i > gradient && ctx.dtype(i) != DType::kFloat32) {
        ctx.unsupported("parameters and state are float32");
      }
    }
    for (size_t i = 0; i <= tensors.states; ++i) {
      ctx.set_output(tensors.output(t) + i, ctx.dtype(parameter + i), shape);
    }
  }
}

void lower(LowerContext& ctx) {
  const Tensors tensors = tensors_of(ctx);
  const TensorView step = ctx.contiguous(ctx.input(kStep));
  const TensorView scale = ctx.contiguous(ctx.input(kScale));
  std::vector<std::vector<TensorView>> views(tensors.count);
  std::vector<std::pair<TensorView, TensorView>> copies;
  Shape sizes;
  std::vector<int> kinds;
  for (size_t t = 0; t < tensors.count; ++t) {
    views[t].push_back(ctx.contiguous(ctx.input(tensors.input(t))));
    for (size_t i = 0; i <= tensors.states; ++i) {
      const TensorView& out = ctx.output(tensors.output(t) + i);
      const TensorView target = out.is_contiguous() ? out : ctx.workspace(out.dtype, out.shape);
      // Nothing where the planner put them in one place.
      ctx.copy(ctx.input(tensors.input(t) + 1 + i), target);
      views[t].push_back(target);
      if (!out.is_contiguous()) copies.emplace_back(target, out);
    }
    sizes.push_back(ctx.output(tensors.output(t)).elements());
    kinds.push_back(static_cast<int>(views[t][0].dtype));
  }
  for (const ListPart& part : list_parts(ctx.caps(), sizes, kinds, 2 + tensors.states, 2)) {
    KernelRequest request;
    request.name = "parameter_update";
    request.source = list_kernel(kHeader, kBuffers, part.count, kBefore, kBody, "");
    request.constants = {{"KIND", kind_of(ctx)},
                         {"STATES", static_cast<int64_t>(tensors.states)},
                         {"NESTEROV", ctx.attr_int("nesterov", 0) != 0 ? 1 : 0}};
    request.types = {{"TG", views[part.first][0].dtype}};
    std::vector<TensorView> operands{step, scale};
    for (size_t t = part.first; t < part.first + part.count; ++t) {
      operands.insert(operands.end(), views[t].begin(), views[t].end());
    }
    Params params = part.params;
    for (const char* name : {"a", "b", "epsilon"}) params[name] = ctx.attr_float(name, 0.0);
    ctx.dispatch(request, operands, std::move(params), ctx.linear_groups(part.groups));
  }
  for (const auto& [from, to] : copies) ctx.copy(from, to);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op(
      {.name = "OptimizerStep",
       .domain = "dlk",
       .doc = "One step of an optimizer (kind, a, b, epsilon, nesterov) for `tensors` tensors; "
              "inputs: numbers of the step, scale of the gradients, and of each tensor "
              "gradients, parameters, state; outputs: of each parameters, state.",
       .min_inputs = 4,
       .max_inputs = -1,
       .min_outputs = 1,
       .max_outputs = -1,
       .layout = LayoutRule::kContiguous,
       .infer = infer,
       .lower = lower,
       .mixed_floats = true,
       .updates_in_place = true});
}

}  // namespace dlk
