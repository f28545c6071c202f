// Calls: buffers, vectors, conversions, functions, the epilogue.
#include <algorithm>
#include <array>

#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

namespace {

char class_of(Base base) {
  switch (base) {
    case Base::kFloat:
    case Base::kDouble:
    case Base::kVec:
    case Base::kHalf:
    case Base::kHalfVec:
      return 'f';
    case Base::kInt:
    case Base::kLong:
      return 's';
    case Base::kUint:
    case Base::kUlong:
      return 'u';
    default:
      return '-';
  }
}

std::string joined(const std::vector<Value>& args) {
  std::string text;
  for (const Value& arg : args) text += (text.empty() ? "" : ", ") + arg.text;
  return text;
}

}  // namespace

bool is_tile_call(std::string_view name) { return name.starts_with("tile_"); }

void Printer::want_args(const Expr* expr, size_t count) const {
  if (expr->args.size() == count) return;
  fail(expr->at, "'" + std::string(expr->text) + "' takes " + std::to_string(count) +
                     (count == 1 ? " argument" : " arguments") + ", not " +
                     std::to_string(expr->args.size()));
}

Value Printer::call(const Expr* expr, Base hint) {
  if (const auto type = base_of_type(expr->text))
    return cast(expr, type_named(expr->text, expr->at));
  Value result;
  if (buffer_call(expr, &result) || vector_call(expr, &result) || run_call(expr, &result)) {
    return result;
  }
  const std::string_view name = expr->text;
  if (name == "barrier") {
    want_args(expr, 0);
    if (!context_.in_kernel) fail(expr->at, "a barrier stands in a kernel, not in a function");
    if (returned_) fail(expr->at, "work-items may have returned before this barrier");
    if (context_.tile_blocks > 0) fail(expr->at, "tile_each cannot hold a barrier");
    uses_barrier_ = true;
    const bool shares_buffer =
        std::any_of(variant_.buffers.begin(), variant_.buffers.end(), [](const BufferVar& buffer) {
          return buffer.exists && buffer.access == Access::kReadWrite;
        });
    return value_of(std::string(shares_buffer ? target_.barrier_all : target_.barrier_local),
                    Base::kVoid);
  }
  if (name == "device_fence") {
    want_args(expr, 0);
    if (!context_.in_kernel) fail(expr->at, "a fence stands in a kernel, not in a function");
    if (target_.device_fence.empty()) {
      fail(expr->at, std::string(target_.name) + " orders no memory between work-groups");
    }
    uses_fence_ = true;
    return value_of(std::string(target_.device_fence), Base::kVoid);
  }
  if (name == "select") {
    want_args(expr, 3);
    return ternary(expr->args[0], expr->args[1], expr->args[2], hint, expr->at);
  }
  if (name == "bitcast_uint" || name == "bitcast_float" || name == "bitcast_int") {
    want_args(expr, 1);
    const bool to_float = name == "bitcast_float";
    Value arg = expression(expr->args[0], to_float ? Base::kUint : Base::kFloat);
    if (to_float && arg.base != Base::kInt) arg = coerce(arg, Base::kUint, expr->at);
    if (!to_float) arg = coerce(arg, Base::kFloat, expr->at);
    const std::string_view pattern = to_float                ? target_.to_float_bits
                                     : name == "bitcast_int" ? target_.to_int_bits
                                                             : target_.to_uint_bits;
    if (to_float && arg.base == Base::kInt)
      arg = converted_to(std::move(arg), Base::kUint, expr->at);
    Placeholders with;
    with.args[0] = arg.text;
    return value_of(fill(pattern, with), to_float                ? Base::kFloat
                                         : name == "bitcast_int" ? Base::kInt
                                                                 : Base::kUint);
  }
  if (name == "is_type" || name == "size_of" || name == "has") {
    const int64_t value = evaluate(*source_, expr, *this);
    return known(Base::kFlex, value);
  }
  if (name == "epilogue") return epilogue_call(expr);
  if (name.starts_with("subgroup_")) return subgroup_call(expr);
  if (is_tile_call(name)) {
    fail(expr->at, "'" + std::string(name) + "' is a statement of its own in a kernel's body");
  }
  if (name == "dot4i8") {
    want_args(expr, 2);
    std::vector<Value> args;
    for (const Expr* arg : expr->args)
      args.push_back(value_of(converted(arg, Base::kUint), Base::kUint));
    return math_call(name, std::move(args), expr->at);
  }
  const Function* function = context_.sees_libraries ? functions_.find_anywhere(name)
                                                     : functions_.find(*context_.unit, name);
  // Inside `math`, a function of a built-in's name is that target's spelling of it.
  if (find_builtin(name, '?') != nullptr) return builtin_call(expr, hint);
  if (function != nullptr) return function_call(expr, *function);
  if (find_symbol(name) != nullptr || variant_.exists(name)) {
    fail(expr->at, "'" + std::string(name) + "' is no function");
  }
  fail(expr->at, "there is no function '" + std::string(name) + "' here; is a 'use' missing?");
}

