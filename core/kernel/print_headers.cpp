// The frame of a kernel in each language: how buffers and parameters come in.
#include "core/kernel/printer.h"

namespace dlk::dialect {

namespace {

std::string_view param_type(char kind) {
  return kind == 'u' ? "uint" : kind == 'i' ? "int" : "float";
}

std::string indented(const std::string& lines) {
  std::string text;
  size_t at = 0;
  while (at < lines.size()) {
    const size_t end = lines.find('\n', at);
    text += "  " + lines.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return text;
}

std::string with_width(std::string_view pattern, uint32_t width) {
  Placeholders with;
  with.width = width;
  return fill(pattern, with);
}

}  // namespace

// NVIDIA's OpenCL makes four loads or stores of vloada_half4 and vstorea_half4: here they are one.
constexpr char kHalfVectors[] = R"(static float4 dlk_load_half4(size_t i, __global const half* p) {
  uint2 u = ((__global const uint2*)p)[i];
  float x, y, z, w;
  __asm__("{ .reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }"
          : "=f"(x), "=f"(y) : "r"(u.x));
  __asm__("{ .reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }"
          : "=f"(z), "=f"(w) : "r"(u.y));
  return (float4)(x, y, z, w);
}
static void dlk_store_half4(float4 v, size_t i, __global half* p) {
  float a = v.x, b = v.y, c = v.z, d = v.w;
  uint x, y;
  __asm__("{ .reg .b16 a, b; cvt.rn.f16.f32 a, %1; cvt.rn.f16.f32 b, %2; mov.b32 %0, {a, b}; }"
          : "=r"(x) : "f"(a), "f"(b));
  __asm__("{ .reg .b16 a, b; cvt.rn.f16.f32 a, %1; cvt.rn.f16.f32 b, %2; mov.b32 %0, {a, b}; }"
          : "=r"(y) : "f"(c), "f"(d));
  ((__global uint2*)p)[i] = (uint2)(x, y);
}
#define vloada_half4(i, p) dlk_load_half4(i, p)
#define vstorea_half4_rte(v, i, p) dlk_store_half4(v, i, p)
)";

constexpr char kFence[] = "#define dlk_device_fence() mem_fence(CLK_GLOBAL_MEM_FENCE)\n";
constexpr char kPtxFence[] =
    "#define dlk_device_fence() __asm__ volatile(\"fence.acq_rel.gpu;\" ::: \"memory\")\n";

std::string Printer::opencl_text(const Caps& caps) {
  std::string text;
  if (variant_.interface.needs_fp64 || uses_fp64_) {
    text += "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n";
  }
  if (uses_fp16_) text += "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n";
  if (variant_.decl->uses_subgroups) {
    text += "#pragma OPENCL EXTENSION cl_khr_subgroups : enable\n";
  }
  if (uses_bf16_vector_) text += with_width(target_.bf16_vector, variant_.vector_width);
  const auto prints = [&](std::string_view name) {
    return body_.find(name) != std::string::npos || prelude_.find(name) != std::string::npos;
  };
  if (caps.inline_ptx && (prints("vloada_half4(") || prints("vstorea_half4_rte("))) {
    text += kHalfVectors;
  }
  if (uses_fence_) text += caps.inline_ptx ? kPtxFence : kFence;
  text += prelude_;
  const auto& group = variant_.interface.group_size;
  text += "__kernel __attribute__((reqd_work_group_size(" + std::to_string(group[0]) + ", " +
          std::to_string(group[1]) + ", " + std::to_string(group[2]) + ")))\nvoid " +
          safe_name(variant_.decl->name) + "(";
  std::string arguments, prologue;
  const auto separate = [&] { arguments += arguments.empty() ? "\n    " : ",\n    "; };
  for (const BufferVar& buffer : bound_buffers()) {
    const std::string name = safe_name(buffer.name);
    separate();
    arguments += "__global " + std::string(buffer.access == Access::kRead ? "const " : "") +
                 std::string(storage_row(target_, buffer.dtype).type) + "* " + name +
                 ", ulong dlk_base_" + std::string(buffer.name);
    prologue += "  " + name + " += dlk_base_" + std::string(buffer.name) + ";\n";
  }
  for (const ParamInfo& param : variant_.interface.params) {
    const std::string type_name(param_type(param.kind));
    bool is_array = false;
    for (const ParamVar& declared : variant_.params) {
      if (declared.name == param.name) is_array = declared.is_array;
    }
    std::string list;
    for (uint32_t i = 0; i < param.count; ++i) {
      const std::string name =
          is_array ? "dlk_p_" + param.name + "_" + std::to_string(i) : safe_name(param.name);
      separate();
      arguments += type_name + " " + name;
      list += (list.empty() ? "" : ", ") + name;
    }
    if (is_array && indexed_params_.contains(param.name)) {
      prologue += "  const " + type_name + " " + safe_name(param.name) + "[" +
                  std::to_string(param.count) + "] = {" + list + "};\n";
    }
  }
  return text + arguments + ") {\n" + prologue + indented(local_arrays()) + body_ + "}\n";
}

