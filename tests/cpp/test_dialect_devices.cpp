// What the dialect says, run on every device: conversions, vectors, functions, locals, epilogues.
#include <cmath>
#include <limits>
#include <random>

#include "tests/cpp/kernel_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const char* const kBackends[] = {"opencl", "vulkan", "metal", "metal-sim"};

/// Calls `check` with each device that there is.
template <typename Check>
void on_each_device(const Check& check) {
  for (const char* backend : kBackends) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    CAPTURE(device->caps().id);
    check(device);
  }
}

std::vector<float> random_floats(size_t count, float low, float high, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(generator);
  return values;
}

/// y[i] = f(x[i]) for a body that ends in st(Y, i, ...).
std::vector<float> map_floats(const std::shared_ptr<Device>& device, const std::string& expression,
                              const std::vector<float>& x, const std::string& functions = {}) {
  Bytes in = bytes_of(x);
  Bytes out(in.size());
  run_kernel(device,
             each_element("in X : f32\nout Y : f32",
                          "float x = ld(X, i); st(Y, i, " + expression + ");", functions),
             {&in, &out}, Params().u(x.size()), {groups_of(x.size()), 1, 1});
  return values_of<float>(out);
}

struct Function {
  const char* name;
  double (*reference)(double);
  float low, high;
  double tolerance;  // relative; of a result below 1, absolute where `absolute`
  bool absolute = false;
};

// 1e-6 covers every library function; what OpenCL drivers bound is looser for a few.
const Function kFunctions[] = {
    {"exp", std::exp, -87.0f, 88.0f, 1e-6},         {"exp2", std::exp2, -126.0f, 127.0f, 1e-6},
    {"log", std::log, 1e-30f, 10.0f, 1e-6, true},   {"log2", std::log2, 1e-30f, 10.0f, 1e-6, true},
    {"sqrt", std::sqrt, 0.0f, 1e6f, 1e-6},          {"sin", std::sin, -100.0f, 100.0f, 1e-6, true},
    {"cos", std::cos, -100.0f, 100.0f, 1e-6, true}, {"tan", std::tan, -1.5f, 1.5f, 2e-6},
    {"asin", std::asin, -1.0f, 1.0f, 1e-6},         {"acos", std::acos, -1.0f, 0.99f, 1e-6},
    {"atan", std::atan, -50.0f, 50.0f, 1e-6},       {"sinh", std::sinh, -88.0f, 88.0f, 1e-6},
    {"cosh", std::cosh, -88.0f, 88.0f, 1e-6},       {"tanh", std::tanh, -20.0f, 20.0f, 1e-6},
    {"asinh", std::asinh, -3000.0f, 3000.0f, 1e-6}, {"acosh", std::acosh, 1.0f, 3000.0f, 1e-6},
    {"atanh", std::atanh, -0.999f, 0.999f, 1e-6},   {"erf", std::erf, -5.0f, 5.0f, 2e-6},
    {"floor", std::floor, -9.0f, 9.0f, 0.0},        {"ceil", std::ceil, -9.0f, 9.0f, 0.0},
    {"trunc", std::trunc, -9.0f, 9.0f, 0.0},        {"rint", std::rint, -9.0f, 9.0f, 0.0},
    {"abs", std::fabs, -9.0f, 9.0f, 0.0},
};

}  // namespace

TEST_CASE("functions of one argument") {
  on_each_device([](const std::shared_ptr<Device>& device) {
    for (const Function& function : kFunctions) {
      CAPTURE(function.name);
      const auto x = random_floats(2000, function.low, function.high);
      const auto y = map_floats(device, std::string(function.name) + "(x)", x);
      double worst = 0.0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double expected = function.reference(static_cast<double>(x[i]));
        const double size = std::max(std::fabs(expected), function.absolute ? 1.0 : 1e-30);
        worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - expected) / size);
      }
      CHECK(worst <= function.tolerance);
    }
  });
}

