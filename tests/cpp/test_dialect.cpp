// Parsing, errors with their positions, constant expressions, interfaces.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/kernel/dialect.h"

using namespace dlk;

namespace {

Caps full_caps() {
  Caps caps;
  caps.id = "test:0";
  caps.fp16_storage = caps.fp64 = caps.int64 = caps.int8_storage = caps.int16_storage = true;
  caps.subgroup_arithmetic = true;
  caps.max_group_invocations = 1024;
  caps.local_memory_bytes = 32768;
  return caps;
}

/// The message of the error that adding and printing `text` gives; "" without one.
std::string error_of(const std::string& text, const KernelRequest& base = {}) {
  try {
    KernelSources sources;
    sources.add("t.k", text);
    for (const std::string& name : sources.kernel_names()) {
      KernelRequest request = base;
      request.name = name;
      sources.print(request, KernelFormat::kOpenCLC, full_caps());
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string error_in_body(const std::string& body) {
  return error_of(
      "kernel k\nin X : f32\nout Y : f32\nparam n : uint\nlocal L : float[8]\ngroup 8\n{\n" + body +
      "\n}\n");
}

/// The first line of an error.
std::string head(const std::string& text) { return text.substr(0, text.find('\n')); }

bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

KernelInterface interface_of(const std::string& text, KernelRequest request = {}) {
  request.name = "k";
  request.source = text;
  return KernelSources::embedded().interface_of(request);
}

/// The value of a constant expression, by way of a group size.
int64_t constant_value(const std::string& expression) {
  return interface_of("kernel k\nconst A = 3, B = 2*A\nconst V = " + expression +
                      "\nin X : f32\ngroup V\n{ }\n")
      .group_size[0];
}

}  // namespace

TEST_CASE("errors show the file, line, column, the line itself and a caret") {
  CHECK(error_of("kernel k\nin X : f99\ngroup 1\n{ }\n") ==
        "t.k:2:8: 'f99' is neither a type of this kernel nor a storage type\n"
        "in X : f99\n"
        "       ^");
  CHECK(error_in_body("\tuint i = j;") ==
        "t.k:8:11: 'j' is not declared\n\tuint i = j;\n\t         ^");
}

TEST_CASE("errors of headers") {
  struct Row {
    const char* text;
    const char* error;
  };
  const Row rows[] = {
      {"kernel k\nin X : f32\nin X : f32\ngroup 1\n{ }", "t.k:3:4: 'X' is declared twice"},
      {"kernel k\nfoo X\n{ }", "t.k:2:1: 'foo' starts no header line"},
      {"kernel k\nin X : f32", "t.k:2:11: the kernel 'k' has no body"},
      {"kernel k\ngroup 1\n{ if (true) { }\n", "t.k:3:1: this '{' is never closed"},
      {"kernel k\ngroup 1\n{ }\n}", "t.k:4:1: expected 'kernel', 'func', 'library' or 'use'"},
      {"kernel k\ntype T = f8\n{ }", "t.k:2:10: this is no storage type"},
      {"kernel k\nparam n : double\n{ }", "t.k:2:11: a parameter is uint, int or float"},
      {"kernel k\nlocal L : half[3]\n{ }", "t.k:2:11: a local array is of float, int or uint"},
      {"kernel k\nconst A = B\n{ }", "t.k:2:11: 'B' is not a constant that is known here"},
      {"kernel k\nconst A = 1/0\n{ }", "t.k:2:12: this constant is divided by zero"},
      {"kernel k\nconst A = 99999999999*99999999999\n{ }", "t.k:2:22: this constant overflows"},
      {"kernel k\nconst A = 99999999999999999999\n{ }", "t.k:2:11: this integer is out of range"},
      {"kernel k\nlocal L : float[0]\n{ }", "t.k:2:17: the size of a local array is 0"},
      {"kernel k\ngroup 32, 32, 2\n{ }", "t.k:2:7: a group has more than 1024 work-items"},
      {"kernel k\ngroup 1 in X : f32\n{ }", "t.k:2:9: unexpected 'in' at the end of a header line"},
      {"kernel k\ngroup 1\n{ }\nkernel k\ngroup 1\n{ }", "t.k:4:8: there is already a kernel 'k'"},
      {"kernel dlk_x\n{ }", "t.k:1:8: names with '__'"},
      {"func float f(float x) { return x; }\nfunc float f(float x) { return x; }",
       "t.k:2:12: the function 'f' is defined twice"},
      {"kernel k\nin if : f32\n{ }", "t.k:2:4: 'if' is a word of the dialect"},
      {"kernel k\nin X : f32 @\n{ }", "t.k:2:12: this character means nothing here"},
      {"kernel k\n{ /* open", "t.k:2:3: this comment has no end"},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.text));
    const std::string error = error_of(row.text);
    CAPTURE(error);
    CHECK(error.starts_with(row.error));
  }
}

TEST_CASE("errors of bodies") {
  struct Row {
    const char* body;
    const char* error;
  };
  const Row rows[] = {
      {"st(X, 0, 1.0f);", "t.k:8:1: 'X' is an in buffer and cannot be stored to"},
      {"float a = ld(Y, 0);", "t.k:8:11: 'Y' is an out buffer and cannot be loaded"},
      {"st(Z, 0, 1.0f);", "t.k:8:4: there is no buffer 'Z'"},
      {"st(Y, 0);", "t.k:8:1: 'st' takes 3 arguments, not 2"},
      {"float a = exp(1.0f, 2.0f);", "t.k:8:11: 'exp' takes 1 argument, not 2"},
      {"float a = nothing(1.0f);", "t.k:8:11: there is no function 'nothing' here"},
      {"uint i = 1;\nint j = i;", "t.k:9:9: expected int but this is uint; write int(...)"},
      {"float a = 1u;", "t.k:8:11: expected float but this is uint; write float(...)"},
      {"uint i = LX + int(n);", "t.k:8:13: one side is uint, the other int"},
      {"uint i = -1;", "t.k:8:10: the constant -1 does not fit uint"},
      {"if (n) { }", "t.k:8:5: a condition is bool, and this is uint"},
      {"n = 2u;", "t.k:8:1: this cannot be assigned"},
      {"const float c = 1.0f;\nc = 2.0f;", "t.k:9:1: this cannot be assigned"},
      {"uint i = 1;\nuint i = 2;", "t.k:9:6: 'i' is declared twice in this block"},
      {"float n = 1.0f;", "t.k:8:7: 'n' hides what the kernel's header declares"},
      {"float a = X[0];", "t.k:8:11: a buffer is used through ld, st"},
      {"float a = L;", "t.k:8:11: a local array is used with an index"},
      {"fvec v = fvec(1.0f);\nfloat a = lane(v, 4);", "t.k:9:19: the lane is 4"},
      {"fvec v = fvec(1.0f);\nfloat a = v.x;", "t.k:9:12: the dialect has no members"},
      {"break;", "t.k:8:1: there is no loop here to leave"},
      {"static for (i = 0; i < 2; i++) { continue; }", "t.k:8:34: there is no loop here"},
      {"static for (i = 0; i < 9; i += 0) { }", "t.k:8:1: 'static for' makes more than"},
      {"static for (i = 0; i < 9; j++) { }", "t.k:8:28: 'static for' steps its own variable"},
      {"static if (n) { }", "t.k:8:12: 'n' is not a constant that is known here"},
      {"return;\nbarrier();", "t.k:9:1: work-items may have returned before this barrier"},
      {"return 1.0f;", "t.k:8:1: there is no value to return here"},
      {"LX + 1;", "t.k:8:4: this statement does nothing"},
      {"goto x;", "t.k:8:1: the dialect has no 'goto'"},
      {"float a = 1.0f % 2.0f;", "t.k:8:16: '%' is for integers; use fmod"},
      {"bool b = true + 1;", "t.k:8:"},
      {"else { }", "t.k:8:1: this 'else' has no 'if'"},
      {"# remark", "t.k:8:1: '#' comments belong to headers"},
      {"float a = epilogue(1.0f, 0, 0);", "t.k:8:11: an epilogue needs the header line"},
      {"tile_zero(C);", "t.k:8:1: this kernel declares no tiles"},
      {"float a = subgroup_sum(1.0f);", "t.k:8:11: subgroup operations need the header line"},
      {"float a[2] = {1.0f};", "t.k:8:7: the array has 2 elements, the list 1"},
      {"float a[70000];", "t.k:8:9: the size of an array is 70000"},
      {"float a = (1.0f;",
       "t.k:8:16: expected ')' after an expression in parentheses but found ';'"},
      {"float a = 1.0f", "t.k:9:1: expected ';' after the declaration but found '}'"},
      {"float a = ;", "t.k:8:11: expected an expression but found ';'"},
      {"int i = 5 & 1.0f;", "t.k:8:11: '&' is for integers"},
      {"ldv(Y, 0);", "t.k:8:1: 'Y' is an out buffer"},
      {"fvec v = fvec(1.0f);\nif (v < v) { }", "t.k:9:7: an fvec cannot be compared"},
      {"double d = 1.0f; float f = d;", "t.k:8:28: expected float but this is double"},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.body));
    const std::string error = error_in_body(row.body);
    CAPTURE(head(error));
    CHECK(error.starts_with(row.error));
  }
}

