#include "core/kernel/lexer.h"

#include <array>
#include <charconv>
#include <string>

namespace dlk::dialect {

namespace {

constexpr std::array<std::string_view, 20> kLongPuncts = {
    "<<=", ">>=", "++", "--", "<<", ">>", "<=", ">=", "==", "!=",
    "&&",  "||",  "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^="};
constexpr std::string_view kShortPuncts = "+-*/%<>=!&|^~?:;,.(){}[]";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

class Lexer {
 public:
  explicit Lexer(const SourceText& source) : source_(source), text_(source.text) {}

  std::vector<Token> run() {
    constexpr size_t kLongestText = 1u << 20;
    if (text_.size() > kLongestText) {
      fail_at(source_, 0, "the source is longer than 1 MiB");
    }
    std::vector<Token> tokens;
    tokens.reserve(text_.size() / 4 + 1);
    for (;;) {
      skip_space();
      if (at_ >= text_.size()) break;
      tokens.push_back(next());
      line_start_ = false;
    }
    tokens.push_back({TokenKind::kEnd, true, static_cast<uint32_t>(text_.size()), {}, 0});
    return tokens;
  }

 private:
  char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  void skip_space() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') {
        line_start_ = true;
        ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r') {
        ++at_;
      } else if ((c == '#' && depth_ == 0) || (c == '/' && peek(1) == '/')) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == '/' && peek(1) == '*') {
        const size_t end = text_.find("*/", at_ + 2);
        if (end == std::string_view::npos) fail("this comment has no end");
        if (text_.substr(at_, end - at_).find('\n') != std::string_view::npos) line_start_ = true;
        at_ = end + 2;
      } else {
        return;
      }
    }
  }

  Token next() {
    const char c = peek();
    if (is_name_start(c)) return name();
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number();
    return punct();
  }

  Token token(TokenKind kind, size_t length) {
    Token result{kind, line_start_, static_cast<uint32_t>(at_), text_.substr(at_, length), 0};
    at_ += length;
    return result;
  }

  Token name() {
    size_t length = 1;
    while (is_name(peek(length))) ++length;
    return token(TokenKind::kName, length);
  }

  Token punct() {
    for (std::string_view candidate : kLongPuncts) {
      if (text_.substr(at_, candidate.size()) == candidate) {
        return token(TokenKind::kPunct, candidate.size());
      }
    }
    const char c = peek();
    if (kShortPuncts.find(c) == std::string_view::npos) {
      if (c == '#') fail("'#' comments belong to headers; a body's comments start with //");
      fail("this character means nothing here");
    }
    if (c == '{') ++depth_;
    if (c == '}' && depth_ > 0) --depth_;
    return token(TokenKind::kPunct, 1);
  }

  Token number() {
    size_t length = 0;
    bool is_float = false;
    const bool is_hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X');
    if (is_hex) {
      length = 2;
      while (is_digit(peek(length)) || (peek(length) >= 'a' && peek(length) <= 'f') ||
             (peek(length) >= 'A' && peek(length) <= 'F')) {
        ++length;
      }
    } else {
      length = decimal_length(&is_float);
    }
    const std::string_view digits = text_.substr(at_, length);
    TokenKind kind = is_float ? TokenKind::kFloat : TokenKind::kInt;
    size_t suffix = 0;
    if (!is_hex && (peek(length) == 'f' || peek(length) == 'F')) {
      kind = TokenKind::kFloat;
      suffix = 1;
    } else if (!is_float && (peek(length) == 'u' || peek(length) == 'U')) {
      kind = TokenKind::kUint;
      suffix = 1;
    }
    if (is_name(peek(length + suffix))) fail("this is no number of the dialect");
    Token result = token(kind, length + suffix);
    result.value = kind == TokenKind::kFloat ? 0 : integer(digits, is_hex, kind, result.at);
    if (kind == TokenKind::kFloat) result.text = digits;
    return result;
  }

  size_t decimal_length(bool* is_float) const {
    size_t length = 0;
    while (is_digit(peek(length))) ++length;
    if (peek(length) == '.') {
      *is_float = true;
      ++length;
      while (is_digit(peek(length))) ++length;
    }
    if (peek(length) == 'e' || peek(length) == 'E') {
      size_t exponent = length + 1;
      if (peek(exponent) == '+' || peek(exponent) == '-') ++exponent;
      if (is_digit(peek(exponent))) {
        *is_float = true;
        length = exponent;
        while (is_digit(peek(length))) ++length;
      }
    }
    return length;
  }

  int64_t integer(std::string_view digits, bool is_hex, TokenKind kind, uint32_t at) const {
    uint64_t value = 0;
    if (is_hex) digits.remove_prefix(2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, is_hex ? 16 : 10);
    const uint64_t largest = kind == TokenKind::kUint ? UINT32_MAX : INT64_MAX;
    if (error != std::errc() || end != digits.data() + digits.size() || value > largest) {
      fail_at(source_, at, "this integer is out of range");
    }
    return static_cast<int64_t>(value);
  }

  [[noreturn]] void fail(const std::string& message) const {
    fail_at(source_, static_cast<uint32_t>(at_), message);
  }

  const SourceText& source_;
  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  bool line_start_ = true;
};

}  // namespace

std::vector<Token> lex(const SourceText& source) { return Lexer(source).run(); }

}  // namespace dlk::dialect
