#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "core/base/dtype.h"

using namespace dlk;

TEST_CASE("names and sizes") {
  CHECK(dtype_size(DType::kFloat32) == 4);
  CHECK(dtype_size(DType::kBFloat16) == 2);
  CHECK(dtype_size(DType::kInt64) == 8);
  CHECK(dtype_size(DType::kBool) == 1);
  CHECK(dtype_name(DType::kBFloat16) == "bfloat16");
  for (int i = 0; i <= static_cast<int>(DType::kUInt2); ++i) {
    const auto dtype = static_cast<DType>(i);
    CHECK(parse_dtype(dtype_name(dtype)) == dtype);
  }
  CHECK(parse_dtype("fp16") == DType::kFloat16);
  CHECK(parse_dtype("f32") == DType::kFloat32);
  CHECK(parse_dtype("bf16") == DType::kBFloat16);
  CHECK(parse_dtype("i8") == DType::kInt8);
  CHECK_FALSE(parse_dtype("float8").has_value());
  CHECK_FALSE(parse_dtype("").has_value());
}

TEST_CASE("every code of the storage-only types survives the way through double") {
  for (int i = static_cast<int>(DType::kFloat8E4M3FN); i <= static_cast<int>(DType::kUInt2); ++i) {
    const auto dtype = static_cast<DType>(i);
    for (uint32_t code = 0; code < 1u << bits_of(dtype); ++code) {
      const double value = small_to_double(dtype, static_cast<uint8_t>(code));
      const double again = small_to_double(dtype, double_to_small(dtype, value));
      CAPTURE(dtype_name(dtype));
      CAPTURE(code);
      REQUIRE((std::isnan(value) ? std::isnan(again) : again == value));
    }
  }
  CHECK(largest_of_small_float(DType::kFloat8E4M3FN) == 448);
  CHECK(largest_of_small_float(DType::kFloat8E5M2) == 57344);
  CHECK(largest_of_small_float(DType::kFloat4E2M1FN) == 6);
  CHECK(std::isnan(
      small_to_double(DType::kFloat8E4M3FN, double_to_small(DType::kFloat8E4M3FN, 500))));
  CHECK(std::isinf(small_to_double(DType::kFloat8E5M2, double_to_small(DType::kFloat8E5M2, 1e9))));
  CHECK(double_to_small(DType::kInt4, -9) == 7);
}

TEST_CASE("every half survives the way through float") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = half_to_float(half);
    if (std::isnan(value)) {
      CHECK((half & 0x7c00) == 0x7c00);
      CHECK((half & 0x3ff) != 0);
      CHECK(std::isnan(half_to_float(float_to_half(value))));
    } else {
      REQUIRE(float_to_half(value) == half);
    }
  }
}

TEST_CASE("float to half rounds to nearest even") {
  CHECK(half_to_float(0x3c00) == 1.0f);
  CHECK(half_to_float(0x0001) == 0x1p-24f);
  CHECK(half_to_float(0xfbff) == -65504.0f);
  CHECK(float_to_half(1.0f + 0x1p-11f) == 0x3c00);             // a tie goes to even: down
  CHECK(float_to_half(1.0f + 3 * 0x1p-11f) == 0x3c02);         // a tie goes to even: up
  CHECK(float_to_half(1.0f + 0x1p-11f + 0x1p-20f) == 0x3c01);  // above the tie
  CHECK(float_to_half(65519.0f) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(0x1p-25f) == 0x0000);
  CHECK(float_to_half(0x1.8p-25f) == 0x0001);
  CHECK(float_to_half(-0.0f) == 0x8000);
  CHECK(float_to_half(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(float_to_half(1e-30f) == 0x0000);
}

TEST_CASE("bfloat16") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = bfloat16_to_float(half);
    if (!std::isnan(value)) REQUIRE(float_to_bfloat16(value) == half);
  }
  CHECK(float_to_bfloat16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);
  CHECK(float_to_bfloat16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);
  CHECK(float_to_bfloat16(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
  CHECK(std::isnan(bfloat16_to_float(float_to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(float_to_bfloat16(std::numeric_limits<float>::max()) == 0x7f80);
}
