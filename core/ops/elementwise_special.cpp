// Pointwise operators whose program depends on attributes, optional inputs or dtypes.
#include "core/ops/elementwise.h"
#include "core/ops/gradients.h"

namespace dlk {

namespace {

using Args = std::vector<PointwiseArg>;

void same_dtypes(const PointwiseContext& context, size_t first) {
  for (size_t i = first; i < context.input_count(); ++i) {
    if (!context.has_input(i) || context.dtype(i) == context.dtype(first)) continue;
    if (is_floating(context.dtype(i)) && is_floating(context.dtype(first))) continue;
    context.fail("its inputs are " + std::string(dtype_name(context.dtype(first))) + " and " +
                 std::string(dtype_name(context.dtype(i))));
  }
}

/// Integer division that no operand can make trap: x / 0 is 0, and the least integer / -1 wraps.
std::string integer_division(DType dtype) {
  if (is_signed_integer(dtype)) {
    return "($1 == $T(0) ? $T(0) : ($1 == -$T(1) ? -$0 : $0 / $1))";
  }
  return "($1 == $T(0) ? $T(0) : $0 / $1)";
}

PointwiseProgram divide(const PointwiseContext& context) {
  same_dtypes(context, 0);
  PointwiseProgram program;
  const DType dtype = context.dtype(0);
  program.add_step("Div", is_floating(dtype) ? "$0 / $1" : integer_division(dtype),
                   {operand_arg(0), operand_arg(1)}, dtype);
  return program;
}

PointwiseProgram modulo(const PointwiseContext& context) {
  same_dtypes(context, 0);
  PointwiseProgram program;
  const DType dtype = context.dtype(0);
  const bool like_c = context.attr_int("fmod", 0) != 0;
  const Args args{operand_arg(0), operand_arg(1)};
  if (is_floating(dtype)) {
    // Both signs of the dividend (fmod) and of the divisor (Python) by truncated division.
    const std::string rest =
        dtype == DType::kFloat64 ? "double(fmod(float($0), float($1)))" : "fmod($0, $1)";
    const PointwiseArg r = program.add_step("Mod", rest, args, dtype);
    if (!like_c) {
      program.add_step("", "($0 != $T(0) && (($0 < $T(0)) != ($1 < $T(0))) ? $0 + $1 : $0)",
                       {r, args[1]}, dtype);
    }
    return program;
  }
  const PointwiseArg q = program.add_step("Mod", integer_division(dtype), args, dtype);
  const PointwiseArg r = program.add_step("", "$0 - $2 * $1", {args[0], args[1], q}, dtype);
  if (!like_c && is_signed_integer(dtype)) {
    program.add_step("", "($0 != $T(0) && (($0 < $T(0)) != ($1 < $T(0))) ? $0 + $1 : $0)",
                     {r, args[1]}, dtype);
  }
  return program;
}

/// Products by the bits of the exponent, which wrap like the type's multiplication. A negative
/// exponent gives 0, except for bases 1 and -1.
PointwiseProgram integer_power(const PointwiseContext& context) {
  PointwiseProgram program;
  const DType dtype = context.dtype(0);
  const PointwiseArg x = operand_arg(0);
  // Beyond 63 only the parity matters: the bases 0, 1 and -1, or what does not fit anyway.
  const PointwiseArg y = program.add_step("Pow", "int($0 > $T(63) ? $T(62) + ($0 & $T(1)) : $0)",
                                          {operand_arg(1)}, DType::kInt32);
  PointwiseArg square = x;
  PointwiseArg result = program.add_step("", "(($1 & 1) != 0 ? $0 : $T(1))", {x, y}, dtype);
  for (int bit = 1; bit < 6; ++bit) {
    square = program.add_step("", "$0 * $0", {square}, dtype);
    result = program.add_step("", "(($2 & " + std::to_string(1 << bit) + ") != 0 ? $0 * $1 : $0)",
                              {result, square, y}, dtype);
  }
  program.add_step("",
                   "($2 >= 0 ? $0 : ($1 == $T(1) ? $T(1) : ($1 + $T(1) == $T(0) ? ($2 & 1) == 0 ? "
                   "$T(1) : $1 : $T(0))))",
                   {result, x, y}, dtype);
  return program;
}

PointwiseProgram power(const PointwiseContext& context) {
  const DType dtype = context.dtype(0);
  if (!is_floating(dtype) && !is_floating(context.dtype(1))) return integer_power(context);
  PointwiseProgram program;
  const auto as_float = [&](size_t i) {
    return program.add_step("", "float($0)", {operand_arg(i)}, DType::kFloat32);
  };
  const PointwiseArg x = as_float(0), y = as_float(1);
  PointwiseArg result = program.add_step("Pow", "pow($0, $1)", {x, y}, DType::kFloat32);
  if (!is_floating(dtype)) result = program.add_step("", "rint($0)", {result}, DType::kFloat32);
  if (compute_type(dtype) != "float") program.add_step("", "$R($0)", {result}, dtype);
  program.steps.back().dtype = dtype;
  return program;
}

PointwiseProgram clip(const PointwiseContext& context) {
  PointwiseProgram program;
  const DType dtype = context.dtype(0);
  PointwiseArg x = operand_arg(0);
  if (context.has_input(1)) {
    x = program.add_step("Clip", "($0 < $1 ? $1 : $0)", {x, operand_arg(1)}, dtype);
  }
  if (context.has_input(2)) {
    x = program.add_step(context.has_input(1) ? "" : "Clip", "($0 > $1 ? $1 : $0)",
                         {x, operand_arg(2)}, dtype);
  }
  if (program.steps.empty()) program.add_step("Clip", "$0", {x}, dtype);
  return program;
}

/// Max, Min, Sum and Mean of any number of inputs. NaN in either operand wins, as in NumPy.
PointwiseProgram variadic(const PointwiseContext& context) {
  same_dtypes(context, 0);
  const std::string& op = context.node().op;
  const DType dtype = context.dtype(0);
  const bool sums = op == "Sum" || op == "Mean";
  const std::string compare = op == "Max" ? ">" : "<";
  const std::string nan = dtype == DType::kFloat64 ? "$0 != $0" : "isnan($0)";
  const std::string text = sums                 ? "$0 + $1"
                           : is_floating(dtype) ? "($0 " + compare + " $1 || " + nan + " ? $0 : $1)"
                                                : "($0 " + compare + " $1 ? $0 : $1)";
  PointwiseProgram program;
  PointwiseArg result = operand_arg(0);
  for (size_t i = 1; i < context.input_count(); ++i) {
    result = program.add_step(i == 1 ? op : "", text, {result, operand_arg(i)}, dtype);
  }
  if (op == "Mean") {
    program.add_step("", "$0 / $T(" + std::to_string(context.input_count()) + ")", {result}, dtype);
  } else if (program.steps.empty()) {
    program.add_step(op, "$0", {result}, dtype);
  }
  return program;
}

PointwiseProgram where(const PointwiseContext& context) {
  if (context.dtype(0) != DType::kBool) context.fail("its condition must be bool");
  same_dtypes(context, 1);
  PointwiseProgram program;
  program.add_step("Where", "($0 ? $1 : $2)", {operand_arg(0), operand_arg(1), operand_arg(2)},
                   context.dtype(1));
  return program;
}

PointwiseProgram gelu(const PointwiseContext& context) {
  const std::string mode = context.attr_string("approximate", "none");
  if (mode != "none" && mode != "tanh") context.fail("approximate must be none or tanh");
  static const PointwiseRow kExact{"Gelu",
                                   1,
                                   20,
                                   PointwiseKind::kMath,
                                   PointwiseResult::kSame,
                                   "0.5f * $0 * (1.0f + erf($0 * 0.70710678f))",
                                   "",
                                   "",
                                   "",
                                   ""};
  static const PointwiseRow kTanh{
      "Gelu",
      1,
      20,
      PointwiseKind::kMath,
      PointwiseResult::kSame,
      "0.5f * $0 * (1.0f + tanh(0.79788456f * ($0 + 0.044715f * $0 * $0 * $0)))",
      "",
      "",
      "",
      ""};
  PointwiseProgram program;
  add_row_step(program, mode == "none" ? kExact : kTanh, context, context.dtype(0),
               {operand_arg(0)});
  return program;
}

PointwiseProgram is_infinite(const PointwiseContext& context) {
  const bool positive = context.attr_int("detect_positive", 1) != 0;
  const bool negative = context.attr_int("detect_negative", 1) != 0;
  if (!is_floating(context.dtype(0))) context.fail("takes floating point only");
  PointwiseProgram program;
  const std::string text = positive && negative ? "isinf(float($0))"
                           : positive           ? "isinf(float($0)) && $0 > $T(0)"
                           : negative           ? "isinf(float($0)) && $0 < $T(0)"
                                                : "$0 != $0 && $0 == $0";
  program.add_step("IsInf", text, {operand_arg(0)}, DType::kBool);
  return program;
}

PointwiseProgram bit_shift(const PointwiseContext& context) {
  same_dtypes(context, 0);
  const std::string direction = context.attr_string("direction", "");
  if (direction != "LEFT" && direction != "RIGHT") context.fail("direction must be LEFT or RIGHT");
  if (!is_unsigned_integer(context.dtype(0))) context.fail("takes unsigned integers only");
  PointwiseProgram program;
  program.add_step("BitShift", direction == "LEFT" ? "$0 << $1" : "$0 >> $1",
                   {operand_arg(0), operand_arg(1)}, context.dtype(0));
  return program;
}

/// To float8_e8m0fnu, the power of two that `round_mode` says.
PointwiseProgram cast_to_power(const PointwiseContext& context, DType from) {
  const std::string mode = context.attr_string("round_mode", "up");
  if (mode != "up" && mode != "down" && mode != "nearest") {
    context.fail("round_mode must be up, down or nearest");
  }
  const bool clamps = context.attr_int("saturate", 1) != 0;
  PointwiseProgram program;
  program.operands = {from};
  const PointwiseArg x = program.add_step("", "float($0)", {operand_arg(0)}, DType::kFloat32);
  const std::string name = "power_of_two_" + mode + "($0, " + (clamps ? "true" : "false") + ")";
  program.add_step("Cast", name, {x}, DType::kFloat8E8M0FNU);
  return program;
}

PointwiseProgram cast(const PointwiseContext& context) {
  const bool like = context.node().op == "CastLike";
  const DType from = context.dtype(0), to = like ? context.dtype(1) : cast_target(context, "to");
  if (to == DType::kFloat8E8M0FNU) return cast_to_power(context, from);
  const bool clamps = is_small_float(to) && context.attr_int("saturate", 1) != 0;
  if (!clamps || from == to) return cast_program(from, to);
  PointwiseProgram program;
  program.operands = {from};
  const PointwiseArg x = program.add_step("", "float($0)", {operand_arg(0)}, DType::kFloat32);
  const PointwiseArg most = program.add_value(largest_of_small_float(to));
  program.add_step("Cast", "($0 > $1 ? $1 : ($0 < -$1 ? -$1 : $0))", {x, most}, to);
  return program;
}

void add(const std::string& name, int since, int min_inputs, int max_inputs, const std::string& doc,
         PointwiseProgram (*program)(const PointwiseContext&),
         void (*gradient)(GradientContext&) = nullptr) {
  OpSchema schema = pointwise_schema(name, since, min_inputs, max_inputs, doc);
  schema.pointwise = program;
  if (gradient) schema.gradient = gradient;
  register_op(std::move(schema));
}

}  // namespace

DType cast_target(const NodeReader& node, const std::string& attribute) {
  const auto found = node.node().attributes.find(attribute);
  if (found == node.node().attributes.end()) node.fail("has no attribute '" + attribute + "'");
  if (const auto* name = std::get_if<std::string>(&found->second)) {
    if (const auto dtype = parse_dtype(*name)) return *dtype;
    node.unsupported("element type '" + *name + "'");
  }
  switch (const int64_t number = node.attr_int(attribute, 0)) {
    case 1:
      return DType::kFloat32;
    case 2:
      return DType::kUInt8;
    case 3:
      return DType::kInt8;
    case 4:
      return DType::kUInt16;
    case 5:
      return DType::kInt16;
    case 6:
      return DType::kInt32;
    case 7:
      return DType::kInt64;
    case 9:
      return DType::kBool;
    case 10:
      return DType::kFloat16;
    case 11:
      return DType::kFloat64;
    case 12:
      return DType::kUInt32;
    case 13:
      return DType::kUInt64;
    case 16:
      return DType::kBFloat16;
    case 17:
      return DType::kFloat8E4M3FN;
    case 18:
      return DType::kFloat8E4M3FNUZ;
    case 19:
      return DType::kFloat8E5M2;
    case 20:
      return DType::kFloat8E5M2FNUZ;
    case 21:
      return DType::kUInt4;
    case 22:
      return DType::kInt4;
    case 23:
      return DType::kFloat4E2M1FN;
    case 24:
      return DType::kFloat8E8M0FNU;
    case 25:
      return DType::kUInt2;
    case 26:
      return DType::kInt2;
    default:
      node.unsupported("ONNX element type " + std::to_string(number));
  }
}

DLK_REGISTER_OPS {
  add("BitShift", 11, 2, 2, "a shifted by b bits; direction", bit_shift);
  add("Cast", 24, 1, 1, "conversion; to", cast, cast_gradient);
  add("Clip", 13, 1, 3, "x limited to [min, max]", clip, clip_gradient);
  add("Div", 14, 2, 2, "a / b, integers rounded toward 0", divide, div_gradient);
  add("Gelu", 20, 1, 1, "Gaussian error linear unit; approximate=none|tanh", gelu, row_gradient);
  add("IsInf", 20, 1, 1, "x is infinite; detect_positive, detect_negative", is_infinite);
  add("Max", 13, 1, -1, "greatest of the inputs", variadic, extreme_gradient);
  add("Mean", 13, 1, -1, "mean of the inputs", variadic, sum_gradient);
  add("Min", 13, 1, -1, "least of the inputs", variadic, extreme_gradient);
  add("Mod", 13, 2, 2, "remainder with the sign of b, or of a with fmod=1", modulo, mod_gradient);
  add("Pow", 15, 2, 2, "a to the power b, in the type of a", power, pow_gradient);
  add("Sum", 13, 1, -1, "sum of the inputs", variadic, sum_gradient);
  add("Where", 16, 3, 3, "x where the condition holds, else y", where, where_gradient);
  OpSchema like =
      pointwise_schema("CastLike", 24, 2, 2, "conversion to the type of the second input");
  like.pointwise = cast;
  like.gradient = cast_gradient;
  like.infer = [](InferContext& context) {
    context.set_output(0, context.dtype(1), context.shape(0));
  };
  register_op(std::move(like));
}

}  // namespace dlk
