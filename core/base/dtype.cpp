#include "core/base/dtype.h"

#include <bit>
#include <cstring>

namespace dlk {

namespace {

struct DTypeRow {
  DType dtype;
  uint32_t bytes;
  std::string_view name;
  std::string_view short_name;
  std::string_view alias;
};

// In the order of the enumeration.
constexpr DTypeRow kRows[] = {
    {DType::kFloat32, 4, "float32", "f32", "fp32"},
    {DType::kFloat16, 2, "float16", "f16", "fp16"},
    {DType::kBFloat16, 2, "bfloat16", "bf16", "bfloat"},
    {DType::kFloat64, 8, "float64", "f64", "fp64"},
    {DType::kInt8, 1, "int8", "i8", "i8"},
    {DType::kInt16, 2, "int16", "i16", "i16"},
    {DType::kInt32, 4, "int32", "i32", "int"},
    {DType::kInt64, 8, "int64", "i64", "i64"},
    {DType::kUInt8, 1, "uint8", "u8", "u8"},
    {DType::kUInt16, 2, "uint16", "u16", "u16"},
    {DType::kUInt32, 4, "uint32", "u32", "uint"},
    {DType::kUInt64, 8, "uint64", "u64", "u64"},
    {DType::kBool, 1, "bool", "bool", "bool_"},
};

const DTypeRow& row_of(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

uint32_t dtype_size(DType dtype) { return row_of(dtype).bytes; }

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeRow& row : kRows) {
    if (name == row.name || name == row.short_name || name == row.alias) return row.dtype;
  }
  return std::nullopt;
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  // Zero and subnormals: mantissa * 2^-24 is exact in float32.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // subnormal: adding 0.5 aligns the mantissa so that the FPU rounds to nearest even
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    half = std::bit_cast<uint32_t>(aligned) - 0x3f000000u;
  }
  return static_cast<uint16_t>(sign | half);
}

float bfloat16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace dlk
