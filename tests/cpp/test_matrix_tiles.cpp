// The lowerings of gang tiles onto matrix units: kernels/conv_mma.k against the host, with PTX's
// fragments, copies and swizzles emulated in OpenCL C on any driver, and Metal's by the simulator.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "core/kernel/matrix_units.h"
#include "tests/cpp/kernel_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

// PTX's documented semantics with a group's barrier for a subgroup's: lanes meet through the words
// after the tiles. All work-items of a group reach every call of conv_mma together.
constexpr char kEmulation[] = R"(
__attribute__((always_inline)) uint dlk_local_address(__local void* s) { return 0u; }
__attribute__((always_inline)) void dlk_copy16(__local uint4* s, uint at,
                                               __global const void* from, bool ok) {
  s[at / 16u] = ok ? *(__global const uint4*)from : (uint4)(0u);
}
#define dlk_copies_commit()
#define dlk_copies_wait(n)
#define dlk_subgroup_barrier(s) barrier(CLK_LOCAL_MEM_FENCE)
#define LANE ((uint)get_local_id(0) % 32u)
#define WARP ((uint)get_local_id(0) / 32u * 32u)
__attribute__((always_inline)) uint4 dlk_matrices(__local uint4* s, uint at, bool transposed) {
  __local uint* words = (__local uint*)(s + TILE_CHUNKS) + WARP * 8u;
  words[LANE] = at;
  barrier(CLK_LOCAL_MEM_FENCE);
  uint r[4];
  for (uint i = 0u; i < 4u; ++i) {
    uint row = LANE / 4u, column = LANE % 4u * 2u;
    if (transposed) {
      uint low = ((__local ushort*)((__local char*)s + words[i * 8u + column]))[row];
      uint high = ((__local ushort*)((__local char*)s + words[i * 8u + column + 1u]))[row];
      r[i] = low | (high << 16);
    } else {
      r[i] = ((__local uint*)((__local char*)s + words[i * 8u + row]))[column / 2u];
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return (uint4)(r[0], r[1], r[2], r[3]);
}
#define dlk_fragment(s, at) dlk_matrices(s, at, false)
#define dlk_fragment_t(s, at) dlk_matrices(s, at, true)
__attribute__((always_inline)) float dlk_half(uint word, uint which) {
  ushort bits = (ushort)(which ? word >> 16 : word);
  return vload_half(0, (const half*)&bits);
}
__attribute__((always_inline)) float4 dlk_mma(__local uint4* s, uint4 a, uint b0, uint b1,
                                              float4 c) {
  __local uint* words = (__local uint*)(s + TILE_CHUNKS) + WARP * 8u;
  words[LANE * 6u] = a.x;
  words[LANE * 6u + 1u] = a.y;
  words[LANE * 6u + 2u] = a.z;
  words[LANE * 6u + 3u] = a.w;
  words[LANE * 6u + 4u] = b0;
  words[LANE * 6u + 5u] = b1;
  barrier(CLK_LOCAL_MEM_FENCE);
  float r[4] = {c.x, c.y, c.z, c.w};
  for (uint i = 0u; i < 4u; ++i) {
    uint row = LANE / 4u + i / 2u * 8u, column = LANE % 4u * 2u + i % 2u;
    for (uint k = 0u; k < 16u; ++k) {
      uint left = words[(row % 8u * 4u + k % 8u / 2u) * 6u + row / 8u + k / 8u * 2u];
      uint right = words[(column * 4u + k % 8u / 2u) * 6u + 4u + k / 8u];
      r[i] += dlk_half(left, k % 2u) * dlk_half(right, k % 2u);
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return (float4)(r[0], r[1], r[2], r[3]);
}
)";

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
}

/// The printed text with the emulation in the place of its PTX, and room for the lanes' words.
KernelCode emulated(const Device& device, const KernelRequest& request) {
  KernelCode code = KernelSources::embedded().print(request, KernelFormat::kOpenCLC, device.caps());
  const size_t begin = code.code.find("// ptx begin"), end = code.code.find("// ptx end");
  REQUIRE(begin != std::string::npos);
  const std::string chunks = std::to_string(code.local_bytes / 16);
  code.code.replace(begin, end - begin,
                    "#define TILE_CHUNKS " + chunks + "\n" + std::string(kEmulation));
  replace(code.code, "dlk_shared[" + chunks + "]",
          "dlk_shared[" + chunks + " + " + std::to_string(code.group_size[0] * 2) + "]");
  code.local_bytes += code.group_size[0] * 32;
  code.build_options += " -cl-opt-disable";
  return code;
}

struct Problem {
  uint32_t n = 1, c = 8, h = 5, w = 6, k = 64, window = 1, stride = 1, pad = 0;
  uint32_t out_h() const { return (h + 2 * pad - window) / stride + 1; }
  uint32_t out_w() const { return (w + 2 * pad - window) / stride + 1; }
  uint32_t depth() const { return window * window * c; }
  uint32_t packed_rows() const { return (depth() + 63) / 64 * 64; }
  uint32_t blocks() const { return (k + 63) / 64; }
};

std::vector<float> random_halves(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = half_to_float(float_to_half(distribution(generator)));
  return values;
}

std::vector<uint16_t> halves(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(float_to_half(value));
  return bits;
}

/// y (pixel, k) of x (n, h, w, c) and packed weights.
std::vector<double> expected(const Problem& p, const std::vector<float>& x,
                             const std::vector<float>& w, const std::vector<float>& bias) {
  std::vector<double> y;
  for (uint32_t n = 0; n < p.n; ++n) {
    for (uint32_t oh = 0; oh < p.out_h(); ++oh) {
      for (uint32_t ow = 0; ow < p.out_w(); ++ow) {
        for (uint32_t k = 0; k < p.k; ++k) {
          auto sum = static_cast<double>(bias[k]);
          for (uint32_t row = 0; row < p.depth(); ++row) {
            const uint32_t tap = row / p.c;
            const uint32_t ih = oh * p.stride + tap / p.window - p.pad;
            const uint32_t iw = ow * p.stride + tap % p.window - p.pad;
            if (ih >= p.h || iw >= p.w) continue;
            sum += static_cast<double>(x[((n * p.h + ih) * p.w + iw) * p.c + row % p.c]) *
                   static_cast<double>(w[(k / 64 * p.packed_rows() + row) * 64 + k % 64]);
          }
          y.push_back(std::max(sum, 0.0));
        }
      }
    }
  }
  return y;
}

Params params_of(const Problem& p, uint32_t total) {
  Params params;
  params.u(p.n * p.out_h() * p.out_w()).u(total).u(p.c).u(p.k).u(0).u(p.blocks());
  params.u(p.packed_rows());
  params.u(p.h * p.w * p.c).u(1).u(p.w * p.c).u(p.c);
  params.u(p.out_h() * p.out_w() * p.k).u(1).u(p.out_w() * p.k).u(p.k);
  params.u(p.h).u(p.w).u(p.out_h()).u(p.out_w()).u(p.window).u(p.window);
  for (const uint32_t v : {p.stride, p.stride, 1u, 1u, p.pad, p.pad}) params.u(v);
  return params;
}

void check(const std::shared_ptr<Device>& device, const std::string& lowering,
           const MatrixTile& tile, const Problem& p) {
  KernelRequest request;
  request.name = "conv_mma";
  request.types = {{"TB", DType::kFloat32}};
  request.epilogue.expression = "max(x, 0.0f)";
  tile.set_constants(request, lowering);
  request.constants["HAS_BIAS"] = 1;
  request.constants["POINT"] = p.window == 1 ? 1 : 0;
  request.constants["VECTOR_Y"] = p.k % 4 == 0 ? 1 : 0;
  CAPTURE(request.key());
  const uint32_t pixels = p.n * p.out_h() * p.out_w();
  const auto x = random_halves(p.n * p.h * p.w * p.c, 1);
  auto w = random_halves(p.blocks() * p.packed_rows() * 64, 2);
  for (size_t i = 0; i < w.size(); ++i) {
    const size_t row = i / 64 % p.packed_rows(), k = i / 64 / p.packed_rows() * 64 + i % 64;
    if (row >= p.depth() || k >= p.k) w[i] = 0.0f;
  }
  const auto bias = random_halves(p.k, 3);
  Bytes xs = bytes_of(halves(x)), ws = bytes_of(halves(w)), bs = bytes_of(bias);
  Bytes ys = bytes_of(std::vector<uint16_t>(pixels * p.k, 0x7e00));
  const auto ceil = [](uint32_t a, int64_t b) { return (a + b - 1) / b; };
  const auto total = static_cast<uint32_t>(ceil(pixels, tile.bm) * ceil(p.blocks() * 64, tile.bn));
  std::shared_ptr<Kernel> kernel;
  if (lowering == "ptx") kernel = device->compile(emulated(*device, request));
  run_kernel(device, request, {&xs, &ws, &bs, &ys}, params_of(p, total), {total, 1, 1}, kernel);
  const auto want = expected(p, x, w, bias);
  const auto got = values_of<uint16_t>(ys);
  size_t wrong = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const auto value = static_cast<double>(half_to_float(got[i]));
    if (!(std::fabs(value - want[i]) <= 2e-3 * std::max(4.0, std::fabs(want[i])))) ++wrong;
  }
  CHECK(wrong == 0);
}

const Problem kProblems[] = {{1, 72, 7, 5, 64, 1, 1, 0},
                             {2, 8, 6, 7, 70, 3, 1, 1},
                             {1, 40, 9, 9, 136, 3, 2, 1},
                             {1, 16, 12, 11, 24, 5, 1, 2}};

/// Gradient of the weights of a convolution: rows (tap, c), columns k, in two slices of the pixels.
void check_turned(const std::shared_ptr<Device>& device, const std::string& lowering,
                  const MatrixTile& tile, const Problem& p) {
  KernelRequest request;
  request.name = "conv_weight_tile";
  tile.set_constants(request, lowering);
  request.constants["VECTOR_P"] = 1;
  CAPTURE(request.key());
  const uint32_t k = (p.k + 7) / 8 * 8, pixels = p.n * p.out_h() * p.out_w();
  const auto x = random_halves(p.n * p.h * p.w * p.c, 1), d = random_halves(pixels * k, 2);
  const auto ceil = [](uint32_t a, int64_t b) { return static_cast<uint32_t>((a + b - 1) / b); };
  const uint32_t rows = p.depth(), slices = 2, depth = ceil(ceil(pixels, tile.bk), slices);
  const uint32_t total = ceil(rows, tile.bm) * ceil(k, tile.bn) * slices;
  Bytes xs = bytes_of(halves(x)), ds = bytes_of(halves(d));
  Bytes sums = bytes_of(std::vector<float>(slices * rows * k, NAN));
  Params params;
  params.u(total).u(pixels).u(1).u(rows).u(p.c).u(p.c).u(k).u(slices).u(depth).u(k).u(p.c);
  params.u(p.h * p.w * p.c).u(1).u(p.w * p.c).u(p.c);
  params.u(p.h).u(p.w).u(p.out_h()).u(p.out_w()).u(p.window);
  for (const uint32_t v : {p.stride, p.stride, 1u, 1u, p.pad, p.pad}) params.u(v);
  std::shared_ptr<Kernel> kernel;
  if (lowering == "ptx") kernel = device->compile(emulated(*device, request));
  run_kernel(device, request, {&xs, &ds, &sums}, params, {total, 1, 1}, kernel);
  const auto got = values_of<float>(sums);
  size_t wrong = 0;
  for (uint32_t i = 0; i < rows * k; ++i) {
    const uint32_t tap = i / k / p.c, c = i / k % p.c;
    double want = 0;
    for (uint32_t m = 0; m < pixels; ++m) {
      const uint32_t ow = m % p.out_w(), oh = m / p.out_w() % p.out_h();
      const uint32_t ih = oh * p.stride + tap / p.window - p.pad;
      const uint32_t iw = ow * p.stride + tap % p.window - p.pad;
      if (ih >= p.h || iw >= p.w) continue;
      const uint32_t n = m / p.out_w() / p.out_h();
      want += static_cast<double>(x[((n * p.h + ih) * p.w + iw) * p.c + c]) *
              static_cast<double>(d[m * k + i % k]);
    }
    const auto value = static_cast<double>(got[i] + got[rows * k + i]);
    if (!(std::fabs(value - want) <= 1e-4 * std::max(4.0, std::fabs(want)))) ++wrong;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("PTX tiles, emulated on a CPU driver, agree with the host") {
  const auto device = conformance::test_device("opencl");
  if (!device) return;
  for (const MatrixTile& tile :
       {MatrixTile{128, 128, 32, 2, 1, 64, 64}, MatrixTile{64, 64, 64, 2, 1, 32, 32},
        MatrixTile{32, 64, 64, 3, 2, 16, 32}, MatrixTile{16, 64, 16, 3, 2, 16, 16}}) {
    for (const Problem& problem : kProblems) check(device, "ptx", tile, problem);
  }
  for (const MatrixTile& tile :
       {MatrixTile{128, 128, 32, 3, 2, 64, 64}, MatrixTile{64, 64, 32, 2, 1, 32, 32}}) {
    for (const Problem& problem : kProblems) check_turned(device, "ptx", tile, problem);
  }
}

TEST_CASE("tiles in registers agree with the host") {
  for (const char* backend : {"opencl", "vulkan"}) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    for (const MatrixTile& tile :
         {MatrixTile{64, 64, 32, 1, 1, 4, 4}, MatrixTile{32, 128, 16, 2, 1, 4, 8}}) {
      for (const Problem& problem : kProblems) check(device, "plain", tile, problem);
    }
    for (const MatrixTile& tile :
         {MatrixTile{64, 64, 16, 2, 1, 4, 4}, MatrixTile{128, 128, 16, 2, 1, 8, 8}}) {
      for (const Problem& problem : kProblems) check_turned(device, "plain", tile, problem);
    }
  }
}

TEST_CASE("simdgroup matrices agree with the host") {
  Backend* simulated = find_backend("metal-sim");
  const bool there = simulated && !simulated->enumerate().empty();
  const auto device = conformance::test_device(there ? "metal-sim" : "metal");
  if (!device || !device->caps().simdgroup_matrix) return;
  // Each row of a tile is copied by one work-item: what several write alike is a race here.
  for (const MatrixTile& tile :
       {MatrixTile{64, 64, 32, 1, 1, 0, 0}, MatrixTile{32, 64, 32, 2, 1, 0, 0}}) {
    for (const Problem& problem : kProblems) check(device, "simdgroup", tile, problem);
  }
}

TEST_CASE("what the lowerings refuse") {
  Caps caps;
  caps.fp16_storage = true;
  caps.local_memory_bytes = 1 << 16;
  const auto print = [&](KernelRequest request, KernelFormat format) {
    return KernelSources::embedded().print(request, format, caps);
  };
  KernelRequest request;
  request.name = "conv_mma";
  request.constants = {{"TM", 16}, {"TN", 16}};
  request.lowering = "ptx";
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kSpirv), doctest::Contains("for OpenCL C"),
                       Error);
  request.lowering = "coopmat";
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kOpenCLC), doctest::Contains("for Vulkan"),
                       Error);
  CHECK(print(request, KernelFormat::kSpirv).required_subgroup_size == 32);
  request.constants["TM"] = 24;
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kSpirv), doctest::Contains("multiples of 16"),
                       Error);
  request.constants["TM"] = 16;
  request.types["TX"] = DType::kFloat32;
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kSpirv), doctest::Contains("tiles of f16"),
                       Error);
}

