// The lowerings of gang tiles onto matrix units: kernels/conv_mma.k against the host, with PTX's
// fragments, copies and swizzles emulated in OpenCL C on any driver, and Metal's by the simulator.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cmath>
#include <numeric>
#include <random>
#include <string_view>

#include "core/kernel/matrix_units.h"
#include "tests/cpp/kernel_testing.h"
#include "tests/cpp/ptx_emulation.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

struct Problem {
  uint32_t n = 1, c = 8, h = 5, w = 6, k = 64, window = 1, stride = 1, pad = 0;
  uint32_t out_h() const { return (h + 2 * pad - window) / stride + 1; }
  uint32_t out_w() const { return (w + 2 * pad - window) / stride + 1; }
  uint32_t depth() const { return window * window * c; }
  uint32_t packed_rows() const { return (depth() + 63) / 64 * 64; }
  uint32_t blocks() const { return (k + 63) / 64; }
};

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

Params params_of(const Problem& p, uint32_t total, const std::vector<uint32_t>& sharing) {
  Params params;
  params.u(p.n * p.out_h() * p.out_w()).u(total).u(p.c).u(p.k).u(0).u(p.blocks());
  params.u(p.packed_rows());
  for (const uint32_t value : sharing) params.u(value);
  params.u(p.h * p.w * p.c).u(1).u(p.w * p.c).u(p.c);
  params.u(p.out_h() * p.out_w() * p.k).u(1).u(p.out_w() * p.k).u(p.k);
  params.u(p.h).u(p.w).u(p.out_h()).u(p.out_w()).u(p.window).u(p.window);
  for (const uint32_t v : {p.stride, p.stride, 1u, 1u, p.pad, p.pad}) params.u(v);
  return params;
}

/// Few bits, which bfloat16 holds too.
std::vector<float> few_bits(std::vector<float> values) {
  for (float& value : values) value = std::round(value * 64.0f) / 64.0f;
  return values;
}

Bytes stored_as(DType dtype, const std::vector<float>& values) {
  if (dtype == DType::kFloat32) return bytes_of(values);
  if (dtype == DType::kFloat16) return bytes_of(halves(values));
  std::vector<uint16_t> bits;
  for (const float value : values) {
    uint32_t word = 0;
    std::memcpy(&word, &value, sizeof word);
    bits.push_back(static_cast<uint16_t>(word >> 16));
  }
  return bytes_of(bits);
}

