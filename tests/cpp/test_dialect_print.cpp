// What the printers write, in key fragments, and that glslang takes all of it.
#include <doctest/doctest.h>

#include <chrono>

#include "core/kernel/dialect.h"

using namespace dlk;

namespace {

Caps full_caps() {
  Caps caps;
  caps.id = "test:0";
  caps.name = "test device";
  caps.fp16_storage = caps.fp64 = caps.int64 = caps.int8_storage = caps.int16_storage = true;
  caps.subgroup_arithmetic = caps.fp16_arithmetic = true;
  caps.max_group_invocations = 1024;
  caps.local_memory_bytes = 32768;
  return caps;
}

KernelCode print(const std::string& text, KernelFormat format, KernelRequest request = {},
                 const Caps& caps = full_caps()) {
  request.name = "k";
  request.source = text;
  return KernelSources::embedded().print(request, format, caps);
}

struct Texts {
  std::string cl, glsl, msl;
};

/// All three; the GLSL is compiled as well.
Texts print_all(const std::string& text, const KernelRequest& request = {}) {
  Texts texts{print(text, KernelFormat::kOpenCLC, request).code,
              print(text, KernelFormat::kSpirv, request).code,
              print(text, KernelFormat::kMsl, request).code};
  if (!glslang_version().empty()) compile_glsl(texts.glsl, "k");
  return texts;
}

void check_has(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

void check_has_not(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) == std::string::npos);
}

}  // namespace

TEST_CASE("the frame of a kernel") {
  const std::string text =
      "kernel k\nin X : f32\nout Y : f16\nparam n : uint\nparam s[2] : int\nlocal L : float[8]\n"
      "group 8, 2\n{ L[LX] = ld(X, WX); barrier(); st(Y, n, L[0] + float(s[1])); }\n";
  const Texts t = print_all(text);
  check_has(t.cl, "reqd_work_group_size(8, 2, 1)");
  check_has(t.cl,
            "__global const float* X, ulong dlk_base_X,\n    __global half* Y, ulong dlk_base_Y");
  check_has(t.cl, "uint n,\n    int dlk_p_s_0,\n    int dlk_p_s_1)");
  check_has(t.cl, "X += dlk_base_X;");
  check_has(t.cl, "__local float L[8]");
  check_has(t.cl, "vstore_half_rte(L[0u] + ((float)dlk_p_s_1), n, Y)");
  check_has(t.cl, "barrier(CLK_LOCAL_MEM_FENCE);");
  check_has_not(t.cl, "restrict");
  check_has(t.glsl, "local_size_x = 8, local_size_y = 2, local_size_z = 1");
  check_has(t.glsl,
            "layout(std430, set = 0, binding = 0) readonly buffer dlk_s_X_block { float d[]; }");
  check_has(t.glsl, "binding = 1) buffer dlk_s_Y_block { float16_t d[]; }");
  check_has(t.glsl,
            "uniform dlk_params_block {\n  uint b_X;\n  uint b_Y;\n  uint p_n;\n  int p_s[2];\n}");
  check_has(t.glsl, "shared float L[8];");
  check_has(t.glsl, "dlk_s_X.d[dlk_params.b_X + gl_WorkGroupID.x]");
  check_has(t.glsl, "float16_t(");
  check_has(t.msl, "device const float* X [[buffer(0)]]");
  check_has(t.msl, "device half* Y [[buffer(1)]]");
  check_has(t.msl, "constant dlk_params_block& dlk_params [[buffer(2)]]");
  check_has(t.msl, "threadgroup float L[8] __attribute__((aligned(16)));");
  check_has(t.msl, "threadgroup_barrier(mem_flags::mem_threadgroup);");
}

TEST_CASE("parameters move to a buffer where they do not fit") {
  const std::string text =
      "kernel k\nout Y : f32\nparam a[40] : float\ngroup 1\n{ st(Y, 0, a[3]); }\n";
  const KernelCode code = print(text, KernelFormat::kSpirv);
  CHECK(code.params_in_buffer);
  CHECK(code.param_bytes == 160);
  check_has(code.code, "binding = 1) readonly buffer dlk_params_block");
  Caps caps = full_caps();
  caps.max_push_bytes = 164;
  CHECK_FALSE(print(text, KernelFormat::kSpirv, {}, caps).params_in_buffer);
  caps.max_push_bytes = 160;
  CHECK(print(text, KernelFormat::kSpirv, {}, caps).params_in_buffer);
}

