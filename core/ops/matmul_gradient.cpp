// Gradients of MatMul and Gemm, as matrix products.
#include <algorithm>

#include "core/ops/gradients.h"

namespace dlk {

namespace {

constexpr int64_t kYes = 1, kNo = 0;

}  // namespace

void matmul_gradient(GradientContext& ctx) {
  ValueId a = ctx.input(0), b = ctx.input(1), dy = ctx.output_gradient(0);
  const ValueId a0 = a, b0 = b;
  // Vectors become matrices first: a row on the left, a column on the right.
  if (ctx.rank(a) == 1) {
    a = ctx.onnx("Unsqueeze", {a, ctx.ints({0})});
    dy = ctx.onnx("Unsqueeze", {dy, ctx.ints({ctx.rank(b0) == 1 ? -1 : -2})});
  }
  if (ctx.rank(b0) == 1) {
    b = ctx.onnx("Unsqueeze", {b, ctx.ints({1})});
    dy = ctx.onnx("Unsqueeze", {dy, ctx.ints({-1})});
  }
  const auto turned = [&](ValueId matrix, ValueId original) {
    std::vector<int64_t> order;
    const int64_t rank = std::max<int64_t>(2, ctx.rank(original));
    for (int64_t i = 0; i < rank; ++i) order.push_back(i);
    std::swap(order[order.size() - 1], order[order.size() - 2]);
    return ctx.onnx("Transpose", {matrix}, {{"perm", order}});
  };
  if (ctx.wants(0)) {
    const ValueId da = ctx.onnx("MatMul", {dy, turned(b, b0)});
    ctx.set_gradient(
        0, ctx.rank(a0) == 1 ? ctx.reshape_like(ctx.sum_to(da, a), a0) : ctx.sum_to(da, a0));
  }
  if (ctx.wants(1)) {
    const ValueId db = ctx.onnx("MatMul", {turned(a, a0), dy});
    ctx.set_gradient(
        1, ctx.rank(b0) == 1 ? ctx.reshape_like(ctx.sum_to(db, b), b0) : ctx.sum_to(db, b0));
  }
}

void gemm_gradient(GradientContext& ctx) {
  const ValueId a = ctx.input(0), b = ctx.input(1), dy = ctx.output_gradient(0);
  const double alpha = ctx.attr_float("alpha", 1.0), beta = ctx.attr_float("beta", 1.0);
  const bool ta = ctx.attr_int("transA", 0) != 0, tb = ctx.attr_int("transB", 0) != 0;
  const auto product = [&](ValueId x, ValueId y, bool tx, bool ty) {
    return ctx.onnx("Gemm", {x, y},
                    {{"transA", tx ? kYes : kNo}, {"transB", ty ? kYes : kNo}, {"alpha", alpha}});
  };
  if (ctx.wants(0)) {
    ctx.set_gradient(0, ta ? product(b, dy, tb, true) : product(dy, b, false, !tb));
  }
  if (ctx.wants(1)) {
    ctx.set_gradient(1, tb ? product(dy, a, true, ta) : product(a, dy, !ta, false));
  }
  if (!ctx.has_input(2) || !ctx.wants(2)) return;
  ValueId dc = ctx.sum_to(dy, ctx.input(2));
  if (beta != 1.0) dc = ctx.onnx("Mul", {dc, ctx.scalar(beta, dc)});
  ctx.set_gradient(2, dc);
}

namespace {

struct Equation {
  std::vector<std::string> operands;
  std::string result;
};

/// Without spaces, with the result that is implied where none is given.
Equation parse(const NodeReader& node) {
  std::string text = node.attr_string("equation", "");
  text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
  if (text.find('.') != std::string::npos) node.unsupported("has no gradient with an ellipsis");
  const size_t arrow = text.find("->");
  Equation equation;
  const std::string left = text.substr(0, arrow);
  for (size_t start = 0; start <= left.size();) {
    const size_t end = std::min(left.find(',', start), left.size());
    equation.operands.push_back(left.substr(start, end - start));
    start = end + 1;
  }
  if (arrow != std::string::npos) {
    equation.result = text.substr(arrow + 2);
    return equation;
  }
  for (char label = 'A'; label <= 'z'; ++label) {
    if (std::count(left.begin(), left.end(), label) == 1 && label != ',') equation.result += label;
  }
  return equation;
}

}  // namespace

void einsum_gradient(GradientContext& ctx) {
  const Equation equation = parse(ctx);
  for (size_t i = 0; i < equation.operands.size(); ++i) {
    if (!ctx.wants(i)) continue;
    const std::string& own = equation.operands[i];
    std::string text = equation.result, labels = equation.result;
    std::vector<ValueId> inputs{ctx.output_gradient(0)};
    for (size_t other = 0; other < equation.operands.size(); ++other) {
      if (other == i) continue;
      text += "," + equation.operands[other];
      labels += equation.operands[other];
      inputs.push_back(ctx.input(other));
    }
    // Labels that only this operand has were summed: its gradient is the same along them.
    std::string found;
    std::vector<int64_t> missing;
    for (size_t d = 0; d < own.size(); ++d) {
      if (own.find(own[d]) != d) ctx.unsupported("has no gradient with a repeated label");
      if (labels.find(own[d]) == std::string::npos) {
        missing.push_back(static_cast<int64_t>(d));
      } else {
        found += own[d];
      }
    }
    ValueId gradient = ctx.onnx("Einsum", inputs, {{"equation", text + "->" + found}});
    if (!missing.empty()) gradient = ctx.onnx("Unsqueeze", {gradient, ctx.ints(missing)});
    ctx.set_gradient(i, missing.empty() ? gradient : ctx.expand_like(gradient, ctx.input(i)));
  }
}

}  // namespace dlk