std::string Printer::glsl_extensions() const {
  const KernelInterface& needs = variant_.interface;
  std::string text = "#version 460\n#extension GL_EXT_control_flow_attributes : require\n";
  bool bits16 = needs.needs_fp16 || needs.needs_int16;
  if (bits16) text += "#extension GL_EXT_shader_16bit_storage : require\n";
  if (needs.needs_int8) text += "#extension GL_EXT_shader_8bit_storage : require\n";
  if (needs.needs_int64 || uses_int64_) {
    text += "#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require\n";
  }
  if (uses_fp16_) {
    text += "#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require\n";
  }
  if (variant_.decl->uses_subgroups) {
    text +=
        "#extension GL_KHR_shader_subgroup_arithmetic : require\n"
        "#extension GL_KHR_shader_subgroup_shuffle : require\n";
  }
  for (const std::string& name : extensions_) text += "#extension " + name + " : require\n";
  return text;
}

std::string Printer::glsl_interface(bool params_in_buffer) const {
  const std::vector<BufferVar> buffers = bound_buffers();
  std::string text;
  // A block for each way in which the body touches a buffer; they share its binding.
  constexpr std::string_view kPrefixes = "svbc";
  constexpr BlockKind kKinds[] = {kScalarBlock, kVectorBlock, kBitsBlock, kChunkBlock};
  constexpr std::string_view kBits[] = {"", "uint8_t", "uint16_t", "", "uint"};
  for (size_t i = 0; i < buffers.size(); ++i) {
    const BufferVar& buffer = buffers[i];
    const auto used = blocks_.find(buffer.name);
    const uint8_t kinds = used == blocks_.end() ? uint8_t{kScalarBlock} : used->second;
    const StorageRow& row = storage_row(target_, buffer.dtype);
    const std::string name(buffer.name);
    for (size_t k = 0; k < 4; ++k) {
      if ((kinds & kKinds[k]) == 0) continue;
      const std::string element =
          kKinds[k] == kScalarBlock   ? std::string(row.type)
          : kKinds[k] == kVectorBlock ? with_width(row.vector_type, variant_.vector_width)
          : kKinds[k] == kChunkBlock  ? std::string("uvec4")
                                      : std::string(kBits[dtype_size(buffer.dtype)]);
      const bool shared_writes =
          buffer.access == Access::kReadWrite && (uses_barrier_ || uses_fence_);
      const std::string qualifier = buffer.access == Access::kRead ? "readonly "
                                    : shared_writes                ? "coherent "
                                                                   : "";
      const std::string stem = std::string("dlk_") + kPrefixes[k] + "_" + name;
      text += "layout(std430, set = 0, binding = " + std::to_string(i) + ") " + qualifier +
              "buffer " + stem + "_block { " + element + " d[]; } " + stem + ";\n";
    }
  }
  if (buffers.empty() && variant_.interface.params.empty()) return text;
  text += params_in_buffer ? "layout(std430, set = 0, binding = " + std::to_string(buffers.size()) +
                                 ") readonly buffer dlk_params_block {\n"
                           : "layout(std430, push_constant) uniform dlk_params_block {\n";
  for (const BufferVar& buffer : buffers) text += "  uint b_" + std::string(buffer.name) + ";\n";
  for (const ParamInfo& param : variant_.interface.params) {
    bool is_array = false;
    for (const ParamVar& declared : variant_.params) {
      if (declared.name == param.name) is_array = declared.is_array;
    }
    text += "  " + std::string(param_type(param.kind)) + " p_" + param.name +
            (is_array ? "[" + std::to_string(param.count) + "]" : "") + ";\n";
  }
  return text + "} dlk_params;\n";
}

