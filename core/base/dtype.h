// Element types shared by kernels, graphs and model files. Storage types only: what a kernel
// computes in is chosen by the kernel (fp16 storage normally computes in fp32).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dlk {

enum class DType : uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kFloat64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUInt8,
  kUInt16,
  kUInt32,
  kUInt64,
  kBool,  // one byte, 0 or 1
};

/// Bytes of one element.
uint32_t dtype_size(DType dtype);
/// NumPy's name: "float32", "bfloat16", "bool", ...
std::string_view dtype_name(DType dtype);
/// Accepts NumPy names and the short forms "fp32", "f32", "fp16", "bf16", "i8", ...
std::optional<DType> parse_dtype(std::string_view name);

constexpr bool is_floating(DType d) {
  return d == DType::kFloat32 || d == DType::kFloat16 || d == DType::kBFloat16 ||
         d == DType::kFloat64;
}
constexpr bool is_signed_integer(DType d) {
  return d == DType::kInt8 || d == DType::kInt16 || d == DType::kInt32 || d == DType::kInt64;
}
constexpr bool is_unsigned_integer(DType d) {
  return d == DType::kUInt8 || d == DType::kUInt16 || d == DType::kUInt32 || d == DType::kUInt64;
}
constexpr bool is_integer(DType d) { return is_signed_integer(d) || is_unsigned_integer(d); }

/// IEEE binary16 and bfloat16 conversions, round to nearest even.
float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);
float bfloat16_to_float(uint16_t bits);
uint16_t float_to_bfloat16(float value);

}  // namespace dlk
