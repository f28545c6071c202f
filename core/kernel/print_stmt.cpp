// Statements, declarations, and what is resolved before printing: static if, static for.
#include <algorithm>

#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

namespace {

constexpr uint32_t kMostExpansions = 20000;
constexpr size_t kLongestText = 4u << 20;

/// A statement of a loop's body holds a 'break' or 'continue' of that loop.
bool leaves_loop(const Stmt* stmt) {
  if (stmt == nullptr) return false;
  switch (stmt->kind) {
    case StmtKind::kBreak:
    case StmtKind::kContinue:
      return true;
    case StmtKind::kFor:
    case StmtKind::kWhile:
    case StmtKind::kDo:
    case StmtKind::kTileEach:
      return false;
    default:
      return leaves_loop(stmt->first) || leaves_loop(stmt->second) ||
             std::ranges::any_of(stmt->body, leaves_loop);
  }
}

}  // namespace

void Printer::line(std::string_view text) {
  if (context_.out->size() > kLongestText) {
    throw Error(ErrorCode::kCompileFailed, "the printed text of the kernel '" +
                                               std::string(variant_.decl->name) +
                                               "' is longer than 4 MiB; expand less");
  }
  context_.out->append(static_cast<size_t>(context_.indent) * 2, ' ');
  context_.out->append(text);
  context_.out->push_back('\n');
}

void Printer::open(std::string_view text) {
  line(text);
  ++context_.indent;
}

void Printer::close(std::string_view text) {
  --context_.indent;
  line(text);
}

void Printer::pop_scope() {
  symbols_.resize(scopes_.back());
  scopes_.pop_back();
}

void Printer::count_expansion(uint32_t at) {
  if (++expansions_ > kMostExpansions) {
    fail(at, "'static for' makes more than " + std::to_string(kMostExpansions) +
                 " copies in this kernel");
  }
}

void Printer::declare(std::string_view name, uint32_t at, Symbol symbol) {
  const size_t first = scopes_.empty() ? 0 : scopes_.back();
  for (size_t i = first; i < symbols_.size(); ++i) {
    if (symbols_[i].name == name) {
      fail(at, "'" + std::string(name) + "' is declared twice in this block");
    }
  }
  if (context_.in_kernel && variant_.exists(name)) {
    fail(at, "'" + std::string(name) + "' hides what the kernel's header declares");
  }
  symbol.name = name;
  if (symbol.printed.empty()) symbol.printed = safe_name(name);
  symbols_.push_back(std::move(symbol));
}

void Printer::statement(const Stmt* stmt) {
  switch (stmt->kind) {
    case StmtKind::kBlock:
      if (stmt->body.empty()) return;
      open("{");
      push_scope();
      for (const Stmt* inner : stmt->body) statement(inner);
      pop_scope();
      close();
      return;
    case StmtKind::kDeclare:
      return declaration(stmt);
    case StmtKind::kExpr:
      if (stmt->expr->kind == ExprKind::kCall && is_tile_call(stmt->expr->text) &&
          context_.in_kernel) {
        if (variant_.tiles.empty()) fail(stmt->at, "this kernel declares no tiles");
        return tile_lowering(variant_.request->lowering).call(*this, stmt->expr);
      }
      return line(inline_expression(stmt->expr) + ";");
    case StmtKind::kIf:
      return if_statement(stmt);
    case StmtKind::kFor:
      return for_statement(stmt);
    case StmtKind::kWhile:
      open("while (" + condition(stmt->expr).text + ") {");
      loop_body(stmt->first);
      return close();
    case StmtKind::kDo:
      return do_statement(stmt);
    case StmtKind::kBreak:
    case StmtKind::kContinue: {
      const bool is_break = stmt->kind == StmtKind::kBreak;
      const bool in_tile_each = context_.tile_blocks > 0 && context_.loops == 0 && !is_break;
      if (context_.loops == 0 && !in_tile_each) {
        fail(stmt->at, "there is no loop here to leave ('static for' is expanded, and is none)");
      }
      return line(is_break ? "break;" : "continue;");
    }
    case StmtKind::kReturn:
      return return_statement(stmt);
    case StmtKind::kStaticIf:
      return static_if(stmt);
    case StmtKind::kStaticFor:
      return static_for(stmt);
    case StmtKind::kTileEach:
      if (!context_.in_kernel || variant_.tiles.empty()) {
        fail(stmt->at, "tile_each needs an accumulator of this kernel");
      }
      ++context_.tile_blocks;
      const int loops = std::exchange(context_.loops, 0);
      tile_lowering(variant_.request->lowering).each(*this, stmt);
      context_.loops = loops;
      --context_.tile_blocks;
      return;
  }
}