TEST_CASE("vectors and local arrays of vectors") {
  const std::string text =
      "kernel k\ntype T = f32\nin X : T\nout Y : T\nlocal L : float[4 * VW]\nlocal M : float[4]\n"
      "group 4\n{ stl(L, LX * VW, ldv(X, LX * VW)); M[LX] = L[LX]; barrier();\n"
      "  fvec v = ldl(L, 0) * 2.0f; set_lane(v, VW - 1, lane(v, 0)); stv(Y, LX * VW, v + M[0]); "
      "}\n";
  Texts t = print_all(text);
  check_has(t.cl, "(*(__global const float4*)(X + ");
  check_has(t.cl, "float4 v = (*(__local float4*)(L + 0u)) * ((float4)(2.0f));");
  check_has(t.cl, "v.s3 = v.s0;");
  check_has(t.glsl, "buffer dlk_v_X_block { vec4 d[]; }");
  check_has(t.glsl, "shared vec4 L[4];");
  check_has(t.glsl, "shared float M[4];");
  check_has(t.glsl, "L[(gl_LocalInvocationID.x) / 4u][(gl_LocalInvocationID.x) % 4u]");
  check_has(t.glsl, "v.w = v.x;");
  check_has_not(t.glsl, "dlk_s_X");
  check_has(t.msl, "(*(device const float4*)(X + ");
  KernelRequest request;
  request.constants["VW"] = 1;
  t = print_all(text, request);
  check_has(t.cl, "float v = L[0u] * 2.0f;");
  check_has(t.glsl, "shared float L[4];");
  request.constants["VW"] = 16;
  check_has(print(text, KernelFormat::kOpenCLC, request).code, "float16 v");
  CHECK_THROWS_AS(print(text, KernelFormat::kSpirv, request), Error);
  CHECK_THROWS_AS(print(text, KernelFormat::kMsl, request), Error);
  request.constants["VW"] = 2;
  request.types["T"] = DType::kFloat16;
  t = print_all(text, request);
  check_has(t.cl, "vloada_half2(");
  check_has(t.glsl, "vec2(dlk_v_X.d[");
  request.types["T"] = DType::kBFloat16;
  t = print_all(text, request);
  check_has(t.cl, "as_float2(convert_uint2(");
  check_has(t.glsl, "dlk_to_bf16_v");
}

TEST_CASE("constants and literals take the type they meet") {
  const std::string kernel =
      "kernel k\nconst A = 3, N = -2\nout Y : f32\nout Z : i64\nout D : f64\nparam n : uint\ngroup "
      "1\n{\n"
      "  uint u = A; int i = N; float f = A; bool b = n == A; u = n + 2 * A;\n"
      "  const uint K = A * 4;\n  float array[K + 1];\n  array[K] = 1.5;\n"
      "  uint big = 4294967295; f = f * 2 + .5f; u = max(n, 1) << 2; u = true ? n : 0;\n"
      "  double d = 0.1f + double(f); st(D, 0, d * 2); st(Z, 0, long(i) * 3);\n"
      "  st(Y, 0, array[K] + f + (b ? 1 : 0));\n}\n";
  const Texts t{print(kernel, KernelFormat::kOpenCLC).code,
                print(kernel, KernelFormat::kSpirv).code, ""};
  if (!glslang_version().empty()) compile_glsl(t.glsl, "k");
  for (const std::string& text : {t.cl, t.glsl}) {
    check_has(text, "uint u = 3u;");
    check_has(text, "int i = -2;");
    check_has(text, "float f = 3.0f;");
    check_has(text, "== 3u;");
    check_has(text, "+ 6u;");
    check_has(text, "float array[13];");
    check_has(text, "array[12u] = 1.5f;");
    check_has(text, "4294967295u");
    check_has(text, "(f * 2.0f) + 0.5f");
    check_has(text, ", 1u) << 2");
  }
  check_has(t.cl, "cl_khr_fp64 : enable");
  check_has(t.cl, "0.1 + ");
  check_has(t.glsl, "0.1lf + ");
  check_has(t.glsl, "int64_t(i) * 3l");
}

