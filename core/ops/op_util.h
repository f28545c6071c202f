// Helpers that operators share when they lower: views (slices, permutations, reinterpretations),
// loop nests over strided views, element types for kernels that only move data, indices, axes and
// linear dispatches. Used by core/ops/*.cpp only; everything here is cheap and has no state.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/ops/op.h"

namespace dlk {

/// Work-items in a group of `dispatch_linear` kernels (their constant WG).
inline constexpr int64_t kLinearGroup = 64;

/// Of a kernel for matrix units where fp16 accumulation was asked for: whether it follows.
void set_half_sums(const LowerContext& ctx, KernelRequest& request, bool follows);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t product(const Shape& shape, size_t begin = 0, size_t end = static_cast<size_t>(-1));

// Views ---------------------------------------------------------------------------------------

/// Elements start, start+step, ... of `axis`; step > 0.
TensorView slice_view(TensorView view, int64_t axis, int64_t start, int64_t count,
                      int64_t step = 1);
/// Output axis i is the view's axis perm[i].
TensorView permute_view(const TensorView& view, const std::vector<int64_t>& perm);
/// Axis `axis` as several axes, outermost first, whose product is its size.
TensorView split_axis(const TensorView& view, int64_t axis, const Shape& parts);
TensorView drop_axis(TensorView view, int64_t axis);
TensorView insert_axis(TensorView view, int64_t axis, int64_t size = 1, int64_t stride = 0);
/// The view with axes of size 1 or missing repeated (stride 0) to `shape`, as ONNX broadcasting.
TensorView broadcast_view(const TensorView& view, const Shape& shape);
/// A dense workspace whose axes are nested in the order of those of `like` (channels-last stays
/// so).
TensorView workspace_like(LowerContext& context, DType dtype, const Shape& shape,
                          const TensorView& like);
bool same_view(const TensorView& a, const TensorView& b);

// Element types -------------------------------------------------------------------------------

/// Unsigned storage type of the same width, for kernels that only move elements.
DType raw_dtype(DType dtype, const Caps& caps);
/// The view as `raw_dtype` elements. An 8-byte type on a device without 64-bit integers becomes
/// pairs of uint32: one more axis of size 2, innermost.
TensorView raw_view(const TensorView& view, const Caps& caps);
/// Indices as int32 elements. An int64 view becomes its low words (strides doubled, same rank),
/// which need no 64-bit integers on the device and are right for every index in range.
TensorView index_view(const NodeReader& node, const TensorView& view);
/// An int64 view as int32 words: one more axis of size 2 (low, high).
TensorView word_view(const TensorView& view);
/// Unsupported if the device cannot compute in `dtype` (float64, 64-bit integers).
void require_compute(const LowerContext& context, DType dtype);
/// float64 and integers accumulate in their own kind (32 or 64 bit), the rest in float32.
DType accumulator_dtype(DType dtype);

// Loop nests ----------------------------------------------------------------------------------

/// Dimensions of a loop and, for each view it runs over, the strides.
struct LoopNest {
  Shape dims;
  std::vector<Shape> strides;
  std::vector<int> groups;  // of each dimension that is left

  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  int64_t size() const { return element_count(dims); }
  /// Dimensions and strides of one group alone; never empty (one dimension of size 1).
  LoopNest of_group(int group) const;
};

/// Drops dimensions of size 1 and merges neighbours that every view walks as one. Dimensions of
/// different `groups` stay apart (empty: one group); those of a negative group are left as they
/// are, whatever their size. With `reorder`, dimensions of a group that are
/// next to each other are sorted so that the first view's smallest stride is innermost. At least
/// one dimension is left.
LoopNest collapse(const Shape& dims, const std::vector<Shape>& strides,
                  const std::vector<int>& groups = {}, bool reorder = false);

// Dispatches ----------------------------------------------------------------------------------

/// One work-item for each of `items` results: sets the kernel's constant WG and its parameter
/// `total`; the kernel finds its item with `WL * WG + LX`. Nothing is dispatched for no items.
void dispatch_linear(LowerContext& context, KernelRequest request,
                     const std::vector<TensorView>& operands, Params params, int64_t items);
/// Work-items in a group of a CPU driver, which runs a group on one thread: fewer where there are
/// few rows to spread over `units` threads.
int64_t cpu_group(int64_t rows, int64_t units);
/// Every element of the view becomes `value` converted to its dtype.
void fill_view(LowerContext& context, const TensorView& view, double value);

// Attributes and constant inputs --------------------------------------------------------------

/// An error where a size of a tensor, or something that is added to one, is beyond 31 bits or NaN.
void check_size(const NodeReader& node, double size, const std::string& what);

/// Constant of either kind of context; an error naming `what` if it is not known before the run.
template <typename Context>
std::vector<int64_t> required_ints(const Context& context, size_t input, const std::string& what) {
  const std::optional<HostTensor> value = context.constant(input);
  if (!value) context.fail(what + " must be a constant or shape arithmetic, known before the run");
  return value->to_ints();
}

inline std::vector<int64_t> required_ints(const HostEvalContext& context, size_t input,
                                          const std::string& what) {
  if (!context.is_known(input)) context.fail(what + " must be known before the run");
  return context.input(input).to_ints();
}

/// As `required_ints`, of sizes, counts or pads: an error beyond 31 bits, so that products of two
/// and sums stay in 64.
template <typename Context>
std::vector<int64_t> required_sizes(const Context& context, size_t input, const std::string& what) {
  std::vector<int64_t> values = required_ints(context, input, what);
  for (const int64_t value : values) check_size(context, static_cast<double>(value), what);
  return values;
}

/// Axes from an optional input, or from the attribute of older opsets; `fallback` if neither is
/// there. Normalized to 0 .. rank-1; duplicates are an error.
template <typename Context>
std::vector<int64_t> read_axes(const Context& context, size_t input, const std::string& attribute,
                               int64_t rank, const std::vector<int64_t>& fallback) {
  std::vector<int64_t> axes = fallback;
  if (context.has_input(input)) {
    axes = required_ints(context, input, "axes");
  } else if (!attribute.empty() && context.has_attr(attribute)) {
    axes = context.attr_ints(attribute);
  }
  std::vector<bool> seen(static_cast<size_t>(rank), false);
  for (int64_t& axis : axes) {
    axis = context.normalize_axis(axis, rank);
    if (seen[static_cast<size_t>(axis)]) context.fail("axis " + std::to_string(axis) + " twice");
    seen[static_cast<size_t>(axis)] = true;
  }
  return axes;
}

/// 0, 1, ..., rank-1.
std::vector<int64_t> all_axes(int64_t rank);

/// Constant indices, in tuples of `sizes.size()` components, must be in -size .. size-1.
void check_indices(const NodeReader& node, const HostTensor& indices, const Shape& sizes);

/// True if every input that is there has a value on the host.
bool all_known(const HostEvalContext& context);
/// The host tensor of `shape` whose element i is `source`'s element `element_indices[i]`.
HostTensor gather_host(const HostTensor& source, Shape shape,
                       const std::vector<int64_t>& element_indices);
/// base + sum of index*stride for each index of `shape`, in row-major order.
std::vector<int64_t> strided_indices(const Shape& shape, int64_t base, const Shape& strides);

}  // namespace dlk
