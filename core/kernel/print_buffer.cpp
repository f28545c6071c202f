// Buffers, vectors and local arrays: ld, st and their kin.
#include <array>

#include "core/kernel/printer.h"

namespace dlk::dialect {

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
    if (kind == kChunkBlock) {
      const auto elements = std::to_string(16 / dtype_size(buffer.dtype));
      return "dlk_c_" + name + ".d[(" + at + ") / " + elements + "u]";
    }
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

std::string Printer::vector_from(const Expr* buffer, const std::string& index) {
  const BufferVar& from = buffer_named(buffer);
  want_access(from, true, false, buffer->at);
  return load_vector(from, index, buffer->at).text;
}

std::string Printer::scalar_from(const Expr* buffer, const std::string& index) {
  const BufferVar& from = buffer_named(buffer);
  want_access(from, true, false, buffer->at);
  return load(from, index).text;
}

std::string Printer::chunk_at(const Expr* buffer, const std::string& index) {
  const BufferVar& from = buffer_named(buffer);
  want_access(from, true, false, buffer->at);
  if (target_.lang == Lang::kGlsl) return element(from, index, kChunkBlock);
  return "(" + safe_name(from.name) + " + (" + index + "))";
}

Value Printer::load(const BufferVar& buffer, const std::string& index) {
  const std::string at = element(buffer, index, kScalarBlock);
  const std::string pointer = safe_name(buffer.name);
  Placeholders with;
  with.element = at;
  with.pointer = pointer;
  with.index = index;
  const std::string_view pattern = storage_row(target_, buffer.dtype).load;
  if (is_storage_only(buffer.dtype)) {
    Value byte = value_of(fill(pattern, with), Base::kUint, !pattern.starts_with("("));
    return math_call("from_" + std::string(dtype_short_name(buffer.dtype)), {std::move(byte)}, 0);
  }
  return value_of(fill(pattern, with), compute_base(buffer.dtype),
                  pattern == "$e" || !pattern.starts_with("("));
}

std::string Printer::store(const BufferVar& buffer, const std::string& index, Value value,
                           uint32_t at) {
  value = converted_to(std::move(value), compute_base(buffer.dtype), at);
  const StorageRow& row = storage_row(target_, buffer.dtype);
  if (is_storage_only(buffer.dtype)) {
    value = math_call("to_" + std::string(dtype_short_name(buffer.dtype)), {std::move(value)}, at);
  }
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
  if (variant_.vector_width == 1) return load(buffer, index);
  need_vector_storage(buffer, at);
  const std::string place = element(buffer, index, kVectorBlock);
  const std::string pointer = safe_name(buffer.name);
  Placeholders with;
  with.vector = place;
  with.pointer = pointer;
  with.index = index;
  with.width = variant_.vector_width;
  return value_of(fill(storage_row(target_, buffer.dtype).vector_load, with), Base::kVec);
}

std::string Printer::store_vector(const BufferVar& buffer, const std::string& index,
                                  const Value& value, uint32_t at) {
  if (variant_.vector_width == 1) return store(buffer, index, value, at);
  need_vector_storage(buffer, at);
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
  const bool in_parts = (name == "ld" || name == "ldv") && expr->args.size() == 3;
  want_args(expr, is_load && !in_parts ? 2 : 3);
  const BufferVar& buffer = buffer_named(expr->args[0]);
  want_access(buffer, is_load || is_atomic, is_store || is_atomic, expr->at);
  const Value at = coerce(expression(expr->args[1], Base::kUint), Base::kUint, expr->args[1]->at);
  std::string i = operand(at);
  if (in_parts) {
    const Expr* last = expr->args[2];
    const std::string offset =
        operand(coerce(expression(last, Base::kUint), Base::kUint, last->at));
    if (target_.lang == Lang::kOpenCL && name == "ld" && buffer.dtype == DType::kFloat32) {
      *result = value_of("(" + safe_name(buffer.name) + " + " + i + ")[" + offset + "]",
                         compute_base(buffer.dtype));
      return true;
    }
    // After a pointer both parts are added to it, one after the other.
    i += " + " + offset;
    if (target_.lang != Lang::kOpenCL || name == "ld") i = "(" + i + ")";
  }
  if (name == "ld") {
    *result = load(buffer, i);
  } else if (name == "ldv") {
    *result = load_vector(buffer, i, expr->at);
  } else if (name == "load_bits" || name == "store_bits") {
    if (dtype_size(buffer.dtype) > 4) fail(expr->at, "only elements of 1, 2 and 4 bytes have bits");
    const std::string place = element(buffer, i, kBitsBlock);
    if (is_load) {
      *result = value_of(target_.lang == Lang::kOpenCL ? "(uint)" + place : "uint(" + place + ")",
                         Base::kUint, target_.lang != Lang::kOpenCL);
      return true;
    }
    const std::string bits = converted(expr->args[2], Base::kUint);
    constexpr std::array<std::array<std::string_view, 5>, 2> kBits = {
        {{"", "uchar", "ushort", "", "uint"}, {"", "uint8_t", "uint16_t", "", "uint"}}};
    const std::string type(kBits[target_.lang == Lang::kGlsl][dtype_size(buffer.dtype)]);
    const bool c_cast = target_.lang == Lang::kOpenCL;
    *result = value_of(place + " = " + (c_cast ? "(" + type + ")(" : type + "(") + bits + ")",
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
    *result = value_of(fill(target_.atomic_add, with), base);
  } else if (name == "st") {
    Value value = expression(expr->args[2], compute_base(buffer.dtype));
    *result = value_of(store(buffer, i, std::move(value), expr->args[2]->at), Base::kVoid, false);
  } else {
    const Base vec = vector_base();
    const Value value = coerce(expression(expr->args[2], vec), vec, expr->args[2]->at);
    *result = value_of(store_vector(buffer, i, value, expr->at), Base::kVoid, false);
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
  const Base vec = vector_base();
  if (name == "ldl" || name == "stl") {
    want_args(expr, name == "ldl" ? 2 : 3);
    const LocalVar& local = local_named(expr->args[0]);
    if (local.kind != 'f') fail(expr->at, "ldl and stl take local arrays of float");
    const Value at = coerce(expression(expr->args[1], Base::kUint), Base::kUint, expr->args[1]->at);
    const std::string i = operand(at);
    const std::string place =
        width == 1 ? safe_name(local.name) + "[" + i + "]" : local_vector(local, i);
    *result = name == "ldl"
                  ? value_of(place, vec)
                  : value_of(place + " = " + converted(expr->args[2], vec), Base::kVoid, false);
    return true;
  }
  if (name == "lane") {
    want_args(expr, 2);
    Value vector = expression(expr->args[0]);
    const bool is_half = lane_base(vector.base) == Base::kHalf;
    vector = coerce(std::move(vector), is_half ? vector.base : vec, expr->args[0]->at);
    const auto lane_index =
        static_cast<uint32_t>(constant_in(expr->args[1], 0, width - 1, "the lane"));
    *result = value_of(lane(operand(vector), lane_index), lane_base(vector.base));
    return true;
  }
  if (name == "set_lane") {
    want_args(expr, 3);
    const Value vector = place(expr->args[0]);
    if (vector.base != vec && lane_base(vector.base) != Base::kHalf) {
      fail(expr->args[0]->at, "set_lane changes a variable of type fvec or avec");
    }
    const auto lane_index =
        static_cast<uint32_t>(constant_in(expr->args[1], 0, width - 1, "the lane"));
    *result = value_of(
        lane(vector.text, lane_index) + " = " + converted(expr->args[2], lane_base(vector.base)),
        Base::kVoid, false);
    return true;
  }
  return false;
}

}  // namespace dlk::dialect
