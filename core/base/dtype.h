// Element types shared by kernels, graphs and model files. Storage types only: what a kernel
// computes in is chosen by the kernel (fp16 storage normally computes in fp32).
#pragma once

#include <cstddef>
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
  // Storage only: one byte an element, the number in its low bits (as ml_dtypes keeps them).
  kFloat8E4M3FN,
  kFloat8E4M3FNUZ,
  kFloat8E5M2,
  kFloat8E5M2FNUZ,
  kFloat8E8M0FNU,
  kFloat4E2M1FN,
  kInt4,
  kUInt4,
  kInt2,
  kUInt2,
  kString,  // a number of core/base/strings.h; on the host only
};

/// Bytes of one element.
uint32_t dtype_size(DType dtype);
/// NumPy's (or ml_dtypes') name: "float32", "bfloat16", "bool", "float8_e4m3fn", "int4", ...
std::string_view dtype_name(DType dtype);
/// The kernel dialect's name: "f32", "bf16", "f8e4m3fn", ...
std::string_view dtype_short_name(DType dtype);
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
/// Types for Cast, quantization and data movement; nothing is computed in them.
constexpr bool is_storage_only(DType d) { return d > DType::kBool; }
constexpr bool is_small_float(DType d) {
  return d >= DType::kFloat8E4M3FN && d <= DType::kFloat4E2M1FN;
}
constexpr bool is_small_integer(DType d) { return d >= DType::kInt4 && d <= DType::kUInt2; }
constexpr bool is_integer(DType d) { return is_signed_integer(d) || is_unsigned_integer(d); }

/// IEEE binary16 and bfloat16 conversions, round to nearest even.
float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);
/// `count` values at once, by the processor's instructions where it has them.
void floats_to_halves(const std::byte* floats, size_t count, uint16_t* halves);
float bfloat16_to_float(uint16_t bits);
uint16_t float_to_bfloat16(float value);
/// Storage-only types: values beyond a float type's range become its infinity or NaN (float4: its
/// largest), integers keep their low bits.
double small_to_double(DType dtype, uint8_t bits);
uint8_t double_to_small(DType dtype, double value);
/// The largest finite value of a small float type; bits of an integer type.
double largest_of_small_float(DType dtype);
uint32_t bits_of(DType dtype);

}  // namespace dlk
