// Runs: VW neighbouring elements from any index, of which `count` exist. ldn, stn, epilogue_n.
#include "core/kernel/printer.h"

namespace dlk::dialect {

namespace {

/// Copies `count` floats between memory and an array, in pieces of powers of two: each is one move.
std::string pieces(uint32_t width, const std::string& to, const std::string& from) {
  std::string text;
  for (uint32_t size = width / 2; size > 0; size /= 2) {
    const std::string n = std::to_string(size);
    const std::string move =
        size == 1 ? "*" + to + " = *" + from + "; "
                  : "vstore" + n + "(vload" + n + "(0, " + from + "), 0, " + to + "); ";
    text +=
        "  if (n & " + n + "u) { " + move + to + " += " + n + "; " + from + " += " + n + "; }\n";
  }
  return text;
}

std::string opencl_load(uint32_t width) {
  const std::string n = std::to_string(width), vec = "float" + n;
  return "static " + vec + " dlk_load_run(const __global float* p, uint n) {\n  if (n >= " + n +
         "u) return vload" + n + "(0, p);\n  float t[" + n + "] = {0.0f};\n  float* d = t;\n" +
         pieces(width, "d", "p") + "  return vload" + n + "(0, t);\n}\n";
}

std::string opencl_store(uint32_t width) {
  const std::string n = std::to_string(width), vec = "float" + n;
  return "static void dlk_store_run(__global float* p, " + vec + " v, uint n) {\n  if (n >= " + n +
         "u) {\n    vstore" + n + "(v, 0, p);\n    return;\n  }\n  float t[" + n + "];\n  vstore" +
         n + "(v, 0, t);\n  const float* s = t;\n" + pieces(width, "p", "s") + "}\n";
}

}  // namespace

bool Printer::moves_runs(const BufferVar& buffer) const {
  return target_.lang == Lang::kOpenCL && variant_.vector_width > 1 &&
         buffer.dtype == DType::kFloat32 && !variant_.wide;
}

std::string Printer::vector_of(const std::vector<std::string>& lanes) const {
  if (lanes.size() == 1) return lanes[0];
  std::string text;
  for (const std::string& lane : lanes) text += (text.empty() ? "" : ", ") + lane;
  const std::string vec = type(vector_base());
  return (target_.lang == Lang::kOpenCL ? "(" + vec + ")(" : vec + "(") + text + ")";
}

Value Printer::load_run(const BufferVar& buffer, const std::string& index, const std::string& count,
                        uint32_t at) {
  if (moves_runs(buffer)) {
    add_prelude(opencl_load(variant_.vector_width));
    return value_of("dlk_load_run(" + safe_name(buffer.name) + " + " + index + ", " + count + ")",
                    vector_base());
  }
  std::vector<std::string> lanes;
  const Base lane = lane_base(vector_base());
  for (uint32_t i = 0; i < variant_.vector_width; ++i) {
    const std::string offset = std::to_string(i) + "u";
    const Value value = converted_to(load(buffer, "(" + index + " + " + offset + ")"), lane, at);
    lanes.push_back("(" + offset + " < " + count + " ? " + value.text + " : " +
                    coerce(known(Base::kFlex, 0), lane, at).text + ")");
  }
  return value_of(vector_of(lanes), vector_base());
}

std::string Printer::store_run(const BufferVar& buffer, const std::string& index,
                               const Value& value, const std::string& count, uint32_t at) {
  if (moves_runs(buffer)) {
    add_prelude(opencl_store(variant_.vector_width));
    return "dlk_store_run(" + safe_name(buffer.name) + " + " + index + ", " + value.text + ", " +
           count + ")";
  }
  const Base vec = vector_base();
  std::string text = "{ const " + type(vec) + " dlk_run = " + value.text + ";";
  for (uint32_t i = 0; i < variant_.vector_width; ++i) {
    const std::string offset = std::to_string(i) + "u";
    const std::string lane =
        variant_.vector_width == 1 ? "dlk_run" : "dlk_run" + lane_text(target_, i);
    text += " if (" + offset + " < " + count + ") { " +
            store(buffer, "(" + index + " + " + offset + ")", value_of(lane, lane_base(vec)), at) +
            "; }";
  }
  return text + " }";
}

Value Printer::epilogue_run(const Expr* expr) {
  if (!variant_.decl->has_epilogue || !context_.in_kernel) {
    fail(expr->at, "an epilogue needs the header line 'epilogue', and stands in a kernel");
  }
  want_args(expr, 4);
  const Base vec = vector_base();
  const Value x = coerce(expression(expr->args[0], vec), vec, expr->args[0]->at);
  std::string places[3];
  for (size_t i = 0; i < 3; ++i) {
    const Expr* arg = expr->args[i + 1];
    places[i] = operand(coerce(expression(arg, Base::kUint), Base::kUint, arg->at));
  }
  const Epilogue& epilogue = variant_.request->epilogue;
  if (epilogue.expression.empty()) return x;
  if (float_base() != Base::kFloat)
    throw_unsupported("kernels that compute in double have no epilogue");
  emit_epilogue();
  const uint32_t width = variant_.vector_width;
  std::string params = type(vec) + " x", args = x.text;
  std::vector<std::string> lanes(width, "dlk_epilogue(x");
  for (uint32_t l = 0; width > 1 && l < width; ++l) lanes[l] += lane_text(target_, l);
  for (size_t k = 0; k < epilogue.operands.size(); ++k) {
    using Kind = EpilogueOperand::Kind;
    const Kind kind = epilogue.operands[k].kind;
    const std::string name = "e" + std::to_string(k);
    const bool varies = kind == Kind::kFull || kind == Kind::kChannel;
    params += ", " + type(varies ? vec : Base::kFloat) + " " + name;
    for (uint32_t l = 0; l < width; ++l) {
      lanes[l] += ", " + name + (varies && width > 1 ? lane_text(target_, l) : "");
    }
    if (kind == Kind::kValue) {
      const std::string& value = variant_.epilogue_names[k];
      args += ", " + (target_.lang == Lang::kOpenCL ? value : "dlk_params.p_" + value);
    } else if (varies) {
      args += ", " +
              load_run(epilogue_buffer(k), places[kind == Kind::kFull ? 0 : 1], places[2], expr->at)
                  .text;
    } else {
      args += ", " + converted_to(load(epilogue_buffer(k), "0u"), Base::kFloat, expr->at).text;
    }
  }
  for (std::string& lane : lanes) lane += ")";
  add_prelude(std::string(target_.function_prefix) + type(vec) + " dlk_epilogue_run(" + params +
              ") {\n  return " + vector_of(lanes) + ";\n}\n");
  return value_of("dlk_epilogue_run(" + args + ")", vec);
}

bool Printer::run_call(const Expr* expr, Value* result) {
  const std::string_view name = expr->text;
  if (name == "epilogue_n") {
    *result = epilogue_run(expr);
    return true;
  }
  const bool is_load = name == "ldn";
  if (!is_load && name != "stn") return false;
  want_args(expr, is_load ? 3 : 4);
  const BufferVar& buffer = buffer_named(expr->args[0]);
  want_access(buffer, is_load, !is_load, expr->at);
  const Expr* last = expr->args[is_load ? 2 : 3];
  const std::string index =
      operand(coerce(expression(expr->args[1], Base::kUint), Base::kUint, expr->args[1]->at));
  const std::string count = operand(coerce(expression(last, Base::kUint), Base::kUint, last->at));
  if (is_load) {
    *result = load_run(buffer, index, count, expr->at);
    return true;
  }
  const Base vec = vector_base();
  const Value value = coerce(expression(expr->args[2], vec), vec, expr->args[2]->at);
  *result = value_of(store_run(buffer, index, value, count, expr->at), Base::kVoid, false);
  return true;
}

}  // namespace dlk::dialect
