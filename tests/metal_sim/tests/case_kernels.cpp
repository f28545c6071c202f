// Kernels: what runs right, and what is wrong inside one.
#include <cmath>

#include "tests/metal_sim/tests/cases.h"

using namespace cases;

CASE(relu) {
  const Pool pool;
  const auto device = open_device();
  const auto x = floats(device.get(), {-1.0f, 2.0f, -3.0f, 4.0f});
  const auto y = empty(device.get(), 4);
  run_kernel(R"(kernel void relu(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
      uint i [[thread_position_in_grid]]) { y[i] = max(x[i], 0.0f); })",
             "relu", {x.get(), y.get()}, 1, 4);
  expect(value(y.get(), 0) == 0.0f && value(y.get(), 3) == 4.0f, "relu's results");
}

constexpr const char* kSum = R"(kernel void total(device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float part[64] __attribute__((aligned(16)));
  part[i] = x[i];
  for (uint n = 32u; n > 0u; n /= 2u) {
    %s
    if (i < n) part[i] += part[i + n];
  }
  if (i == 0u) y[0] = part[0];
})";

static void total(const char* barrier) {
  const Pool pool;
  const auto device = open_device();
  std::vector<float> values(64, 0.5f);
  const auto x = floats(device.get(), values);
  const auto y = empty(device.get(), 1);
  std::string source = kSum;
  source.replace(source.find("%s"), 2, barrier);
  run_kernel(source.c_str(), "total", {x.get(), y.get()}, 1, 64);
  expect(value(y.get(), 0) == 32.0f, "the sum");
}

CASE(threadgroup_sum) { total("threadgroup_barrier(mem_flags::mem_threadgroup);"); }
CAUGHT(missing_barrier, "read of uninitialised threadgroup memory") { total(""); }
CAUGHT(barrier_without_memory, "data race on threadgroup memory") {
  total("threadgroup_barrier(mem_flags::mem_none);");
}

CAUGHT(divergent_barrier, "reached by 40 of 64 threads") {
  const Pool pool;
  const auto device = open_device();
  const auto y = floats(device.get(), std::vector<float>(64, 0.0f));
  run_kernel(R"(kernel void k(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
      if (i >= 40u) return;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      y[i] = 1.0f; })",
             "k", {y.get()}, 1, 64);
}

CAUGHT(different_barriers, "wait at different threadgroup_barriers") {
  const Pool pool;
  const auto device = open_device();
  const auto y = floats(device.get(), std::vector<float>(64, 0.0f));
  run_kernel(R"(kernel void k(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
      if (i < 32u) { threadgroup_barrier(mem_flags::mem_threadgroup); y[i] = 1.0f; }
      else { threadgroup_barrier(mem_flags::mem_threadgroup); y[i] = 2.0f; } })",
             "k", {y.get()}, 1, 64);
}

CAUGHT(out_of_bounds_read, "out-of-bounds read of 4 bytes, 0 bytes past the end of buffer(0)") {
  const Pool pool;
  const auto device = open_device();
  const auto x = floats(device.get(), std::vector<float>(8, 1.0f));
  const auto y = empty(device.get(), 8);
  run_kernel(R"(kernel void k(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
      uint i [[thread_position_in_grid]]) { y[i] = x[i + 1u]; })",
             "k", {x.get(), y.get()}, 1, 8);
}

CAUGHT(out_of_bounds_write, "out-of-bounds write of 4 bytes") {
  const Pool pool;
  const auto device = open_device();
  const auto y = empty(device.get(), 8);
  run_kernel(R"(kernel void k(device float* y [[buffer(0)]],
      uint i [[thread_position_in_grid]]) { y[i] = 1.0f; })",
             "k", {y.get()}, 1, 9);
}

