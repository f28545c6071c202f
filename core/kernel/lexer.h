// Splits a source text of the dialect into tokens. Header and body share one lexer: `#` starts a
// comment outside of braces and is an error inside, `//` starts one everywhere.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/kernel/source_text.h"

namespace dlk::dialect {

enum class TokenKind : uint8_t { kName, kInt, kUint, kFloat, kPunct, kEnd };

struct Token {
  TokenKind kind = TokenKind::kEnd;
  bool first_on_line = false;
  uint32_t at = 0;        // byte offset
  std::string_view text;  // into SourceText::text
  int64_t value = 0;      // of integers
};

/// The tokens of a text, ended by one of kind kEnd.
std::vector<Token> lex(const SourceText& source);

}  // namespace dlk::dialect
