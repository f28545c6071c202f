// Shared by the tests of the Vulkan backend: the device, kernels written in GLSL by the calling
// convention of core/device/device.h, and host copies in and out.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backends/vulkan/external.h"
#include "core/device/registry.h"
#include "core/kernel/dialect.h"
#include "tests/cpp/device_conformance.h"

namespace dlk::testing {

/// The device under test, without the checked wrapper; nullptr where there is none and DLK_REQUIRE
/// does not ask for it.
inline std::shared_ptr<Device> vulkan_device() {
  const std::shared_ptr<Device> checked = conformance::test_device("vulkan");
  return checked ? open_device(checked->caps().id, false) : nullptr;
}

/// Z[i] = scale * X[i] + Y[i] for i < n; parameters n, scale; with `buffer_params` they travel in a
/// buffer. 64 work-items a group.
inline KernelCode axpy_code(bool buffer_params = false) {
  KernelCode code;
  code.format = KernelFormat::kSpirv;
  code.name = buffer_params ? "axpy_buffer" : "axpy";
  code.bindings = {{"X", Access::kRead, 4}, {"Y", Access::kRead, 4}, {"Z", Access::kWrite, 4}};
  code.params = {{"n", 'u', 1, 0}, {"scale", 'f', 1, 4}};
  code.param_bytes = 8;
  code.params_in_buffer = buffer_params;
  code.group_size = {64, 1, 1};
  const std::string block = buffer_params
                                ? "layout(std430, binding = 3) readonly buffer Params { PARAMS } p;"
                                : "layout(push_constant) uniform Params { PARAMS } p;";
  std::string source = R"(#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 0) readonly buffer BX { float x[]; };
layout(std430, binding = 1) readonly buffer BY { float y[]; };
layout(std430, binding = 2) writeonly buffer BZ { float z[]; };
)" + block + R"(
void main() {
  uint i = gl_GlobalInvocationID.x;
  if (i < p.n) z[p.bz + i] = p.scale * x[p.bx + i] + y[p.by + i];
})";
  source.replace(source.find("PARAMS"), 6, "uint bx, by, bz; uint n; float scale;");
  code.code = compile_glsl(source, code.name);
  return code;
}

/// X[i] = X[i] * scale + 1 for i < n, `repeat` times: slow on purpose when `repeat` is large.
inline KernelCode step_code() {
  KernelCode code;
  code.format = KernelFormat::kSpirv;
  code.name = "step";
  code.bindings = {{"X", Access::kReadWrite, 4}};
  code.params = {{"n", 'u', 1, 0}, {"scale", 'f', 1, 4}, {"repeat", 'u', 1, 8}};
  code.param_bytes = 12;
  code.group_size = {64, 1, 1};
  code.code = compile_glsl(R"(#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 0) buffer BX { float x[]; };
layout(push_constant) uniform Params { uint bx; uint n; float scale; uint repeat; } p;
void main() {
  uint i = gl_GlobalInvocationID.x;
  if (i >= p.n) return;
  float v = x[p.bx + i];
  for (uint k = 0; k < p.repeat; k++) v = v * p.scale + 1.0;
  x[p.bx + i] = v;
})",
                           code.name);
  return code;
}

template <typename... Ts>
std::vector<std::byte> pack(Ts... values) {
  std::vector<std::byte> bytes((sizeof(values) + ...));
  size_t at = 0;
  ((std::memcpy(bytes.data() + at, &values, sizeof(values)), at += sizeof(values)), ...);
  return bytes;
}

inline View view_of(const std::shared_ptr<Buffer>& buffer, uint64_t offset, uint64_t size) {
  return {buffer, offset, size};
}
inline View view_of(const std::shared_ptr<Buffer>& buffer) {
  return {buffer, 0, buffer->size_bytes()};
}

inline View floats(Device& device, size_t count) {
  return view_of(device.allocate(count * sizeof(float), MemoryKind::kDevice));
}

inline void upload(Queue& queue, const View& view, const std::vector<float>& values) {
  queue.write(view, std::as_bytes(std::span(values)));
}

inline std::vector<float> download(Queue& queue, const View& view) {
  std::vector<float> values(view.size_bytes / sizeof(float));
  queue.wait(queue.read(view, std::as_writable_bytes(std::span(values))));
  return values;
}

inline std::vector<float> ramp(size_t count, float start, float step = 1.0f) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; i++) values[i] = start + step * static_cast<float>(i);
  return values;
}

inline DispatchCommand axpy(std::shared_ptr<Kernel> kernel, Operand x, Operand y, Operand z,
                            uint32_t n, float scale) {
  return {std::move(kernel),
          {std::move(x), std::move(y), std::move(z)},
          pack(n, scale),
          {(n + 63) / 64, 1, 1}};
}

inline DispatchCommand step(std::shared_ptr<Kernel> kernel, Operand x, uint32_t n, float scale,
                            uint32_t repeat = 1) {
  return {std::move(kernel), {std::move(x)}, pack(n, scale, repeat), {(n + 63) / 64, 1, 1}};
}

}  // namespace dlk::testing
