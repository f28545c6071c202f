#include "core/ops/window.h"

#include <algorithm>
#include <numeric>

namespace dlk {

namespace {

constexpr int64_t kMostExtent = int64_t{1} << 31;

Shape window_attribute(const NodeReader& node, const std::string& name, size_t rank,
                       int64_t fallback, int64_t least) {
  Shape values = node.attr_ints(name);
  if (values.empty()) return Shape(rank, fallback);
  if (values.size() != rank) {
    node.fail(name + " has " + std::to_string(values.size()) + " values, expected " +
              std::to_string(rank) + " (one a spatial axis)");
  }
  for (const int64_t value : values) {
    if (value < least || value >= kMostExtent) {
      node.fail(name + " " + shape_string(values) + " has a value below " + std::to_string(least) +
                " or above 2^31");
    }
  }
  return values;
}

void read_explicit_pads(const NodeReader& node, Window& window) {
  const size_t rank = window.rank();
  const Shape pads = node.attr_ints("pads");
  window.pad_begin.assign(rank, 0);
  window.pad_end.assign(rank, 0);
  if (pads.empty()) return;
  if (pads.size() != 2 * rank) {
    node.fail("pads has " + std::to_string(pads.size()) + " values, expected " +
              std::to_string(2 * rank) + " (begins, then ends)");
  }
  for (const int64_t pad : pads) {
    if (pad < 0 || pad >= kMostExtent) node.fail("pads " + shape_string(pads) + " must be >= 0");
  }
  std::copy_n(pads.begin(), rank, window.pad_begin.begin());
  std::copy_n(pads.begin() + static_cast<int64_t>(rank), rank, window.pad_end.begin());
}

std::string read_auto_pad(const NodeReader& node) {
  std::string mode = node.attr_string("auto_pad", "NOTSET");
  if (mode != "NOTSET" && mode != "VALID" && mode != "SAME_UPPER" && mode != "SAME_LOWER") {
    node.fail("auto_pad is '" + mode + "', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER");
  }
  return mode;
}

void split_padding(Window& window, size_t i, int64_t total, bool upper) {
  const int64_t half = total / 2;
  window.pad_begin[i] = upper ? half : total - half;
  window.pad_end[i] = total - window.pad_begin[i];
}

Window start_window(const NodeReader& node, const Shape& input, const Shape& kernel) {
  if (input.size() < 3) {
    node.fail("the input " + shape_string(input) + " must be (N, C, spatial axes...)");
  }
  Window window;
  window.input.assign(input.begin() + 2, input.end());
  const size_t rank = window.input.size();
  if (rank > 3) {
    node.unsupported("has " + std::to_string(rank) + " spatial axes; 1, 2 and 3 are supported");
  }
  if (kernel.size() != rank) {
    node.fail("the kernel " + shape_string(kernel) + " has " + std::to_string(kernel.size()) +
              " axes, the input " + shape_string(input) + " has " + std::to_string(rank) +
              " spatial ones");
  }
  for (const int64_t extent : kernel) {
    if (extent < 1) node.fail("the kernel " + shape_string(kernel) + " must be at least 1");
  }
  window.kernel = kernel;
  window.stride = window_attribute(node, "strides", rank, 1, 1);
  window.dilation = window_attribute(node, "dilations", rank, 1, 1);
  window.output.assign(rank, 0);
  return window;
}

int64_t extent_of(const Window& window, size_t i) {
  return (window.kernel[i] - 1) * window.dilation[i] + 1;
}

// ONNX drops a last window that would start in the padding at the end.
int64_t windows_that_fit(const Window& window, size_t i, bool ceil_mode) {
  const int64_t room =
      window.input[i] + window.pad_begin[i] + window.pad_end[i] - extent_of(window, i);
  if (room < 0) return 0;
  int64_t count = (ceil_mode ? ceil_div(room, window.stride[i]) : room / window.stride[i]) + 1;
  if (ceil_mode && (count - 1) * window.stride[i] >= window.input[i] + window.pad_begin[i]) --count;
  return count;
}

}  // namespace

int64_t Window::taps() const { return element_count(kernel); }

bool Window::is_pointwise() const {
  const auto all = [](const Shape& values, int64_t value) {
    return std::ranges::all_of(values, [&](int64_t v) { return v == value; });
  };
  return all(kernel, 1) && all(stride, 1) && all(pad_begin, 0) && output == input;
}

Window Window::expanded(size_t to) const {
  Window result = *this;
  const auto grow = [&](Shape& values, int64_t fill) {
    values.insert(values.begin(), to - values.size(), fill);
  };
  for (Shape* ones :
       {&result.input, &result.output, &result.kernel, &result.stride, &result.dilation}) {
    grow(*ones, 1);
  }
  grow(result.pad_begin, 0);
  grow(result.pad_end, 0);
  return result;
}

Window read_window(const NodeReader& node, const Shape& input, const Shape& kernel) {
  Window window = start_window(node, input, kernel);
  const std::string mode = read_auto_pad(node);
  const bool ceil_mode = node.attr_int("ceil_mode", 0) != 0;
  read_explicit_pads(node, window);
  for (size_t i = 0; i < window.rank(); ++i) {
    if (mode == "VALID") {
      window.pad_begin[i] = window.pad_end[i] = 0;
      window.output[i] = windows_that_fit(window, i, false);
    } else if (mode != "NOTSET") {
      window.output[i] = ceil_div(window.input[i], window.stride[i]);
      const int64_t total = std::max<int64_t>(
          0, (window.output[i] - 1) * window.stride[i] + extent_of(window, i) - window.input[i]);
      split_padding(window, i, total, mode == "SAME_UPPER");
    } else {
      window.output[i] = windows_that_fit(window, i, ceil_mode);
    }
    if (window.output[i] < 1) {
      node.fail("spatial axis " + std::to_string(i) + ": a window of " +
                std::to_string(extent_of(window, i)) + " does not fit the extent " +
                std::to_string(window.input[i]) + " with padding " +
                std::to_string(window.pad_begin[i]) + " and " + std::to_string(window.pad_end[i]));
    }
  }
  return window;
}

Window read_transposed_window(const NodeReader& node, const Shape& input, const Shape& kernel) {
  Window window = start_window(node, input, kernel);
  const size_t rank = window.rank();
  const std::string mode = read_auto_pad(node);
  const Shape extra = window_attribute(node, "output_padding", rank, 0, 0);
  Shape wanted = node.attr_ints("output_shape");
  if (wanted.size() == rank + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
  if (!wanted.empty() && wanted.size() != rank) {
    node.fail("output_shape " + shape_string(wanted) + " must have " + std::to_string(rank) +
              " values");
  }
  read_explicit_pads(node, window);
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  for (size_t i = 0; i < rank; ++i) {
    if (extra[i] >= std::max(window.stride[i], window.dilation[i])) {
      node.fail("output_padding " + shape_string(extra) +
                " must be smaller than the stride or the dilation");
    }
    const int64_t full = window.stride[i] * (window.input[i] - 1) + extra[i] + extent_of(window, i);
    if (!wanted.empty() || same) {
      window.output[i] = wanted.empty() ? window.input[i] * window.stride[i] : wanted[i];
      const int64_t total = std::max<int64_t>(0, full - window.output[i]);
      split_padding(window, i, total, mode == "SAME_UPPER");
    } else {
      if (mode == "VALID") window.pad_begin[i] = window.pad_end[i] = 0;
      window.output[i] = full - window.pad_begin[i] - window.pad_end[i];
    }
    if (window.output[i] < 1) {
      node.fail("spatial axis " + std::to_string(i) + ": the output extent would be " +
                std::to_string(window.output[i]));
    }
  }
  return window;
}

Shape required_kernel_shape(const NodeReader& node, const Shape& input) {
  Shape kernel = node.attr_ints("kernel_shape");
  if (kernel.empty()) {
    node.fail("the attribute kernel_shape is missing (input " + shape_string(input) + ")");
  }
  return kernel;
}

Shape with_spatial(int64_t batch, int64_t channels, const Shape& spatial) {
  Shape shape{batch, channels};
  shape.insert(shape.end(), spatial.begin(), spatial.end());
  return shape;
}

std::vector<int64_t> expanded_strides(const TensorView& view, size_t rank) {
  std::vector<int64_t> strides(view.strides.begin(), view.strides.begin() + 2);
  strides.insert(strides.end(), rank + 2 - view.strides.size(), 0);
  strides.insert(strides.end(), view.strides.begin() + 2, view.strides.end());
  return strides;
}

void require_float_storage(const LowerContext& ctx, DType dtype) {
  const std::string what = ctx.node().op + " in " + std::string(dtype_name(dtype));
  if (dtype == DType::kFloat32) return;
  if (dtype == DType::kFloat16) {
    if (!ctx.caps().fp16_storage) ctx.unsupported(what + " needs fp16_storage");
    return;
  }
  if (dtype == DType::kBFloat16) {
    if (!ctx.caps().int16_storage) ctx.unsupported(what + " needs int16_storage");
    return;
  }
  if (dtype == DType::kFloat64) return require_compute(ctx, dtype);
  ctx.unsupported(what + " is not implemented; floating point types are");
}

void require_arithmetic_dtype(const InferContext& ctx, size_t input) {
  const DType dtype = ctx.dtype(input);
  if (is_floating(dtype)) return;
  ctx.unsupported("input " + std::to_string(input) + " is " + std::string(dtype_name(dtype)) +
                  "; floating point types are implemented");
}

void require_32bit(const LowerContext& ctx, const TensorView& view) {
  int64_t last = 0;
  for (size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] == 0) return;
    last += (view.shape[i] - 1) * view.strides[i];
  }
  if (last >= (int64_t{1} << 31)) {
    ctx.unsupported("a tensor of shape " + shape_string(view.shape) +
                    " spans more than 2^31 elements, which kernels cannot index; split it");
  }
}

bool vectors_along(const TensorView& view, int64_t axis, int64_t width) {
  const auto along = static_cast<size_t>(axis);
  if (view.offset % width != 0 || (view.dtype == DType::kFloat64 && width > 1)) return false;
  if (view.strides[along] != 1 || view.shape[along] % width != 0) return false;
  for (size_t i = 0; i < view.shape.size(); ++i) {
    if (i != along && view.shape[i] > 1 && view.strides[i] % width != 0) return false;
  }
  return true;
}

}  // namespace dlk
