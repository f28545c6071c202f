// Shapes and host-side tensors: constants of a graph, inputs and outputs of a run. A HostTensor
// shares its bytes (mmap-ed weights are not copied) and is always dense, row-major, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/dtype.h"

namespace dlk {

using Shape = std::vector<int64_t>;

/// Product of the dimensions; 1 for a scalar. InvalidArgument on overflow or a negative dimension.
int64_t element_count(const Shape& shape);
/// The integer that a number is cut to; the nearest one where it is out of range, 0 for NaN.
int64_t saturated(double value);
/// Row-major strides in elements.
Shape contiguous_strides(const Shape& shape);
/// "[1, 3, 224, 224]"
std::string shape_string(const Shape& shape);
/// ONNX (NumPy) broadcasting of two shapes; InvalidArgument names both when they do not fit.
Shape broadcast_shapes(const Shape& a, const Shape& b);

/// A dimension of a declared shape: a number, or a symbol ("batch"; "" is an anonymous unknown).
struct Dim {
  int64_t value = -1;  // -1: symbolic
  std::string symbol;
  static Dim of(int64_t value) { return {value, {}}; }
  static Dim named(std::string symbol) { return {-1, std::move(symbol)}; }
  bool is_static() const { return value >= 0; }
};
using SymbolicShape = std::vector<Dim>;

struct HostTensor {
  DType dtype = DType::kFloat32;
  Shape shape;
  std::shared_ptr<const std::byte> data;  // element_count * dtype_size bytes; may be null if empty
  bool immutable =
      false;  // nobody changes the bytes (a mapped file): a device may use them in place

  int64_t elements() const { return element_count(shape); }
  uint64_t size_bytes() const { return static_cast<uint64_t>(elements()) * dtype_size(dtype); }
  std::span<const std::byte> bytes() const { return {data.get(), size_bytes()}; }

  /// A new tensor, whose bytes (undefined so far) are to be filled through the second.
  static std::pair<HostTensor, std::span<std::byte>> unfilled(DType dtype, Shape shape);
  /// A copy of `bytes`; InvalidArgument if their count does not fit the shape.
  static HostTensor copy_of(DType dtype, Shape shape, std::span<const std::byte> bytes);
  /// A new tensor; T must be dtype's host type.
  template <typename T>
  static HostTensor of(DType dtype, Shape shape, const std::vector<T>& values);
  static HostTensor ints(const std::vector<int64_t>& values);  // 1-D int64
  static HostTensor scalar(DType dtype, double value);
  /// Conversion from int64 or double values to any dtype.
  static HostTensor from_ints(DType dtype, Shape shape, const std::vector<int64_t>& values);
  static HostTensor from_doubles(DType dtype, Shape shape, const std::vector<double>& values);

  static HostTensor strings(Shape shape, const std::vector<std::string>& texts);
  /// The texts of a tensor of strings; InvalidArgument for any other.
  std::vector<std::string> to_strings() const;

  /// Values converted to int64 or double, whatever the dtype.
  std::vector<int64_t> to_ints() const;
  std::vector<double> to_doubles() const;
};

template <typename T>
HostTensor HostTensor::of(DType dtype, Shape shape, const std::vector<T>& values) {
  return copy_of(dtype, std::move(shape),
                 std::as_bytes(std::span<const T>(values.data(), values.size())));
}

}  // namespace dlk