TEST_CASE("a buffer whose `when` is 0 exists only in what is printed") {
  const std::string text =
      "kernel k\nconst B = 0\nin X : f32\nin R : f32 when B\nout Y : f32\ngroup 1\n{\n"
      "  static if (B) { st(Y, 0, ld(R, 0)); } else { st(Y, 0, ld(X, 0)); }\n"
      "  st(Y, 1, has(R) ? ld(R, 1) : 0.0f);\n}\n";
  CHECK(error_of(text) == "");
  KernelRequest request;
  request.constants["B"] = 1;
  CHECK(error_of(text, request) == "");
  CHECK(interface_of(text).bindings.size() == 2);
  CHECK(interface_of(text, request).bindings.size() == 3);
  CHECK(mentions(error_of("kernel k\nconst B = 0\nin R : f32 when B\nout Y : f32\ngroup 1\n"
                          "{ if (B) { st(Y, 0, ld(R, 0)); } }\n"),
                 "the buffer 'R' does not exist in this variant: its 'when' is 0"));
}

TEST_CASE("functions and libraries") {
  CHECK(mentions(error_of("func float f(float x) { return g(x); }\n"
                          "func float g(float x) { return f(x); }\n"
                          "kernel k\nout Y : f32\ngroup 1\n{ st(Y, 0, f(1.0f)); }\n"),
                 "calls itself"));
  CHECK(mentions(error_of("func float exp(float x) { return x; }\n"
                          "kernel k\nout Y : f32\ngroup 1\n{ st(Y, 0, exp(1.0f)); }\n"
                          "func float h(float x) { return x; }\n"),
                 ""));
  CHECK(mentions(error_of("use nowhere\nkernel k\nout Y : f32\ngroup 1\n{ st(Y, 0, f(1.0f)); }\n"),
                 "t.k: there is no library 'nowhere' to use"));
  CHECK(mentions(error_of("func float f(float x) { return ld(X, 0); }\n"
                          "kernel k\nin X : f32\nout Y : f32\ngroup 1\n{ st(Y, 0, f(1.0f)); }\n"),
                 "t.k:1:35: functions see no buffers"));
  KernelSources sources;
  sources.add("lib.k", "library tools\nfunc float twice(float x) { return x * float(W); }\n");
  sources.add("k.k",
              "use tools\nkernel k\nconst W = 2\nout Y : f32\ngroup 1\n"
              "{ st(Y, 0, twice(3.0f)); }\n");
  KernelRequest request;
  request.name = "k";
  const std::string code = sources.print(request, KernelFormat::kOpenCLC, full_caps()).code;
  CHECK(mentions(code, "static float dlk_twice(float x) {\n  return x * 2.0f;\n}"));
  CHECK_THROWS_AS(sources.add("again.k", "library tools\n"), Error);
  CHECK(sources.contains("k"));
  CHECK_FALSE(sources.contains("twice"));
}

