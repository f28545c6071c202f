#include "core/base/dtype.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#endif

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
    {DType::kFloat8E4M3FN, 1, "float8_e4m3fn", "f8e4m3fn", "f8e4m3"},
    {DType::kFloat8E4M3FNUZ, 1, "float8_e4m3fnuz", "f8e4m3fnuz", "f8e4m3fnuz"},
    {DType::kFloat8E5M2, 1, "float8_e5m2", "f8e5m2", "f8e5m2"},
    {DType::kFloat8E5M2FNUZ, 1, "float8_e5m2fnuz", "f8e5m2fnuz", "f8e5m2fnuz"},
    {DType::kFloat8E8M0FNU, 1, "float8_e8m0fnu", "f8e8m0fnu", "f8e8m0"},
    {DType::kFloat4E2M1FN, 1, "float4_e2m1fn", "f4e2m1fn", "f4e2m1"},
    {DType::kInt4, 1, "int4", "i4", "i4"},
    {DType::kUInt4, 1, "uint4", "u4", "u4"},
    {DType::kInt2, 1, "int2", "i2", "i2"},
    {DType::kUInt2, 1, "uint2", "u2", "u2"},
    {DType::kString, 8, "string", "string", "str"},
};

/// A small float: sign, exponent, mantissa, and what its topmost codes mean.
struct SmallFloat {
  int mantissa, bias;
  uint8_t largest;   // the code of the largest finite value
  uint8_t overflow;  // what is beyond becomes
  uint8_t nan;
  bool signed_zero;
};

SmallFloat small_float(DType dtype) {
  switch (dtype) {
    case DType::kFloat8E4M3FN:
      return {3, 7, 0x7e, 0x7f, 0x7f, true};
    case DType::kFloat8E4M3FNUZ:
      return {3, 8, 0x7f, 0x80, 0x80, false};
    case DType::kFloat8E5M2:
      return {2, 15, 0x7b, 0x7c, 0x7e, true};
    case DType::kFloat8E5M2FNUZ:
      return {2, 16, 0x7f, 0x80, 0x80, false};
    default:
      return {1, 1, 0x07, 0x07, 0x08, true};
  }
}

double decode(const SmallFloat& f, uint32_t code) {
  const auto mantissa = static_cast<double>(code & ((1u << f.mantissa) - 1));
  const int exponent = static_cast<int>(code >> f.mantissa);
  if (exponent == 0) return std::ldexp(mantissa, 1 - f.bias - f.mantissa);
  return std::ldexp(mantissa + (1 << f.mantissa), exponent - f.bias - f.mantissa);
}

/// The code of a magnitude, rounded to nearest even.
uint32_t encode(const SmallFloat& f, double magnitude) {
  if (magnitude == 0) return 0;
  if (magnitude > 2 * decode(f, f.largest)) return 0xffffu;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent - 1, 1 - f.bias);
  const auto steps =
      static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, f.mantissa - exponent)));
  // A mantissa that rounds up to the next power carries into the exponent.
  return steps + (static_cast<uint32_t>(exponent + f.bias - 1) << f.mantissa);
}

const DTypeRow& row_of(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

uint32_t dtype_size(DType dtype) { return row_of(dtype).bytes; }

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }

std::string_view dtype_short_name(DType dtype) { return row_of(dtype).short_name; }

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

namespace {

void convert_to_halves(const std::byte* floats, size_t count, uint16_t* halves) {
  for (size_t i = 0; i < count; ++i) {
    float value = 0;
    std::memcpy(&value, floats + 4 * i, 4);
    halves[i] = float_to_half(value);
  }
}

#if defined(__x86_64__) && defined(__GNUC__)
bool has_half_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;  // Clang 14 has no name for F16C
  return __builtin_cpu_supports("avx") != 0 && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
         (c & bit_F16C) != 0;
}

__attribute__((target("avx,f16c"))) void convert_by_eights(const std::byte* floats, size_t count,
                                                           uint16_t* halves) {
  const size_t whole = count / 8 * 8;
  for (size_t i = 0; i < whole; i += 8) {
    const __m256 eight = _mm256_loadu_ps(reinterpret_cast<const float*>(floats + 4 * i));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i),
                     _mm256_cvtps_ph(eight, _MM_FROUND_TO_NEAREST_INT));
  }
  convert_to_halves(floats + 4 * whole, count - whole, halves + whole);
}
#endif

}  // namespace

void floats_to_halves(const std::byte* floats, size_t count, uint16_t* halves) {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool has_instructions = has_half_instructions();
  if (has_instructions) return convert_by_eights(floats, count, halves);
#endif
  convert_to_halves(floats, count, halves);
}

float bfloat16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

uint32_t bits_of(DType dtype) {
  switch (dtype) {
    case DType::kInt4:
    case DType::kUInt4:
    case DType::kFloat4E2M1FN:
      return 4;
    case DType::kInt2:
    case DType::kUInt2:
      return 2;
    default:
      return 8 * dtype_size(dtype);
  }
}

double largest_of_small_float(DType dtype) {
  if (dtype == DType::kFloat8E8M0FNU) return 0x1p127;
  const SmallFloat f = small_float(dtype);
  return decode(f, f.largest);
}

double small_to_double(DType dtype, uint8_t bits) {
  const uint32_t width = bits_of(dtype);
  if (is_small_integer(dtype)) {
    const uint32_t low = bits & ((1u << width) - 1);
    const bool negative = (dtype == DType::kInt4 || dtype == DType::kInt2) && low >> (width - 1);
    return static_cast<double>(low) - (negative ? static_cast<double>(1u << width) : 0.0);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  if (dtype == DType::kFloat8E8M0FNU) return bits == 0xff ? nan : std::ldexp(1.0, bits - 127);
  const SmallFloat f = small_float(dtype);
  if (!f.signed_zero && bits == f.nan) return nan;
  const uint32_t sign = 1u << (width - 1);
  const uint32_t code = bits & (sign - 1);
  double value = decode(f, code);
  if (code > f.largest) value = code == f.overflow && f.overflow != f.nan ? HUGE_VAL : nan;
  return (bits & sign) != 0 ? -value : value;
}

uint8_t double_to_small(DType dtype, double value) {
  const uint32_t width = bits_of(dtype);
  if (is_small_integer(dtype)) {
    return static_cast<uint8_t>(static_cast<int64_t>(value) & ((1 << width) - 1));
  }
  if (dtype == DType::kFloat8E8M0FNU) {
    if (!(value >= 0) || std::isinf(value)) return 0xff;
    int exponent = 0;
    const double half = std::frexp(value, &exponent);
    return static_cast<uint8_t>(std::clamp(exponent - (half < 0.75 ? 1 : 0), -127, 127) + 127);
  }
  const SmallFloat f = small_float(dtype);
  const uint32_t sign = std::signbit(value) ? 1u << (width - 1) : 0u;
  if (std::isnan(value)) return static_cast<uint8_t>(f.nan | (f.signed_zero ? sign : 0));
  const uint32_t code = encode(f, std::fabs(value));
  if (code > f.largest) return static_cast<uint8_t>(f.overflow | (f.signed_zero ? sign : 0));
  return static_cast<uint8_t>(code == 0 && !f.signed_zero ? 0 : code | sign);
}

}  // namespace dlk
