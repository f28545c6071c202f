// Gang tiles on Metal's simdgroup matrices: what is printed, what is refused, and that a device
// that has them uses them, with the results of the plain lowering.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "core/kernel/dialect.h"
#include "tests/cpp/kernel_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

Caps some_caps() {
  Caps caps;
  caps.id = "any";
  caps.max_group_size = {1024, 1024, 64};
  caps.max_group_invocations = 1024;
  caps.local_memory_bytes = 32768;
  caps.fp16_storage = true;
  return caps;
}

KernelRequest gemm(const std::string& lowering, std::map<std::string, int64_t> constants = {}) {
  KernelRequest request;
  request.name = "gemm_tile";
  request.constants = std::move(constants);
  request.lowering = lowering;
  return request;
}

std::string message_of(const KernelRequest& request, KernelFormat format) {
  try {
    KernelSources::embedded().print(request, format, some_caps());
  } catch (const Error& error) {
    return error.what();
  }
  FAIL("nothing was refused");
  return {};
}

std::vector<float> noise(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> range(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = range(random);
  return values;
}

/// C = alpha * A B of m x k and k x n matrices with dense rows.
std::vector<float> product(const std::shared_ptr<Device>& device, const KernelRequest& request,
                           size_t m, size_t n, size_t k, size_t bm, size_t bn) {
  Bytes a = bytes_of(noise(m * k, 1)), b = bytes_of(noise(k * n, 2));
  Bytes c = bytes_of(std::vector<float>(m * n, -7.0f));
  Params params;
  params.u(m).u(n).u(k);
  params.u(k).u(1).u(0).u(n).u(1).u(0).u(n).u(1).u(0).add(0.5f);
  run_kernel(
      device, request, {&a, &b, &c}, params,
      {static_cast<uint32_t>((n + bn - 1) / bn), static_cast<uint32_t>((m + bm - 1) / bm), 1});
  return values_of<float>(c);
}

double worst_error(const std::vector<float>& c, size_t m, size_t n, size_t k) {
  const std::vector<float> a = noise(m * k, 1), b = noise(k * n, 2);
  double worst = 0;
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t q = 0; q < k; ++q) sum += double{a[i * k + q]} * double{b[q * n + j]};
      worst = std::max(worst, std::abs(0.5 * sum - double{c[i * n + j]}));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("the group is made of SIMD-groups of 32") {
  const KernelCode code =
      KernelSources::embedded().print(gemm("simdgroup"), KernelFormat::kMsl, some_caps());
  CHECK(code.required_subgroup_size == 32);
  CHECK(code.group_size[0] == 128);  // 64 x 64 in parts of 32 x 32
  CHECK(code.code.find("simdgroup_multiply_accumulate") != std::string::npos);
  CHECK(code.code.find("#include <metal_simdgroup_matrix>") != std::string::npos);
  CHECK(code.local_bytes == 4 * (64 * 20 + 16 * 68 + 4 * 8 * 32));
  const KernelCode plain =
      KernelSources::embedded().print(gemm("plain"), KernelFormat::kMsl, some_caps());
  CHECK(plain.required_subgroup_size == 0);
  CHECK(plain.code.find("simdgroup") == std::string::npos);
}

TEST_CASE("what the lowering refuses") {
  CHECK(message_of(gemm("simdgroup"), KernelFormat::kOpenCLC).find("for Metal") !=
        std::string::npos);
  CHECK(message_of(gemm("simdgroup", {{"BM", 20}}), KernelFormat::kMsl).find("multiples of 8") !=
        std::string::npos);
  CHECK(message_of(gemm("simdgroup", {{"BM", 256}, {"BN", 256}, {"BK", 8}}), KernelFormat::kMsl)
            .find("SIMD-groups") != std::string::npos);
}

TEST_CASE("products on a device with and without simdgroup matrices") {
  Backend* simulated = find_backend("metal-sim");
  const bool there = simulated && !simulated->enumerate().empty();
  const auto device = conformance::test_device(there ? "metal-sim" : "metal");
  if (!device) return;
  const auto library = KernelLibrary::of(device);
  if (!device->caps().simdgroup_matrix) {
    CHECK(library->get(gemm("plain"))->info().required_subgroup_size == 0);
    const auto c = product(device, gemm("plain"), 33, 70, 19, 64, 64);
    CHECK(worst_error(c, 33, 70, 19) < 1e-5);
    return;
  }
  // Asked for as plain: the device's own lowering is chosen.
  CHECK(library->get(gemm("plain"))->info().required_subgroup_size == 32);
  // What it does not take stays plain.
  CHECK(library->get(gemm("plain", {{"BM", 20}, {"TM", 4}}))->info().required_subgroup_size == 0);
  for (const int64_t stages : {1, 2}) {
    const KernelRequest request =
        gemm("simdgroup", {{"BM", 32}, {"BN", 64}, {"BK", 16}, {"STAGES", stages}});
    for (const auto& [m, n, k] : {std::array<size_t, 3>{32, 64, 16}, {33, 70, 19}, {5, 9, 40}}) {
      const auto c = product(device, request, m, n, k, 32, 64);
      CHECK(worst_error(c, m, n, k) < 1e-5);
    }
  }
}