/// `half_sums`: in float16, which rounds each partial sum to 2^-11 of it.
/// With `slices`, groups share the depth and the last of a tile finishes it; with `streams`, that
/// many share the steps of all tiles.
void check(const std::shared_ptr<Device>& device, const std::string& lowering,
           const MatrixTile& tile, const Problem& p, DType dtype = DType::kFloat16,
           uint32_t slices = 1, uint32_t streams = 0, bool half_sums = false) {
  KernelRequest request;
  request.name = "conv_mma";
  request.types = {{"TB", DType::kFloat32}, {"TX", dtype}, {"TW", dtype}};
  request.epilogue.expression = "max(x, 0.0f)";
  tile.set_constants(request, lowering);
  request.constants["HAS_BIAS"] = 1;
  if (half_sums) request.constants["ACC16"] = 1;
  request.constants["POINT"] = p.window == 1 ? 1 : 0;
  request.constants["VECTOR_Y"] = p.k % 4 == 0 ? 1 : 0;
  request.constants["SPLIT"] = streams > 0 ? 3 : slices > 1 ? 2 : 0;
  CAPTURE(request.key());
  const uint32_t pixels = p.n * p.out_h() * p.out_w();
  const auto x = few_bits(random_halves(p.n * p.h * p.w * p.c, 1));
  auto w = few_bits(random_halves(p.blocks() * p.packed_rows() * 64, 2));
  for (size_t i = 0; i < w.size(); ++i) {
    const size_t row = i / 64 % p.packed_rows(), k = i / 64 / p.packed_rows() * 64 + i % 64;
    if (row >= p.depth() || k >= p.k) w[i] = 0.0f;
  }
  const auto bias = random_halves(p.k, 3);
  Bytes xs = stored_as(dtype, x), ws = stored_as(dtype, w), bs = bytes_of(bias);
  Bytes ys = bytes_of(std::vector<uint16_t>(pixels * p.k, 0x7e00));
  const auto ceil = [](uint32_t a, int64_t b) { return static_cast<uint32_t>((a + b - 1) / b); };
  const uint32_t tiles = ceil(pixels, tile.bm) * ceil(p.blocks() * 64, tile.bn);
  const uint32_t steps = ceil(p.depth(), tile.bk), all = tiles * steps;
  const uint32_t total = streams > 0 ? std::min(streams, all) : tiles * slices;
  std::vector<uint32_t> sharing;
  if (slices > 1) sharing = {slices, ceil(steps, slices)};
  if (streams > 0) sharing = {all / total, all % total};
  std::vector<Bytes*> buffers{&xs, &ws, &bs, &ys};
  const auto floats =
      (streams > 0 ? total + tiles : total) * static_cast<size_t>(tile.bm * tile.bn + 1);
  Bytes sums = bytes_of(std::vector<float>(floats, NAN));
  Bytes counters = bytes_of(std::vector<uint32_t>(tiles, 0));
  if (!sharing.empty()) buffers.insert(buffers.begin(), {&sums, &counters});
  run_kernel(device, request, buffers, params_of(p, total, sharing), {total, 1, 1},
             kernel_of(device, request));
  CHECK(counters == bytes_of(std::vector<uint32_t>(tiles, 0)));
  const auto want = expected(p, x, w, bias);
  const auto got = values_of<uint16_t>(ys);
  const double tolerance = half_sums ? 6e-3 : 2e-3;
  size_t wrong = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const auto value = static_cast<double>(half_to_float(got[i]));
    if (!(std::fabs(value - want[i]) <= tolerance * std::max(4.0, std::fabs(want[i])))) ++wrong;
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
  run_kernel(device, request, {&xs, &ds, &sums}, params, {total, 1, 1}, kernel_of(device, request));
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

/// A product of two batches by gemm_mma; one side may be turned.
void check_product(const std::shared_ptr<Device>& device, const std::string& lowering,
                   const MatrixTile& tile, DType dtype, bool a_turned, bool b_turned) {
  KernelRequest request;
  request.name = "gemm_mma";
  request.types = {{"TA", dtype}, {"TB", dtype}, {"TC", DType::kFloat32}};
  tile.set_constants(request, lowering);
  request.constants["A_TURNED"] = a_turned ? 1 : 0;
  request.constants["B_TURNED"] = b_turned ? 1 : 0;
  CAPTURE(request.key());
  const uint32_t batches = 2, m = 72, n = 40, k = 56;
  const auto a = few_bits(random_halves(batches * m * k, 1));
  const auto b = few_bits(random_halves(batches * n * k, 2));
  Bytes as = stored_as(dtype, a), bs = stored_as(dtype, b);
  Bytes cs = bytes_of(std::vector<float>(batches * m * n, NAN));
  const auto ceil = [](uint32_t x, int64_t y) { return static_cast<uint32_t>((x + y - 1) / y); };
  const uint32_t total = ceil(m, tile.bm) * ceil(n, tile.bn) * batches;
  Params params;
  params.u(m).u(n).u(k).u(total).u(a_turned ? m : k).u(m * k).u(b_turned ? k : n).u(n * k);
  params.u(n).u(1).u(m * n).add(2.0f);
  run_kernel(device, request, {&as, &bs, &cs}, params, {total, 1, 1}, kernel_of(device, request));
  const auto got = values_of<float>(cs);
  size_t wrong = 0;
  for (uint32_t i = 0; i < batches * m * n; ++i) {
    const uint32_t batch = i / (m * n), row = i / n % m, column = i % n;
    double want = 0;
    for (uint32_t d = 0; d < k; ++d) {
      want += static_cast<double>(a[batch * m * k + (a_turned ? d * m + row : row * k + d)]) *
              static_cast<double>(b[batch * n * k + (b_turned ? column * k + d : d * n + column)]);
    }
    if (!(std::fabs(static_cast<double>(got[i]) - 2.0 * want) <= 1e-3)) ++wrong;
  }
  CHECK(wrong == 0);
}

/// integer_tile with zero points on both sides, exactly.
void check_integers(const std::shared_ptr<Device>& device, const std::string& lowering,
                    const MatrixTile& tile) {
  KernelRequest request;
  request.name = "integer_tile";
  request.types = {{"TA", DType::kInt8}, {"TB", DType::kInt8}};
  tile.set_constants(request, lowering);
  for (const char* name : {"A_ZERO", "B_ZERO", "A_POINTS", "B_POINTS"}) request.constants[name] = 1;
  CAPTURE(request.key());
  const uint32_t batches = 2, m = 70, n = 75, k = 144, depth = 141;
  std::vector<int8_t> a(batches * m * k), b(batches * n * k), za(m), zb(n);
  std::mt19937 random(5);
  for (auto* values : {&a, &b, &za, &zb}) {
    for (int8_t& value : *values) value = static_cast<int8_t>(random());
  }
  const auto sums_of = [&](std::vector<int8_t>& rows) {
    std::vector<int32_t> sums;
    for (size_t row = 0; row < rows.size() / k; ++row) {
      int32_t sum = 0;
      for (size_t d = 0; d < k; ++d) {
        if (d >= depth) rows[row * k + d] = 0;
        sum += rows[row * k + d];
      }
      sums.push_back(sum);
    }
    return bytes_of(sums);
  };
  Bytes na = sums_of(a), nb = sums_of(b), as = bytes_of(a), bs = bytes_of(b);
  Bytes zas = bytes_of(za), zbs = bytes_of(zb);
  Bytes ys = bytes_of(std::vector<int32_t>(batches * m * n, INT32_MIN));
  const auto ceil = [](uint32_t x, int64_t y) { return static_cast<uint32_t>((x + y - 1) / y); };
  const uint32_t total = ceil(m, tile.bm) * ceil(n, tile.bn) * batches;
  Params params;
  params.u(total).u(m).u(n).u(k).u(depth).u(k).u(m * k).u(n * k).u(n).u(1).u(m * n);
  params.u(1).u(1).u(0).u(0).u(m).u(n).u(0).u(0).u(0).u(0);
  run_kernel(device, request, {&as, &bs, &na, &nb, &zas, &zbs, &ys}, params, {total, 1, 1},
             kernel_of(device, request));
  const auto got = values_of<int32_t>(ys);
  size_t wrong = 0;
  for (uint32_t i = 0; i < batches * m * n; ++i) {
    const uint32_t batch = i / (m * n), row = i / n % m, column = i % n;
    int32_t want = 0;
    for (uint32_t d = 0; d < depth; ++d) {
      want +=
          (a[(batch * m + row) * k + d] - za[row]) * (b[(batch * n + column) * k + d] - zb[column]);
    }
    wrong += got[i] == want ? 0 : 1;
  }
  CHECK(wrong == 0);
}

/// integer_conv_tile with zero points on both sides, exactly: an image with its padding around it.
void check_integer_images(const std::shared_ptr<Device>& device, const std::string& lowering,
                          const MatrixTile& tile, uint32_t groups) {
  KernelRequest request;
  request.name = "integer_conv_tile";
  request.types = {{"TX", DType::kInt8}, {"TW", DType::kInt8}};
  tile.set_constants(request, lowering);
  for (const char* name : {"X_ZERO", "W_ZERO", "X_POINTS", "W_POINTS"}) request.constants[name] = 1;
  CAPTURE(request.key());
  const uint32_t batch = 2, height = 7, width = 9, window = 3, cg = 48, kg = 35;
  const uint32_t out_h = height - window + 1, out_w = (width - window) / 2 + 1;
  const uint32_t pixels = batch * out_h * out_w, channels = groups * cg, depth = 9 * cg;
  std::vector<int8_t> x(batch * height * width * channels), w(groups * kg * depth), zx(1);
  std::vector<int8_t> zw(groups * kg);
  std::mt19937 random(7);
  for (auto* values : {&x, &w, &zx, &zw}) {
    for (int8_t& value : *values) value = static_cast<int8_t>(random());
  }
  // The pixel of an image under a tap of a window, its first channel of a group.
  const auto at = [&](uint32_t m, uint32_t tap, uint32_t g) {
    const uint32_t n = m / (out_h * out_w), y = m / out_w % out_h + tap / 3;
    return ((n * height + y) * width + m % out_w * 2 + tap % 3) * channels + g * cg;
  };
  std::vector<int32_t> window_sums, filter_sums;
  for (uint32_t i = 0; i < pixels * groups; ++i) {
    int32_t sum = 0;
    for (uint32_t d = 0; d < depth; ++d) sum += x[at(i / groups, d / cg, i % groups) + d % cg];
    window_sums.push_back(sum);
  }
  for (uint32_t k = 0; k < groups * kg; ++k) {
    const auto row = w.begin() + k * depth;
    filter_sums.push_back(std::accumulate(row, row + depth, 0));
  }
  Bytes xs = bytes_of(x), ws = bytes_of(w), nx = bytes_of(window_sums), nw = bytes_of(filter_sums);
  Bytes zxs = bytes_of(zx), zws = bytes_of(zw);
  Bytes ys = bytes_of(std::vector<int32_t>(pixels * groups * kg, INT32_MIN));
  const auto ceil = [](uint32_t a, int64_t b) { return static_cast<uint32_t>((a + b - 1) / b); };
  const uint32_t total = ceil(pixels, tile.bm) * ceil(kg, tile.bn) * groups;
  Params params;
  params.u(total).u(pixels).u(groups).u(cg).u(kg).u(depth).u(1).u(0);
  params.u(height * width * channels).u(1).u(width * channels).u(channels);
  params.u(out_h * out_w * groups * kg).u(1).u(out_w * groups * kg).u(groups * kg);
  params.u(height).u(width).u(out_h).u(out_w).u(window).u(window);
  for (const uint32_t v : {1u, 2u, 1u, 1u, 0u, 0u}) params.u(v);
  params.u(0).u(0).u(0).u(0);
  run_kernel(device, request, {&xs, &ws, &nx, &nw, &zxs, &zws, &ys}, params, {total, 1, 1},
             kernel_of(device, request));
  const auto got = values_of<int32_t>(ys);
  size_t wrong = 0;
  for (uint32_t i = 0; i < got.size(); ++i) {
    const uint32_t m = i / (groups * kg), k = i % (groups * kg);
    int32_t want = 0;
    for (uint32_t d = 0; d < depth; ++d) {
      want += (x[at(m, d / cg, k / kg) + d % cg] - zx[0]) * (w[k * depth + d] - zw[k]);
    }
    wrong += got[i] == want ? 0 : 1;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("PTX tiles, emulated on a CPU driver, agree with the host") {
  const auto device = conformance::test_device("opencl");
  if (!device) return;
  for (const MatrixTile& tile :
       {MatrixTile{128, 128, 32, 2, 1, 64, 64}, MatrixTile{64, 64, 64, 2, 1, 32, 32},
        MatrixTile{32, 64, 64, 3, 2, 16, 32}, MatrixTile{16, 64, 16, 3, 2, 16, 16},
        MatrixTile{64, 64, 32, 3, 2, 32, 32, 1}}) {
    for (const Problem& problem : kProblems) check(device, "ptx", tile, problem);
  }
  for (const Problem& problem : kProblems) {
    check(device, "ptx", {32, 64, 64, 3, 2, 16, 32}, problem, DType::kBFloat16);
    check(device, "ptx", {32, 64, 64, 3, 2, 16, 32}, problem, DType::kFloat16, 1, 0, true);
  }
  for (const MatrixTile& tile :
       {MatrixTile{128, 128, 32, 3, 2, 64, 64}, MatrixTile{64, 64, 32, 2, 1, 32, 32}}) {
    for (const Problem& problem : kProblems) check_turned(device, "ptx", tile, problem);
  }
}

TEST_CASE("float32 tiles with asynchronous copies, emulated, agree with the host") {
  const auto device = conformance::test_device("opencl");
  if (!device) return;
  for (const MatrixTile& tile :
       {MatrixTile{128, 128, 16, 3, 2, 8, 8}, MatrixTile{64, 64, 16, 2, 1, 4, 4},
        MatrixTile{128, 64, 8, 3, 2, 16, 8}, MatrixTile{64, 64, 32, 2, 1, 8, 16},
        MatrixTile{128, 128, 16, 2, 1, 16, 8}, MatrixTile{64, 128, 8, 2, 1, 8, 8},
        MatrixTile{64, 64, 32, 2, 1, 8, 16, 2}, MatrixTile{64, 64, 16, 2, 1, 8, 4, 3}}) {
    for (const Problem& problem : kProblems) {
      check(device, "async", tile, problem, DType::kFloat32);
    }
  }
}

TEST_CASE("products with either side turned agree with the host") {
  for (const char* backend : {"opencl", "vulkan"}) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
      for (const auto& [a_turned, b_turned] :
           {std::pair{false, false}, {true, false}, {false, true}}) {
        check_product(device, "plain", {64, 64, 32, 1, 1, 4, 4}, dtype, a_turned, b_turned);
        if (std::string_view(backend) != "opencl") continue;
        check_product(device, "ptx", {32, 64, 32, 3, 2, 16, 32}, dtype, a_turned, b_turned);
      }
    }
  }
}

TEST_CASE("products and convolutions of int8 are exact") {
  for (const char* backend : {"opencl", "vulkan"}) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    check_integers(device, "plain", {64, 64, 32, 1, 1, 8, 4});
    check_integer_images(device, "plain", {64, 64, 32, 1, 1, 8, 4}, 2);
    if (std::string_view(backend) != "opencl") continue;
    check_integers(device, "ptx", {32, 64, 64, 3, 2, 16, 32});
    check_integers(device, "ptx", {64, 64, 128, 2, 1, 32, 32});
    for (const uint32_t groups : {1u, 2u}) {
      check_integer_images(device, "ptx", {32, 64, 64, 3, 2, 16, 32}, groups);
      check_integer_images(device, "ptx", {64, 64, 128, 2, 1, 32, 32}, groups);
    }
  }
}

