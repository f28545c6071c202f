// Runs of elements on every device: ldn, stn, epilogue_n, and sums of indices.
#include "tests/cpp/kernel_testing.h"

using namespace dlk;
using namespace dlk::testing;

TEST_CASE("runs load, finish and store their lanes only, from any element on") {
  for (const char* backend : {"opencl", "vulkan", "metal", "metal-sim"}) {
    const auto device = conformance::test_device(backend);
    if (!device) continue;
    CAPTURE(device->caps().id);
    for (const int64_t width : {1, 2, 4, 8, 16}) {
      if (width > device->caps().vector_width) continue;
      CAPTURE(width);
      KernelRequest request;
      request.name = "k";
      request.source =
          "kernel k\nin X : f32\nout Y : f32\nparam total : uint\nepilogue\ngroup 1\n{\n"
          "  for (uint n = 0u; n <= VW; n += 1u) {\n    uint at = 1u + n * (VW + 1u);\n"
          "    fvec v = ldn(X, at, n) + ldn(X, at, 0u) + fvec(ld(X, 0u, n) - ld(X, n));\n"
          "    stn(Y, at, epilogue_n(v, at, n, n), n);\n  }\n}\n";
      request.constants["VW"] = width;
      request.epilogue.expression = "x * 2.0f + e0 + e1";
      request.epilogue.operands = {{EpilogueOperand::Kind::kFull, DType::kFloat32},
                                   {EpilogueOperand::Kind::kChannel, DType::kFloat32}};
      const auto lanes = static_cast<size_t>(width);
      std::vector<float> x(1 + (lanes + 1) * (lanes + 1) + lanes), y(x.size(), -1.0f);
      for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
      Bytes in = bytes_of(x), out = bytes_of(y), full = in, channel = in;
      run_kernel(device, request, {&in, &out, &full, &channel}, Params().u(1), {1, 1, 1});
      std::vector<float> expected = y;
      for (size_t n = 0; n <= lanes; ++n) {
        const size_t at = 1 + n * (lanes + 1);
        for (size_t l = 0; l < n; ++l)
          expected[at + l] = 3.0f * static_cast<float>(at + l) + static_cast<float>(n + l);
      }
      CHECK(values_of<float>(out) == expected);
    }
  }
}