Value Printer::converted_to(Value value, Base to, uint32_t at) {
  if (value.rank != 0 || value.base == Base::kVoid) fail(at, "this has no value to convert");
  if (value.base == to) return value;
  if (to == Base::kBool) {
    if (value.base == Base::kFlex) return known(Base::kBool, value.value != 0);
    if (is_vector(value.base)) fail(at, "an fvec has no truth value");
    const Value zero = coerce(known(Base::kFlex, 0), value.base, at);
    return value_of(operand(value) + " != " + zero.text, Base::kBool, false);
  }
  if (value.base == Base::kFlex) return coerce(std::move(value), to, at);
  if (is_vector(value.base) && is_vector(to)) {
    const std::string name = type(to);
    return value_of(
        (target_.lang == Lang::kOpenCL ? "convert_" : "") + name + "(" + value.text + ")", to);
  }
  if (is_vector(value.base)) fail(at, "an fvec is read lane by lane");
  if (is_vector(to)) return coerce(converted_to(std::move(value), lane_base(to), at), to, at);
  if (value.is_const && value.base != Base::kBool) {
    // Wraps like a conversion between int and uint does.
    int64_t wrapped = value.value;
    if (to == Base::kInt) wrapped = static_cast<int32_t>(wrapped);
    if (to == Base::kUint) wrapped = static_cast<uint32_t>(wrapped);
    return coerce(known(Base::kFlex, wrapped), to, at);
  }
  const std::string name = type(to);
  if (target_.lang == Lang::kOpenCL) return value_of("(" + name + ")" + operand(value), to, false);
  return value_of(name + "(" + value.text + ")", to);
}

Value Printer::cast(const Expr* expr, Base to) {
  if (to == Base::kVoid) fail(expr->at, "nothing is converted to void");
  if (is_vector(to) && expr->args.size() == variant_.vector_width) {
    std::string text;
    for (const Expr* arg : expr->args) {
      text += (text.empty() ? "" : ", ") + converted(arg, lane_base(to));
    }
    const bool c_cast = target_.lang == Lang::kOpenCL;
    return value_of((c_cast ? "(" + type(to) + ")" : type(to)) + "(" + text + ")", to, !c_cast);
  }
  want_args(expr, 1);
  return converted_to(expression(expr->args[0], to), to, expr->args[0]->at);
}

Value Printer::function_call(const Expr* expr, const Function& function) {
  want_args(expr, function.params.size());
  std::vector<Value> args;
  if (variant_.wide && is_math(function.unit) && !is_math(context_.unit)) {
    for (const Expr* arg : expr->args) args.push_back(expression(arg));
    return math_call(function.name, std::move(args), expr->at);
  }
  for (size_t i = 0; i < expr->args.size(); ++i) {
    const FunctionParam& param = function.params[i];
    const auto base = base_of_type(param.type);
    if (!base || *base == Base::kVoid) {
      fail_at(function.unit->source, param.at, "'" + std::string(param.type) + "' is no type");
    }
    args.push_back(coerce(expression(expr->args[i], *base), *base, expr->args[i]->at));
  }
  emit_function(function);
  const auto returns = base_of_type(function.return_type);
  return value_of("dlk_" + std::string(function.name) + "(" + joined(args) + ")", *returns);
}

