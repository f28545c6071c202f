// A source text of the dialect and the errors that point into it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dlk::dialect {

struct SourceText {
  std::string name;
  std::string text;
};

/// Throws CompileFailed "FILE:LINE:COLUMN: message", then the source line and a caret under `at`
/// (a byte offset into the text).
[[noreturn]] void fail_at(const SourceText& source, uint32_t at, const std::string& message);

}  // namespace dlk::dialect