TEST_CASE("static control is gone from what is printed") {
  const Texts t = print_all(
      "kernel k\ntype T = f16\nconst ND = 2, MODE = 1\nout Y : T\nparam s[ND] : uint\ngroup 1\n{\n"
      "  uint a = 0u;\n  static for (d = ND - 1; d >= 0; d--) a += s[d] * d;\n"
      "  static if (MODE == 0) { no_such_thing(); } else static if (is_type(T, f16)) { a += 100u; "
      "}\n"
      "  unroll for (uint i = 0; i < 4; i++) a += i;\n"
      "  st(Y, a, 1);\n}\n");
  check_has(t.cl, "a += dlk_p_s_1 * 1u;\n  a += dlk_p_s_0 * 0u;");
  check_has(t.glsl, "a += dlk_params.p_s[1u] * 1u;");
  check_has(t.cl, "a += 100u;");
  check_has(t.cl, "_Pragma(\"unroll\") for (uint i = 0u; i < 4u; i++) {");
  check_has(t.glsl, "[[unroll]] for (uint i = 0u; i < 4u; i++) {");
  check_has_not(t.cl, "no_such_thing");
}

TEST_CASE("names that a target keeps are renamed everywhere") {
  const Texts t = print_all(
      "func float mix(float half) { float sample = half; return sample; }\n"
      "kernel k\nin input : f32\nout output : f32\nparam filter : uint\nlocal shared : float[4]\n"
      "group 4\n{ shared[LX] = mix(ld(input, filter)); barrier(); float vec4 = shared[0];\n"
      "  st(output, LX, vec4); }\n");
  for (const std::string& text : {t.cl, t.glsl, t.msl}) {
    check_has(text, "dlk_n_shared[4]");
    check_has(text, "float dlk_n_vec4 = dlk_n_shared[0u];");
    check_has(text, "float dlk_mix(float dlk_n_half)");
  }
  check_has(t.cl, "__global const float* dlk_n_input, ulong dlk_base_input");
  const KernelCode code = print("kernel k\nin input : f32\nparam filter : uint\ngroup 1\n{ }\n",
                                KernelFormat::kOpenCLC);
  CHECK(code.bindings[0].name == "input");
  CHECK(code.params[0].name == "filter");
}

TEST_CASE("functions that a target lacks come from the library") {
  const Texts t = print_all(
      "kernel k\nin X : f32\nout Y : f32\ngroup 1\n{ int i = int(LX) % 3; i %= 5;\n"
      "  fvec v = tanh(ldv(X, 0)); stv(Y, 0, v);\n"
      "  st(Y, LX, isnan(ld(X, 0)) ? erf(ld(X, 1)) : rint(INFINITY)); }\n");
  check_has(t.cl, "float4 v = tanh(");
  check_has(t.cl, "isnan(X[0u]) != 0");
  check_has(t.cl, "% 3");
  check_has_not(t.cl, "dlk_tanh");
  check_has(t.glsl, "float dlk_tanh(float x)");
  check_has(t.glsl, "vec4 dlk_tanh_v(vec4 x0)");
  check_has(t.glsl, "dlk_rem_int(int(gl_LocalInvocationID.x), 3)");
  check_has(t.glsl, "i = dlk_rem_int(i, 5);");
  check_has(t.glsl, "roundEven(uintBitsToFloat(0x7f800000u))");
  check_has(t.msl, "static float dlk_erf(float x)");
  CHECK(t.glsl.find("float dlk_exp(float x)") < t.glsl.find("float dlk_tanh(float x)"));
}

TEST_CASE("epilogues become a function of the loaded operands") {
  KernelRequest request;
  request.epilogue.expression = "clamp(x + e0, 0.0f, e1) * HAS_EPILOGUE";
  request.epilogue.operands = {{EpilogueOperand::Kind::kChannel, DType::kFloat16},
                               {EpilogueOperand::Kind::kValue, DType::kFloat32}};
  const std::string text =
      "kernel k\nin X : f32\nout Y : f32\nparam c : uint\nepilogue\ngroup 1\n"
      "{ st(Y, LX, epilogue(ld(X, LX), LX, LX % c)); }\n";
  const Texts t = print_all(text, request);
  check_has(t.cl, "static float dlk_epilogue(float x, float e0, float e1)");
  check_has(t.cl, "__global const half* E0, ulong dlk_base_E0,\n    uint c,\n    float e1)");
  check_has(t.cl, "dlk_epilogue(X[");
  check_has(t.cl, "% c), E0)");
  check_has(t.glsl, "uint b_E0;\n  uint p_c;\n  float p_e1;");
  check_has(print(text, KernelFormat::kOpenCLC).code, "= X[");
  request.epilogue.expression = "x +";
  CHECK_THROWS_WITH(
      print(text, KernelFormat::kOpenCLC, request),
      "epilogue of k:1:4: expected an expression but found the end of the text\nx +\n   ^");
  request.epilogue.expression = "x + e7";
  CHECK_THROWS_AS(print(text, KernelFormat::kOpenCLC, request), Error);
}

