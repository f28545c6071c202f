// Gradients of the pointwise operators. Those of the table become one PointwiseGradient node, whose
// program is the row's derivative times the incoming gradient; the rest are expressions.
#include <algorithm>
#include <set>

#include "core/ops/elementwise.h"
#include "core/ops/gradients.h"

namespace dlk {

namespace {

/// Inputs of a PointwiseGradient node: the incoming gradient, the result, then the row's inputs.
/// Those that the derivative does not use are left out.
constexpr size_t kGradient = 0, kResult = 1, kFirstInput = 2;

std::string gelu_derivative(const NodeReader& node) {
  if (node.attr_string("approximate", "none") == "none") {
    return "0.5f * (1.0f + erf($0 * 0.70710678f)) + $0 * 0.39894228f * exp(-0.5f * $0 * $0)";
  }
  const std::string inner = "tanh(0.79788456f * ($0 + 0.044715f * $0 * $0 * $0))";
  return "0.5f * (1.0f + " + inner + ") + 0.5f * $0 * (1.0f - " + inner + " * " + inner +
         ") * 0.79788456f * (1.0f + 0.134145f * $0 * $0)";
}

/// The derivative by input `input`, in the terms of elementwise.def; "" where it is 0.
std::string derivative_of(const NodeReader& node, const std::string& op, size_t input) {
  if (op == "Gelu") return gelu_derivative(node);
  const PointwiseRow* row = find_pointwise_row(op);
  std::string text = row ? row->derivative : "";
  for (size_t i = 0; i < input && !text.empty(); ++i) {
    const size_t cut = text.find(';');
    text = cut == std::string::npos ? "" : text.substr(cut + 1);
  }
  return text.substr(0, text.find(';'));
}

/// Which of `$y $0 $1 ...` a derivative uses: the operands of its PointwiseGradient node.
std::set<size_t> used_operands(const std::string& derivative) {
  std::set<size_t> used{kGradient};
  for (size_t i = 0; i + 1 < derivative.size(); ++i) {
    if (derivative[i] != '$') continue;
    const char name = derivative[i + 1];
    if (name == 'y') used.insert(kResult);
    if (name >= '0' && name <= '9') used.insert(kFirstInput + static_cast<size_t>(name - '0'));
  }
  return used;
}

/// The derivative times the gradient, over the operands that it uses, numbered in their order.
std::string as_product(const std::string& derivative, const std::set<size_t>& used) {
  const auto number = [&](size_t operand) {
    return std::to_string(std::distance(used.begin(), used.find(operand)));
  };
  std::string text = "$0 * (";
  for (size_t i = 0; i < derivative.size(); ++i) {
    text += derivative[i];
    if (derivative[i] != '$' || i + 1 == derivative.size()) continue;
    const char name = derivative[++i];
    if (name == 'y') {
      text += number(kResult);
    } else if (name >= '0' && name <= '9') {
      text += number(kFirstInput + static_cast<size_t>(name - '0'));
    } else {
      text += name;
    }
  }
  return text + ")";
}

PointwiseProgram gradient_program(const PointwiseContext& context) {
  const std::string op = context.attr_string("op", "");
  const auto input = static_cast<size_t>(context.attr_int("input", 0));
  const std::string derivative = derivative_of(context, op, input);
  if (derivative.empty()) context.fail("there is no derivative of '" + op + "'");
  const std::set<size_t> used = used_operands(derivative);
  const std::string text = as_product(derivative, used);
  const PointwiseRow row{"PointwiseGradient",
                         1,
                         1,
                         PointwiseKind::kMath,
                         PointwiseResult::kSame,
                         text.c_str(),
                         "",
                         "",
                         "",
                         ""};
  PointwiseProgram program;
  std::vector<PointwiseArg> args;
  for (const size_t operand : used) {
    if (!context.has_input(operand))
      context.fail("input " + std::to_string(operand) + " is missing");
    args.push_back(operand_arg(operand));
  }
  add_row_step(program, row, context, context.dtype(kGradient), args);
  program.steps.back().op = op + "Gradient";
  return program;
}

/// The gradient of input i, summed over what broadcasting repeated.
void set_summed(GradientContext& ctx, size_t i, ValueId gradient) {
  const ValueId input = ctx.input(i);
  const Shape& own = ctx.example_shape(input);
  // An axis of size 1 may be a symbol that happens to be 1: asked again when shapes are known.
  const bool same =
      own == ctx.example_shape(ctx.output(0)) && std::find(own.begin(), own.end(), 1) == own.end();
  ctx.set_gradient(i, same ? gradient : ctx.sum_to(gradient, input));
}

ValueId zeros_like(GradientContext& ctx, ValueId like) { return ctx.scalar(0.0, like); }

}  // namespace

void row_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0);
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.wants(i)) continue;
    const std::string derivative = derivative_of(ctx, ctx.node().op, i);
    if (derivative.empty()) continue;
    if (derivative == "$T(1)") {
      set_summed(ctx, i, dy);
      continue;
    }
    if (derivative == "-$T(1)") {
      set_summed(ctx, i, ctx.onnx("Neg", {dy}));
      continue;
    }
    const std::set<size_t> used = used_operands(derivative);
    std::vector<ValueId> inputs(*used.rbegin() + 1, kNoValue);
    inputs[kGradient] = dy;
    for (const size_t operand : used) {
      if (operand == kResult) inputs[operand] = ctx.output(0);
      if (operand >= kFirstInput) inputs[operand] = ctx.input(operand - kFirstInput);
    }
    Attributes attributes = ctx.node().attributes;
    attributes["op"] = ctx.node().op;
    attributes["input"] = static_cast<int64_t>(i);
    set_summed(ctx, i, ctx.own("PointwiseGradient", std::move(inputs), std::move(attributes)));
  }
}