namespace {

/// A cache folder of the case's own: what tiles did in other processes is not known there.
struct CacheOfItsOwn {
  CacheOfItsOwn() {
    char name[] = "/tmp/dlk-tiles-test-XXXXXX";
    path = mkdtemp(name);
    setenv("DLK_CACHE_DIR", path.c_str(), 1);
  }
  ~CacheOfItsOwn() {
    unsetenv("DLK_CACHE_DIR");
    std::filesystem::remove_all(path);
  }
  std::string path;
};

}  // namespace

TEST_CASE("a tile that computes something else is not used") {
  const CacheOfItsOwn cache;
  setenv("DLK_KERNEL_SHAPES", "gpu", 1);
  const auto device = conformance::test_device("opencl");
  unsetenv("DLK_KERNEL_SHAPES");
  if (!device) return;
  MatrixUnits units(device, "plain");
  CHECK(units.works({32, 64, 32, 1, 1, 4, 4}));
  // Two steps ahead need three stages: what is multiplied was overwritten.
  CHECK_FALSE(units.works({32, 64, 32, 1, 2, 4, 4}));
  CHECK_FALSE(units.works({32, 64, 33, 1, 1, 4, 4}));
  CHECK(units.works({64, 64, 16, 2, 1, 4, 4}, true));
  CHECK_FALSE(units.works({64, 64, 16, 1, 2, 4, 4}, true));
}

TEST_CASE("a plan assumes tiles, which are tried before it runs, once for all processes") {
  const CacheOfItsOwn cache;
  setenv("DLK_KERNEL_SHAPES", "gpu", 1);
  const auto device = conformance::test_device("opencl");
  unsetenv("DLK_KERNEL_SHAPES");
  if (!device) return;
  const MatrixTile right{32, 64, 32, 1, 1, 4, 4}, wrong{32, 64, 32, 1, 2, 4, 4};
  MatrixUnits units(device, "plain");
  const auto plan = units.assumed();
  CHECK(plan->works(right));
  CHECK(plan->settle());
  CHECK(plan->works(wrong));
  CHECK_FALSE(plan->settle());
  CHECK_FALSE(plan->works(wrong));
  CHECK(plan->settle());
  CHECK_FALSE(units.works(wrong));
  // As another process sees it: no kernel is built.
  const auto library = KernelLibrary::of(device);
  const uint64_t built = library->stats().pipelines;
  MatrixUnits others(device, "plain");
  CHECK(others.works(right));
  CHECK_FALSE(others.works(wrong));
  CHECK(library->stats().pipelines == built);
}
