// The text around a kernel's body: extensions, bindings, parameters, local arrays, functions.
#include <algorithm>

#include "core/kernel/parser.h"
#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

namespace {

std::string number(uint64_t value) { return std::to_string(value); }

std::string_view param_type(char kind) {
  return kind == 'u' ? "uint" : kind == 'i' ? "int" : "float";
}

// Names of local arrays that ldl and stl touch, anywhere in the body.
void find_vector_locals(const Expr* expr, std::set<std::string_view>& into) {
  if (expr == nullptr) return;
  if (expr->kind == ExprKind::kCall && (expr->text == "ldl" || expr->text == "stl") &&
      !expr->args.empty()) {
    into.insert(expr->args[0]->text);
  }
  for (const Expr* arg : expr->args) find_vector_locals(arg, into);
}

void find_vector_locals(const Stmt* stmt, std::set<std::string_view>& into) {
  if (stmt == nullptr) return;
  for (const Expr* expr : {stmt->init, stmt->expr, stmt->step}) find_vector_locals(expr, into);
  for (const Declarator& declarator : stmt->declarators) find_vector_locals(declarator.init, into);
  find_vector_locals(stmt->first, into);
  find_vector_locals(stmt->second, into);
  for (const Stmt* inner : stmt->body) find_vector_locals(inner, into);
}

uint64_t hash_bytes(uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

uint64_t hash_code(const KernelCode& code) {
  uint64_t hash = 14695981039346656037u;
  hash = hash_bytes(hash, code.name);
  hash = hash_bytes(hash, code.code);
  hash = hash_bytes(hash, code.build_options);
  std::string rest = number(static_cast<uint64_t>(code.format)) + "/" + number(code.param_bytes) +
                     "/" + number(code.params_in_buffer) + "/" + number(code.local_bytes) + "/" +
                     number(code.required_subgroup_size);
  for (const BindingInfo& binding : code.bindings) {
    rest += "/" + binding.name + number(static_cast<uint64_t>(binding.access)) + "," +
            number(binding.element_bytes);
  }
  for (const ParamInfo& param : code.params) {
    rest += "/" + param.name + param.kind + number(param.count) + "," + number(param.offset_bytes);
  }
  for (const uint32_t extent : code.group_size) rest += "/" + number(extent);
  return hash_bytes(hash, rest);
}

}  // namespace

Printer::Printer(const Variant& variant, const FunctionIndex& functions, const Target& target)
    : variant_(variant), functions_(functions), target_(target), source_(&variant.source()) {
  context_.source = source_;
  context_.unit = variant.decl->unit;
  if (target.lang == Lang::kGlsl && variant.vector_width > 1) {
    find_vector_locals(variant.decl->body, vector_locals_);
  }
}

bool Printer::local_is_vector(std::string_view name) const { return vector_locals_.contains(name); }

std::string Printer::safe_name(std::string_view name) const {
  return (is_reserved(name) ? "dlk_n_" : "") + std::string(name);
}

BufferVar Printer::epilogue_buffer(size_t operand) const {
  return {variant_.epilogue_names[operand], variant_.request->epilogue.operands[operand].dtype,
          Access::kRead, true};
}

std::vector<BufferVar> Printer::bound_buffers() const {
  std::vector<BufferVar> result;
  for (const BufferVar& buffer : variant_.buffers) {
    if (buffer.exists) result.push_back(buffer);
  }
  const auto& operands = variant_.request->epilogue.operands;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].kind != EpilogueOperand::Kind::kValue) result.push_back(epilogue_buffer(i));
  }
  return result;
}

