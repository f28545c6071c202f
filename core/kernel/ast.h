// The syntax tree of the dialect. Nodes live in the arena of their Unit (one parsed text) and never
// change after parsing; a variant is printed by walking them with its constants and types.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/kernel/source_text.h"

namespace dlk::dialect {

enum class ExprKind : uint8_t {
  kInt,      // text, value
  kUint,     // text, value
  kFloat,    // text without suffix
  kName,     // text
  kIndex,    // args: array, index
  kCall,     // text: function or type; args
  kPrefix,   // text: operator; args: operand
  kPostfix,  // text: ++ or --; args: operand
  kBinary,   // text: operator; args: left, right
  kAssign,   // text: operator; args: place, value
  kTernary,  // args: condition, then, else
  kComma,    // args
};

struct Expr {
  ExprKind kind = ExprKind::kInt;
  uint16_t depth = 1;  // of the tree below, bounded by the parser
  uint32_t at = 0;
  std::string_view text;
  int64_t value = 0;
  std::vector<const Expr*> args;
};

struct Declarator {
  std::string_view name;
  uint32_t at = 0;
  std::vector<const Expr*> dims;
  const Expr* init = nullptr;
  std::vector<const Expr*> list;  // of an array's { ... }
};

enum class StmtKind : uint8_t {
  kBlock,    // body
  kDeclare,  // name: type; declarators; flag: const
  kExpr,     // expr
  kIf,       // expr; first: then; second: else or null
  kFor,    // first: init or null; expr: condition or null; step or null; second: body; flag: unroll
  kWhile,  // expr; first
  kDo,     // first; expr
  kBreak,
  kContinue,
  kReturn,     // expr or null
  kStaticIf,   // as kIf
  kStaticFor,  // name: variable; init, expr: condition, step; first: body
  kTileEach,   // names: accumulator, row, column, element; first: body; flag: vectors
};

struct Stmt {
  StmtKind kind = StmtKind::kBlock;
  uint32_t at = 0;
  bool flag = false;
  std::string_view name;
  std::vector<std::string_view> names;
  std::vector<Declarator> declarators;
  const Expr* init = nullptr;
  const Expr* expr = nullptr;
  const Expr* step = nullptr;
  const Stmt* first = nullptr;
  const Stmt* second = nullptr;
  std::vector<const Stmt*> body;
};

struct FunctionParam {
  std::string_view type;
  std::string_view name;
  uint32_t at = 0;
};

struct Unit;

struct Function {
  std::string_view name;
  std::string_view return_type;
  uint32_t at = 0;
  std::vector<FunctionParam> params;
  const Stmt* body = nullptr;
  const Unit* unit = nullptr;
};

enum class DeclKind : uint8_t { kType, kConst, kBuffer, kParam, kLocal, kTile, kAcc };

/// One name that a kernel's header declares.
struct HeaderDecl {
  DeclKind kind = DeclKind::kConst;
  std::string_view name;
  uint32_t at = 0;
  std::string_view type;          // of everything but constants; a kType's default
  std::string_view access;        // in, out, inout
  const Expr* value = nullptr;    // a constant's default
  std::vector<const Expr*> dims;  // of a param array, a local array, a tile, an accumulator
  const Expr* stages = nullptr;   // of a tile
  const Expr* when = nullptr;     // exists only where this is not 0
};

struct KernelDecl {
  std::string_view name;
  uint32_t at = 0;
  std::vector<HeaderDecl> decls;  // in source order
  std::vector<const Expr*> group;
  bool has_epilogue = false;
  bool uses_subgroups = false;
  const Stmt* body = nullptr;
  const Unit* unit = nullptr;
};

/// One parsed text.
struct Unit {
  SourceText source;
  std::string_view library;  // empty: its functions are its own
  std::vector<std::string_view> uses;
  std::deque<KernelDecl> kernels;
  std::deque<Function> functions;
  std::deque<Expr> exprs;
  std::deque<Stmt> stmts;
};

}  // namespace dlk::dialect