TEST_CASE("functions keep infinities, NaN and zeros apart") {
  const std::vector<float> x = {0.0f, -0.0f, kInf,   -kInf,  std::nanf(""),
                                1.0f, -1.0f, 200.0f, -200.0f};
  struct Row {
    const char* expression;
    std::vector<float> expected;
  };
  const float nan = std::nanf("");
  const Row rows[] = {
      {"exp(x)", {1, 1, kInf, 0, nan, std::exp(1.0f), std::exp(-1.0f), kInf, 0}},
      {"tanh(x)", {0, 0, 1, -1, nan, std::tanh(1.0f), std::tanh(-1.0f), 1, -1}},
      {"erf(x)", {0, 0, 1, -1, nan, std::erf(1.0f), std::erf(-1.0f), 1, -1}},
      {"log(abs(x))", {-kInf, -kInf, kInf, kInf, nan, 0, 0, std::log(200.0f), std::log(200.0f)}},
      {"isnan(x) ? 1.0f : 0.0f", {0, 0, 0, 0, 1, 0, 0, 0, 0}},
      {"isinf(x) ? 1.0f : 0.0f", {0, 0, 1, 1, 0, 0, 0, 0, 0}},
      {"pow(x, 2.0f)", {0, 0, kInf, kInf, nan, 1, 1, 40000, 40000}},
      {"pow(x, 3.0f)", {0, 0, kInf, -kInf, nan, 1, -1, 8e6f, -8e6f}},
      {"pow(x, -1.0f)", {kInf, -kInf, 0, 0, nan, 1, -1, 0.005f, -0.005f}},
      {"pow(abs(x), 0.5f)", {0, 0, kInf, kInf, nan, 1, 1, std::sqrt(200.0f), std::sqrt(200.0f)}},
      {"x == 0.0f ? -INFINITY : NAN", {-kInf, -kInf, nan, nan, nan, nan, nan, nan, nan}},
  };
  on_each_device([&](const std::shared_ptr<Device>& device) {
    for (const Row& row : rows) {
      CAPTURE(row.expression);
      const auto y = map_floats(device, row.expression, x);
      for (size_t i = 0; i < x.size(); ++i) {
        CAPTURE(x[i]);
        CAPTURE(y[i]);
        if (std::isnan(row.expected[i])) {
          CHECK(std::isnan(y[i]));
        } else if (std::isinf(row.expected[i]) || row.expected[i] == 0.0f) {
          CHECK(y[i] == row.expected[i]);
        } else {
          CHECK(y[i] == doctest::Approx(row.expected[i]).epsilon(1e-6));
        }
      }
    }
  });
}

TEST_CASE("functions of two arguments") {
  struct Row {
    const char* name;
    double (*reference)(double, double);
    float low, high;
  };
  const Row rows[] = {{"pow", std::pow, 0.1f, 8.0f},
                      {"atan2", std::atan2, -5.0f, 5.0f},
                      {"fmod", std::fmod, -50.0f, 50.0f},
                      {"min", std::fmin, -5.0f, 5.0f},
                      {"max", std::fmax, -5.0f, 5.0f}};
  on_each_device([&](const std::shared_ptr<Device>& device) {
    for (const Row& row : rows) {
      CAPTURE(row.name);
      const auto a = random_floats(2000, row.low, row.high, 2);
      const auto b = random_floats(2000, row.low, row.high, 3);
      Bytes in_a = bytes_of(a), in_b = bytes_of(b), out(in_a.size());
      run_kernel(device,
                 each_element("in A : f32\nin B : f32\nout Y : f32",
                              "st(Y, i, " + std::string(row.name) + "(ld(A, i), ld(B, i)));"),
                 {&in_a, &in_b, &out}, Params().u(a.size()), {groups_of(a.size()), 1, 1});
      const auto y = values_of<float>(out);
      double worst = 0.0;
      for (size_t i = 0; i < a.size(); ++i) {
        const double expected = row.reference(static_cast<double>(a[i]), static_cast<double>(b[i]));
        worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - expected) /
                                    std::max(1.0, std::fabs(expected)));
      }
      CHECK(worst <= 2e-6);
    }
  });
}

