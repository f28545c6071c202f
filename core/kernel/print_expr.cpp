// Expressions: names, operators, conversions.
#include <algorithm>
#include <array>
#include <limits>

#include "core/kernel/printer.h"

namespace dlk::dialect {

namespace {

bool is_integer_base(Base base) {
  return base == Base::kInt || base == Base::kUint || base == Base::kLong || base == Base::kUlong ||
         base == Base::kFlex;
}

bool is_float_base(Base base) {
  return base == Base::kFloat || base == Base::kDouble || base == Base::kVec ||
         base == Base::kHalf || base == Base::kHalfVec;
}

}  // namespace

std::optional<Base> Printer::base_of_type(std::string_view name) const {
  const auto declared = variant_.types.find(name);
  if (declared != variant_.types.end()) return compute_base(declared->second);
  if (name == "float") return float_base();
  if (name == "uint") return Base::kUint;
  if (name == "int") return Base::kInt;
  if (name == "bool") return Base::kBool;
  if (name == "fvec") return vector_base();
  if (name == "afloat") return variant_.half_sums ? Base::kHalf : float_base();
  if (name == "avec") {
    if (!variant_.half_sums) return vector_base();
    return variant_.vector_width == 1 ? Base::kHalf : Base::kHalfVec;
  }
  if (name == "double") return Base::kDouble;
  if (name == "long") return Base::kLong;
  if (name == "ulong") return Base::kUlong;
  if (name == "void") return Base::kVoid;
  return std::nullopt;
}

Base Printer::type_named(std::string_view name, uint32_t at) {
  const auto base = base_of_type(name);
  if (!base) fail(at, "'" + std::string(name) + "' is no type");
  if (*base == Base::kDouble) uses_fp64_ = true;
  if (lane_base(*base) == Base::kHalf) uses_fp16_ = true;
  if (*base == Base::kLong || *base == Base::kUlong) uses_int64_ = true;
  if (*base == Base::kDouble && target_.lang == Lang::kMsl) {
    throw_unsupported("the kernel '" + std::string(variant_.decl->name) +
                      "' computes in double, which Metal does not have");
  }
  return *base;
}

const Symbol* Printer::find_symbol(std::string_view name) const {
  for (size_t i = symbols_.size(); i > context_.first_symbol; --i) {
    if (symbols_[i - 1].name == name) return &symbols_[i - 1];
  }
  return nullptr;
}

std::optional<int64_t> Printer::constant(std::string_view name) const {
  if (const Symbol* symbol = find_symbol(name)) {
    return symbol->is_known ? std::optional(symbol->value) : std::nullopt;
  }
  return variant_.constant(name);
}

int64_t Printer::constant_in(const Expr* expr, int64_t least, int64_t most, std::string_view what) {
  return evaluate_in(*source_, expr, *this, least, most, what);
}

std::string Printer::literal(Base base, int64_t value, uint32_t at) const {
  const bool is_glsl = target_.lang == Lang::kGlsl;
  const auto out_of_range = [&](bool wrong) {
    if (wrong) {
      fail(at, "the constant " + std::to_string(value) + " does not fit " +
                   std::string(base_name(base)));
    }
  };
  const std::string text = std::to_string(value);
  switch (base) {
    case Base::kBool:
      return value != 0 ? "true" : "false";
    case Base::kUint:
      out_of_range(value < 0 || value > UINT32_MAX);
      return text + "u";
    case Base::kFloat:
      return text + ".0f";
    case Base::kDouble:
      return text + (is_glsl ? ".0lf" : ".0");
    case Base::kHalf:
      return target_.lang == Lang::kOpenCL ? "((half)" + text + ".0f)"
                                           : type(base) + "(" + text + ".0f)";
    case Base::kVec:
      return type(base) + "(" + text + ".0f)";
    case Base::kLong:
      return text + (is_glsl ? "l" : "L");
    case Base::kUlong:
      out_of_range(value < 0);
      return text + (is_glsl ? "ul" : "UL");
    default:
      out_of_range(value < INT32_MIN || value > INT32_MAX);
      return value == INT32_MIN ? "(-2147483647 - 1)" : text;
  }
}

Value Printer::known(Base base, int64_t value, uint32_t at) const {
  Value result;
  result.base = base;
  result.is_const = true;
  result.value = value;
  result.simple = value >= 0;
  // A flexible constant gets its text when it meets a type.
  if (base != Base::kFlex) result.text = literal(base, value, at);
  return result;
}

std::string Printer::operand(const Value& value) const {
  if (value.base == Base::kFlex) {
    const std::string text = literal(Base::kInt, value.value, 0);
    return value.value < 0 ? "(" + text + ")" : text;
  }
  return value.simple ? value.text : "(" + value.text + ")";
}

std::string Printer::lane(const std::string& vector, uint32_t index) const {
  return variant_.vector_width == 1 ? vector : vector + lane_text(target_, index);
}

Value Printer::splat(const std::string& scalar, Base vector) const {
  const std::string name = type(vector);
  if (target_.lang == Lang::kOpenCL) {
    return value_of("(" + name + ")(" + scalar + ")", vector, false);
  }
  return value_of(name + "(" + scalar + ")", vector);
}

Value Printer::coerce(Value value, Base want, uint32_t at) {
  if (value.rank != 0) fail(at, "an array cannot be used as a value");
  if (value.base == want) return value;
  if (value.base == Base::kFlex && want != Base::kBool && want != Base::kVoid) {
    const Base scalar = lane_base(want);
    Value result = known(Base::kFlex, value.value);
    result.text = literal(scalar, value.value, at);
    result.base = scalar;
    result.is_const = is_integer_base(scalar);
    return coerce(std::move(result), want, at);
  }
  if (value.float_literal && lane_base(want) == Base::kHalf) {
    const std::string name = type(Base::kHalf);
    Value half = target_.lang == Lang::kOpenCL
                     ? value_of("((" + name + ")" + operand(value) + ")", Base::kHalf)
                     : value_of(name + "(" + value.text + ")", Base::kHalf);
    return coerce(std::move(half), want, at);
  }
  if (value.float_literal && want == Base::kDouble) {
    if (value.text.ends_with("f")) {
      value.text.pop_back();
      if (target_.lang == Lang::kGlsl) value.text += "lf";
    } else {
      value.text = type(Base::kDouble) + "(" + value.text + ")";
    }
    value.base = want;
    return value;
  }
  if (is_vector(want) && value.base == lane_base(want)) return splat(value.text, want);
  if (value.base == Base::kVoid) fail(at, "this call has no value");
  const std::string name(base_name(want));
  fail(at, "expected " + name + " but this is " + std::string(base_name(value.base)) +
               (want == Base::kVoid ? "" : "; write " + name + "(...)"));
}

Base Printer::unify(Value& left, Value& right, uint32_t at) {
  if (left.rank != 0 || right.rank != 0) fail(at, "an array cannot be used as a value");
  if (left.base == Base::kVoid || right.base == Base::kVoid) fail(at, "this call has no value");
  if (left.base == right.base) return left.base;
  const auto meets = [](const Value& from, Base to) {
    const bool widens = from.float_literal && (to == Base::kDouble || lane_base(to) == Base::kHalf);
    return from.base == Base::kFlex || widens || (is_vector(to) && from.base == lane_base(to));
  };
  const bool to_right = meets(left, right.base);
  const bool to_left = meets(right, left.base);
  if (to_right) {
    left = coerce(std::move(left), right.base, at);
  } else if (to_left) {
    right = coerce(std::move(right), left.base, at);
  } else {
    fail(at, "one side is " + std::string(base_name(left.base)) + ", the other " +
                 std::string(base_name(right.base)) + "; convert one of them");
  }
  return left.base;
}

Value Printer::expression(const Expr* expr, Base hint) {
  switch (expr->kind) {
    case ExprKind::kInt:
      return known(Base::kFlex, expr->value);
    case ExprKind::kUint:
      return known(Base::kUint, expr->value);
    case ExprKind::kFloat: {
      std::string text(expr->text);
      if (text.starts_with(".")) text.insert(0, "0");
      if (text.find_first_of(".eE") == std::string::npos) text += ".0";
      if (text.ends_with(".")) text += "0";
      Value value = value_of(text + "f", Base::kFloat);
      value.float_literal = true;
      return coerce(std::move(value), float_base(), expr->at);
    }
    case ExprKind::kName:
      return named(expr);
    case ExprKind::kIndex:
      return index(expr);
    case ExprKind::kCall:
      return call(expr, hint);
    case ExprKind::kPrefix:
      return prefix(expr, hint);
    case ExprKind::kBinary:
      return binary(expr, hint);
    case ExprKind::kTernary:
      return ternary(expr->args[0], expr->args[1], expr->args[2], hint, expr->at);
    case ExprKind::kPostfix:
      return step_operator(expr);
    case ExprKind::kAssign:
      return assign(expr);
    case ExprKind::kComma:
      break;
  }
  fail(expr->at, "a comma stands only in the last part of 'for'");
}

std::string Printer::converted(const Expr* expr, Base want) {
  return coerce(expression(expr, want), want, expr->at).text;
}

Value Printer::condition(const Expr* expr) {
  Value value = expression(expr, Base::kBool);
  if (value.base == Base::kFlex) return known(Base::kBool, value.value != 0);
  if (value.base != Base::kBool || value.rank != 0) {
    fail(expr->at, "a condition is bool, and this is " + std::string(base_name(value.base)) +
                       "; compare it with 0");
  }
  return value;
}

Value Printer::fold(const Expr* expr, const Value& left, const Value& right) {
  int64_t result = apply_binary(*source_, expr, left.value, right.value);
  constexpr std::string_view kBooleans = "== != <= >= && ||";
  const bool is_bool =
      kBooleans.find(expr->text) != std::string_view::npos && expr->text.size() == 2;
  if (is_bool || expr->text == "<" || expr->text == ">") return known(Base::kBool, result);
  Base base = left.base == Base::kFlex ? right.base : left.base;
  if (left.base == Base::kBool || right.base == Base::kBool) base = Base::kFlex;
  if (base == Base::kUint) result = static_cast<uint32_t>(result);
  return known(base, result, expr->at);
}

Value Printer::binary(const Expr* expr, Base hint) {
  const std::string_view op = expr->text;
  if (op == "&&" || op == "||") {
    Value left = condition(expr->args[0]);
    // A constant left side decides whether the right side exists at all.
    if (left.is_const && (left.value != 0) == (op == "||")) return left;
    Value right = condition(expr->args[1]);
    if (left.is_const) return right;
    return value_of(operand(left) + " " + std::string(op) + " " + operand(right), Base::kBool,
                    false);
  }
  Value left = expression(expr->args[0], hint);
  Value right = expression(expr->args[1], left.base == Base::kFlex ? hint : left.base);
  if (left.is_const && right.is_const) {
    const bool same =
        left.base == right.base || left.base == Base::kFlex || right.base == Base::kFlex;
    if (same) return fold(expr, left, right);
  }
  if (op == "<<" || op == ">>") return shift(op, std::move(left), std::move(right), expr->at);
  constexpr std::array<std::string_view, 6> kComparisons = {"==", "!=", "<", ">", "<=", ">="};
  if (std::find(kComparisons.begin(), kComparisons.end(), op) != kComparisons.end()) {
    return comparison(op, std::move(left), std::move(right), expr->at);
  }
  return arithmetic(op, std::move(left), std::move(right), expr->at);
}

Value Printer::shift(std::string_view op, Value left, Value right, uint32_t at) {
  if (left.base == Base::kFlex) left = coerce(std::move(left), Base::kInt, at);
  if (right.base == Base::kFlex) right = coerce(std::move(right), Base::kInt, at);
  if (!is_integer_base(left.base) || !is_integer_base(right.base)) {
    fail(at, "only integers are shifted");
  }
  return value_of(operand(left) + " " + std::string(op) + " " + operand(right), left.base, false);
}

Value Printer::comparison(std::string_view op, Value left, Value right, uint32_t at) {
  const Base base = unify(left, right, at);
  if (is_vector(base)) fail(at, "an fvec cannot be compared; compare its lanes");
  if (base == Base::kBool && op != "==" && op != "!=") fail(at, "bool has no order");
  return value_of(operand(left) + " " + std::string(op) + " " + operand(right), Base::kBool, false);
}

Value Printer::arithmetic(std::string_view op, Value left, Value right, uint32_t at) {
  const Base base = unify(left, right, at);
  const bool bits = op == "&" || op == "|" || op == "^" || op == "%";
  if (base == Base::kBool) fail(at, "bool has no arithmetic; use && and ||, or convert it");
  if (bits && !is_integer_base(base)) {
    fail(at, "'" + std::string(op) + "' is for integers" + (op == "%" ? "; use fmod" : ""));
  }
  if (op == "%" && target_.lang == Lang::kGlsl && (base == Base::kInt || base == Base::kLong)) {
    // GLSL leaves % of negative operands undefined.
    std::vector<Value> args{std::move(left), std::move(right)};
    return math_call(base == Base::kInt ? "rem_int" : "rem_long", std::move(args), at);
  }
  return value_of(operand(left) + " " + std::string(op) + " " + operand(right), base, false);
}

Value Printer::prefix(const Expr* expr, Base hint) {
  const std::string_view op = expr->text;
  if (op == "++" || op == "--") return step_operator(expr);
  if (op == "!") {
    Value value = condition(expr->args[0]);
    if (value.is_const) return known(Base::kBool, value.value == 0);
    return value_of("!" + operand(value), Base::kBool, false);
  }
  Value value = expression(expr->args[0], hint);
  if (value.is_const && is_integer_base(value.base)) {
    if (op == "-" && value.value == INT64_MIN) fail(expr->at, "this constant overflows 64 bits");
    int64_t result = op == "-" ? -value.value : op == "~" ? ~value.value : value.value;
    if (value.base == Base::kUint) result = static_cast<uint32_t>(result);
    return known(value.base, result, expr->at);
  }
  if (value.rank != 0 || value.base == Base::kBool || value.base == Base::kVoid) {
    fail(expr->at, "'" + std::string(op) + "' needs a number");
  }
  if (op == "~" && !is_integer_base(value.base)) fail(expr->at, "'~' is for integers");
  if (op == "+") return value;
  Value result = value_of(std::string(op) + operand(value), value.base, false);
  result.float_literal = value.float_literal && value.text.ends_with("f");
  return result;
}

Value Printer::place(const Expr* expr) {
  if (expr->kind != ExprKind::kName && expr->kind != ExprKind::kIndex) {
    fail(expr->at, "only a variable or an element of an array can be assigned");
  }
  Value value = expression(expr);
  if (!value.is_place) {
    fail(expr->at, "this cannot be assigned: it is a constant, a parameter or 'const'");
  }
  if (value.rank != 0) fail(expr->at, "an array is assigned element by element");
  return value;
}

Value Printer::step_operator(const Expr* expr) {
  const Value value = place(expr->args[0]);
  if (!is_integer_base(value.base)) {
    fail(expr->at, "'" + std::string(expr->text) + "' is for integers");
  }
  const std::string op(expr->text);
  return value_of(expr->kind == ExprKind::kPrefix ? op + value.text : value.text + op, value.base,
                  false);
}

Value Printer::assign(const Expr* expr) {
  const Value left = place(expr->args[0]);
  const std::string_view op = expr->text;
  Value right = expression(expr->args[1], left.base);
  std::string text;
  if (op == "=") {
    text = left.text + " = " + coerce(std::move(right), left.base, expr->args[1]->at).text;
  } else if (op == "<<=" || op == ">>=" || op == "%=") {
    const std::string_view plain_op = op.substr(0, op.size() - 1);
    const Value result = plain_op == "%" ? arithmetic(plain_op, left, std::move(right), expr->at)
                                         : shift(plain_op, left, std::move(right), expr->at);
    text = left.text + " = " + result.text;
  } else {
    const Value result = arithmetic(op.substr(0, 1), left, right, expr->at);
    if (result.base != left.base) {
      fail(expr->at, "the result is " + std::string(base_name(result.base)) +
                         ", and the place is " + std::string(base_name(left.base)));
    }
    right = coerce(std::move(right), left.base, expr->args[1]->at);
    text = left.text + " " + std::string(op) + " " + right.text;
  }
  return value_of(std::move(text), Base::kVoid, false);
}

Value Printer::ternary(const Expr* cond, const Expr* first, const Expr* second, Base hint,
                       uint32_t at) {
  const Value choice = condition(cond);
  if (choice.is_const) return expression(choice.value != 0 ? first : second, hint);
  Value a = expression(first, hint);
  Value b = expression(second, a.base == Base::kFlex ? hint : a.base);
  if (a.base == Base::kFlex && b.base == Base::kFlex) {
    const Base base = is_integer_base(hint) || is_float_base(hint) ? hint : Base::kInt;
    const Base scalar = base == Base::kFlex ? Base::kInt : base;
    a = coerce(std::move(a), scalar, first->at);
    b = coerce(std::move(b), scalar, second->at);
  }
  const Base base = unify(a, b, at);
  return value_of(operand(choice) + " ? " + operand(a) + " : " + operand(b), base, false);
}

}  // namespace dlk::dialect