TEST_CASE("constant expressions") {
  CHECK(constant_value("7") == 7);
  CHECK(constant_value("A + B * 2") == 15);
  CHECK(constant_value("(A + B) * 2 - 1") == 17);
  CHECK(constant_value("100 / B % 7") == 2);
  CHECK(constant_value("1 << 4 | 3") == 19);
  CHECK(constant_value("0xff & ~0xf0") == 15);
  CHECK(constant_value("A < B && B != 5 ? 10 : 20") == 10);
  CHECK(constant_value("min(A, B) + max(A, B) + 1") == 10);
  CHECK(constant_value("-(-4)") == 4);
  CHECK(constant_value("1 + !0 + !5") == 2);
  CHECK(constant_value("is_type(f32, f32) + 2 * is_type(f16, f32) + 4") == 5);
  CHECK(constant_value("size_of(f64) + size_of(bf16)") == 10);
  CHECK(constant_value("VW") == 4);
  CHECK(constant_value("A ^ 1") == 2);
  CHECK(constant_value("A >= 3 || 1 / 0") == 1);
  CHECK(constant_value("false + true") == 1);
}

TEST_CASE("interfaces") {
  const std::string text =
      "kernel k\ntype T = f32, U = i8\nconst ND = 3, WG = 16\nin A : T\ninout B : U\nout C : f64\n"
      "param n : uint\nparam s[ND] : int\nparam a, b : float\nparam z : uint when ND > 3\n"
      "local L : float[WG * 2]\nlocal M : int[5] when ND == 3\nepilogue\ngroup WG, 2\n{ }\n";
  KernelRequest request;
  request.types["T"] = DType::kFloat16;
  request.epilogue.expression = "x + e0 * e1";
  request.epilogue.operands = {{EpilogueOperand::Kind::kValue, DType::kFloat32},
                               {EpilogueOperand::Kind::kChannel, DType::kBFloat16}};
  const KernelInterface i = interface_of(text, request);
  REQUIRE(i.bindings.size() == 4);
  CHECK(i.bindings[0].name == "A");
  CHECK(i.bindings[0].access == Access::kRead);
  CHECK(i.bindings[0].element_bytes == 2);
  CHECK(i.bindings[1].access == Access::kReadWrite);
  CHECK(i.bindings[1].element_bytes == 1);
  CHECK(i.bindings[2].access == Access::kWrite);
  CHECK(i.bindings[2].element_bytes == 8);
  CHECK(i.bindings[3].name == "E1");
  REQUIRE(i.params.size() == 5);
  CHECK(i.params[1].name == "s");
  CHECK(i.params[1].kind == 'i');
  CHECK(i.params[1].count == 3);
  CHECK(i.params[1].offset_bytes == 4);
  CHECK(i.params[2].offset_bytes == 16);
  CHECK(i.params[4].name == "e0");
  CHECK(i.params[4].offset_bytes == 24);
  CHECK(i.param_bytes == 28);
  CHECK(i.group_size == std::array<uint32_t, 3>{16, 2, 1});
  CHECK(i.local_bytes == 4 * (32 + 5));
  CHECK(i.needs_fp64);
  CHECK(i.needs_fp16);
  CHECK(i.needs_int8);
  CHECK(i.needs_int16);
  CHECK_FALSE(i.needs_int64);
  request.constants["ND"] = 4;
  CHECK(interface_of(text, request).local_bytes == 4 * 32);
  CHECK(interface_of(text, request).params.size() == 6);
}