TEST_CASE("the last group of a tile finishes it, and leaves the counters at zero") {
  for (const char* backend : {"opencl", "vulkan"}) {
    const auto device = conformance::test_device(backend);
    if (!device || !device->caps().device_fences) continue;
    for (const Problem& problem : kProblems) {
      check(device, "plain", {64, 64, 16, 2, 1, 4, 4}, problem, DType::kFloat16, 3);
      check(device, "plain", {64, 64, 16, 1, 1, 4, 4}, problem, DType::kFloat32, 2);
    }
    if (device->caps().backend != "opencl") continue;
    for (const Problem& problem : kProblems) {
      check(device, "ptx", {16, 64, 16, 3, 2, 16, 16}, problem, DType::kFloat16, 4);
      check(device, "async", {64, 64, 16, 3, 2, 8, 4}, problem, DType::kFloat32, 3);
    }
  }
}

TEST_CASE("groups that share the steps of all tiles agree with the host") {
  for (const char* backend : {"opencl", "vulkan"}) {
    const auto device = conformance::test_device(backend);
    if (!device || !device->caps().device_fences) continue;
    const bool is_opencl = device->caps().backend == "opencl";
    for (const Problem& problem : kProblems) {
      // A group that does several tiles; several groups to a tile; a step each.
      for (const uint32_t groups : {3u, 7u, 1000u}) {
        CAPTURE(groups);
        check(device, "plain", {64, 64, 16, 2, 1, 4, 4}, problem, DType::kFloat16, 1, groups);
        if (groups != 7) continue;
        check(device, "plain", {64, 64, 16, 1, 1, 4, 4}, problem, DType::kFloat32, 1, groups);
        if (!is_opencl) continue;
        check(device, "ptx", {16, 64, 16, 3, 2, 16, 16}, problem, DType::kFloat16, 1, groups);
        check(device, "ptx", {64, 64, 32, 4, 2, 32, 32}, problem, DType::kFloat16, 1, 3);
        check(device, "async", {64, 64, 16, 3, 2, 8, 4}, problem, DType::kFloat32, 1, groups);
      }
    }
  }
}

TEST_CASE("tiles in registers agree with the host") {
  for (const char* backend : {"opencl", "vulkan"}) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    for (const MatrixTile& tile :
         {MatrixTile{64, 64, 32, 1, 1, 4, 4}, MatrixTile{32, 128, 16, 2, 1, 4, 8}}) {
      for (const Problem& problem : kProblems) {
        check(device, "plain", tile, problem);
        check(device, "plain", tile, problem, DType::kBFloat16);
      }
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
  request.constants["ACC16"] = 1;
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kSpirv),
                       doctest::Contains("lacks fp16_arithmetic"), Error);
  request.types["TX"] = request.types["TW"] = DType::kBFloat16;
  request.lowering = "ptx";
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kOpenCLC), doctest::Contains("products of f16"),
                       Error);
  request.lowering = "coopmat";
  request.constants.erase("ACC16");
  request.types["TX"] = DType::kFloat32;
  CHECK_THROWS_WITH_AS(print(request, KernelFormat::kSpirv), doctest::Contains("tiles of f16"),
                       Error);
}