std::string Printer::inline_expression(const Expr* expr) {
  if (expr->kind == ExprKind::kComma) {
    std::string text;
    for (const Expr* part : expr->args)
      text += (text.empty() ? "" : ", ") + inline_expression(part);
    return text;
  }
  const bool does_something = expr->kind == ExprKind::kAssign || expr->kind == ExprKind::kCall ||
                              expr->kind == ExprKind::kPostfix ||
                              (expr->kind == ExprKind::kPrefix && expr->text.size() == 2);
  if (!does_something) fail(expr->at, "this statement does nothing");
  return expression(expr).text;
}

// The statements of a loop's or branch's body, without braces, in a scope of their own.
void Printer::body_of(const Stmt* stmt) {
  push_scope();
  if (stmt->kind == StmtKind::kBlock) {
    for (const Stmt* inner : stmt->body) statement(inner);
  } else {
    statement(stmt);
  }
  pop_scope();
}

void Printer::loop_body(const Stmt* stmt) {
  ++context_.loops;
  body_of(stmt);
  --context_.loops;
}

void Printer::if_statement(const Stmt* stmt) {
  open("if (" + condition(stmt->expr).text + ") {");
  body_of(stmt->first);
  if (stmt->second != nullptr) {
    close("} else {");
    ++context_.indent;
    body_of(stmt->second);
  }
  close();
}

void Printer::for_statement(const Stmt* stmt) {
  push_scope();
  std::string header(stmt->flag ? target_.unroll : "");
  header += "for (";
  if (stmt->first != nullptr && stmt->first->kind == StmtKind::kDeclare) {
    const Base base = type_named(stmt->first->name, stmt->first->at);
    std::string text;
    for (const Declarator& declarator : stmt->first->declarators) {
      if (!declarator.dims.empty()) fail(declarator.at, "an array is declared before the loop");
      text +=
          (text.empty() ? type(base) + " " : ", ") + declarator_text(stmt->first, base, declarator);
    }
    header += text;
  } else if (stmt->first != nullptr) {
    header += inline_expression(stmt->first->expr);
  }
  header += "; " + (stmt->expr == nullptr ? "" : condition(stmt->expr).text) + "; ";
  if (stmt->step != nullptr) header += inline_expression(stmt->step);
  open(header + ") {");
  loop_body(stmt->second);
  close();
  pop_scope();
}

// What a constant lets run once is a block: no target sees a loop there.
void Printer::do_statement(const Stmt* stmt) {
  const Value again = condition(stmt->expr);
  if (again.is_const && again.value == 0 && !leaves_loop(stmt->first)) {
    open("{");
    body_of(stmt->first);
    return close();
  }
  open("do {");
  loop_body(stmt->first);
  close("} while (" + again.text + ");");
}

void Printer::static_if(const Stmt* stmt) {
  const bool taken = evaluate(*source_, stmt->expr, *this) != 0;
  const Stmt* chosen = taken ? stmt->first : stmt->second;
  if (chosen == nullptr) return;
  // Declarations of the chosen branch stay in a block of their own, as in C.
  if (chosen->kind == StmtKind::kBlock || chosen->kind == StmtKind::kStaticIf ||
      chosen->kind == StmtKind::kStaticFor) {
    statement(chosen);
  } else {
    open("{");
    body_of(chosen);
    close();
  }
}