TEST_CASE("requests that do not fit are named") {
  const std::string text = "kernel k\ntype T = f32\nconst WG = 8\nin X : T\ngroup WG\n{ }\n";
  const auto message = [&](KernelRequest request) -> std::string {
    try {
      interface_of(text, std::move(request));
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  KernelRequest request;
  request.constants["BLOCK"] = 1;
  CHECK(message(request) == "the kernel 'k' has no constant 'BLOCK'; it has: WG");
  request.constants = {{"VW", 3}};
  CHECK(message(request) == "VW of the kernel 'k' is 3, and must be 1, 2, 4, 8 or 16");
  request.constants = {};
  request.types["U"] = DType::kFloat16;
  CHECK(message(request) == "the kernel 'k' has no type 'U'; it has: T");
  request.types = {};
  request.epilogue.expression = "x";
  CHECK(message(request) == "the kernel 'k' has no epilogue hook");
  request = {};
  request.name = "no_such_kernel";
  CHECK_THROWS_WITH_AS(KernelSources::embedded().interface_of(request),
                       "there is no kernel 'no_such_kernel'", Error);
}

TEST_CASE("keys tell variants apart") {
  KernelRequest a;
  a.name = "k";
  a.constants = {{"A", 1}, {"B", 2}};
  KernelRequest b = a;
  CHECK(a.key() == b.key());
  b.constants["A"] = 3;
  CHECK(a.key() != b.key());
  b = a;
  b.types["T"] = DType::kFloat16;
  CHECK(a.key() != b.key());
  b = a;
  b.source = "kernel k\n{ }";
  CHECK(a.key() != b.key());
  b = a;
  b.epilogue.expression = "x";
  CHECK(a.key() != b.key());
  KernelRequest c = b;
  c.epilogue.operands = {{}};
  CHECK(b.key() != c.key());
}

TEST_CASE("what is nested, long or many has a limit") {
  const std::string deep(5000, '(');
  CHECK(mentions(error_in_body("float a = " + deep + "1.0f;"), "nested too deeply"));
  std::string chain = "float a = 1.0f";
  for (int i = 0; i < 5000; ++i) chain += " + 1.0f";
  CHECK(mentions(error_in_body(chain + ";"), "nested too deeply"));
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{ ";
  CHECK(mentions(error_in_body(blocks), "nested too deeply"));
  std::string prefixes(5000, '-');
  for (size_t i = 1; i < prefixes.size(); i += 2) prefixes[i] = ' ';
  CHECK(mentions(error_in_body("float a = " + prefixes + "1.0f;"), "nested too deeply"));
  CHECK(
      mentions(error_in_body("static for (i = 0; i < 1000; i++) static for (j = 0; j < 1000; j++) "
                             "{ st(Y, i, 1.0f); }"),
               "makes more than"));
  CHECK(mentions(error_of(std::string((1u << 20) + 1, ' ')), "longer than 1 MiB"));
  CHECK(mentions(error_in_body("float " + std::string(100, 'a') + ";"), "longer than 64"));
}