CAUGHT(uninitialised_device_read, "read of uninitialised device memory") {
  const Pool pool;
  const auto device = open_device();
  const auto x = empty(device.get(), 8), y = empty(device.get(), 8);
  run_kernel(R"(kernel void k(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
      uint i [[thread_position_in_grid]]) { y[i] = x[i]; })",
             "k", {x.get(), y.get()}, 1, 8);
}

CAUGHT(uninitialised_threadgroup_read, "read of uninitialised threadgroup memory") {
  const Pool pool;
  const auto device = open_device();
  const auto y = empty(device.get(), 32);
  run_kernel(R"(kernel void k(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
      threadgroup float part[32];
      if (i < 16u) part[i] = 1.0f;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      y[i] = part[i]; })",
             "k", {y.get()}, 1, 32);
}

CAUGHT(race_between_threadgroups, "data race on device memory") {
  const Pool pool;
  const auto device = open_device();
  const auto y = floats(device.get(), {0.0f});
  run_kernel(R"(kernel void k(device float* y [[buffer(0)]]) { y[0] += 1.0f; })", "k", {y.get()}, 4,
             1);
}

CASE(atomics) {
  const Pool pool;
  const auto device = open_device();
  const auto y = floats(device.get(), {0.0f});
  run_kernel(R"(kernel void k(device uint* y [[buffer(0)]]) {
      atomic_fetch_add_explicit((device atomic_uint*)&y[0], 1u, memory_order_relaxed); })",
             "k", {y.get()}, 4, 32);
  expect(*static_cast<const uint32_t*>(y->contents()) == 128, "the count");
}

CASE(half_in_place) {
  const Pool pool;
  const auto device = open_device();
  const auto y = NS::TransferPtr(device->newBuffer(64, MTL::ResourceStorageModeShared));
  for (int i = 0; i < 32; ++i) static_cast<uint16_t*>(y->contents())[i] = 0x3c00;  // 1.0
  run_kernel(R"(kernel void k(device const half* x [[buffer(0)]], device half* y [[buffer(1)]],
      uint i [[thread_position_in_grid]]) {
      half4 v = half4(half(x[i])); threadgroup_barrier(mem_flags::mem_none);
      y[i] = v.x + half(0.5f); })",
             "k", {y.get(), y.get()}, 1, 32);
  expect(static_cast<uint16_t*>(y->contents())[31] == 0x3e00, "1.5 in half");
}

CASE(simdgroup_functions) {
  const Pool pool;
  const auto device = open_device();
  const auto y = empty(device.get(), 64);
  run_kernel(R"(kernel void k(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]],
      uint lane [[thread_index_in_simdgroup]]) {
      float sum = simd_sum(float(lane));
      y[i] = sum + simd_shuffle_xor(float(lane), ushort(1)) + simd_max(float(i)); })",
             "k", {y.get()}, 1, 64);
  expect(value(y.get(), 0) == 496.0f + 1.0f + 31.0f, "lane 0");
  expect(value(y.get(), 63) == 496.0f + 30.0f + 63.0f, "lane 31 of the second simdgroup");
}

CASE(simdgroup_matrix) {
  const Pool pool;
  const auto device = open_device();
  std::vector<float> a(64), b(64);
  for (size_t i = 0; i < 64; ++i) {
    a[i] = static_cast<float>(i % 7) - 3.0f;
    b[i] = static_cast<float>(i % 5) - 2.0f;
  }
  const auto left = floats(device.get(), a), right = floats(device.get(), b);
  const auto y = empty(device.get(), 64);
  run_kernel(R"(kernel void k(device const float* a [[buffer(0)]],
      device const float* b [[buffer(1)]], device float* y [[buffer(2)]]) {
      simdgroup_float8x8 x, w, sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      simdgroup_load(x, a, 8);
      simdgroup_load(w, b, 8, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(sum, x, w, sum);
      simdgroup_store(sum, y, 8); })",
             "k", {left.get(), right.get(), y.get()}, 1, 32);
  for (size_t r = 0; r < 8; ++r) {
    for (size_t c = 0; c < 8; ++c) {
      float want = 0;
      for (size_t k = 0; k < 8; ++k) want += a[r * 8 + k] * b[c * 8 + k];
      expect(value(y.get(), r * 8 + c) == want, "an element of the product");
    }
  }
}