TEST_CASE("integers are those of C") {
  const std::vector<int32_t> a = {7, -7, 7, -7, 0, 2147483647, -2147483647, 100, -1, 5};
  const std::vector<int32_t> b = {3, 3, -3, -3, 5, 2, 2, -7, 4, 5};
  struct Row {
    const char* expression;
    int32_t (*reference)(int32_t, int32_t);
  };
  const Row rows[] = {
      {"a / b", [](int32_t x, int32_t y) { return x / y; }},
      {"a % b", [](int32_t x, int32_t y) { return x % y; }},
      {"abs(a)", [](int32_t x, int32_t) { return std::abs(x); }},
      {"min(a, b) * 1000 + max(a, 1)",
       [](int32_t x, int32_t y) {
         return static_cast<int32_t>(static_cast<uint32_t>(std::min(x, y)) * 1000u +
                                     static_cast<uint32_t>(std::max(x, 1)));
       }},
      {"clamp(a, -5, 5)", [](int32_t x, int32_t) { return std::clamp(x, -5, 5); }},
      {"a >> 2", [](int32_t x, int32_t) { return x >> 2; }},
      {"int(uint(a) >> 3)",
       [](int32_t x, int32_t) { return static_cast<int32_t>(static_cast<uint32_t>(x) >> 3); }},
      {"(a & b) | (a ^ 12) + ~b",
       [](int32_t x, int32_t y) {
         return (x & y) |
                static_cast<int32_t>(static_cast<uint32_t>(x ^ 12) + static_cast<uint32_t>(~y));
       }},
      {"select(a < b, 10, 20)", [](int32_t x, int32_t y) { return x < y ? 10 : 20; }},
      {"int(popcount(uint(a)))",
       [](int32_t x, int32_t) { return __builtin_popcount(static_cast<uint32_t>(x)); }},
      {"int(a < b) + int(a == b && b != 0) * 2",
       [](int32_t x, int32_t y) { return int(x < y) + int(x == y && y != 0) * 2; }},
      {"int(float(a % 1000) * 0.5f)",
       [](int32_t x, int32_t) {
         return static_cast<int32_t>(static_cast<float>(x % 1000) * 0.5f);
       }},
      {"dot4i8(uint(a), uint(b))",
       [](int32_t x, int32_t y) {
         int32_t sum = 0;
         for (int i = 0; i < 4; ++i) {
           sum += static_cast<int8_t>(x >> (8 * i)) * static_cast<int8_t>(y >> (8 * i));
         }
         return sum;
       }},
  };
  on_each_device([&](const std::shared_ptr<Device>& device) {
    for (const Row& row : rows) {
      CAPTURE(row.expression);
      Bytes in_a = bytes_of(a), in_b = bytes_of(b), out(in_a.size());
      run_kernel(device,
                 each_element("in A : i32\nin B : i32\nout Y : i32",
                              "int a = ld(A, i); int b = ld(B, i); st(Y, i, " +
                                  std::string(row.expression) + ");"),
                 {&in_a, &in_b, &out}, Params().u(a.size()), {1, 1, 1});
      const auto y = values_of<int32_t>(out);
      for (size_t i = 0; i < a.size(); ++i) {
        CAPTURE(a[i]);
        CAPTURE(b[i]);
        CHECK(y[i] == row.reference(a[i], b[i]));
      }
    }
  });
}

namespace {

std::vector<float> hard_floats() {
  std::vector<float> values = random_floats(500, -70000.0f, 70000.0f, 5);
  const auto small = random_floats(500, -2.0f, 2.0f, 6);
  values.insert(values.end(), small.begin(), small.end());
  for (const float value :
       {0.0f, -0.0f, kInf, -kInf, 1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f, 65504.0f, 65519.0f,
        65520.0f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 1e30f}) {
    values.push_back(value);
  }
  while (values.size() % 16 != 0) values.push_back(1.5f);
  return values;
}

}  // namespace

