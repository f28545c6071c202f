// Calls: buffers, vectors, conversions, functions, the epilogue.
#include <algorithm>
#include <array>

#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

namespace {

Value plain(std::string text, Base base, bool simple = true) {
  Value value;
  value.text = std::move(text);
  value.base = base;
  value.simple = simple;
  return value;
}

char class_of(Base base) {
  switch (base) {
    case Base::kFloat:
    case Base::kDouble:
    case Base::kVec:
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
  if (buffer_call(expr, &result) || vector_call(expr, &result)) return result;
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
    return plain(std::string(shares_buffer ? target_.barrier_all : target_.barrier_local),
                 Base::kVoid);
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
    return plain(fill(pattern, with), to_float                ? Base::kFloat
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
      args.push_back(plain(converted(arg, Base::kUint), Base::kUint));
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

const BufferVar& Printer::buffer_named(const Expr* expr) const {
  if (expr->kind == ExprKind::kName) {
    if (!context_.in_kernel) fail(expr->at, "functions see no buffers");
    for (const BufferVar& buffer : variant_.buffers) {
      if (buffer.name != expr->text) continue;
      if (!buffer.exists) {
        fail(expr->at, "the buffer '" + std::string(buffer.name) +
                           "' does not exist in this variant: its 'when' is 0");
      }
      return buffer;
    }
    fail(expr->at, "there is no buffer '" + std::string(expr->text) + "'");
  }
  fail(expr->at, "expected the name of a buffer");
}

const LocalVar& Printer::local_named(const Expr* expr) const {
  if (expr->kind == ExprKind::kName && context_.in_kernel) {
    for (const LocalVar& local : variant_.locals) {
      if (local.name != expr->text) continue;
      if (!local.exists) {
        fail(expr->at, "the local array '" + std::string(local.name) +
                           "' does not exist in this variant: its 'when' is 0");
      }
      return local;
    }
  }
  fail(expr->at, "expected the name of a local array");
}

void Printer::want_access(const BufferVar& buffer, bool load, bool store, uint32_t at) const {
  if (load && buffer.access == Access::kWrite) {
    fail(at, "'" + std::string(buffer.name) +
                 "' is an out buffer and cannot be loaded; "
                 "declare it inout");
  }
  if (store && buffer.access == Access::kRead) {
    fail(at, "'" + std::string(buffer.name) + "' is an in buffer and cannot be stored to");
  }
}

std::string Printer::element(const BufferVar& buffer, const std::string& index, BlockKind kind) {
  const std::string name(buffer.name);
  const uint32_t width = variant_.vector_width;
  if (target_.lang == Lang::kGlsl) {
    blocks_[buffer.name] |= kind;
    const std::string at = "dlk_params.b_" + name + " + " + index;
    if (kind == kVectorBlock)
      return "dlk_v_" + name + ".d[(" + at + ") / " + std::to_string(width) + "u]";
    return (kind == kBitsBlock ? "dlk_b_" : "dlk_s_") + name + ".d[" + at + "]";
  }
  const std::string pointer = safe_name(buffer.name);
  const std::string space = target_.lang == Lang::kOpenCL ? "__global " : "device ";
  const std::string constness = buffer.access == Access::kRead ? "const " : "";
  if (kind == kScalarBlock) return pointer + "[" + index + "]";
  if (kind == kVectorBlock) {
    Placeholders with;
    with.width = width;
    const std::string vector = fill(storage_row(target_, buffer.dtype).vector_type, with);
    return "(*(" + space + constness + vector + "*)(" + pointer + " + " + index + "))";
  }
  constexpr std::array<std::string_view, 5> kBits = {"", "uchar", "ushort", "", "uint"};
  const std::string bits(kBits[dtype_size(buffer.dtype)]);
  return "((" + space + constness + bits + "*)" + pointer + ")[" + index + "]";
}

Value Printer::load(const BufferVar& buffer, const std::string& index) {
  const std::string at = element(buffer, index, kScalarBlock);
  const std::string pointer = safe_name(buffer.name);
  Placeholders with;
  with.element = at;
  with.pointer = pointer;
  with.index = index;
  const std::string_view pattern = storage_row(target_, buffer.dtype).load;
  return plain(fill(pattern, with), compute_base(buffer.dtype),
               pattern == "$e" || !pattern.starts_with("("));
}

std::string Printer::store(const BufferVar& buffer, const std::string& index, Value value,
                           uint32_t at) {
  value = converted_to(std::move(value), compute_base(buffer.dtype), at);
  const StorageRow& row = storage_row(target_, buffer.dtype);
  if (row.store.find("dlk_to_bf16(") != std::string_view::npos) {
    // Names the function in `math`, and so prints it first.
    value = math_call("to_bf16", {std::move(value)}, at);
    return element(buffer, index, kScalarBlock) + " = " +
           (target_.lang == Lang::kOpenCL ? "(" + std::string(row.type) + ")" + value.text
                                          : std::string(row.type) + "(" + value.text + ")");
  }
  const std::string place = element(buffer, index, kScalarBlock);
  const std::string pointer = safe_name(buffer.name);
  const bool whole = row.store == "$e = $v" || row.store.find("($v)") != std::string_view::npos ||
                     row.store.find("($v,") != std::string_view::npos;
  const std::string stored = whole ? value.text : operand(value);
  Placeholders with;
  with.element = place;
  with.pointer = pointer;
  with.index = index;
  with.value = stored;
  return fill(row.store, with);
}

void Printer::need_vector_storage(const BufferVar& buffer, uint32_t at) {
  if (storage_row(target_, buffer.dtype).vector_type.empty()) {
    fail(at, "'" + std::string(buffer.name) + "' is of " + std::string(dtype_name(buffer.dtype)) +
                 "; ldv and stv take buffers of f32, f16 and bf16");
  }
}

Value Printer::load_vector(const BufferVar& buffer, const std::string& index, uint32_t at) {
  need_vector_storage(buffer, at);
  if (variant_.vector_width == 1) return load(buffer, index);
  const std::string place = element(buffer, index, kVectorBlock);
  const std::string pointer = safe_name(buffer.name);
  Placeholders with;
  with.vector = place;
  with.pointer = pointer;
  with.index = index;
  with.width = variant_.vector_width;
  return plain(fill(storage_row(target_, buffer.dtype).vector_load, with), Base::kVec);
}

std::string Printer::store_vector(const BufferVar& buffer, const std::string& index,
                                  const Value& value, uint32_t at) {
  need_vector_storage(buffer, at);
  if (variant_.vector_width == 1) return store(buffer, index, value, at);
  if (buffer.dtype == DType::kBFloat16) uses_bf16_vector_ = true;
  const std::string place = element(buffer, index, kVectorBlock);
  const std::string pointer = safe_name(buffer.name);
  Placeholders with;
  with.vector = place;
  with.pointer = pointer;
  with.index = index;
  with.value = value.text;
  with.width = variant_.vector_width;
  return fill(storage_row(target_, buffer.dtype).vector_store, with);
}

bool Printer::buffer_call(const Expr* expr, Value* result) {
  const std::string_view name = expr->text;
  const bool is_load = name == "ld" || name == "ldv" || name == "load_bits";
  const bool is_store = name == "st" || name == "stv" || name == "store_bits";
  const bool is_atomic = name == "atomic_add";
  if (!is_load && !is_store && !is_atomic) return false;
  want_args(expr, is_load ? 2 : 3);
  const BufferVar& buffer = buffer_named(expr->args[0]);
  want_access(buffer, is_load || is_atomic, is_store || is_atomic, expr->at);
  const Value at = coerce(expression(expr->args[1], Base::kUint), Base::kUint, expr->args[1]->at);
  const std::string i = operand(at);
  if (name == "ld") {
    *result = load(buffer, i);
  } else if (name == "ldv") {
    *result = load_vector(buffer, i, expr->at);
  } else if (name == "load_bits" || name == "store_bits") {
    if (dtype_size(buffer.dtype) > 4) fail(expr->at, "only elements of 1, 2 and 4 bytes have bits");
    const std::string place = element(buffer, i, kBitsBlock);
    if (is_load) {
      *result = plain(target_.lang == Lang::kOpenCL ? "(uint)" + place : "uint(" + place + ")",
                      Base::kUint, target_.lang != Lang::kOpenCL);
      return true;
    }
    const std::string bits = converted(expr->args[2], Base::kUint);
    constexpr std::array<std::array<std::string_view, 5>, 2> kBits = {
        {{"", "uchar", "ushort", "", "uint"}, {"", "uint8_t", "uint16_t", "", "uint"}}};
    const std::string type(kBits[target_.lang == Lang::kGlsl][dtype_size(buffer.dtype)]);
    const bool c_cast = target_.lang == Lang::kOpenCL;
    *result = plain(place + " = " + (c_cast ? "(" + type + ")(" : type + "(") + bits + ")",
                    Base::kVoid, false);
  } else if (is_atomic) {
    if (buffer.dtype != DType::kInt32 && buffer.dtype != DType::kUInt32) {
      fail(expr->at, "atomic_add takes buffers of i32 and u32");
    }
    const Base base = compute_base(buffer.dtype);
    const std::string type_name = type(base);
    const std::string value = converted(expr->args[2], base);
    const std::string place = element(buffer, i, kScalarBlock);
    Placeholders with;
    with.type = type_name;
    with.element = place;
    with.value = value;
    *result = plain(fill(target_.atomic_add, with), base);
  } else if (name == "st") {
    Value value = expression(expr->args[2], compute_base(buffer.dtype));
    *result = plain(store(buffer, i, std::move(value), expr->args[2]->at), Base::kVoid, false);
  } else {
    const Base vec = variant_.vector_width == 1 ? Base::kFloat : Base::kVec;
    const Value value = coerce(expression(expr->args[2], vec), vec, expr->args[2]->at);
    *result = plain(store_vector(buffer, i, value, expr->at), Base::kVoid, false);
  }
  return true;
}

std::string Printer::local_vector(const LocalVar& local, const std::string& index) const {
  const std::string name = safe_name(local.name);
  const std::string width = std::to_string(variant_.vector_width);
  switch (target_.lang) {
    case Lang::kGlsl:
      return name + "[" + index + " / " + width + "u]";
    case Lang::kOpenCL:
      return "(*(__local float" + width + "*)(" + name + " + " + index + "))";
    case Lang::kMsl:
      break;
  }
  return "(*(threadgroup float" + width + "*)(" + name + " + " + index + "))";
}

bool Printer::vector_call(const Expr* expr, Value* result) {
  const std::string_view name = expr->text;
  const uint32_t width = variant_.vector_width;
  const Base vec = width == 1 ? Base::kFloat : Base::kVec;
  if (name == "ldl" || name == "stl") {
    want_args(expr, name == "ldl" ? 2 : 3);
    const LocalVar& local = local_named(expr->args[0]);
    if (local.kind != 'f') fail(expr->at, "ldl and stl take local arrays of float");
    const Value at = coerce(expression(expr->args[1], Base::kUint), Base::kUint, expr->args[1]->at);
    const std::string i = operand(at);
    const std::string place =
        width == 1 ? safe_name(local.name) + "[" + i + "]" : local_vector(local, i);
    *result = name == "ldl"
                  ? plain(place, vec)
                  : plain(place + " = " + converted(expr->args[2], vec), Base::kVoid, false);
    return true;
  }
  if (name == "lane") {
    want_args(expr, 2);
    const Value vector = coerce(expression(expr->args[0]), vec, expr->args[0]->at);
    const auto lane_index =
        static_cast<uint32_t>(constant_in(expr->args[1], 0, width - 1, "the lane"));
    *result = plain(lane(operand(vector), lane_index), Base::kFloat);
    return true;
  }
  if (name == "set_lane") {
    want_args(expr, 3);
    const Value vector = place(expr->args[0]);
    if (vector.base != vec) fail(expr->args[0]->at, "set_lane changes a variable of type fvec");
    const auto lane_index =
        static_cast<uint32_t>(constant_in(expr->args[1], 0, width - 1, "the lane"));
    *result = plain(lane(vector.text, lane_index) + " = " + converted(expr->args[2], Base::kFloat),
                    Base::kVoid, false);
    return true;
  }
  return false;
}

Value Printer::converted_to(Value value, Base to, uint32_t at) {
  if (value.rank != 0 || value.base == Base::kVoid) fail(at, "this has no value to convert");
  if (value.base == to) return value;
  if (to == Base::kBool) {
    if (value.base == Base::kFlex) return known(Base::kBool, value.value != 0);
    if (value.base == Base::kVec) fail(at, "an fvec has no truth value");
    const Value zero = coerce(known(Base::kFlex, 0), value.base, at);
    return plain(operand(value) + " != " + zero.text, Base::kBool, false);
  }
  if (value.base == Base::kFlex) return coerce(std::move(value), to, at);
  if (value.base == Base::kVec) fail(at, "an fvec is read lane by lane");
  if (to == Base::kVec) {
    return coerce(converted_to(std::move(value), Base::kFloat, at), Base::kVec, at);
  }
  if (value.is_const && value.base != Base::kBool) {
    // Wraps like a conversion between int and uint does.
    int64_t wrapped = value.value;
    if (to == Base::kInt) wrapped = static_cast<int32_t>(wrapped);
    if (to == Base::kUint) wrapped = static_cast<uint32_t>(wrapped);
    return coerce(known(Base::kFlex, wrapped), to, at);
  }
  const std::string name = type(to);
  if (target_.lang == Lang::kOpenCL) return plain("(" + name + ")" + operand(value), to, false);
  return plain(name + "(" + value.text + ")", to);
}

Value Printer::cast(const Expr* expr, Base to) {
  if (to == Base::kVoid) fail(expr->at, "nothing is converted to void");
  if (to == Base::kVec && expr->args.size() == variant_.vector_width) {
    std::string text;
    for (const Expr* arg : expr->args) {
      text += (text.empty() ? "" : ", ") + converted(arg, Base::kFloat);
    }
    const bool c_cast = target_.lang == Lang::kOpenCL;
    return plain((c_cast ? "(" + type(to) + ")" : type(to)) + "(" + text + ")", to, !c_cast);
  }
  want_args(expr, 1);
  return converted_to(expression(expr->args[0], to), to, expr->args[0]->at);
}

Value Printer::function_call(const Expr* expr, const Function& function) {
  want_args(expr, function.params.size());
  std::vector<Value> args;
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
  return plain("dlk_" + std::string(function.name) + "(" + joined(args) + ")", *returns);
}

Value Printer::math_call(std::string_view name, std::vector<Value> args, uint32_t at) {
  const Function* function = functions_.find_in_math(name);
  if (function == nullptr || function->params.size() != args.size()) {
    throw_unsupported("the function '" + std::string(name) + "' is missing in the library 'math'" +
                      " (kernels/math.k), and " + std::string(target_.name) + " has none");
  }
  if (std::any_of(args.begin(), args.end(),
                  [](const Value& v) { return v.base == Base::kDouble; })) {
    fail(at, "'" + std::string(name) + "' has no double form in " + std::string(target_.name) +
                 "; compute it in float");
  }
  emit_function(*function);
  const bool is_vector = args[0].base == Base::kVec;
  const std::string printed = is_vector ? vector_wrapper(*function) : "dlk_" + std::string(name);
  const Base returns = is_vector ? Base::kVec : *base_of_type(function->return_type);
  return plain(printed + "(" + joined(args) + ")", returns);
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
  if (to_bool && base == Base::kVec) fail(expr->at, "use this on one lane");
  const std::string_view pattern = spelling(*builtin, target_);
  if (pattern == "@" && to_bool && base == Base::kDouble) {
    return plain(std::string(any.name) + "(" + args[0].text + ")", Base::kBool);
  }
  if (pattern == "@") return math_call(any.name, std::move(args), expr->at);
  if (base == Base::kDouble && target_.lang == Lang::kGlsl && !builtin->glsl_double) {
    fail(expr->at, "'" + std::string(any.name) + "' has no double form in GLSL");
  }
  const Base result = to_bool ? Base::kBool : base;
  if (pattern.find('$') == std::string_view::npos) {
    return plain(std::string(pattern) + "(" + joined(args) + ")", result);
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
  return plain(fill(pattern, with), result, !pattern.starts_with("($T)"));
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
    return plain(text + ")", value.base);
  }
  fail(expr->at, "there is no subgroup operation '" + std::string(expr->text) + "'");
}

Value Printer::epilogue_call(const Expr* expr) {
  if (!variant_.decl->has_epilogue || !context_.in_kernel) {
    fail(expr->at, "an epilogue needs the header line 'epilogue', and stands in a kernel");
  }
  want_args(expr, 3);
  Value x = coerce(expression(expr->args[0], Base::kFloat), Base::kFloat, expr->args[0]->at);
  const std::string i = operand(coerce(expression(expr->args[1]), Base::kUint, expr->args[1]->at));
  const std::string c = operand(coerce(expression(expr->args[2]), Base::kUint, expr->args[2]->at));
  const Epilogue& epilogue = variant_.request->epilogue;
  if (epilogue.expression.empty()) return x;
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
  return plain(text + ")", Base::kFloat);
}

}  // namespace dlk::dialect
