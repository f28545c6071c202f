#include "core/kernel/targets.h"

#include <array>

#include "core/base/error.h"

namespace dlk::dialect {

namespace {

constexpr Target kOpenCL = {
    .lang = Lang::kOpenCL,
    .name = "OpenCL C",
    .widest_vector = 16,
    .local_id = {"(uint)get_local_id(0)", "(uint)get_local_id(1)", "(uint)get_local_id(2)"},
    .group_id = {"(uint)get_group_id(0)", "(uint)get_group_id(1)", "(uint)get_group_id(2)"},
    .group_count = {"(uint)get_num_groups(0)", "(uint)get_num_groups(1)",
                    "(uint)get_num_groups(2)"},
    .function_prefix = "static ",
    .unroll = "_Pragma(\"unroll\") ",
    .local_qualifier = "__local ",
    .local_alignment = " __attribute__((aligned(64)))",
    .barrier_local = "barrier(CLK_LOCAL_MEM_FENCE)",
    .barrier_all = "barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)",
    .infinity = "INFINITY",
    .nan = "NAN",
    .device_fence = "dlk_device_fence()",
    .atomic_add = "atomic_add((volatile __global $T*)&$e, $v)",
    .to_uint_bits = "as_uint($1)",
    .to_float_bits = "as_float($1)",
    .to_int_bits = "as_int($1)",
    .bf16_vector =
        "static ushort$n dlk_to_bf16_v(float$n x) {\n"
        "  uint$n u = as_uint$n(x);\n"
        "  uint$n r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;\n"
        "  uint$n q = (u >> 16) | 0x40u;\n"
        "  return convert_ushort$n(select(r, q, (u & 0x7fffffffu) > 0x7f800000u));\n"
        "}\n",
};

constexpr Target kGlsl = {
    .lang = Lang::kGlsl,
    .name = "GLSL",
    .widest_vector = 4,
    .local_id = {"gl_LocalInvocationID.x", "gl_LocalInvocationID.y", "gl_LocalInvocationID.z"},
    .group_id = {"gl_WorkGroupID.x", "gl_WorkGroupID.y", "gl_WorkGroupID.z"},
    .group_count = {"gl_NumWorkGroups.x", "gl_NumWorkGroups.y", "gl_NumWorkGroups.z"},
    .function_prefix = "",
    .unroll = "[[unroll]] ",
    .local_qualifier = "shared ",
    .local_alignment = "",
    .barrier_local = "barrier()",
    .barrier_all = "memoryBarrierBuffer(); barrier()",
    .infinity = "uintBitsToFloat(0x7f800000u)",
    .nan = "uintBitsToFloat(0x7fc00000u)",
    .device_fence = "memoryBarrierBuffer()",
    .atomic_add = "atomicAdd($e, $v)",
    .to_uint_bits = "floatBitsToUint($1)",
    .to_float_bits = "uintBitsToFloat($1)",
    .to_int_bits = "floatBitsToInt($1)",
    .bf16_vector =
        "u16vec$n dlk_to_bf16_v(vec$n x) {\n"
        "  uvec$n u = floatBitsToUint(x);\n"
        "  uvec$n r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;\n"
        "  uvec$n q = (u >> 16) | 0x40u;\n"
        "  return u16vec$n(mix(r, q, greaterThan(u & 0x7fffffffu, "
        "uvec$n(0x7f800000u))));\n"
        "}\n",
};

constexpr Target kMsl = {
    .lang = Lang::kMsl,
    .name = "MSL",
    .widest_vector = 4,
    .local_id = {"dlk_local.x", "dlk_local.y", "dlk_local.z"},
    .group_id = {"dlk_group.x", "dlk_group.y", "dlk_group.z"},
    .group_count = {"dlk_groups.x", "dlk_groups.y", "dlk_groups.z"},
    .function_prefix = "static ",
    .unroll = "_Pragma(\"clang loop unroll(full)\") ",
    .local_qualifier = "threadgroup ",
    .local_alignment = " __attribute__((aligned(16)))",
    .barrier_local = "threadgroup_barrier(mem_flags::mem_threadgroup)",
    .barrier_all = "threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device)",
    .infinity = "as_type<float>(0x7f800000u)",
    .nan = "as_type<float>(0x7fc00000u)",
    .device_fence = "",
    .atomic_add = "atomic_fetch_add_explicit((device atomic_$T*)&$e, $v, memory_order_relaxed)",
    .to_uint_bits = "as_type<uint>($1)",
    .to_float_bits = "as_type<float>($1)",
    .to_int_bits = "as_type<int>($1)",
    .bf16_vector =
        "static ushort$n dlk_to_bf16_v(float$n x) {\n"
        "  uint$n u = as_type<uint$n>(x);\n"
        "  uint$n r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;\n"
        "  uint$n q = (u >> 16) | 0x40u;\n"
        "  return ushort$n(select(r, q, (u & 0x7fffffffu) > 0x7f800000u));\n"
        "}\n",
};

// Rows in the order of DType, up to bool.
constexpr std::array<StorageRow, 13> kOpenCLStorage = {{
    {"float", "$e", "$e = $v", "float$n", "$w", "$w = $v"},
    {"half", "vload_half($i, $X)", "vstore_half_rte($v, $i, $X)", "half",
     "vloada_half$n(($i) / $nu, $X)", "vstorea_half$n_rte($v, ($i) / $nu, $X)"},
    {"ushort", "as_float((uint)$e << 16)", "$e = (ushort)dlk_to_bf16($v)", "ushort$n",
     "as_float$n(convert_uint$n($w) << 16)", "$w = dlk_to_bf16_v($v)"},
    {"double", "$e", "$e = $v", "", "", ""},
    {"char", "(int)$e", "$e = (char)$v", "", "", ""},
    {"short", "(int)$e", "$e = (short)$v", "", "", ""},
    {"int", "$e", "$e = $v", "", "", ""},
    {"long", "$e", "$e = $v", "", "", ""},
    {"uchar", "(uint)$e", "$e = (uchar)$v", "", "", ""},
    {"ushort", "(uint)$e", "$e = (ushort)$v", "", "", ""},
    {"uint", "$e", "$e = $v", "", "", ""},
    {"ulong", "$e", "$e = $v", "", "", ""},
    {"uchar", "($e != 0)", "$e = (uchar)($v ? 1 : 0)", "", "", ""},
}};

constexpr std::array<StorageRow, 13> kGlslStorage = {{
    {"float", "$e", "$e = $v", "vec$n", "$w", "$w = $v"},
    {"float16_t", "float($e)", "$e = float16_t($v)", "f16vec$n", "vec$n($w)", "$w = f16vec$n($v)"},
    {"uint16_t", "uintBitsToFloat(uint($e) << 16)", "$e = uint16_t(dlk_to_bf16($v))", "u16vec$n",
     "uintBitsToFloat(uvec$n($w) << 16)", "$w = dlk_to_bf16_v($v)"},
    {"double", "$e", "$e = $v", "", "", ""},
    {"int8_t", "int($e)", "$e = int8_t($v)", "", "", ""},
    {"int16_t", "int($e)", "$e = int16_t($v)", "", "", ""},
    {"int", "$e", "$e = $v", "", "", ""},
    {"int64_t", "$e", "$e = $v", "", "", ""},
    {"uint8_t", "uint($e)", "$e = uint8_t($v)", "", "", ""},
    {"uint16_t", "uint($e)", "$e = uint16_t($v)", "", "", ""},
    {"uint", "$e", "$e = $v", "", "", ""},
    {"uint64_t", "$e", "$e = $v", "", "", ""},
    {"uint8_t", "(uint($e) != 0u)", "$e = uint8_t($v ? 1u : 0u)", "", "", ""},
}};

constexpr std::array<StorageRow, 13> kMslStorage = {{
    {"float", "$e", "$e = $v", "float$n", "$w", "$w = $v"},
    {"half", "float($e)", "$e = half($v)", "half$n", "float$n($w)", "$w = half$n($v)"},
    {"ushort", "as_type<float>(uint($e) << 16)", "$e = ushort(dlk_to_bf16($v))", "ushort$n",
     "as_type<float$n>(uint$n($w) << 16)", "$w = dlk_to_bf16_v($v)"},
    {"double", "$e", "$e = $v", "", "", ""},
    {"char", "int($e)", "$e = char($v)", "", "", ""},
    {"short", "int($e)", "$e = short($v)", "", "", ""},
    {"int", "$e", "$e = $v", "", "", ""},
    {"long", "$e", "$e = $v", "", "", ""},
    {"uchar", "uint($e)", "$e = uchar($v)", "", "", ""},
    {"ushort", "uint($e)", "$e = ushort($v)", "", "", ""},
    {"uint", "$e", "$e = $v", "", "", ""},
    {"ulong", "$e", "$e = $v", "", "", ""},
    {"uchar", "($e != 0)", "$e = uchar($v ? 1 : 0)", "", "", ""},
}};

// Names of the bases in the order of Base; kVec is made from the width.
constexpr std::string_view kTypeNames[3][8] = {
    {"void", "bool", "int", "uint", "float", "double", "long", "ulong"},
    {"void", "bool", "int", "uint", "float", "double", "int64_t", "uint64_t"},
    {"void", "bool", "int", "uint", "float", "double", "long", "ulong"},
};

}  // namespace

std::string_view base_name(Base base) {
  constexpr std::string_view kNames[] = {"void",  "bool",   "int",  "uint",
                                         "float", "double", "long", "ulong",
                                         "fvec",  "afloat", "avec", "an integer constant"};
  return kNames[static_cast<size_t>(base)];
}

Base compute_base(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kFloat16:
    case DType::kBFloat16:
      return Base::kFloat;
    case DType::kFloat64:
      return Base::kDouble;
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return Base::kInt;
    case DType::kInt64:
      return Base::kLong;
    case DType::kUInt8:
    case DType::kUInt16:
    case DType::kUInt32:
      return Base::kUint;
    case DType::kUInt64:
      return Base::kUlong;
    case DType::kBool:
      return Base::kBool;
    case DType::kInt4:
    case DType::kInt2:
      return Base::kInt;
    case DType::kUInt4:
    case DType::kUInt2:
      return Base::kUint;
    default:
      return Base::kFloat;
  }
}