CAUGHT(partial_simdgroup_matrix, "is not reached by all 32 lanes") {
  const Pool pool;
  const auto device = open_device();
  const auto a = floats(device.get(), std::vector<float>(64, 1.0f));
  const auto y = empty(device.get(), 64);
  run_kernel(R"(kernel void k(device const float* a [[buffer(0)]], device float* y [[buffer(1)]]) {
      simdgroup_float8x8 x; simdgroup_load(x, a, 8); simdgroup_store(x, y, 8); })",
             "k", {a.get(), y.get()}, 1, 16);
}

CASE(vectors) {
  const Pool pool;
  const auto device = open_device();
  const auto y = empty(device.get(), 8);
  run_kernel(R"(constant float table[3] = {1.0f, 2.0f, 3.0f};
      static float dot4(float4 a, float4 b) { float4 p = a * b; return p.x + p.y + p.z + p.w; }
      kernel void k(device float* y [[buffer(0)]]) {
        float4 v = float4(1.0f, float2(2.0f, 3.0f), 4.0f);
        uint4 bits = as_type<uint4>(v);
        *(device float4*)(y) = fma(v, v, float4(1.0f));
        y[4] = dot4(v, float4(as_type<float>(bits.x)));
        y[5] = table[2] + v.yx.x;
        y[6] = precise::exp(0.0f) + metal::select(1.0f, 2.0f, v.x > 0.0f);
        y[7] = clamp(v, float4(2.0f), float4(3.0f)).w; })",
             "k", {y.get()}, 1, 1);
  const float want[] = {2, 5, 10, 17, 10, 5, 3, 3};
  for (size_t i = 0; i < 8; ++i) expect(value(y.get(), i) == want[i], "a vector result");
}

CASE(refused_texts) {
  const Pool pool;
  const auto device = open_device();
  const std::pair<const char*, const char*> texts[] = {
      {"kernel void k(device float* y [[buffer(0)]]) { double d = 1; y[0] = d; }", "double"},
      {"kernel void k(device float* y [[buffer(31)]]) { y[0] = 1; }", "beyond 30"},
      {"kernel void k(device float* y [[buffer(0)]], device float* x [[buffer(0)]]) {}", "used by"},
      {"kernel void k(float* y [[buffer(0)]]) { y[0] = 1; }", "address space"},
      {"kernel void k(device float* y [[buffer(0)]], uint n [[buffer(1)]]) {}", "pointer"},
      {"kernel void k(device float* y [[buffer(0)]], uint i) { y[i] = 1; }", "attribute"},
      {"kernel void k(device const float* y [[buffer(0)]]) { y[0] = 1; }", "read-only"},
      {"kernel void k(device float* y [[buffer(0)]]) { y[0] = max(1.0f, 2); }", "types"},
      {"kernel void k(device float* y [[buffer(0)]]) { y[0] = nothing; }", "nothing"},
      {"kernel void k(device float* y [[buffer(0)]]) { threadgroup float l[4]; device float* p = "
       "l; "
       "p[0] = 1; y[0] = 1; }",
       "threadgroup"},
      {"static float f(thread float* p) { return p[0]; }\n"
       "kernel void k(device float* y [[buffer(0)]]) { y[0] = f(y); }",
       "no matching function"}};
  for (const auto& [text, word] : texts) {
    std::string log;
    const auto library = build(device.get(), text, &log);
    expect(!library, text);
    if (log.find(word) == std::string::npos) expect(false, (text + ("\n" + log)).c_str());
    expect(log.find("program_source:") != std::string::npos, log.c_str());
  }
}