TEST_CASE("16-bit floats are rounded to nearest even, one by one and as vectors") {
  const std::vector<float> x = hard_floats();
  on_each_device([&](const std::shared_ptr<Device>& device) {
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
      for (const int64_t width : {0, 1, 2, 4, 8, 16}) {
        if (width > device->caps().vector_width) continue;
        CAPTURE(dtype_name(dtype));
        CAPTURE(width);
        KernelRequest there =
            each_element("type T = f16\nin X : f32\nout Y : T",
                         width == 0 ? "st(Y, i, ld(X, i));" : "stv(Y, i * VW, ldv(X, i * VW));");
        KernelRequest back =
            each_element("type T = f16\nin X : T\nout Y : f32",
                         width == 0 ? "st(Y, i, ld(X, i));" : "stv(Y, i * VW, ldv(X, i * VW));");
        there.types["T"] = back.types["T"] = dtype;
        if (width != 0) there.constants["VW"] = back.constants["VW"] = width;
        const size_t items = x.size() / static_cast<size_t>(std::max<int64_t>(width, 1));
        Bytes in = bytes_of(x), packed(x.size() * 2), out(in.size());
        run_kernel(device, there, {&in, &packed}, Params().u(items), {groups_of(items), 1, 1});
        run_kernel(device, back, {&packed, &out}, Params().u(items), {groups_of(items), 1, 1});
        const auto bits = values_of<uint16_t>(packed);
        const auto y = values_of<float>(out);
        size_t wrong = 0;
        for (size_t i = 0; i < x.size(); ++i) {
          const bool half = dtype == DType::kFloat16;
          const uint16_t expected = half ? float_to_half(x[i]) : float_to_bfloat16(x[i]);
          const float value = half ? half_to_float(expected) : bfloat16_to_float(expected);
          // Half subnormals may be flushed.
          if (half && (expected & 0x7c00) == 0) continue;
          if (bits[i] != expected || y[i] != value) ++wrong;
        }
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("integer storage wraps and truncates like C") {
  const std::vector<int32_t> x = {0, 1, -1, 127, -128, 200, -200, 30000, 70000, -70000, 65535, 256};
  on_each_device([&](const std::shared_ptr<Device>& device) {
    const auto through = [&](const char* type, size_t bytes) {
      CAPTURE(type);
      Bytes in = bytes_of(x), narrow(x.size() * bytes), out(in.size());
      // 1- and 2-byte buffers keep a size that is a multiple of 4.
      run_kernel(device,
                 each_element("in X : i32\nout Y : " + std::string(type), "st(Y, i, ld(X, i));"),
                 {&in, &narrow}, Params().u(x.size()), {1, 1, 1});
      run_kernel(
          device,
          each_element("in X : " + std::string(type) + "\nout Y : i32", "st(Y, i, ld(X, i));"),
          {&narrow, &out}, Params().u(x.size()), {1, 1, 1});
      return values_of<int32_t>(out);
    };
    const auto expect = [&](const std::vector<int32_t>& got, auto convert) {
      for (size_t i = 0; i < x.size(); ++i) CHECK(got[i] == static_cast<int32_t>(convert(x[i])));
    };
    expect(through("i8", 1), [](int32_t v) { return static_cast<int8_t>(v); });
    expect(through("u8", 1), [](int32_t v) { return static_cast<uint8_t>(v); });
    expect(through("i16", 2), [](int32_t v) { return static_cast<int16_t>(v); });
    expect(through("u16", 2), [](int32_t v) { return static_cast<uint16_t>(v); });
    expect(through("u32", 4), [](int32_t v) { return v; });
    expect(through("bool", 1), [](int32_t v) { return v != 0; });
    expect(through("i64", 8), [](int32_t v) { return v; });
    if (device->caps().fp64) expect(through("f64", 8), [](int32_t v) { return v; });
  });
}

TEST_CASE("vectors, lanes and local arrays") {
  on_each_device([](const std::shared_ptr<Device>& device) {
    for (const int64_t width : {1, 2, 4, 8, 16}) {
      if (width > device->caps().vector_width) continue;
      CAPTURE(width);
      KernelRequest request;
      request.name = "turn";
      // Reverses each group's 64 vectors through local memory, doubles lane 0, adds 1 to all.
      request.source =
          "kernel turn\nin X : f32\nout Y : f32\nlocal L : float[64 * VW]\ngroup 64\n{\n"
          "  uint at = (WX * 64u + LX) * VW;\n"
          "  stl(L, (63u - LX) * VW, ldv(X, at));\n"
          "  barrier();\n"
          "  L[LX * VW] += L[LX * VW];\n"
          "  fvec v = ldl(L, LX * VW) + fvec(1.0f);\n"
          "  set_lane(v, VW - 1, lane(v, VW - 1) * 3.0f);\n"
          "  stv(Y, at, max(v, fvec(-0.5f)));\n}\n";
      request.constants["VW"] = width;
      const auto vw = static_cast<size_t>(width);
      const auto x = random_floats(2 * 64 * vw, -4.0f, 4.0f);
      Bytes in = bytes_of(x), out(in.size());
      run_kernel(device, request, {&in, &out}, Params(), {2, 1, 1});
      const auto y = values_of<float>(out);
      size_t wrong = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t group = i / (64 * vw), item = i / vw % 64, lane = i % vw;
        float v = x[(group * 64 + 63 - item) * vw + lane];
        if (lane == 0) v += v;
        v += 1.0f;
        if (lane == vw - 1) v *= 3.0f;
        if (y[i] != std::max(v, -0.5f)) ++wrong;
      }
      CHECK(wrong == 0);
    }
  });
}

TEST_CASE("array parameters, functions, static control, names that targets keep") {
  KernelRequest request;
  request.name = "each";
  request.source =
      "func float half_of(float input) { float output = input * 0.5f; return output; }\n"
      "func uint sum_to(uint n) { uint s = 0; for (uint k = 1; k <= n; k++) s += k; return s; }\n"
      "kernel each\nconst ND = 3\nin X : f32\nout Y : f32\nparam s[ND], sample : uint\n"
      "param scale : float\ngroup 64\n{\n"
      "  uint i = WL * 64u + LX;\n"
      "  if (i >= sample) return;\n"
      "  uint filter = 0;\n"
      "  static for (d = 0; d < ND; d++) filter += s[d] << d;\n"
      "  for (uint d = 0; d < ND; d++) filter += s[d];\n"
      "  const float table[3] = {1.0f, 2.0f, 4.0f};\n"
      "  float buffer[2][2];\n"
      "  buffer[0][1] = table[i % 3u];\n"
      "  static if (is_type(f32, f32) && ND == 3) { buffer[1][0] = scale; } else { undeclared; }\n"
      "  do { filter++; } while (filter % 4u != 0u);\n"
      "  while (true) { filter -= 1; if (filter < 100u) break; }\n"
      "  st(Y, i, half_of(ld(X, i)) * buffer[0][1] + buffer[1][0] + float(sum_to(filter)));\n}\n";
  on_each_device([&](const std::shared_ptr<Device>& device) {
    const auto x = random_floats(1000, -4.0f, 4.0f);
    Bytes in = bytes_of(x), out(in.size());
    const uint32_t s[] = {5, 6, 7};
    run_kernel(device, request, {&in, &out}, Params().u(5).u(6).u(7).u(x.size()).add(0.25f),
               {4, 4, 1});
    uint32_t filter = 0;
    for (uint32_t d = 0; d < 3; ++d) filter += (s[d] << d) + s[d];
    do {
      filter++;
    } while (filter % 4 != 0);
    filter -= 1;
    CHECK(filter < 100);
    const auto y = values_of<float>(out);
    const float table[3] = {1.0f, 2.0f, 4.0f};
    for (size_t i = 0; i < x.size(); ++i) {
      const float expected =
          0.5f * x[i] * table[i % 3] + 0.25f + static_cast<float>(filter * (filter + 1) / 2);
      REQUIRE(y[i] == doctest::Approx(expected));
    }
  });
}

TEST_CASE("epilogues load their operands") {
  KernelRequest request = each_element("in X : f32\nout Y : f32\nparam c : uint\nepilogue",
                                       "st(Y, i, epilogue(ld(X, i), i, i % c));");
  request.epilogue.expression = "max(x * e1 + e2, e3) + tanh(e0) * e4";
  using Kind = EpilogueOperand::Kind;
  request.epilogue.operands = {{Kind::kFull, DType::kFloat32},
                               {Kind::kChannel, DType::kFloat32},
                               {Kind::kScalar, DType::kFloat32},
                               {Kind::kValue, DType::kFloat32},
                               {Kind::kChannel, DType::kInt32}};
  on_each_device([&](const std::shared_ptr<Device>& device) {
    const auto x = random_floats(300, -4.0f, 4.0f);
    const auto full = random_floats(300, -4.0f, 4.0f, 9);
    const std::vector<float> channel = {1.0f, 2.0f, -3.0f};
    const std::vector<float> scalar = {0.5f};
    const std::vector<int32_t> integers = {4, -5, 6};
    Bytes in = bytes_of(x), out(in.size()), e0 = bytes_of(full), e1 = bytes_of(channel),
          e2 = bytes_of(scalar), e4 = bytes_of(integers);
    run_kernel(device, request, {&in, &out, &e0, &e1, &e2, &e4},
               Params().u(3).u(x.size()).add(-1.0f), {groups_of(x.size()), 1, 1});
    const auto y = values_of<float>(out);
    for (size_t i = 0; i < x.size(); ++i) {
      const float expected = std::max(x[i] * channel[i % 3] + 0.5f, -1.0f) +
                             std::tanh(full[i]) * static_cast<float>(integers[i % 3]);
      REQUIRE(y[i] == doctest::Approx(expected).epsilon(1e-5));
    }
  });
}

TEST_CASE("atomics, bits and many parameters") {
  on_each_device([](const std::shared_ptr<Device>& device) {
    const auto x = random_floats(1000, 0.0f, 8.0f);
    Bytes in = bytes_of(x), histogram(8 * 4);
    run_kernel(device,
               each_element("in X : f32\ninout H : u32", "atomic_add(H, uint(ld(X, i)), 1);"),
               {&in, &histogram}, Params().u(x.size()), {groups_of(x.size()), 1, 1});
    std::vector<uint32_t> expected(8);
    for (const float value : x) ++expected[static_cast<size_t>(value)];
    CHECK(values_of<uint32_t>(histogram) == expected);

    for (const char* type : {"f32", "f16", "bf16", "i8", "bool"}) {
      CAPTURE(type);
      Bytes from(256), to(256);
      for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 37 + 11);
      const std::string t = type;
      const size_t size = t == "f32" ? 4 : t == "f16" || t == "bf16" ? 2 : 1;
      run_kernel(
          device,
          each_element("in X : " + t + "\nout Y : " + t, "store_bits(Y, i, load_bits(X, i));"),
          {&from, &to}, Params().u(from.size() / size), {groups_of(from.size() / size), 1, 1});
      CHECK(from == to);
    }

    // 61 parameters are more than 128 bytes of push constants hold.
    Bytes out(4);
    Params params;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 60; ++i) {
      params.u(i * i);
      sum += i * i;
    }
    run_kernel(device,
               each_element("out Y : u32\nparam a[60] : uint",
                            "uint s = 0; for (uint k = 0; k < 60; k++) s += a[k]; st(Y, i, s);"),
               {&out}, params.u(1), {1, 1, 1});
    CHECK(values_of<uint32_t>(out)[0] == sum);
  });
}

TEST_CASE("sums in float16 where the device computes in it") {
  on_each_device([](const std::shared_ptr<Device>& device) {
    for (const int64_t width : {1, 4}) {
      KernelRequest request = each_element(
          "in X : f32\nout Y : f32\nparam count : uint",
          "avec sum = avec(0.0f); afloat last = 0;\n"
          "for (uint k = 0; k < count; k++) {\n"
          "  sum = fma(avec(ldv(X, i * VW)), avec(1), sum);\n"
          "  last = last + afloat(ld(X, i * VW)) * 1.0f;\n}\n"
          "set_lane(sum, 0, last); stv(Y, i * VW, fvec(sum) * fvec(float(lane(sum, 0) < 1e4f)));");
      request.constants = {{"VW", width}, {"ACC16", 1}};
      const auto x = random_floats(32 * static_cast<size_t>(width), 0.0f, 1.0f);
      Bytes in = bytes_of(x), out(in.size());
      const Params params = Params().u(100).u(32);
      if (!device->caps().fp16_arithmetic) {
        CHECK_THROWS_AS(run_kernel(device, request, {&in, &out}, params, {1, 1, 1}), Error);
        continue;
      }
      run_kernel(device, request, {&in, &out}, params, {1, 1, 1});
      const auto y = values_of<float>(out);
      size_t wrong = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const float term = half_to_float(float_to_half(x[i]));
        float sum = 0.0f;
        for (int k = 0; k < 100; ++k) sum = half_to_float(float_to_half(sum + term));
        if (y[i] != sum) ++wrong;
      }
      CHECK(wrong == 0);
    }
  });
}

TEST_CASE("every kernel of the library compiles on every device") {
  on_each_device([](const std::shared_ptr<Device>& device) {
    std::vector<KernelRequest> requests;
    for (const std::string& name : KernelSources::embedded().kernel_names()) {
      requests.emplace_back().name = name;
      const bool needs_fp64 = KernelSources::embedded().interface_of(requests.back()).needs_fp64;
      if (needs_fp64 && !device->caps().fp64) requests.pop_back();
    }
    CHECK(KernelLibrary::of(device)->get_all(requests).size() == requests.size());
  });
}