const Target& target_of(KernelFormat format) {
  switch (format) {
    case KernelFormat::kOpenCLC:
      return kOpenCL;
    case KernelFormat::kSpirv:
      return kGlsl;
    case KernelFormat::kMsl:
      return kMsl;
    case KernelFormat::kPtx:
    case KernelFormat::kBinary:
    case KernelFormat::kNone:
      break;
  }
  throw_unsupported("kernels have no printed form for this backend (KernelFormat::kNone)");
}

const StorageRow& storage_row(const Target& target, DType dtype) {
  // Storage-only types are bytes; functions of `math` make numbers of them.
  const auto index = static_cast<size_t>(is_storage_only(dtype) ? DType::kUInt8 : dtype);
  switch (target.lang) {
    case Lang::kOpenCL:
      return kOpenCLStorage[index];
    case Lang::kGlsl:
      return kGlslStorage[index];
    case Lang::kMsl:
      break;
  }
  return kMslStorage[index];
}

std::string type_text(const Target& target, Base base, uint32_t vector_width) {
  if (base == Base::kVec) {
    return (target.lang == Lang::kGlsl ? "vec" : "float") + std::to_string(vector_width);
  }
  if (base == Base::kHalf || base == Base::kHalfVec) {
    const std::string count = base == Base::kHalf ? "" : std::to_string(vector_width);
    if (target.lang != Lang::kGlsl) return "half" + count;
    return base == Base::kHalf ? "float16_t" : "f16vec" + count;
  }
  const Base shown = base == Base::kFlex ? Base::kInt : base;
  return std::string(kTypeNames[static_cast<size_t>(target.lang)][static_cast<size_t>(shown)]);
}

std::string lane_text(const Target& target, uint32_t lane) {
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::string_view kLetters = "xyzw";
  if (target.lang == Lang::kOpenCL) return std::string(".s") + kHex[lane];
  return std::string(".") + kLetters[lane];
}

std::string fill(std::string_view pattern, const Placeholders& with) {
  std::string result;
  result.reserve(pattern.size() + 64);
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '$' || i + 1 == pattern.size()) {
      result += pattern[i];
      continue;
    }
    const char key = pattern[++i];
    switch (key) {
      case '1':
      case '2':
      case '3':
        result += with.args[key - '1'];
        break;
      case 'T':
        result += with.type;
        break;
      case 'e':
        result += with.element;
        break;
      case 'w':
        result += with.vector;
        break;
      case 'v':
        result += with.value;
        break;
      case 'X':
        result += with.pointer;
        break;
      case 'i':
        result += with.index;
        break;
      default:
        result += std::to_string(with.width);
    }
  }
  return result;
}

}  // namespace dlk::dialect