void zero_gradient(GradientContext&) {}

void div_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0), b = ctx.input(1);
  if (ctx.wants(0)) set_summed(ctx, 0, ctx.onnx("Div", {dy, b}));
  if (!ctx.wants(1)) return;
  const ValueId slope = ctx.onnx("Div", {ctx.onnx("Mul", {dy, ctx.output(0)}), b});
  set_summed(ctx, 1, ctx.onnx("Neg", {slope}));
}

void mod_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0);
  if (ctx.wants(0)) set_summed(ctx, 0, dy);
  if (!ctx.wants(1)) return;
  // a mod b = a - q b, where the quotient q is locally constant.
  const ValueId multiple = ctx.onnx("Sub", {ctx.output(0), ctx.input(0)});
  const ValueId quotient = ctx.onnx("Div", {multiple, ctx.input(1)});
  set_summed(ctx, 1, ctx.onnx("Mul", {dy, quotient}));
}

void pow_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0), x = ctx.input(0), exponent = ctx.input(1);
  if (ctx.wants(0)) {
    const ValueId k = ctx.onnx("CastLike", {exponent, x});
    const ValueId less = ctx.onnx("Sub", {k, ctx.scalar(1.0, x)});
    const ValueId slope = ctx.onnx("Mul", {k, ctx.onnx("Pow", {x, less})});
    set_summed(ctx, 0, ctx.onnx("Mul", {dy, slope}));
  }
  if (!ctx.wants(1)) return;
  // log(x) where the power is defined around the exponent, 0 for the base 0.
  const ValueId is_positive = ctx.onnx("Greater", {x, zeros_like(ctx, x)});
  const ValueId safe = ctx.onnx("Where", {is_positive, x, ctx.scalar(1.0, x)});
  const ValueId slope = ctx.onnx("Mul", {ctx.output(0), ctx.onnx("Log", {safe})});
  set_summed(ctx, 1, ctx.onnx("Mul", {dy, slope}));
}

void clip_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(0);
  const ValueId zero = zeros_like(ctx, x);
  ValueId dx = ctx.output_gradient(0);
  // A limit that was left out limits nothing.
  if (ctx.has_input(1)) {
    const ValueId inside = ctx.onnx("GreaterOrEqual", {x, ctx.input(1)});
    if (ctx.wants(1)) {
      ctx.set_gradient(1, ctx.sum_to(ctx.onnx("Where", {inside, zero, dx}), ctx.input(1)));
    }
    dx = ctx.onnx("Where", {inside, dx, zero});
  }
  if (ctx.has_input(2)) {
    const ValueId inside = ctx.onnx("LessOrEqual", {x, ctx.input(2)});
    if (ctx.wants(2)) {
      const ValueId dy = ctx.output_gradient(0);
      ctx.set_gradient(2, ctx.sum_to(ctx.onnx("Where", {inside, zero, dy}), ctx.input(2)));
    }
    dx = ctx.onnx("Where", {inside, dx, zero});
  }
  ctx.set_gradient(0, dx);
}

void extreme_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0), y = ctx.output(0);
  // Ties share.
  std::vector<ValueId> hits;
  ValueId count = kNoValue;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const ValueId hit = ctx.onnx("CastLike", {ctx.onnx("Equal", {ctx.input(i), y}), ctx.input(i)});
    count = count == kNoValue ? hit : ctx.onnx("Add", {count, hit});
    hits.push_back(hit);
  }
  const ValueId share = ctx.onnx("Div", {dy, count});
  for (size_t i = 0; i < hits.size(); ++i) {
    if (ctx.wants(i)) set_summed(ctx, i, ctx.onnx("Mul", {share, hits[i]}));
  }
}

void sum_gradient(GradientContext& ctx) {
  ValueId dy = ctx.output_gradient(0);
  if (ctx.node().op == "Mean") {
    const double share = 1.0 / static_cast<double>(ctx.input_count());
    dy = ctx.onnx("Mul", {dy, ctx.scalar(share, dy)});
  }
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (ctx.wants(i)) set_summed(ctx, i, dy);
  }
}

void where_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0), condition = ctx.input(0);
  const ValueId zero = zeros_like(ctx, dy);
  if (ctx.wants(1)) set_summed(ctx, 1, ctx.onnx("Where", {condition, dy, zero}));
  if (ctx.wants(2)) set_summed(ctx, 2, ctx.onnx("Where", {condition, zero, dy}));
}

void cast_gradient(GradientContext& ctx) {
  ctx.set_gradient(0, ctx.onnx("CastLike", {ctx.output_gradient(0), ctx.input(0)}));
}

DLK_REGISTER_OPS {
  OpSchema schema = pointwise_schema(
      "PointwiseGradient", 1, 1, -1,
      "the gradient times the derivative of the operator `op` by input `input`; inputs: gradient, "
      "result, the operator's inputs (left out where they are not used)");
  schema.domain = "dlk";
  schema.host_eval = {};
  schema.pointwise = gradient_program;
  register_op(std::move(schema));
}

}  // namespace dlk
