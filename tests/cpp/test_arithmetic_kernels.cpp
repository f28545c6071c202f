// Every arithmetic kernel, in the variants that the operators ask for, parses, prints for each API
// and compiles as Vulkan GLSL.
#include <doctest/doctest.h>

#include "core/kernel/dialect.h"

namespace dlk {
namespace {

Caps wide_caps() {
  Caps caps;
  caps.max_bindings = 16;
  caps.max_group_invocations = 1024;
  caps.local_memory_bytes = 32768;
  caps.fp16_storage = caps.int8_storage = caps.int16_storage = caps.int64 = true;
  caps.vector_width = 4;
  return caps;
}

void compile(const KernelRequest& request) {
  CAPTURE(request.key());
  const KernelSources& sources = KernelSources::embedded();
  const Caps caps = wide_caps();
  for (const KernelFormat format : {KernelFormat::kOpenCLC, KernelFormat::kMsl}) {
    CHECK_FALSE(sources.print(request, format, caps).code.empty());
  }
  if (glslang_version().empty()) return;
  const KernelCode code = sources.print(request, KernelFormat::kSpirv, caps);
  try {
    CHECK_FALSE(compile_glsl(code.code, request.name).empty());
  } catch (const Error& error) {
    FAIL_CHECK(error.what());
  }
}

KernelRequest request(const std::string& name, std::map<std::string, int64_t> constants = {},
                      std::map<std::string, DType> types = {}) {
  KernelRequest result;
  result.name = name;
  result.constants = std::move(constants);
  result.types = std::move(types);
  return result;
}

KernelRequest with_silu(KernelRequest request) {
  request.epilogue.expression = "(x + e0) / (1.0f + exp(-x)) * e1";
  request.epilogue.operands = {{EpilogueOperand::Kind::kFull, DType::kFloat16},
                               {EpilogueOperand::Kind::kValue, DType::kFloat32}};
  return request;
}

TEST_CASE("convolutions") {
  for (const int64_t bias : {0, 1}) {
    compile(request("conv_block", {{"HAS_BIAS", bias}, {"NV", 2}, {"WG", 8}}));
    compile(with_silu(request("conv_block", {{"HAS_BIAS", bias}})));
    compile(request("conv_depthwise", {{"HAS_BIAS", bias}}));
    compile(with_silu(request("conv_depthwise", {{"HAS_BIAS", bias}})));
    for (const int64_t vectors : {0, 1}) {
      compile(request("conv_gemm", {{"HAS_BIAS", bias}, {"VECTOR_X", vectors}}));
      compile(request("conv_gemm", {{"SPLIT", 1}, {"VECTOR_X", vectors}, {"BM", 128}}));
      compile(with_silu(request("conv_gemm_sum", {{"HAS_BIAS", bias}})));
      compile(with_silu(request("conv_gemm", {{"HAS_BIAS", bias}, {"VECTOR_X", vectors}})));
    }
    compile(request("conv_direct", {{"HAS_BIAS", bias}},
                    {{"TX", DType::kFloat16}, {"TW", DType::kFloat16}, {"TY", DType::kBFloat16}}));
  }
  for (const int64_t bias : {0, 1}) {
    compile(request("conv_transpose_block", {{"HAS_BIAS", bias}}));
    compile(with_silu(request("conv_transpose_direct", {{"HAS_BIAS", bias}})));
  }
  compile(request("conv_pack", {}, {{"TX", DType::kFloat16}, {"TY", DType::kFloat16}}));
}

TEST_CASE("matrix products") {
  for (const int64_t dimensions : {1, 3}) {
    compile(request("matmul_block", {{"ND", dimensions}, {"HAS_C", 0}}));
    compile(with_silu(request("matmul_block", {{"ND", dimensions}, {"HAS_C", 1}, {"NV", 2}})));
  }
}

TEST_CASE("matrix-vector products") {
  for (const int64_t rows : {1, 8}) {
    for (const int64_t columns : {1, 4}) {
      for (const int64_t whole : {0, 1}) {
        const std::map<std::string, int64_t> constants{{"TM", rows},        {"RN", columns},
                                                       {"WHOLE", whole},    {"WG", 32},
                                                       {"HAS_BIAS", whole}, {"STREAM", whole}};
        compile(with_silu(request("gemv", constants)));
        compile(request("gemv", constants, {{"TX", DType::kFloat32}, {"TW", DType::kBFloat16}}));
      }
    }
  }
}

TEST_CASE("first layers") {
  for (const int64_t channels : {1, 4}) {
    compile(request("conv_pixel_pairs", {{"CHANNELS", channels}}));
    compile(request("conv_pad_planes", {{"CHANNELS", channels}}));
  }
  compile(request("conv_pack_pairs", {}));
  compile(request("gemv_pack", {}));
}

TEST_CASE("pools") {
  for (const int64_t mode : {0, 1}) {
    for (const int64_t even : {0, 1}) {
      compile(with_silu(request("pool_global", {{"MODE", mode}, {"EVEN", even}, {"AHEAD", 4}})));
    }
    compile(with_silu(request("pool_window", {{"MODE", mode}, {"KH", 2}, {"KW", 3}})));
    compile(request("pool_window", {{"MODE", mode}}, {{"TX", DType::kFloat16}}));
  }
  for (const int64_t mode : {0, 1, 2}) {
    compile(request("pool", {{"MODE", mode}}));
    compile(with_silu(request("pool", {{"MODE", mode}, {"VW", 1}})));
  }
  compile(request("max_pool_index", {{"HAS_INDEX", 1}}));
  compile(request("max_pool_index", {{"HAS_INDEX", 0}}, {{"T", DType::kUInt8}}));
  compile(request("max_pool_index", {{"HAS_INDEX", 1}}, {{"T", DType::kInt8}}));
}

TEST_CASE("rows") {
  for (const int64_t split : {0, 1}) {
    for (const int64_t log : {0, 1}) {
      compile(request("softmax", {{"SPLIT", split}, {"LOG", log}, {"ND", 2}}));
    }
    for (const int64_t mode : {0, 1, 2, 3, 4}) {
      compile(request("normalize_rows",
                      {{"SPLIT", split}, {"MODE", mode}, {"HAS_SCALE", 1}, {"HAS_MEAN", 1}}));
      compile(request("normalize_rows",
                      {{"SPLIT", split}, {"MODE", mode}, {"HAS_BIAS", 1}, {"HAS_INV", 1}}));
    }
  }
  compile(request("hardmax", {{"ND", 3}}));
  for (const int64_t vectors : {0, 1}) {
    const std::map<std::string, int64_t> constants{{"VECTORS", vectors}, {"ND", 2}};
    for (const char* name : {"channel_moments", "channel_products", "channel_gradient"}) {
      compile(request(name, constants));
    }
  }
  compile(request("channel_moments_fold", {{"RUNNING", 1}}));
  compile(request("channel_products_fold"));
  compile(with_silu(request("channel_normalize")));
  compile(with_silu(request("batch_norm")));
  compile(request("lrn"));
}

}  // namespace
}  // namespace dlk
