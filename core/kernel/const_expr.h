// Constant expressions: what headers, array sizes, `static if` and `static for` are made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/kernel/ast.h"

namespace dlk::dialect {

/// What names mean in a constant expression.
class ConstNames {
 public:
  virtual ~ConstNames() = default;
  virtual std::optional<int64_t> constant(std::string_view name) const = 0;
  virtual std::optional<DType> type(std::string_view name) const = 0;
  /// Whether the buffer, parameter or local array exists in this variant; nullopt: no such name.
  virtual std::optional<bool> exists(std::string_view name) const = 0;
};

/// The value, or an error that points at the part that has none. 64-bit; overflow and division by
/// zero are errors. Knows all C operators, min, max, is_type(T, f16), size_of(T) and has(NAME).
int64_t evaluate(const SourceText& source, const Expr* expr, const ConstNames& names);

/// One operator on constants; used by `evaluate` and by the folding of literals in bodies.
int64_t apply_binary(const SourceText& source, const Expr* where, int64_t left, int64_t right);

/// `evaluate`, checked against a range; `what` names the value in the error.
int64_t evaluate_in(const SourceText& source, const Expr* expr, const ConstNames& names,
                    int64_t least, int64_t most, std::string_view what);

}  // namespace dlk::dialect