void Printer::check_caps(const Caps& caps) const {
  const KernelInterface& needs = variant_.interface;
  const std::string kernel = "the kernel '" + std::string(variant_.decl->name) + "' ";
  const auto refuse = [&](bool wrong, const std::string& what) {
    if (wrong) {
      throw_unsupported(kernel + what + " (device " + (caps.name.empty() ? caps.id : caps.name) +
                        ")");
    }
  };
  refuse(needs.needs_fp16 && !caps.fp16_storage, "stores float16; the device lacks fp16_storage");
  refuse(uses_fp16_ && !caps.fp16_arithmetic,
         "computes in float16 (ACC16); the device lacks fp16_arithmetic");
  refuse((needs.needs_fp64 || uses_fp64_) && (!caps.fp64 || target_.lang == Lang::kMsl),
         "uses float64; the device lacks fp64");
  refuse((needs.needs_int64 || uses_int64_) && !caps.int64,
         "uses 64-bit integers; the device lacks int64");
  refuse(needs.needs_int8 && !caps.int8_storage,
         "stores 8-bit elements; the device lacks int8_storage");
  refuse(needs.needs_int16 && !caps.int16_storage,
         "stores 16-bit elements; the device lacks int16_storage");
  refuse(needs.needs_subgroups && !caps.subgroup_arithmetic,
         "uses subgroup operations; the device lacks subgroup_arithmetic");
  refuse(variant_.vector_width > target_.widest_vector,
         "wants VW=" + number(variant_.vector_width) + "; " + std::string(target_.name) +
             " has vectors of up to " + number(target_.widest_vector));
  // NVIDIA's OpenCL says 48 KB, and runs kernels with up to 227.
  const std::string& tiles = variant_.request->lowering;
  const bool is_ptx = tiles == "wgmma" || tiles == "ptx" || tiles == "async";
  const bool wide_local = !variant_.tiles.empty() && is_ptx;
  refuse(caps.local_memory_bytes != 0 && needs.local_bytes > caps.local_memory_bytes && !wide_local,
         "needs " + number(needs.local_bytes) + " bytes of local memory; the device has " +
             number(caps.local_memory_bytes));
  const uint64_t items = uint64_t{needs.group_size[0]} * needs.group_size[1] * needs.group_size[2];
  refuse(caps.max_group_invocations > 1 && items > caps.max_group_invocations,
         "has groups of " + number(items) + " work-items; the device allows " +
             number(caps.max_group_invocations));
}

KernelCode Printer::print(const Caps& caps) {
  check_caps(caps);
  KernelCode code;
  code.name = safe_name(variant_.decl->name);
  code.bindings = variant_.interface.bindings;
  code.params = variant_.interface.params;
  code.param_bytes = variant_.interface.param_bytes;
  code.group_size = variant_.interface.group_size;
  code.local_bytes = variant_.interface.local_bytes;
  if (!variant_.tiles.empty()) {
    code.required_subgroup_size = tile_lowering(variant_.request->lowering).subgroup_size();
  }
  print_body();
  check_caps(caps);  // the body may have named double or long
  switch (target_.lang) {
    case Lang::kOpenCL:
      code.format = KernelFormat::kOpenCLC;
      code.build_options = "-cl-std=CL1.2";
      if (variant_.decl->uses_subgroups) code.build_options = "-cl-std=CL2.0";
      code.code = opencl_text(caps);
      break;
    case Lang::kGlsl: {
      code.format = KernelFormat::kSpirv;
      const size_t block_bytes = 4 * code.bindings.size() + code.param_bytes;
      code.params_in_buffer = block_bytes > caps.max_push_bytes;
      code.code = glsl_text(code.params_in_buffer);
      break;
    }
    case Lang::kMsl:
      code.format = KernelFormat::kMsl;
      code.code = msl_text();
      break;
  }
  code.hash = hash_code(code);
  return code;
}

void Printer::print_body() {
  context_.out = &body_;
  context_.indent = 1;
  push_scope();
  if (!variant_.tiles.empty()) {
    const TileLowering& lowering = tile_lowering(variant_.request->lowering);
    uses_fp16_ = variant_.half_sums && !lowering.has_half_sums_of_its_own();
    lowering.begin(*this);
  }
  const size_t start = body_.size();
  for (const Stmt* stmt : variant_.decl->body->body) statement(stmt);
  body_.insert(start, late_);
  pop_scope();
}

void Printer::add_prelude(const std::string& text) {
  if (preludes_.insert(text).second) prelude_ += text;
}

void Printer::emit_function(const Function& function) {
  const auto [entry, is_new] = functions_done_.emplace(&function, false);
  if (!is_new) {
    if (!entry->second) {
      fail_at(function.unit->source, function.at,
              "the function '" + std::string(function.name) + "' calls itself");
    }
    return;
  }
  const bool in_math = function.unit->library == "math";
  if (is_own_word(function.name) && !in_math) {
    fail_at(function.unit->source, function.at,
            "'" + std::string(function.name) + "' is a function of the dialect itself");
  }
  constexpr size_t kDeepestCalls = 64;
  if (scopes_.size() > 400 || functions_done_.size() > 1000 || ++call_depth_ > kDeepestCalls) {
    fail_at(function.unit->source, function.at, "functions call each other too deeply");
  }
  const std::string text = printed_function(function);
  --call_depth_;
  prelude_ += text;
  functions_done_[&function] = true;
}