TEST_CASE("devices that lack something are refused by its name") {
  struct Row {
    const char* type;
    bool Caps::* flag;
    const char* name;
  };
  const Row rows[] = {{"f16", &Caps::fp16_storage, "fp16_storage"},
                      {"f64", &Caps::fp64, "fp64"},
                      {"i64", &Caps::int64, "int64"},
                      {"bool", &Caps::int8_storage, "int8_storage"},
                      {"bf16", &Caps::int16_storage, "int16_storage"}};
  for (const Row& row : rows) {
    Caps caps = full_caps();
    caps.*row.flag = false;
    try {
      print("kernel k\nin X : " + std::string(row.type) + "\ngroup 1\n{ }\n", KernelFormat::kSpirv,
            {}, caps);
      FAIL("not refused: ", row.type);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kUnsupported);
      check_has(error.what(), row.name);
      check_has(error.what(), "test device");
    }
  }
  CHECK_THROWS_AS(print("kernel k\nin X : f64\ngroup 1\n{ }\n", KernelFormat::kMsl), Error);
  CHECK_THROWS_AS(print("kernel k\nlocal L : float[9000]\ngroup 1\n{ }\n", KernelFormat::kSpirv),
                  Error);
  CHECK_THROWS_AS(print("kernel k\ngroup 1\n{ }\n", KernelFormat::kNone), Error);
}

TEST_CASE("gang tiles in plain registers") {
  const std::string text =
      "kernel k\nconst TM = 4, TN = 8\nin X : f32\nout Y : f32\ntile A : f32[16, 8] stages 2\n"
      "tile B : f32[8, 32]\nacc C : float[16, 32]\ngroup TILE_ITEMS\n{\n  tile_zero(C);\n"
      "  tile_put(A, 1, LX, 0, ld(X, 0));\n  tile_putv(B, 0, 0, 4 * LX, ldv(X, 0));\n"
      "  tile_commit();\n  tile_wait(0);\n  tile_mma(C, A, 1, B, 0);\n  tile_release();\n"
      "  tile_each(C, r, c, x) { if (x > 0.0f) st(Y, r * 32 + c, x); else continue; }\n}\n";
  const Texts t = print_all(text);
  CHECK(print(text, KernelFormat::kOpenCLC).group_size[0] == 16);
  CHECK(print(text, KernelFormat::kOpenCLC).local_bytes == 4 * (2 * 8 * 20 + 8 * 32));
  check_has(t.glsl, "shared vec4 dlk_tile_A[80];");
  check_has(t.glsl, "shared vec4 dlk_tile_B[64];");
  check_has(t.glsl, "dlk_acc_C[7] = fma(vec4(dlk_a0.w), dlk_b1, dlk_acc_C[7]);");
  check_has(t.cl, "__local float dlk_tile_A[320]");
  check_has(t.cl, "dlk_acc_C[7] = mad((float4)(dlk_a0.s3), dlk_b1, dlk_acc_C[7]);");
  for (const char* lowering : {"coopmat", "ptx", "simdgroup"}) {
    KernelRequest request;
    request.lowering = lowering;
    try {
      print(text, KernelFormat::kSpirv, request);
      FAIL("not refused");
    } catch (const Error& error) {
      const bool is_built = std::string_view(lowering) != "simdgroup";
      CHECK(error.code() == (is_built ? ErrorCode::kCompileFailed : ErrorCode::kUnsupported));
      check_has(error.what(), is_built ? "takes tiles of f16" : lowering);
    }
  }
  KernelRequest request;
  request.constants["TM"] = 3;
  CHECK_THROWS_AS(print(text, KernelFormat::kSpirv, request), Error);
}

