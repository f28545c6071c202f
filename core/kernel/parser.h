// Parses one text of the dialect. Finds everything that is wrong with its shape (syntax, duplicate
// names of a header, nesting beyond a limit); what depends on constants and types is found when a
// variant is printed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/kernel/ast.h"
#include "core/kernel/lexer.h"

namespace dlk::dialect {

/// Kernels, functions or a library. CompileFailed with the position for what is wrong.
std::unique_ptr<Unit> parse_unit(std::string_view name, std::string_view text);

/// A text that is one expression (an epilogue); the unit owns the expression's nodes.
std::unique_ptr<Unit> parse_expression(std::string_view name, std::string_view text,
                                       const Expr** expression);

/// Reads tokens; shared by the parsers of headers and bodies.
class TokenReader {
 public:
  TokenReader(const SourceText& source, std::vector<Token> tokens)
      : source_(source), tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const;
  const Token& take();
  bool at_end() const { return peek().kind == TokenKind::kEnd; }
  bool is(std::string_view text) const;
  bool is_name(size_t ahead = 0) const { return peek(ahead).kind == TokenKind::kName; }
  bool accept(std::string_view text);
  void expect(std::string_view text, std::string_view where);
  /// A name that the dialect does not keep for itself.
  const Token& declare_name(std::string_view what);
  const Token& take_name(std::string_view what);
  [[noreturn]] void fail(const std::string& message) const { fail_at(source_, peek().at, message); }
  [[noreturn]] void fail(const Token& token, const std::string& message) const {
    fail_at(source_, token.at, message);
  }
  /// "'x'", or "the end of the file".
  std::string describe() const;

 private:
  const SourceText& source_;
  std::vector<Token> tokens_;
  size_t next_ = 0;
};

/// Parses statements and expressions into a unit's arena.
class BodyParser {
 public:
  BodyParser(Unit& unit, TokenReader& reader) : unit_(unit), reader_(reader) {}
  const Stmt* block();
  const Expr* expression();  // without commas and assignments
  const Expr* statement_expression();

 private:
  struct Nesting;
  const Stmt* statement();
  const Stmt* declaration();
  void declarator(Declarator& into);
  const Stmt* for_statement(bool unroll);
  const Stmt* static_statement();
  const Stmt* tile_each();
  const Stmt* if_statement(StmtKind kind);
  bool starts_declaration() const;
  const Expr* assignment();
  const Expr* ternary();
  const Expr* binary(int minimum);
  const Expr* prefix();
  const Expr* postfix();
  const Expr* primary();
  const Expr* make(ExprKind kind, const Token& token, std::vector<const Expr*> args = {});
  Stmt* make(StmtKind kind, const Token& token);

  Unit& unit_;
  TokenReader& reader_;
  int depth_ = 0;
};

}  // namespace dlk::dialect
