// Where Resize reads: for each axis the map from output to input coordinates, as integers.
#pragma once

#include <string>
#include <vector>

#include "core/ops/op.h"

namespace dlk {

/// Output coordinate c reads the input at (a*c + b) / divisor.
struct AxisMap {
  int64_t a = 1, b = 0, divisor = 1;
  double scale = 1;  // output over input, as asked for
  bool identity() const { return a == divisor && b == 0; }
};

/// How one axis is resized: its sizes, the scale that was asked for and the region of interest.
struct AxisResize {
  int64_t in = 1, out = 1;
  double scale = 1;
  double roi_start = 0, roi_end = 1;
};

/// InvalidArgument through `node` for an unknown coordinate_transformation_mode.
AxisMap make_axis_map(const NodeReader& node, const AxisResize& axis, const std::string& mode);

}  // namespace dlk