Value Printer::math_call(std::string_view name, std::vector<Value> args, uint32_t at) {
  const Function* function = functions_.find_in_math(name);
  if (function == nullptr || function->params.size() != args.size()) {
    throw_unsupported("the function '" + std::string(name) + "' is missing in the library 'math'" +
                      " (kernels/math.k), and " + std::string(target_.name) + " has none");
  }
  const bool narrows = variant_.wide && std::any_of(args.begin(), args.end(), [](const Value& v) {
                         return v.base == Base::kDouble;
                       });
  if (narrows) {  // accurate to float32
    for (Value& arg : args) {
      if (arg.base == Base::kDouble) arg = converted_to(std::move(arg), Base::kFloat, at);
    }
    Value result = math_call(name, std::move(args), at);
    return result.base == Base::kFloat ? converted_to(std::move(result), Base::kDouble, at)
                                       : result;
  }
  if (std::any_of(args.begin(), args.end(), [](const Value& v) {
        return v.base == Base::kDouble || lane_base(v.base) == Base::kHalf;
      })) {
    fail(at, "'" + std::string(name) + "' has only a float form in " + std::string(target_.name) +
                 "; write float(...)");
  }
  emit_function(*function);
  const bool of_vector = args[0].base == Base::kVec;
  const std::string printed = of_vector ? vector_wrapper(*function) : "dlk_" + std::string(name);
  const Base returns = of_vector ? Base::kVec : *base_of_type(function->return_type);
  return value_of(printed + "(" + joined(args) + ")", returns);
}

Value Printer::builtin_call(const Expr* expr, Base hint) {
  const Builtin& any = *find_builtin(expr->text, '?');
  want_args(expr, any.arity);
  std::vector<Value> args;
  for (const Expr* arg : expr->args) {
    args.push_back(
        expression(arg, args.empty() || args[0].base == Base::kFlex ? hint : args[0].base));
  }
  if (std::all_of(args.begin(), args.end(), [](const Value& v) { return v.base == Base::kFlex; })) {
    if (any.name == "min" || any.name == "max") {
      return known(Base::kFlex, evaluate(*source_, expr, *this));
    }
    const bool to_float = find_builtin(any.name, 's') == nullptr;
    args[0] = coerce(std::move(args[0]), to_float ? Base::kFloat : Base::kInt, expr->at);
  }
  // All arguments take one type: the first that is not a bare constant, fvec before float.
  Value widest = args[0];
  for (size_t i = 1; i < args.size(); ++i) {
    unify(widest, args[i], expr->args[i]->at);
  }
  for (size_t i = 0; i < args.size(); ++i) {
    args[i] = coerce(std::move(args[i]), widest.base, expr->args[i]->at);
  }
  const bool to_bool = any.operands == 't';
  const Base base = widest.base;
  const Builtin* builtin = find_builtin(any.name, to_bool ? 't' : class_of(base));
  if (builtin == nullptr || (to_bool && class_of(base) != 'f')) {
    fail(expr->at, "'" + std::string(any.name) + "' does not take " + std::string(base_name(base)));
  }
  if (to_bool && is_vector(base)) fail(expr->at, "use this on one lane");
  const std::string_view pattern = spelling(*builtin, target_);
  if (pattern == "@" && to_bool && base == Base::kDouble) {
    return value_of(std::string(any.name) + "(" + args[0].text + ")", Base::kBool);
  }
  if (pattern == "@") return math_call(any.name, std::move(args), expr->at);
  if (base == Base::kDouble && target_.lang == Lang::kGlsl && !builtin->glsl_double) {
    fail(expr->at, "'" + std::string(any.name) + "' has no double form in GLSL");
  }
  const Base result = to_bool ? Base::kBool : base;
  if (pattern.find('$') == std::string_view::npos) {
    return value_of(std::string(pattern) + "(" + joined(args) + ")", result);
  }
  std::array<std::string, 3> texts;
  Placeholders with;
  for (size_t i = 0; i < args.size(); ++i) {
    texts[i] = pattern == "$1" ? args[i].text : operand(args[i]);
    with.args[i] = texts[i];
  }
  const std::string type_name = type(base);
  with.type = type_name;
  if (pattern == "$1") return args[0];
  return value_of(fill(pattern, with), result, !pattern.starts_with("($T)"));
}

