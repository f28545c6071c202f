// Prints one variant for one target. Walks the tree with the variant's constants and types, checks
// names, types and arities on the way, and resolves everything static. Errors point into the
// source. The class is shared by print_expr, print_call, print_stmt and print_module.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernel/targets.h"
#include "core/kernel/variant.h"

namespace dlk::dialect {

/// Where functions are found: those of a unit, of the libraries it uses, and of `math`.
class FunctionIndex {
 public:
  virtual ~FunctionIndex() = default;
  virtual const Function* find(const Unit& from, std::string_view name) const = 0;
  virtual const Function* find_in_math(std::string_view name) const = 0;
  /// For epilogues, which see every library.
  virtual const Function* find_anywhere(std::string_view name) const = 0;
};

/// A printed expression with what is known of it.
struct Value {
  std::string text;
  Base base = Base::kVoid;
  uint8_t rank = 0;       // of arrays
  bool simple = false;    // needs no parentheses as an operand
  bool is_const = false;  // `value` is known; base is kFlex, kBool, kInt or kUint
  bool is_place = false;  // can be assigned
  bool float_literal = false;
  int64_t value = 0;
};

inline Value value_of(std::string text, Base base, bool simple = true) {
  Value value;
  value.text = std::move(text);
  value.base = base;
  value.simple = simple;
  return value;
}

struct Symbol {
  std::string_view name;
  Base base = Base::kVoid;
  uint8_t rank = 0;
  bool is_const = false;  // cannot be assigned
  bool is_known = false;  // `value` is its value, it is not declared in the printed text
  int64_t value = 0;
  std::string printed;
};

class Printer : private ConstNames {
 public:
  Printer(const Variant& variant, const FunctionIndex& functions, const Target& target);
  KernelCode print(const Caps& caps);

  // For the tile lowerings.
  const Variant& variant() const { return variant_; }
  const Target& target() const { return target_; }
  Value expression(const Expr* expr, Base hint = Base::kVoid);
  std::string converted(const Expr* expr, Base want);
  void line(std::string_view text);
  void open(std::string_view text);
  void close(std::string_view text = "}");
  void statement(const Stmt* stmt);
  void push_scope() { scopes_.push_back(symbols_.size()); }
  void pop_scope();
  void declare(std::string_view name, uint32_t at, Symbol symbol);
  int64_t constant_in(const Expr* expr, int64_t least, int64_t most, std::string_view what);
  std::string type(Base base) const { return type_text(target_, base, variant_.vector_width); }
  std::string lane(const std::string& vector, uint32_t lane) const;
  /// VW elements of the buffer, one, and the place of 16 aligned bytes of it, from `index` on.
  std::string vector_from(const Expr* buffer, const std::string& index);
  std::string scalar_from(const Expr* buffer, const std::string& index);
  std::string chunk_at(const Expr* buffer, const std::string& index);
  /// A line at the start of the kernel's body, printed after the body is known.
  void declare_late(const std::string& text) { late_ += "  " + text + "\n"; }
  /// Functions before the kernel, once; and extensions of GLSL.
  void add_prelude(const std::string& text);
  void need_extension(const std::string& name) { extensions_.insert(name); }
  std::string next_tile_site() { return "dlk_copy" + std::to_string(tile_sites_++); }
  std::vector<std::function<void(Printer&)>>& pending_lands() { return pending_lands_; }
  [[noreturn]] void fail(uint32_t at, const std::string& message) const {
    fail_at(*source_, at, message);
  }

 private:
  // What is different between a kernel's body and a function's.
  struct Context {
    const SourceText* source = nullptr;
    const Unit* unit = nullptr;
    std::string* out = nullptr;
    int indent = 0;
    bool in_kernel = true;
    bool sees_libraries = false;
    Base returns = Base::kVoid;
    int loops = 0;
    int tile_blocks = 0;
    size_t first_symbol = 0;  // functions do not see the caller's names
  };
  enum BlockKind : uint8_t { kScalarBlock = 1, kVectorBlock = 2, kBitsBlock = 4, kChunkBlock = 8 };

  std::optional<int64_t> constant(std::string_view name) const override;
  std::optional<DType> type(std::string_view name) const override { return variant_.type(name); }
  std::optional<bool> exists(std::string_view name) const override { return variant_.exists(name); }

  // print_expr.cpp
  /// What `float` is here: double in a WIDE kernel and its functions, but not in those of `math`.
  Base float_base() const {
    return variant_.wide && !is_math(context_.unit) ? Base::kDouble : Base::kFloat;
  }
  static bool is_math(const Unit* unit) { return unit != nullptr && unit->library == "math"; }
  Base vector_base() const { return variant_.vector_width == 1 ? float_base() : Base::kVec; }
  Value splat(const std::string& scalar, Base vector) const;
  std::optional<Base> base_of_type(std::string_view name) const;
  Base type_named(std::string_view name, uint32_t at);
  const Symbol* find_symbol(std::string_view name) const;
  Value named(const Expr* expr);
  Value known(Base base, int64_t value, uint32_t at = 0) const;
  std::string literal(Base base, int64_t value, uint32_t at) const;
  std::string operand(const Value& value) const;
  Value coerce(Value value, Base want, uint32_t at);
  Base unify(Value& left, Value& right, uint32_t at);
  Value condition(const Expr* expr);
  Value index(const Expr* expr);
  std::string subscript(const Expr* expr);
  Value binary(const Expr* expr, Base hint);
  Value fold(const Expr* expr, const Value& left, const Value& right);
  Value arithmetic(std::string_view op, Value left, Value right, uint32_t at);
  Value comparison(std::string_view op, Value left, Value right, uint32_t at);
  Value shift(std::string_view op, Value left, Value right, uint32_t at);
  Value prefix(const Expr* expr, Base hint);
  Value step_operator(const Expr* expr);
  Value assign(const Expr* expr);
  Value ternary(const Expr* cond, const Expr* first, const Expr* second, Base hint, uint32_t at);
  Value place(const Expr* expr);

