#include "core/kernel/parser.h"

#include <algorithm>
#include <array>

namespace dlk::dialect {

namespace {

struct BinaryOperator {
  std::string_view text;
  int precedence;
};

constexpr std::array<BinaryOperator, 18> kBinaryOperators = {{{"||", 1},
                                                              {"&&", 2},
                                                              {"|", 3},
                                                              {"^", 4},
                                                              {"&", 5},
                                                              {"==", 6},
                                                              {"!=", 6},
                                                              {"<", 7},
                                                              {">", 7},
                                                              {"<=", 7},
                                                              {">=", 7},
                                                              {"<<", 8},
                                                              {">>", 8},
                                                              {"+", 9},
                                                              {"-", 9},
                                                              {"*", 10},
                                                              {"/", 10},
                                                              {"%", 10}}};

int precedence_of(const Token& token) {
  if (token.kind != TokenKind::kPunct) return 0;
  for (const BinaryOperator& row : kBinaryOperators) {
    if (row.text == token.text) return row.precedence;
  }
  return 0;
}

constexpr std::array<std::string_view, 11> kAssignments = {
    "=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="};

// Words with a meaning in a body, and C words that the dialect leaves out on purpose.
constexpr std::array<std::string_view, 15> kKeywords = {
    "if",     "else",   "for",   "while", "do",    "break", "continue", "return",
    "static", "unroll", "const", "true",  "false", "in",    "out"};
constexpr std::array<std::string_view, 8> kForbidden = {"switch", "case",   "goto",  "struct",
                                                        "union",  "sizeof", "class", "typedef"};

template <typename Words>
bool contains(const Words& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

const Token& TokenReader::peek(size_t ahead) const {
  return tokens_[std::min(next_ + ahead, tokens_.size() - 1)];
}

const Token& TokenReader::take() {
  const Token& token = peek();
  if (next_ + 1 < tokens_.size()) ++next_;
  return token;
}

bool TokenReader::is(std::string_view text) const {
  return peek().text == text && (peek().kind == TokenKind::kPunct || is_name());
}

bool TokenReader::accept(std::string_view text) {
  if (!is(text)) return false;
  take();
  return true;
}

void TokenReader::expect(std::string_view text, std::string_view where) {
  if (accept(text)) return;
  fail("expected '" + std::string(text) + "' " + std::string(where) + " but found " + describe());
}

std::string TokenReader::describe() const {
  return at_end() ? "the end of the text" : "'" + std::string(peek().text) + "'";
}

const Token& TokenReader::take_name(std::string_view what) {
  if (!is_name()) fail("expected " + std::string(what) + " but found " + describe());
  return take();
}

const Token& TokenReader::declare_name(std::string_view what) {
  const Token& token = take_name(what);
  if (contains(kKeywords, token.text) || contains(kForbidden, token.text)) {
    fail(token, "'" + std::string(token.text) + "' is a word of the dialect and cannot name " +
                    std::string(what));
  }
  if (token.text.starts_with("dlk_") || token.text.starts_with("gl_") ||
      token.text.find("__") != std::string_view::npos || token.text.starts_with("_")) {
    fail(token, "names with '__', with a leading '_', 'dlk_' or 'gl_' are kept for the printers");
  }
  constexpr size_t kLongestName = 64;
  if (token.text.size() > kLongestName) fail(token, "this name is longer than 64 characters");
  return token;
}

// Bounds the recursion of the parser and of everything that walks the tree.
struct BodyParser::Nesting {
  explicit Nesting(BodyParser& parser) : parser_(parser) {
    constexpr int kDeepest = 200;
    if (++parser_.depth_ > kDeepest) parser_.reader_.fail("this is nested too deeply");
  }
  ~Nesting() { --parser_.depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  BodyParser& parser_;
};

const Expr* BodyParser::make(ExprKind kind, const Token& token, std::vector<const Expr*> args) {
  // Whatever walks the tree recurses: a long chain of operators leans left and counts as deep.
  constexpr uint16_t kDeepest = 500;
  Expr& expr = unit_.exprs.emplace_back();
  for (const Expr* arg : args) {
    expr.depth = std::max<uint16_t>(expr.depth, static_cast<uint16_t>(arg->depth + 1));
  }
  if (expr.depth > kDeepest) reader_.fail(token, "this expression is nested too deeply");
  expr.args = std::move(args);
  expr.kind = kind;
  expr.at = token.at;
  expr.text = token.text;
  expr.value = token.value;
  return &expr;
}

Stmt* BodyParser::make(StmtKind kind, const Token& token) {
  Stmt& stmt = unit_.stmts.emplace_back();
  stmt.kind = kind;
  stmt.at = token.at;
  return &stmt;
}

const Stmt* BodyParser::block() {
  const Nesting nesting(*this);
  const Token open = reader_.peek();
  reader_.expect("{", "to open a block");
  Stmt* result = make(StmtKind::kBlock, open);
  while (!reader_.accept("}")) {
    if (reader_.at_end()) reader_.fail(open, "this '{' is never closed");
    result->body.push_back(statement());
  }
  return result;
}

bool BodyParser::starts_declaration() const {
  return reader_.is("const") || (reader_.is_name() && reader_.is_name(1));
}

const Stmt* BodyParser::statement() {
  const Nesting nesting(*this);
  const Token token = reader_.peek();
  if (reader_.is("{")) return block();
  if (token.kind == TokenKind::kPunct && token.text == ";") {
    reader_.take();
    return make(StmtKind::kBlock, token);
  }
  if (contains(kForbidden, token.text)) {
    reader_.fail("the dialect has no '" + std::string(token.text) + "'");
  }
  if (reader_.is("static")) return static_statement();
  if (reader_.is("if")) return if_statement(StmtKind::kIf);
  if (reader_.is("else")) reader_.fail("this 'else' has no 'if'");
  if (reader_.is("for")) return for_statement(false);
  if (reader_.accept("unroll")) {
    if (!reader_.is("for")) reader_.fail("expected 'for' after 'unroll'");
    return for_statement(true);
  }
  if (reader_.accept("while")) {
    Stmt* result = make(StmtKind::kWhile, token);
    reader_.expect("(", "after 'while'");
    result->expr = expression();
    reader_.expect(")", "after the condition");
    result->first = statement();
    return result;
  }
  if (reader_.accept("do")) {
    Stmt* result = make(StmtKind::kDo, token);
    result->first = statement();
    reader_.expect("while", "after the body of 'do'");
    reader_.expect("(", "after 'while'");
    result->expr = expression();
    reader_.expect(")", "after the condition");
    reader_.expect(";", "after 'do ... while (...)'");
    return result;
  }
  if (reader_.is("break") || reader_.is("continue")) {
    reader_.take();
    reader_.expect(";", "after '" + std::string(token.text) + "'");
    return make(token.text == "break" ? StmtKind::kBreak : StmtKind::kContinue, token);
  }
  if (reader_.accept("return")) {
    Stmt* result = make(StmtKind::kReturn, token);
    if (!reader_.is(";")) result->expr = expression();
    reader_.expect(";", "after 'return'");
    return result;
  }
  if (reader_.is("tile_each") || reader_.is("tile_eachv")) return tile_each();
  if (starts_declaration()) {
    const Stmt* result = declaration();
    reader_.expect(";", "after the declaration");
    return result;
  }
  Stmt* result = make(StmtKind::kExpr, token);
  result->expr = statement_expression();
  reader_.expect(";", "after the statement");
  return result;
}

const Stmt* BodyParser::if_statement(StmtKind kind) {
  const Nesting nesting(*this);
  const Token token = reader_.take();
  Stmt* result = make(kind, token);
  reader_.expect("(", "after 'if'");
  result->expr = expression();
  reader_.expect(")", "after the condition");
  result->first = statement();
  if (reader_.accept("else")) {
    // `else if` after a `static if` stays static only when it says so.
    result->second = statement();
  }
  return result;
}

const Stmt* BodyParser::for_statement(bool unroll) {
  const Token token = reader_.take();
  Stmt* result = make(StmtKind::kFor, token);
  result->flag = unroll;
  reader_.expect("(", "after 'for'");
  if (!reader_.is(";")) {
    if (starts_declaration()) {
      result->first = declaration();
    } else {
      const Token first = reader_.peek();
      Stmt* init = make(StmtKind::kExpr, first);
      init->expr = statement_expression();
      result->first = init;
    }
  }
  reader_.expect(";", "after the first part of 'for'");
  if (!reader_.is(";")) result->expr = expression();
  reader_.expect(";", "after the condition of 'for'");
  if (!reader_.is(")")) result->step = statement_expression();
  reader_.expect(")", "after the header of 'for'");
  result->second = statement();
  return result;
}

const Stmt* BodyParser::static_statement() {
  const Token token = reader_.take();
  if (reader_.is("if")) return if_statement(StmtKind::kStaticIf);
  if (!reader_.accept("for")) reader_.fail("expected 'if' or 'for' after 'static'");
  Stmt* result = make(StmtKind::kStaticFor, token);
  reader_.expect("(", "after 'static for'");
  if (reader_.is_name(1) && (reader_.is("int") || reader_.is("uint"))) reader_.take();
  result->name = reader_.declare_name("the variable of a 'static for'").text;
  reader_.expect("=", "after the variable of 'static for'");
  result->init = expression();
  reader_.expect(";", "after the first part of 'static for'");
  result->expr = expression();
  reader_.expect(";", "after the condition of 'static for'");
  result->step = statement_expression();
  reader_.expect(")", "after the header of 'static for'");
  result->first = statement();
  return result;
}

const Stmt* BodyParser::tile_each() {
  const bool vectors = reader_.is("tile_eachv");
  Stmt* result = make(StmtKind::kTileEach, reader_.take());
  result->flag = vectors;
  reader_.expect("(", "after 'tile_each'");
  constexpr std::array<std::string_view, 4> kNames = {"an accumulator", "the row's name",
                                                      "the column's name", "the element's name"};
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (i > 0) reader_.expect(",", "between the arguments of 'tile_each'");
    result->names.push_back(reader_.declare_name(kNames[i]).text);
  }
  reader_.expect(")", "after the arguments of 'tile_each'");
  result->first = block();
  return result;
}

const Stmt* BodyParser::declaration() {
  Stmt* result = make(StmtKind::kDeclare, reader_.peek());
  result->flag = reader_.accept("const");
  result->name = reader_.take_name("a type").text;
  do {
    declarator(result->declarators.emplace_back());
  } while (reader_.accept(","));
  return result;
}

void BodyParser::declarator(Declarator& into) {
  const Token& name = reader_.declare_name("a variable");
  into.name = name.text;
  into.at = name.at;
  while (reader_.accept("[")) {
    into.dims.push_back(expression());
    reader_.expect("]", "after the size of an array");
  }
  if (!reader_.accept("=")) return;
  if (!reader_.accept("{")) {
    into.init = expression();
    return;
  }
  do {
    if (reader_.is("}")) break;  // a trailing comma
    into.list.push_back(expression());
  } while (reader_.accept(","));
  reader_.expect("}", "after the elements of an array");
  if (into.dims.size() != 1) reader_.fail(name, "only an array of one dimension takes a list");
}

const Expr* BodyParser::statement_expression() {
  const Token token = reader_.peek();
  const Expr* first = assignment();
  if (!reader_.is(",")) return first;
  std::vector<const Expr*> parts{first};
  while (reader_.accept(",")) parts.push_back(assignment());
  return make(ExprKind::kComma, token, std::move(parts));
}

const Expr* BodyParser::assignment() {
  const Expr* left = expression();
  const Token token = reader_.peek();
  if (token.kind != TokenKind::kPunct || !contains(kAssignments, token.text)) return left;
  reader_.take();
  return make(ExprKind::kAssign, token, {left, expression()});
}

const Expr* BodyParser::expression() { return ternary(); }

const Expr* BodyParser::ternary() {
  const Nesting nesting(*this);
  const Expr* condition = binary(1);
  const Token token = reader_.peek();
  if (!reader_.accept("?")) return condition;
  const Expr* first = ternary();
  reader_.expect(":", "between the branches of '?:'");
  const Expr* second = ternary();
  return make(ExprKind::kTernary, token, {condition, first, second});
}

const Expr* BodyParser::binary(int minimum) {
  const Expr* left = prefix();
  for (;;) {
    const Token token = reader_.peek();
    const int precedence = precedence_of(token);
    if (precedence < minimum || precedence == 0) break;
    reader_.take();
    const Nesting nesting(*this);
    const Expr* right = binary(precedence + 1);
    left = make(ExprKind::kBinary, token, {left, right});
  }
  return left;
}

const Expr* BodyParser::prefix() {
  const Token token = reader_.peek();
  constexpr std::array<std::string_view, 6> kPrefixes = {"-", "+", "!", "~", "++", "--"};
  if (token.kind != TokenKind::kPunct || !contains(kPrefixes, token.text)) return postfix();
  const Nesting nesting(*this);
  reader_.take();
  return make(ExprKind::kPrefix, token, {prefix()});
}

const Expr* BodyParser::postfix() {
  const Expr* value = primary();
  constexpr int kMostIndices = 8;
  for (int count = 0;; ++count) {
    const Token token = reader_.peek();
    if (count > kMostIndices) reader_.fail("this is nested too deeply");
    if (reader_.accept("[")) {
      const Expr* index = expression();
      reader_.expect("]", "after an index");
      value = make(ExprKind::kIndex, token, {value, index});
    } else if (reader_.is("++") || reader_.is("--")) {
      reader_.take();
      value = make(ExprKind::kPostfix, token, {value});
    } else if (reader_.is(".")) {
      reader_.fail("the dialect has no members; lanes are read with lane(v, i)");
    } else {
      return value;
    }
  }
}

const Expr* BodyParser::primary() {
  const Token token = reader_.peek();
  switch (token.kind) {
    case TokenKind::kInt:
      reader_.take();
      return make(ExprKind::kInt, token);
    case TokenKind::kUint:
      reader_.take();
      return make(ExprKind::kUint, token);
    case TokenKind::kFloat:
      reader_.take();
      return make(ExprKind::kFloat, token);
    case TokenKind::kName:
      break;
    default:
      if (reader_.accept("(")) {
        const Expr* inner = expression();
        reader_.expect(")", "after an expression in parentheses");
        return inner;
      }
      reader_.fail("expected an expression but found " + reader_.describe());
  }
  reader_.take();
  if (contains(kForbidden, token.text)) {
    reader_.fail(token, "the dialect has no '" + std::string(token.text) + "'");
  }
  if (!reader_.accept("(")) return make(ExprKind::kName, token);
  std::vector<const Expr*> args;
  if (!reader_.accept(")")) {
    do {
      args.push_back(expression());
    } while (reader_.accept(","));
    reader_.expect(")", "after the arguments of '" + std::string(token.text) + "'");
  }
  return make(ExprKind::kCall, token, std::move(args));
}

}  // namespace dlk::dialect