Value Printer::subgroup_call(const Expr* expr) {
  if (!variant_.decl->uses_subgroups || !context_.in_kernel) {
    fail(expr->at, "subgroup operations need the header line 'subgroups', and stand in a kernel");
  }
  struct Row {
    std::string_view name, opencl, glsl, msl;
  };
  constexpr std::array<Row, 4> kRows = {
      {{"subgroup_sum", "sub_group_reduce_add", "subgroupAdd", "simd_sum"},
       {"subgroup_min", "sub_group_reduce_min", "subgroupMin", "simd_min"},
       {"subgroup_max", "sub_group_reduce_max", "subgroupMax", "simd_max"},
       {"subgroup_broadcast", "sub_group_broadcast", "subgroupShuffle", "simd_shuffle"}}};
  for (const Row& row : kRows) {
    if (row.name != expr->text) continue;
    const bool broadcasts = row.name == "subgroup_broadcast";
    want_args(expr, broadcasts ? 2 : 1);
    Value value = expression(expr->args[0]);
    if (value.base == Base::kFlex) value = coerce(std::move(value), Base::kInt, expr->at);
    if (value.base != Base::kFloat && value.base != Base::kInt && value.base != Base::kUint) {
      fail(expr->at, "subgroup operations take float, int and uint");
    }
    const std::string_view name = target_.lang == Lang::kOpenCL ? row.opencl
                                  : target_.lang == Lang::kGlsl ? row.glsl
                                                                : row.msl;
    std::string text = std::string(name) + "(" + value.text;
    if (broadcasts) text += ", " + converted(expr->args[1], Base::kUint);
    return value_of(text + ")", value.base);
  }
  fail(expr->at, "there is no subgroup operation '" + std::string(expr->text) + "'");
}

Value Printer::epilogue_call(const Expr* expr) {
  if (!variant_.decl->has_epilogue || !context_.in_kernel) {
    fail(expr->at, "an epilogue needs the header line 'epilogue', and stands in a kernel");
  }
  want_args(expr, 3);
  const Base real = float_base();
  Value x = coerce(expression(expr->args[0], real), real, expr->args[0]->at);
  const std::string i = operand(coerce(expression(expr->args[1]), Base::kUint, expr->args[1]->at));
  const std::string c = operand(coerce(expression(expr->args[2]), Base::kUint, expr->args[2]->at));
  const Epilogue& epilogue = variant_.request->epilogue;
  if (epilogue.expression.empty()) return x;
  if (real != Base::kFloat) throw_unsupported("kernels that compute in double have no epilogue");
  emit_epilogue();
  std::string text = "dlk_epilogue(" + x.text;
  for (size_t k = 0; k < epilogue.operands.size(); ++k) {
    const std::string& name = variant_.epilogue_names[k];
    if (epilogue.operands[k].kind == EpilogueOperand::Kind::kValue) {
      text += ", " + (target_.lang == Lang::kOpenCL ? name : "dlk_params.p_" + name);
      continue;
    }
    const std::string at = epilogue.operands[k].kind == EpilogueOperand::Kind::kFull      ? i
                           : epilogue.operands[k].kind == EpilogueOperand::Kind::kChannel ? c
                                                                                          : "0u";
    const BufferVar buffer = epilogue_buffer(k);
    text += ", " + converted_to(load(buffer, at), Base::kFloat, expr->at).text;
  }
  return value_of(text + ")", Base::kFloat);
}

}  // namespace dlk::dialect
