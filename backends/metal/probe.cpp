#include "backends/metal/probe.h"

#include <algorithm>

#include "backends/metal/context.h"

namespace dlk::metal {

namespace {

// Four results of one SIMD-group: sum, smallest and largest of the lane numbers plus one, and lane
// 3's number plus one.
constexpr char kSubgroups[] = R"(#include <metal_stdlib>
using namespace metal;

kernel void dlk_probe(
    device float* result [[buffer(0)]],
    uint lane [[thread_index_in_simdgroup]]) {
  float x = float(lane + 1u);
  float sum = simd_sum(x);
  float least = simd_min(x);
  float most = simd_max(x);
  float third = simd_broadcast(x, ushort(3));
  if (lane == 0u) {
    result[0] = sum;
    result[1] = least;
    result[2] = most;
    result[3] = third;
  }
}
)";

// result = a * b + a of 8x8 matrices with a[r][c] = r + 1 and b[r][c] = c + 1.
constexpr char kMatrix[] = R"(#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

kernel void dlk_probe(
    device float* result [[buffer(0)]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float a[64];
  threadgroup float b[64];
  for (uint i = lane; i < 64u; i += 32u) {
    a[i] = float(i / 8u + 1u);
    b[i] = float(i % 8u + 1u);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 left, right, sum;
  simdgroup_load(left, a, 8);
  simdgroup_load(right, b, 8);
  simdgroup_load(sum, a, 8);
  simdgroup_multiply_accumulate(sum, left, right, sum);
  simdgroup_store(sum, result, 8);
}
)";

struct ProbeRun {
  uint32_t width = 0;  // of a SIMD-group; 0: it could not be built or run
  Ref<MTL::Buffer> result;
};

/// Runs one SIMD-group of `source` on `count` floats.
ProbeRun run_probe(MTL::Device* device, const char* source, size_t count) {
  ProbeRun run;
  NS::Error* error = nullptr;
  const auto library = compile_library(device, source, &error);
  if (!library) return run;
  const auto function = own(library->newFunction(ns_string("dlk_probe")));
  if (!function) return run;
  const auto pipeline = own(device->newComputePipelineState(function.get(), &error));
  const auto queue = own(device->newCommandQueue());
  run.result = own(device->newBuffer(count * sizeof(float), MTL::ResourceStorageModeShared));
  if (!pipeline || !queue || !run.result) return run;
  auto* floats = static_cast<float*>(run.result->contents());
  std::fill(floats, floats + count, -1.0f);
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands ? commands->computeCommandEncoder() : nullptr;
  if (!encoder) return run;
  const NS::UInteger width = pipeline->threadExecutionWidth();
  encoder->setComputePipelineState(pipeline.get());
  encoder->setBuffer(run.result.get(), 0, 0);
  encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(width, 1, 1));
  encoder->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  if (commands->status() == MTL::CommandBufferStatusCompleted) {
    run.width = static_cast<uint32_t>(width);
  }
  return run;
}

}  // namespace

uint32_t probe_subgroups(MTL::Device* device) {
  const ProbeRun run = run_probe(device, kSubgroups, 4);
  if (run.width < 4) return 0;
  const auto* got = static_cast<const float*>(run.result->contents());
  const auto n = static_cast<float>(run.width);
  const bool right = got[0] == n * (n + 1) / 2 && got[1] == 1 && got[2] == n && got[3] == 4;
  return right ? run.width : 0;
}

bool probe_simdgroup_matrix(MTL::Device* device) {
  const ProbeRun run = run_probe(device, kMatrix, 64);
  if (run.width != 32) return false;
  const auto* got = static_cast<const float*>(run.result->contents());
  for (int i = 0; i < 64; ++i) {
    const auto row = static_cast<float>(i / 8 + 1), column = static_cast<float>(i % 8 + 1);
    if (got[i] != 8 * row * column + row) return false;
  }
  return true;
}

}  // namespace dlk::metal