void Printer::static_for(const Stmt* stmt) {
  int64_t value = evaluate(*source_, stmt->init, *this);
  const Expr* step = stmt->step;
  const bool names_variable = !step->args.empty() && step->args[0]->kind == ExprKind::kName &&
                              step->args[0]->text == stmt->name;
  if (!names_variable) fail(step->at, "'static for' steps its own variable");
  const int loops = std::exchange(context_.loops, 0);
  const int tile_blocks = std::exchange(context_.tile_blocks, 0);
  for (;;) {
    count_expansion(stmt->at);
    push_scope();
    Symbol symbol;
    symbol.base = Base::kFlex;
    symbol.is_const = symbol.is_known = true;
    symbol.value = value;
    declare(stmt->name, stmt->at, std::move(symbol));
    const bool goes_on = evaluate(*source_, stmt->expr, *this) != 0;
    if (goes_on) {
      statement(stmt->first);
      if (step->text == "++" || step->text == "--") {
        if (value == INT64_MAX || value == INT64_MIN) fail(step->at, "this variable overflows");
        value += step->text == "++" ? 1 : -1;
      } else if (step->kind == ExprKind::kAssign) {
        const int64_t right = evaluate(*source_, step->args[1], *this);
        Expr plain = *step;
        plain.text = step->text.substr(0, step->text.size() - 1);
        value = plain.text.empty() ? right : apply_binary(*source_, &plain, value, right);
      } else {
        fail(step->at, "'static for' steps with ++, --, or an assignment");
      }
    }
    pop_scope();
    if (!goes_on) break;
  }
  context_.loops = loops;
  context_.tile_blocks = tile_blocks;
}

void Printer::return_statement(const Stmt* stmt) {
  if (context_.tile_blocks > 0) fail(stmt->at, "tile_each cannot return");
  if (stmt->expr == nullptr) {
    if (context_.returns != Base::kVoid) fail(stmt->at, "this function returns a value");
    if (context_.in_kernel) returned_ = true;
    return line("return;");
  }
  if (context_.returns == Base::kVoid) fail(stmt->at, "there is no value to return here");
  line("return " + converted(stmt->expr, context_.returns) + ";");
}

bool Printer::declare_known(const Stmt* stmt, Base base, const Declarator& declarator) {
  const bool is_integer = base == Base::kInt || base == Base::kUint || base == Base::kBool;
  if (!stmt->flag || !is_integer || declarator.init == nullptr || !declarator.dims.empty()) {
    return false;
  }
  Value value = expression(declarator.init, base);
  if (value.base == Base::kFlex) value = coerce(std::move(value), base, declarator.init->at);
  if (!value.is_const || value.base != base) return false;
  Symbol symbol;
  symbol.base = base;
  symbol.is_const = symbol.is_known = true;
  symbol.value = value.value;
  declare(declarator.name, declarator.at, std::move(symbol));
  return true;
}

std::string Printer::declarator_text(const Stmt* stmt, Base base, const Declarator& declarator) {
  std::string text = safe_name(declarator.name);
  int64_t elements = 1;
  constexpr int64_t kMostElements = 65536;
  for (const Expr* dim : declarator.dims) {
    const int64_t size = constant_in(dim, 1, kMostElements, "the size of an array");
    elements *= size;
    if (elements > kMostElements) fail(dim->at, "this array has too many elements");
    text += "[" + std::to_string(size) + "]";
  }
  if (declarator.init != nullptr) {
    if (!declarator.dims.empty()) fail(declarator.at, "an array takes a list: { a, b }");
    text += " = " + converted(declarator.init, base);
  } else if (!declarator.list.empty()) {
    if (static_cast<int64_t>(declarator.list.size()) != elements) {
      fail(declarator.at, "the array has " + std::to_string(elements) + " elements, the list " +
                              std::to_string(declarator.list.size()));
    }
    std::string list;
    for (const Expr* item : declarator.list)
      list += (list.empty() ? "" : ", ") + converted(item, base);
    text += " = {" + list + "}";
  } else if (stmt->flag) {
    fail(declarator.at, "a 'const' needs a value");
  }
  Symbol symbol;
  symbol.base = base;
  symbol.rank = static_cast<uint8_t>(declarator.dims.size());
  symbol.is_const = stmt->flag;
  declare(declarator.name, declarator.at, std::move(symbol));
  return text;
}

void Printer::declaration(const Stmt* stmt) {
  const Base base = type_named(stmt->name, stmt->at);
  if (base == Base::kVoid) fail(stmt->at, "a variable is not void");
  for (const Declarator& declarator : stmt->declarators) {
    if (declarator.dims.size() > 3) fail(declarator.at, "an array has at most three dimensions");
    if (declare_known(stmt, base, declarator)) continue;
    const std::string constness = stmt->flag && !declarator.list.empty() ? "const " : "";
    line(constness + type(base) + " " + declarator_text(stmt, base, declarator) + ";");
  }
}

}  // namespace dlk::dialect
