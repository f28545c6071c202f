// Arithmetic of sliding windows: what convolution and pooling share. Reads the window attributes of
// a node (kernel_shape, strides, dilations, pads, auto_pad, ceil_mode), computes padding and output
// extents, and names the node and the numbers when they do not fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/ops/op.h"
#include "core/ops/op_util.h"

namespace dlk {

/// A window over the spatial axes (axis 2 and on) of an (N, C, ...) tensor.
struct Window {
  Shape input;   // spatial extents
  Shape output;  // spatial extents
  Shape kernel, stride, dilation, pad_begin, pad_end;

  size_t rank() const { return kernel.size(); }
  /// Product of the kernel's extents.
  int64_t taps() const;
  /// One element for each result: every extent and stride is 1, without padding.
  bool is_pointwise() const;
  /// The same window with `rank` axes: leading axes of extent 1 are added.
  Window expanded(size_t rank) const;
};

/// The window of a node over `input` (full shape) with the given kernel extents. Used for
/// convolution (kernel from the weights) and pooling (kernel from `kernel_shape`).
Window read_window(const NodeReader& node, const Shape& input, const Shape& kernel);

/// ConvTranspose: `output` follows from output_shape or from pads and output_padding.
Window read_transposed_window(const NodeReader& node, const Shape& input, const Shape& kernel);

/// `kernel_shape`, or an error that says that the operator needs it.
Shape required_kernel_shape(const NodeReader& node, const Shape& input);

/// Batch and channel extents followed by the spatial ones.
Shape with_spatial(int64_t batch, int64_t channels, const Shape& spatial);

/// Strides of an (N, C, ...) view as N, C and `rank` spatial ones; added leading axes get 0.
std::vector<int64_t> expanded_strides(const TensorView& view, size_t rank);

/// fp32, fp16 or bf16 input that the device can store; Unsupported names the operator, the dtype
/// and the missing Caps bit.
void require_float_storage(const LowerContext& ctx, DType dtype);
/// As an inference check: the dtype must be floating point that the arithmetic kernels compute.
void require_arithmetic_dtype(const InferContext& ctx, size_t input);
/// Kernels index with 32 bits: every element of the view must be within reach.
void require_32bit(const LowerContext& ctx, const TensorView& view);

/// Vectors of `width` elements can be loaded along `axis`: it has stride 1 and a multiple of
/// `width` elements, and the offset and every other stride are multiples of `width`.
bool vectors_along(const TensorView& view, int64_t axis, int64_t width);

}  // namespace dlk