  // print_call.cpp
  Value call(const Expr* expr, Base hint);
  bool buffer_call(const Expr* expr, Value* result);
  bool vector_call(const Expr* expr, Value* result);
  Value cast(const Expr* expr, Base to);
  Value converted_to(Value value, Base to, uint32_t at);
  Value function_call(const Expr* expr, const Function& function);
  Value builtin_call(const Expr* expr, Base hint);
  Value epilogue_call(const Expr* expr);
  Value subgroup_call(const Expr* expr);
  Value math_call(std::string_view name, std::vector<Value> args, uint32_t at);
  void want_args(const Expr* expr, size_t count) const;
  const BufferVar& buffer_named(const Expr* expr) const;
  const LocalVar& local_named(const Expr* expr) const;
  std::string element(const BufferVar& buffer, const std::string& index, BlockKind kind);
  Value load(const BufferVar& buffer, const std::string& index);
  std::string store(const BufferVar& buffer, const std::string& index, Value value, uint32_t at);
  Value load_vector(const BufferVar& buffer, const std::string& index, uint32_t at);
  std::string store_vector(const BufferVar& buffer, const std::string& index, const Value& value,
                           uint32_t at);
  std::string local_vector(const LocalVar& local, const std::string& index) const;
  void want_access(const BufferVar& buffer, bool load, bool store, uint32_t at) const;
  void need_vector_storage(const BufferVar& buffer, uint32_t at);

  // print_run.cpp
  bool run_call(const Expr* expr, Value* result);
  Value epilogue_run(const Expr* expr);
  Value load_run(const BufferVar& buffer, const std::string& index, const std::string& count,
                 uint32_t at);
  std::string store_run(const BufferVar& buffer, const std::string& index, const Value& value,
                        const std::string& count, uint32_t at);
  bool moves_runs(const BufferVar& buffer) const;
  std::string vector_of(const std::vector<std::string>& lanes) const;

  // print_stmt.cpp
  void declaration(const Stmt* stmt);
  std::string declarator_text(const Stmt* stmt, Base base, const Declarator& declarator);
  bool declare_known(const Stmt* stmt, Base base, const Declarator& declarator);
  std::string inline_expression(const Expr* expr);
  void body_of(const Stmt* stmt);
  void loop_body(const Stmt* stmt);
  void if_statement(const Stmt* stmt);
  void for_statement(const Stmt* stmt);
  void do_statement(const Stmt* stmt);
  void static_if(const Stmt* stmt);
  void static_for(const Stmt* stmt);
  void return_statement(const Stmt* stmt);
  void count_expansion(uint32_t at);

  // print_module.cpp
  void check_caps(const Caps& caps) const;
  void print_body();
  std::string opencl_text(const Caps& caps);
  std::string glsl_text(bool params_in_buffer);
  std::string glsl_extensions() const;
  std::string glsl_interface(bool params_in_buffer) const;
  std::string msl_text();
  std::string local_arrays() const;
  std::string printed_function(const Function& function);
  void emit_function(const Function& function);
  void emit_epilogue();
  std::string vector_wrapper(const Function& function);
  std::string safe_name(std::string_view name) const;
  bool local_is_vector(std::string_view name) const;
  BufferVar epilogue_buffer(size_t operand) const;
  std::vector<BufferVar> bound_buffers() const;

  const Variant& variant_;
  const FunctionIndex& functions_;
  const Target& target_;
  const SourceText* source_;
  Context context_;
  std::vector<Symbol> symbols_;
  std::vector<size_t> scopes_;
  std::string body_;
  std::string late_;
  std::set<std::string> extensions_, preludes_;
  uint32_t tile_sites_ = 0;
  std::vector<std::function<void(Printer&)>> pending_lands_;
  std::string prelude_;                             // functions, in order of need
  std::map<const Function*, bool> functions_done_;  // false: being printed
  std::set<std::string> vector_wrappers_;
  std::map<std::string_view, uint8_t> blocks_;  // buffer -> BlockKind bits in use
  std::set<std::string_view> vector_locals_;    // local arrays that ldl and stl touch
  std::set<std::string_view> indexed_params_;   // array parameters with a varying index
  std::unique_ptr<Unit> epilogue_unit_;
  const Expr* epilogue_expr_ = nullptr;
  bool uses_bf16_vector_ = false;
  std::vector<std::string> epilogue_operands_;  // names inside of the epilogue
  bool uses_barrier_ = false, uses_fence_ = false;
  bool returned_ = false;  // a `return` stands before
  size_t call_depth_ = 0;
  bool uses_fp64_ = false, uses_int64_ = false, uses_fp16_ = false;
  uint32_t expansions_ = 0;
};

/// Tile calls are printed by the variant's lowering; nullopt for other names.
bool is_tile_call(std::string_view name);

}  // namespace dlk::dialect