std::string Printer::printed_function(const Function& function) {
  std::string text;
  const Context outer = context_;
  const SourceText* outer_source = source_;
  context_ = Context{};
  context_.source = source_ = &function.unit->source;
  context_.unit = function.unit;
  context_.out = &text;
  context_.in_kernel = false;
  context_.first_symbol = symbols_.size();
  context_.returns = type_named(function.return_type, function.at);
  push_scope();
  std::string params;
  for (const FunctionParam& param : function.params) {
    Symbol symbol;
    symbol.base = type_named(param.type, param.at);
    if (symbol.base == Base::kVoid) fail(param.at, "a parameter is not void");
    params += (params.empty() ? "" : ", ") + type(symbol.base) + " " + safe_name(param.name);
    declare(param.name, param.at, std::move(symbol));
  }
  if (params.empty() && target_.lang == Lang::kOpenCL) params = "void";
  open(std::string(target_.function_prefix) + type(context_.returns) + " dlk_" +
       std::string(function.name) + "(" + params + ") {");
  for (const Stmt* stmt : function.body->body) statement(stmt);
  close();
  pop_scope();
  context_ = outer;
  source_ = outer_source;
  return text;
}

std::string Printer::vector_wrapper(const Function& function) {
  const std::string scalar = "dlk_" + std::string(function.name);
  const std::string name = scalar + "_v";
  if (!vector_wrappers_.insert(name).second) return name;
  const std::string vec = type(Base::kVec);
  std::string params, lanes;
  for (uint32_t i = 0; i < variant_.vector_width; ++i) {
    std::string args;
    for (size_t k = 0; k < function.params.size(); ++k) {
      args += (args.empty() ? "x" : ", x") + number(k) + lane_text(target_, i);
    }
    lanes += (lanes.empty() ? "" : ", ") + scalar + "(" + args + ")";
  }
  for (size_t k = 0; k < function.params.size(); ++k) {
    params += (params.empty() ? "" : ", ") + vec + " x" + number(k);
  }
  const std::string constructor = target_.lang == Lang::kOpenCL ? "(" + vec + ")" : vec;
  prelude_ += std::string(target_.function_prefix) + vec + " " + name + "(" + params +
              ") {\n  return " + constructor + "(" + lanes + ");\n}\n";
  return name;
}

void Printer::emit_epilogue() {
  if (epilogue_unit_ != nullptr) return;
  const Epilogue& epilogue = variant_.request->epilogue;
  epilogue_unit_ = parse_expression("epilogue of " + std::string(variant_.decl->name),
                                    epilogue.expression, &epilogue_expr_);
  epilogue_operands_.clear();
  for (size_t i = 0; i < epilogue.operands.size(); ++i) {
    epilogue_operands_.push_back("e" + number(i));
  }
  const Context outer = context_;
  const SourceText* outer_source = source_;
  context_ = Context{};
  context_.source = source_ = &epilogue_unit_->source;
  context_.unit = epilogue_unit_.get();
  context_.in_kernel = false;
  context_.sees_libraries = true;
  context_.first_symbol = symbols_.size();
  push_scope();
  Symbol symbol;
  symbol.base = Base::kFloat;
  symbol.is_const = true;
  declare("x", 0, symbol);
  std::string params = "float x";
  for (const std::string& name : epilogue_operands_) {
    declare(name, 0, symbol);
    params += ", float " + name;
  }
  const std::string value = converted(epilogue_expr_, Base::kFloat);
  pop_scope();
  context_ = outer;
  source_ = outer_source;
  prelude_ += std::string(target_.function_prefix) + "float dlk_epilogue(" + params +
              ") {\n  return " + value + ";\n}\n";
}

std::string Printer::local_arrays() const {
  std::string text;
  for (const LocalVar& local : variant_.locals) {
    if (!local.exists) continue;
    const bool is_vector = local_is_vector(local.name);
    const uint32_t width = variant_.vector_width;
    const std::string type_name = is_vector ? type(Base::kVec)
                                  : local.kind == 'f' && variant_.wide
                                      ? type(Base::kDouble)
                                      : std::string(param_type(local.kind));
    const uint32_t size = is_vector ? (local.size + width - 1) / width : local.size;
    text += std::string(target_.local_qualifier) + type_name + " " + safe_name(local.name) + "[" +
            number(size) + "]" + std::string(target_.local_alignment) + ";\n";
  }
  if (!variant_.tiles.empty()) {
    text += tile_lowering(variant_.request->lowering).local_declarations(*this);
  }
  return text;
}

}  // namespace dlk::dialect
