// The GEMM kernels, in all their variants, against double precision on the host.
#include <cmath>

#include "tests/cpp/kernel_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

struct Problem {
  uint32_t m, n, k, batches;
  bool a_transposed = false, b_transposed = false, c_transposed = false;
};

struct Matrix {
  uint32_t row, column, batch;  // strides
};

Matrix strides_of(uint32_t rows, uint32_t columns, bool transposed, uint32_t gap) {
  const uint32_t pitch = (transposed ? rows : columns) + gap;
  return {transposed ? 1 : pitch, transposed ? pitch : 1,
          pitch * (transposed ? columns : rows) + gap};
}

Bytes stored_as(DType dtype, const std::vector<float>& values) {
  if (dtype == DType::kFloat32) return bytes_of(values);
  return bytes_of(halves(values));
}

std::vector<float> loaded_from(DType dtype, const Bytes& bytes) {
  if (dtype == DType::kFloat32) return values_of<float>(bytes);
  std::vector<float> values;
  for (const uint16_t bits : values_of<uint16_t>(bytes)) values.push_back(half_to_float(bits));
  return values;
}

constexpr float kAlpha = 0.5f;
constexpr float kGuard = -77.0f;

/// Runs and compares; what lies between C's rows must stay as it was.
void check_gemm(const std::shared_ptr<Device>& device, KernelRequest request, const Problem& p,
                std::array<uint32_t, 2> tile, uint32_t gap) {
  CAPTURE(request.key());
  CAPTURE(p.m);
  CAPTURE(p.n);
  CAPTURE(p.k);
  const auto type_of = [&](const char* name) {
    const auto found = request.types.find(name);
    return found == request.types.end() ? DType::kFloat32 : found->second;
  };
  const Matrix a = strides_of(p.m, p.k, p.a_transposed, gap);
  const Matrix b = strides_of(p.k, p.n, p.b_transposed, gap);
  const Matrix c = strides_of(p.m, p.n, p.c_transposed, gap);
  const auto left = random_halves(a.batch * p.batches, 1);
  const auto right = random_halves(b.batch * p.batches, 2);
  std::vector<float> before(c.batch * p.batches, kGuard);
  const auto bias = random_halves(std::max(p.m, p.n), 3);
  Bytes left_bytes = stored_as(type_of("TA"), left), right_bytes = stored_as(type_of("TB"), right);
  Bytes result = stored_as(type_of("TC"), before), bias_bytes = bytes_of(bias);
  const bool has_bias = !request.epilogue.expression.empty();
  std::vector<Bytes*> buffers = {&left_bytes, &right_bytes, &result};
  if (has_bias) buffers.push_back(&bias_bytes);
  Params params;
  params.u(p.m).u(p.n).u(p.k);
  uint32_t b_batch = b.batch;
  Bytes packed;
  if (request.constants.contains("PACKED")) {
    const uint32_t panels = (p.n + tile[1] - 1) / tile[1];
    b_batch = panels * p.k * tile[1];
    packed.resize(size_t{b_batch} * p.batches * 4);
    KernelRequest pack;
    pack.name = "gemm_pack_b";
    pack.constants = {{"VW", request.constants["VW"]}, {"NV", request.constants["NV"]}};
    run_kernel(device, pack, {&right_bytes, &packed},
               Params().u(p.n).u(p.k).u(b.row).u(b.column).u(b.batch).u(b_batch),
               {panels, (p.k + 15) / 16, p.batches});
    buffers[1] = &packed;
  }
  params.u(a.row).u(a.column).u(a.batch).u(b.row).u(b.column).u(b_batch);
  params.u(c.row).u(c.column).u(c.batch).add(kAlpha);
  run_kernel(device, request, buffers, params,
             {(p.n + tile[1] - 1) / tile[1], (p.m + tile[0] - 1) / tile[0], p.batches});
  const auto got = loaded_from(type_of("TC"), result);
  std::vector<double> expected(before.begin(), before.end());
  const auto rows_are_channels = request.constants.find("ROW_CHANNEL");
  const bool by_row = rows_are_channels != request.constants.end() && rows_are_channels->second;
  for (uint32_t z = 0; z < p.batches; ++z) {
    for (uint32_t i = 0; i < p.m; ++i) {
      for (uint32_t j = 0; j < p.n; ++j) {
        double sum = 0.0;
        for (uint32_t l = 0; l < p.k; ++l) {
          sum += static_cast<double>(left[z * a.batch + i * a.row + l * a.column]) *
                 static_cast<double>(right[z * b.batch + l * b.row + j * b.column]);
        }
        sum *= static_cast<double>(kAlpha);
        if (has_bias) sum = std::max(sum + static_cast<double>(bias[by_row ? i : j]), 0.0);
        expected[z * c.batch + i * c.row + j * c.column] = sum;
      }
    }
  }
  const double tolerance = request.constants.contains("ACC16") ? 2e-2
                           : type_of("TC") == DType::kFloat32  ? 1e-5
                                                               : 2e-3;
  size_t wrong = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double size = std::max(1.0, std::fabs(expected[i]));
    if (!(std::fabs(static_cast<double>(got[i]) - expected[i]) <= tolerance * size)) ++wrong;
  }
  CHECK(wrong == 0);
}

