#include "core/ops/resize_map.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dlk {
namespace {

struct Fraction {
  int64_t p = 0, q = 1;
};

/// The simplest fraction within `tolerance` (relative) of `value`, with a denominator of at most
/// `limit`: continued fractions. A scale of 0.6f is meant to be 3/5.
Fraction simplest_fraction(double value, double tolerance, int64_t limit) {
  int64_t p0 = 1, q0 = 0, p1 = static_cast<int64_t>(std::floor(value)), q1 = 1;
  double rest = value - std::floor(value);
  while (std::abs(static_cast<double>(p1) / static_cast<double>(q1) - value) >
             tolerance * std::abs(value) &&
         rest > 1e-12) {
    const double inverse = 1 / rest;
    const auto digit = static_cast<int64_t>(std::floor(inverse));
    if (digit > (limit - q0) / std::max<int64_t>(q1, 1)) break;
    rest = inverse - std::floor(inverse);
    const int64_t p2 = digit * p1 + p0, q2 = digit * q1 + q0;
    p0 = p1;
    q0 = q1;
    p1 = p2;
    q1 = q2;
  }
  return {p1, q1};
}

/// Input coordinate = slope * c + intercept.
struct Line {
  double slope = 1, intercept = 0;
};

Line make_line(const NodeReader& node, const AxisResize& axis, const std::string& mode) {
  const auto in = static_cast<double>(axis.in), out = static_cast<double>(axis.out);
  const double scale = axis.scale, width = scale * in;
  if (mode == "half_pixel") return {1 / scale, 0.5 / scale - 0.5};
  if (mode == "pytorch_half_pixel") {
    return axis.out > 1 ? Line{1 / scale, 0.5 / scale - 0.5} : Line{0, 0};
  }
  if (mode == "half_pixel_symmetric") {
    return {1 / scale, in / 2 * (1 - out / width) + 0.5 / scale - 0.5};
  }
  if (mode == "asymmetric") return {1 / scale, 0};
  if (mode == "align_corners") {
    return width == 1 || axis.out == 1 ? Line{0, 0} : Line{(in - 1) / (width - 1), 0};
  }
  if (mode == "tf_crop_and_resize") {
    const double span = axis.roi_end - axis.roi_start, start = axis.roi_start * (in - 1);
    if (axis.out == 1) return {0, start + span * (in - 1) / 2};
    return {span * (in - 1) / (width - 1), start};
  }
  node.fail("coordinate_transformation_mode " + mode + " is not one of half_pixel, " +
            "half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, " +
            "tf_crop_and_resize");
}

}  // namespace

AxisMap make_axis_map(const NodeReader& node, const AxisResize& axis, const std::string& mode) {
  const Line line = make_line(node, axis, mode);
  // Keeps a*c + b and rounding within 31 bits.
  const double reach = std::max({static_cast<double>(axis.in), 1.0, std::abs(line.intercept),
                                 std::abs(line.slope) * static_cast<double>(axis.out)});
  const auto limit = static_cast<int64_t>(1073741824.0 / (reach + 2));
  const Fraction slope = simplest_fraction(line.slope, 1e-7, std::max<int64_t>(limit / 4, 1));
  AxisMap map;
  map.scale = axis.scale;
  int64_t factor = 1;
  double error = 1;
  for (int64_t f = 1; f <= std::max<int64_t>(limit / slope.q, 1); f = f < 64 ? f + 1 : f * 2) {
    const double b = line.intercept * static_cast<double>(slope.q * f);
    const double distance = std::abs(b - std::round(b)) / static_cast<double>(slope.q * f);
    if (distance < error * 0.5) {
      error = distance;
      factor = f;
    }
    if (error < 1e-7) break;
  }
  map.divisor = slope.q * factor;
  map.a = slope.p * factor;
  map.b = static_cast<int64_t>(std::llround(line.intercept * static_cast<double>(map.divisor)));
  const int64_t common = std::gcd(std::gcd(map.a, map.b), map.divisor);
  map.a /= common;
  map.b /= common;
  map.divisor /= common;
  return map;
}

}  // namespace dlk
