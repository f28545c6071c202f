// What a name or an indexed name means where it stands.
#include <array>

#include "core/kernel/printer.h"

namespace dlk::dialect {

namespace {

struct Place {
  std::string_view name;
  const std::string_view (Target::*table)[3];
  int axis;
};

constexpr std::array<Place, 9> kPlaces = {{{"LX", &Target::local_id, 0},
                                           {"LY", &Target::local_id, 1},
                                           {"LZ", &Target::local_id, 2},
                                           {"WX", &Target::group_id, 0},
                                           {"WY", &Target::group_id, 1},
                                           {"WZ", &Target::group_id, 2},
                                           {"NX", &Target::group_count, 0},
                                           {"NY", &Target::group_count, 1},
                                           {"NZ", &Target::group_count, 2}}};

}  // namespace

Value Printer::named(const Expr* expr) {
  const std::string_view name = expr->text;
  if (const Symbol* symbol = find_symbol(name)) {
    if (symbol->is_known) return known(symbol->base, symbol->value);
    Value value = value_of(symbol->printed, symbol->base);
    value.rank = symbol->rank;
    value.is_place = !symbol->is_const;
    return value;
  }
  if (const auto found = variant_.constant(name)) return known(Base::kFlex, *found);
  if (name == "true" || name == "false") return known(Base::kBool, name == "true");
  if (name == "INFINITY" || name == "NAN") {
    Value value =
        value_of(std::string(name == "NAN" ? target_.nan : target_.infinity), Base::kFloat);
    value.float_literal = true;
    if (float_base() == Base::kFloat) return value;
    Value wide = converted_to(std::move(value), float_base(), expr->at);
    wide.text = "(" + wide.text + ")";
    wide.simple = true;
    return wide;
  }
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kFloats = {
      {{"FLT_MAX", "3.402823466e+38f"},
       {"FLT_MIN", "1.175494351e-38f"},
       {"FLT_EPSILON", "1.192092896e-07f"},
       {"M_PI_F", "3.14159265358979f"}}};
  for (const auto& [spelled, text] : kFloats) {
    if (name != spelled) continue;
    Value value = value_of(std::string(text), Base::kFloat);
    value.float_literal = true;
    if (float_base() == Base::kFloat) return value;
    Value wide = converted_to(std::move(value), float_base(), expr->at);
    wide.text = "(" + wide.text + ")";
    wide.simple = true;
    return wide;
  }
  if (name == "INT_MAX") return known(Base::kFlex, INT32_MAX);
  if (name == "INT_MIN") return known(Base::kFlex, INT32_MIN);
  if (name == "UINT_MAX") return known(Base::kUint, UINT32_MAX);
  if (context_.in_kernel) {
    for (const Place& place : kPlaces) {
      if (name != place.name) continue;
      std::string text((target_.*place.table)[place.axis]);
      if (target_.lang == Lang::kOpenCL) text = "(" + text + ")";
      return value_of(std::move(text), Base::kUint);
    }
    if (name == "WL") {
      const Target& t = target_;
      return value_of("(" + std::string(t.group_id[1]) + " * " + std::string(t.group_count[0]) +
                          " + " + std::string(t.group_id[0]) + ")",
                      Base::kUint);
    }
    for (const ParamVar& param : variant_.params) {
      if (param.name != name) continue;
      if (!param.exists) {
        fail(expr->at, "the parameter '" + std::string(name) + "' does not exist in this variant");
      }
      const Base base = param.kind == 'u'   ? Base::kUint
                        : param.kind == 'i' ? Base::kInt
                                            : Base::kFloat;
      const std::string printed =
          target_.lang == Lang::kOpenCL ? safe_name(name) : "dlk_params.p_" + std::string(name);
      Value value = value_of(printed, base);
      value.rank = param.is_array ? 1 : 0;
      const bool widens = base == Base::kFloat && !param.is_array;
      return widens ? converted_to(std::move(value), float_base(), expr->at) : value;
    }
    for (const LocalVar& local : variant_.locals) {
      if (local.name == name) fail(expr->at, "a local array is used with an index: L[i]");
    }
    for (const BufferVar& buffer : variant_.buffers) {
      if (buffer.name == name) fail(expr->at, "a buffer is used through ld, st and their kin");
    }
    for (const TileVar& tile : variant_.tiles) {
      if (tile.name == name) fail(expr->at, "a tile is used through the tile_ operations");
    }
  }
  fail(expr->at, "'" + std::string(name) + "' is not declared");
}

std::string Printer::subscript(const Expr* expr) {
  Value value = expression(expr, Base::kUint);
  if (value.base == Base::kFlex) return literal(Base::kUint, value.value, expr->at);
  if (value.base != Base::kInt && value.base != Base::kUint) {
    fail(expr->at, "an index is int or uint, and this is " + std::string(base_name(value.base)));
  }
  return value.text;
}

Value Printer::index(const Expr* expr) {
  const Expr* array = expr->args[0];
  const Expr* at = expr->args[1];
  const bool is_name = array->kind == ExprKind::kName;
  if (is_name && context_.in_kernel && find_symbol(array->text) == nullptr) {
    for (const LocalVar& local : variant_.locals) {
      if (local.name != array->text) continue;
      const LocalVar& found = local_named(array);
      const Base base = found.kind == 'f'   ? float_base()
                        : found.kind == 'i' ? Base::kInt
                                            : Base::kUint;
      const std::string printed = safe_name(found.name);
      const std::string i = subscript(at);
      const uint32_t width = variant_.vector_width;
      Value value = value_of(local_is_vector(found.name)
                                 ? printed + "[(" + i + ") / " + std::to_string(width) + "u][(" +
                                       i + ") % " + std::to_string(width) + "u]"
                                 : printed + "[" + i + "]",
                             base);
      value.is_place = true;
      return value;
    }
    for (const ParamVar& param : variant_.params) {
      if (param.name != array->text || !param.is_array || !param.exists) continue;
      const Value base = named(array);
      const Value where = expression(at, Base::kUint);
      if (where.is_const && (where.value < 0 || where.value >= param.count)) {
        fail(at->at, "the index " + std::to_string(where.value) + " is outside of '" +
                         std::string(param.name) + "[" + std::to_string(param.count) + "]'");
      }
      const Base wanted = base.base == Base::kFloat ? float_base() : base.base;
      if (target_.lang == Lang::kOpenCL && where.is_const) {
        return converted_to(
            value_of("dlk_p_" + std::string(param.name) + "_" + std::to_string(where.value),
                     base.base),
            wanted, at->at);
      }
      indexed_params_.insert(param.name);
      return converted_to(value_of(base.text + "[" + subscript(at) + "]", base.base), wanted,
                          at->at);
    }
  }
  Value base = expression(array);
  if (base.rank == 0) fail(expr->at, "only an array takes an index");
  Value value = value_of(base.text + "[" + subscript(at) + "]", base.base);
  value.rank = static_cast<uint8_t>(base.rank - 1);
  value.is_place = base.is_place;
  return value;
}

}  // namespace dlk::dialect