KernelRequest tiled(std::map<std::string, int64_t> constants) {
  KernelRequest request;
  request.name = "gemm_tile";
  request.constants = std::move(constants);
  return request;
}

KernelRequest simple(std::map<std::string, int64_t> constants) {
  KernelRequest request;
  request.name = "gemm_simple";
  request.constants = std::move(constants);
  return request;
}

void with_bias(KernelRequest& request) {
  request.epilogue.expression = "max(x + e0, 0.0f)";
  request.epilogue.operands = {{EpilogueOperand::Kind::kChannel, DType::kFloat32}};
}

const char* const kBackends[] = {"opencl", "vulkan", "metal", "metal-sim"};

const Problem kProblems[] = {{1, 1, 1, 1}, {65, 33, 17, 2}, {64, 64, 64, 1}, {7, 130, 40, 1}};

}  // namespace

TEST_CASE("gemm_tile: sizes, tails, batches, transposed operands") {
  for (const char* backend : kBackends) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    for (const Problem& problem : kProblems) {
      check_gemm(device, tiled({{"BM", 32}, {"BN", 32}, {"BK", 8}}), problem, {32, 32}, 3);
    }
    check_gemm(device, tiled({{"A_ALONG_K", 0}, {"B_ALONG_N", 0}}),
               {65, 33, 17, 2, true, true, true}, {64, 64}, 1);
    KernelRequest fused = tiled({});
    with_bias(fused);
    check_gemm(device, fused, {65, 70, 17, 1}, {64, 64}, 0);
    fused.constants["ROW_CHANNEL"] = 1;
    check_gemm(device, fused, {65, 70, 17, 1}, {64, 64}, 0);
  }
}

TEST_CASE("gemm_tile: micro-tiles, vectors, stages, fp16") {
  const std::map<std::string, int64_t> variants[] = {
      {{"BM", 16}, {"BN", 16}, {"TM", 1}, {"TN", 1}},
      {{"BM", 16}, {"BN", 16}, {"TM", 2}, {"TN", 2}, {"STAGES", 2}},
      {{"BM", 32}, {"BN", 16}, {"TM", 8}, {"TN", 2}, {"A_VECTORS", 1}},
      {{"BM", 16}, {"BN", 32}, {"TM", 2}, {"TN", 8}, {"B_VECTORS", 1}},
      {{"BM", 64},
       {"BN", 64},
       {"TM", 8},
       {"TN", 8},
       {"A_VECTORS", 1},
       {"B_VECTORS", 1},
       {"STAGES", 2}},
      {{"BM", 32}, {"BN", 32}, {"A_VECTORS", 1}, {"B_VECTORS", 1}, {"VW", 2}},
  };
  for (const char* backend : kBackends) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    for (const auto& constants : variants) {
      const std::array<uint32_t, 2> tile = {static_cast<uint32_t>(constants.at("BM")),
                                            static_cast<uint32_t>(constants.at("BN"))};
      KernelRequest request = tiled(constants);
      check_gemm(device, request, {36, 44, 40, 2}, tile, 4);
      for (const char* type : {"TA", "TB", "TC"}) request.types[type] = DType::kFloat16;
      check_gemm(device, request, {36, 44, 40, 2}, tile, 4);
      if (!device->caps().fp16_arithmetic) continue;
      request.constants["ACC16"] = 1;
      check_gemm(device, request, {36, 44, 40, 2}, tile, 4);
    }
  }
}

TEST_CASE("gemm_simple: widths, tails, packed and plain B") {
  for (const char* backend : kBackends) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    for (const int64_t width : {1, 4, 16}) {
      if (width > device->caps().vector_width) continue;
      const std::array<uint32_t, 2> tile = {4, 2 * static_cast<uint32_t>(width)};
      const uint32_t gap = 0;
      for (const Problem& problem : kProblems) {
        check_gemm(device, simple({{"VW", width}, {"NV", 2}}), problem, tile, 5);
        check_gemm(device, simple({{"VW", width}, {"NV", 2}, {"PACKED", 1}}), problem, tile, 5);
      }
      check_gemm(device, simple({{"VW", width}, {"NV", 2}, {"B_VECTORS", 1}, {"C_VECTORS", 1}}),
                 {9, 48, 20, 2}, tile, gap);
      KernelRequest fused =
          simple({{"VW", width}, {"NV", 2}, {"B_VECTORS", 1}, {"C_VECTORS", 1}, {"PACKED", 1}});
      with_bias(fused);
      check_gemm(device, fused, {9, 48, 20, 2}, tile, gap);
      check_gemm(device, simple({{"VW", width}, {"NV", 2}}), {9, 21, 20, 1, true, true, true}, tile,
                 1);
    }
  }
}
