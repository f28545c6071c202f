// PTX's documented semantics in OpenCL C, for tests of the tile lowerings that print PTX: kernels
// run on any OpenCL driver with this text in the place of theirs.
#pragma once

#include <memory>
#include <string>

#include "tests/cpp/kernel_testing.h"

namespace dlk::testing {

// PTX's documented semantics with a group's barrier for a subgroup's: lanes meet through the words
// after the tiles. All work-items of a group reach every call of conv_mma together.
inline constexpr char kEmulation[] = R"(
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

// The same for bfloat16 and int8, whose lanes hold the same bytes, and with sums in float16.
inline constexpr char kEmulatedTypes[] = R"(
#define DLK_SHARE(a, b0, b1) \
  __local uint* words = (__local uint*)(s + TILE_CHUNKS) + WARP * 8u; \
  words[LANE * 6u] = a.x; words[LANE * 6u + 1u] = a.y; words[LANE * 6u + 2u] = a.z; \
  words[LANE * 6u + 3u] = a.w; words[LANE * 6u + 4u] = b0; words[LANE * 6u + 5u] = b1; \
  barrier(CLK_LOCAL_MEM_FENCE);
#define DLK_PRODUCTS(TYPE, DEPTH, EACH, VALUE) \
  TYPE r[4] = {c.x, c.y, c.z, c.w}; \
  for (uint i = 0u; i < 4u; ++i) { \
    uint row = LANE / 4u + i / 2u * 8u, column = LANE % 4u * 2u + i % 2u; \
    for (uint k = 0u; k < DEPTH; ++k) { \
      uint word = k / EACH % 4u, half_of = k / EACH / 4u, which = k % EACH; \
      uint left = words[(row % 8u * 4u + word) * 6u + row / 8u + half_of * 2u]; \
      uint right = words[(column * 4u + word) * 6u + 4u + half_of]; \
      r[i] += VALUE(left, which) * VALUE(right, which); \
    } \
  } \
  barrier(CLK_LOCAL_MEM_FENCE);
#define DLK_BYTE(word, which) ((int)(char)((word) >> (8u * (which)) & 255u))
#define DLK_BRAIN(word, which) as_float(((word) >> (16u * (which))) << 16)
__attribute__((always_inline)) float4 dlk_mma_bf16(__local uint4* s, uint4 a, uint b0, uint b1,
                                                   float4 c) {
  DLK_SHARE(a, b0, b1)
  DLK_PRODUCTS(float, 16u, 2u, DLK_BRAIN)
  return (float4)(r[0], r[1], r[2], r[3]);
}
__attribute__((always_inline)) float2 dlk_two_halves(uint word) {
  return (float2)(dlk_half(word, 0u), dlk_half(word, 1u));
}
__attribute__((always_inline)) uint dlk_in_halves(float x, float y) {
  ushort low, high;
  vstore_half(x, 0, (half*)&low);
  vstore_half(y, 0, (half*)&high);
  return low | (uint)high << 16;
}
__attribute__((always_inline)) uint2 dlk_mma_half(__local uint4* s, uint4 a, uint b0, uint b1,
                                                  uint2 sums) {
  float4 c = (float4)(dlk_two_halves(sums.x), dlk_two_halves(sums.y));
  DLK_SHARE(a, b0, b1)
  DLK_PRODUCTS(float, 16u, 2u, dlk_half)
  return (uint2)(dlk_in_halves(r[0], r[1]), dlk_in_halves(r[2], r[3]));
}
__attribute__((always_inline)) int4 dlk_mma_i8(__local uint4* s, uint4 a, uint b0, uint b1,
                                               int4 c) {
  DLK_SHARE(a, b0, b1)
  DLK_PRODUCTS(int, 32u, 4u, DLK_BYTE)
  return (int4)(r[0], r[1], r[2], r[3]);
}
)";

// cp.async of the lowering "async", done at once.
inline constexpr char kCopies[] = R"(
__attribute__((always_inline)) uint dlk_local_address(__local void* s) { return 0u; }
__attribute__((always_inline)) void dlk_copy16(__local float4* s, uint at,
                                               __global const float* from, bool ok) {
  s[at / 16u] = ok ? *(__global const float4*)from : (float4)(0.0f);
}
#define dlk_copies_commit()
#define dlk_copies_wait(n)
)";

inline void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
}

/// The printed text with the emulation in the place of its PTX, and room for the lanes' words.
inline KernelCode emulated(const Device& device, const KernelRequest& request) {
  KernelCode code = KernelSources::embedded().print(request, KernelFormat::kOpenCLC, device.caps());
  const size_t begin = code.code.find("// ptx begin"), end = code.code.find("// ptx end");
  REQUIRE(begin != std::string::npos);
  if (request.lowering == "async") {
    code.code.replace(begin, end - begin, kCopies);
    return code;
  }
  const std::string chunks = std::to_string(code.local_bytes / 16);
  code.code.replace(
      begin, end - begin,
      "#define TILE_CHUNKS " + chunks + "\n" + std::string(kEmulation) + kEmulatedTypes);
  replace(code.code, "dlk_shared[" + chunks + "]",
          "dlk_shared[" + chunks + " + " + std::to_string(code.group_size[0] * 2) + "]");
  code.local_bytes += code.group_size[0] * 32;
  code.build_options += " -cl-opt-disable";
  return code;
}

/// The device's kernel for a request, or what the emulation makes of one in PTX.
inline std::shared_ptr<Kernel> kernel_of(const std::shared_ptr<Device>& device,
                                         const KernelRequest& request) {
  const bool is_ptx = request.lowering == "ptx" || request.lowering == "async";
  return is_ptx ? device->compile(emulated(*device, request)) : nullptr;
}

}  // namespace dlk::testing
