#include "core/kernel/const_expr.h"

#include <algorithm>
#include <limits>
#include <string>

namespace dlk::dialect {

namespace {

[[noreturn]] void overflow(const SourceText& source, const Expr* where) {
  fail_at(source, where->at, "this constant overflows 64 bits");
}

int64_t shift(const SourceText& source, const Expr* where, int64_t left, int64_t right) {
  if (right < 0 || right > 62) fail_at(source, where->at, "this constant is shifted too far");
  if (where->text.starts_with(">>")) return left >> right;
  int64_t result = 0;
  if (__builtin_mul_overflow(left, int64_t{1} << right, &result)) overflow(source, where);
  return result;
}

int64_t divide(const SourceText& source, const Expr* where, int64_t left, int64_t right) {
  if (right == 0) fail_at(source, where->at, "this constant is divided by zero");
  if (right == -1 && left == std::numeric_limits<int64_t>::min()) overflow(source, where);
  return where->text.starts_with("/") ? left / right : left % right;
}

class Evaluator {
 public:
  Evaluator(const SourceText& source, const ConstNames& names) : source_(source), names_(names) {}

  int64_t value(const Expr* expr) const {
    switch (expr->kind) {
      case ExprKind::kInt:
      case ExprKind::kUint:
        return expr->value;
      case ExprKind::kName:
        return named(expr);
      case ExprKind::kCall:
        return call(expr);
      case ExprKind::kPrefix:
        return prefix(expr);
      case ExprKind::kBinary:
        return binary(expr);
      case ExprKind::kTernary:
        return value(expr->args[value(expr->args[0]) != 0 ? 1 : 2]);
      default:
        fail_at(source_, expr->at, "this is not allowed in a constant expression");
    }
  }

 private:
  int64_t named(const Expr* expr) const {
    if (expr->text == "true") return 1;
    if (expr->text == "false") return 0;
    if (const auto found = names_.constant(expr->text)) return *found;
    fail_at(source_, expr->at,
            "'" + std::string(expr->text) + "' is not a constant that is known here");
  }

  int64_t binary(const Expr* expr) const {
    const int64_t left = value(expr->args[0]);
    if (expr->text == "&&") return left != 0 && value(expr->args[1]) != 0;
    if (expr->text == "||") return left != 0 || value(expr->args[1]) != 0;
    return apply_binary(source_, expr, left, value(expr->args[1]));
  }

  int64_t prefix(const Expr* expr) const {
    const int64_t operand = value(expr->args[0]);
    if (expr->text == "+") return operand;
    if (expr->text == "!") return operand == 0;
    if (expr->text == "~") return ~operand;
    if (expr->text == "-") {
      if (operand == std::numeric_limits<int64_t>::min()) overflow(source_, expr);
      return -operand;
    }
    fail_at(source_, expr->at, "this is not allowed in a constant expression");
  }

  void want(const Expr* expr, size_t count) const {
    if (expr->args.size() != count) {
      fail_at(source_, expr->at,
              "'" + std::string(expr->text) + "' takes " + std::to_string(count) + " arguments");
    }
  }

  DType type_of(const Expr* expr) const {
    if (expr->kind == ExprKind::kName) {
      if (const auto found = names_.type(expr->text)) return *found;
    }
    fail_at(source_, expr->at, "expected a type of this kernel or a storage type");
  }

  int64_t call(const Expr* expr) const {
    if (expr->text == "min" || expr->text == "max") {
      want(expr, 2);
      const int64_t a = value(expr->args[0]);
      const int64_t b = value(expr->args[1]);
      return expr->text == "min" ? std::min(a, b) : std::max(a, b);
    }
    if (expr->text == "is_type") {
      want(expr, 2);
      return type_of(expr->args[0]) == type_of(expr->args[1]);
    }
    if (expr->text == "size_of") {
      want(expr, 1);
      return dtype_size(type_of(expr->args[0]));
    }
    if (expr->text == "has") {
      want(expr, 1);
      const Expr* name = expr->args[0];
      if (name->kind == ExprKind::kName) {
        if (const auto found = names_.exists(name->text)) return *found;
      }
      fail_at(source_, name->at, "expected a buffer, parameter or local array of this kernel");
    }
    fail_at(source_, expr->at,
            "'" + std::string(expr->text) + "' is no function of constant expressions");
  }

  const SourceText& source_;
  const ConstNames& names_;
};

}  // namespace

int64_t apply_binary(const SourceText& source, const Expr* where, int64_t left, int64_t right) {
  const std::string_view op = where->text;
  int64_t result = 0;
  if (op == "+") {
    if (__builtin_add_overflow(left, right, &result)) overflow(source, where);
    return result;
  }
  if (op == "-") {
    if (__builtin_sub_overflow(left, right, &result)) overflow(source, where);
    return result;
  }
  if (op == "*") {
    if (__builtin_mul_overflow(left, right, &result)) overflow(source, where);
    return result;
  }
  if (op == "/" || op == "%") return divide(source, where, left, right);
  if (op == "<<" || op == ">>") return shift(source, where, left, right);
  if (op == "&") return left & right;
  if (op == "|") return left | right;
  if (op == "^") return left ^ right;
  if (op == "==") return left == right;
  if (op == "!=") return left != right;
  if (op == "<") return left < right;
  if (op == ">") return left > right;
  if (op == "<=") return left <= right;
  if (op == ">=") return left >= right;
  if (op == "&&") return left != 0 && right != 0;
  if (op == "||") return left != 0 || right != 0;
  fail_at(source, where->at, "this is not allowed in a constant expression");
}

int64_t evaluate(const SourceText& source, const Expr* expr, const ConstNames& names) {
  return Evaluator(source, names).value(expr);
}

int64_t evaluate_in(const SourceText& source, const Expr* expr, const ConstNames& names,
                    int64_t least, int64_t most, std::string_view what) {
  const int64_t value = evaluate(source, expr, names);
  if (value < least || value > most) {
    fail_at(source, expr->at,
            std::string(what) + " is " + std::to_string(value) + ", and must be from " +
                std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

}  // namespace dlk::dialect