TEST_CASE("sums in float16") {
  const std::string text =
      "kernel k\nconst TM = 1, TN = 4\nin X : f32\nout Y : f32\ntile A : f16[8, 4]\n"
      "tile B : f16[4, 8]\nacc C : float[8, 8]\ngroup TILE_ITEMS\n{\n"
      "  avec v = avec(0); afloat a = 0.5f; v = fma(avec(ldv(X, 0)), avec(a), v);\n"
      "  a = max(a, lane(v, 1)) * 2; set_lane(v, 0, a); stv(Y, 0, fvec(v)); st(Y, 4, a);\n"
      "  tile_zero(C); tile_mma(C, A, 0, B, 0); tile_each(C, r, c, x) { st(Y, c, x); }\n}\n";
  Texts t = print_all(text);
  check_has(t.cl, "float4 v = (float4)(0.0f);\n  float a = 0.5f;");
  check_has_not(t.cl, "half");
  KernelRequest request;
  request.constants["ACC16"] = 1;
  t = print_all(text, request);
  check_has(t.cl, "cl_khr_fp16 : enable");
  check_has(t.cl, "half4 v = (half4)(((half)0.0f));");
  check_has(t.cl, "fma(convert_half4(");
  check_has(t.cl, "half4 dlk_acc_C[1];");
  check_has(t.cl, "half4 dlk_b0 = convert_half4(");
  check_has(t.glsl, "GL_EXT_shader_explicit_arithmetic_types_float16 : require");
  check_has(t.glsl, "float16_t a = float16_t(0.5f);");
  check_has(t.glsl, "dlk_acc_C[0] = fma(f16vec4(dlk_a0), dlk_b0, dlk_acc_C[0]);");
  check_has(t.msl, "half4 v = half4(half(0.0f));");
  Caps caps = full_caps();
  caps.fp16_arithmetic = false;
  CHECK_THROWS_AS(print(text, KernelFormat::kSpirv, request, caps), Error);
}

TEST_CASE("subgroups") {
  const std::string text =
      "kernel k\nin X : f32\nout Y : f32\nsubgroups\ngroup 32\n"
      "{ st(Y, LX, subgroup_sum(ld(X, LX)) + subgroup_broadcast(ld(X, LX), 0)); }\n";
  const Texts t = print_all(text);
  check_has(t.cl, "sub_group_reduce_add(");
  check_has(t.glsl, "subgroupAdd(");
  check_has(t.msl, "simd_sum(");
  Caps caps = full_caps();
  caps.subgroup_arithmetic = false;
  CHECK_THROWS_AS(print(text, KernelFormat::kSpirv, {}, caps), Error);
}

TEST_CASE("every kernel of the library prints the same text each time, in each language, fast") {
  const KernelSources& sources = KernelSources::embedded();
  const auto names = sources.kernel_names();
  CHECK(names.size() > 5);
  const auto start = std::chrono::steady_clock::now();
  size_t printed = 0;
  for (const std::string& name : names) {
    KernelRequest request;
    request.name = name;
    for (const KernelFormat format :
         {KernelFormat::kOpenCLC, KernelFormat::kSpirv, KernelFormat::kMsl}) {
      CAPTURE(name);
      if (format == KernelFormat::kMsl && sources.interface_of(request).needs_fp64) {
        CHECK_THROWS_AS(sources.print(request, format, full_caps()), Error);
        continue;
      }
      const KernelCode code = sources.print(request, format, full_caps());
      ++printed;
      CHECK(code.code == sources.print(request, format, full_caps()).code);
      CHECK(code.hash != 0);
      if (format == KernelFormat::kSpirv && !glslang_version().empty()) {
        const std::string words = compile_glsl(code.code, code.name);
        REQUIRE(words.size() > 20);
        CHECK(words.substr(0, 4) == std::string("\x03\x02\x23\x07", 4));
        CHECK(words.find(code.name) != std::string::npos);
      }
    }
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  MESSAGE(printed, " variants printed twice, ", took.count(), " ms with glslang");
}

TEST_CASE("glslang's errors come with the source around them") {
  if (glslang_version().empty()) return;
  try {
    compile_glsl("#version 460\nlayout(local_size_x = 1) in;\nvoid main() {\n  int a = b;\n}\n",
                 "bad");
    FAIL("compiled");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kCompileFailed);
    check_has(error.what(), "'bad'");
    check_has(error.what(), "'b' : undeclared identifier");
    check_has(error.what(), "4 >   int a = b;");
  }
}