std::string Printer::glsl_text(bool params_in_buffer) {
  const auto& group = variant_.interface.group_size;
  std::string text = glsl_extensions();
  text += "layout(local_size_x = " + std::to_string(group[0]) +
          ", local_size_y = " + std::to_string(group[1]) +
          ", local_size_z = " + std::to_string(group[2]) + ") in;\n";
  text += glsl_interface(params_in_buffer);
  if (uses_bf16_vector_) text += with_width(target_.bf16_vector, variant_.vector_width);
  return text + local_arrays() + prelude_ + "void main() {\n" + body_ + "}\n";
}

std::string Printer::msl_text() {
  const std::vector<BufferVar> buffers = bound_buffers();
  const bool uses_simdgroups = !variant_.tiles.empty() && variant_.request->lowering == "simdgroup";
  std::string text = "#include <metal_stdlib>\n#include <metal_atomic>\n";
  if (uses_simdgroups) text += "#include <metal_simdgroup_matrix>\n";
  text += "using namespace metal;\n";
  if (uses_bf16_vector_) text += with_width(target_.bf16_vector, variant_.vector_width);
  const auto& params = variant_.interface.params;
  if (!params.empty()) {
    text += "struct dlk_params_block {\n";
    for (const ParamInfo& param : params) {
      bool is_array = false;
      for (const ParamVar& declared : variant_.params) {
        if (declared.name == param.name) is_array = declared.is_array;
      }
      text += "  " + std::string(param_type(param.kind)) + " p_" + param.name +
              (is_array ? "[" + std::to_string(param.count) + "]" : "") + ";\n";
    }
    text += "};\n";
  }
  text += prelude_ + "kernel void " + safe_name(variant_.decl->name) + "(\n";
  for (size_t i = 0; i < buffers.size(); ++i) {
    const BufferVar& buffer = buffers[i];
    text += "    device " + std::string(buffer.access == Access::kRead ? "const " : "") +
            std::string(storage_row(target_, buffer.dtype).type) + "* " + safe_name(buffer.name) +
            " [[buffer(" + std::to_string(i) + ")]],\n";
  }
  if (!params.empty()) {
    text += "    constant dlk_params_block& dlk_params [[buffer(" + std::to_string(buffers.size()) +
            ")]],\n";
  }
  text +=
      "    uint3 dlk_local [[thread_position_in_threadgroup]],\n"
      "    uint3 dlk_group [[threadgroup_position_in_grid]],\n"
      "    uint3 dlk_groups [[threadgroups_per_grid]]";
  if (uses_simdgroups) {
    text +=
        ",\n    uint dlk_simdgroup [[simdgroup_index_in_threadgroup]],\n"
        "    uint dlk_lane [[thread_index_in_simdgroup]]";
  }
  text += ") {\n";
  return text + indented(local_arrays()) + body_ + "}\n";
}

}  // namespace dlk::dialect
