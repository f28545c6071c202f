#include <algorithm>
#include <numeric>

#include "core/ops/op.h"

namespace dlk {

namespace {

/// Whether the axes, taken in `order` from the outermost, are packed without gaps.
bool packed_in_order(const TensorView& view, const std::vector<size_t>& order) {
  int64_t expected = 1;
  for (size_t i = order.size(); i-- > 0;) {
    const size_t axis = order[i];
    if (view.shape[axis] == 1) continue;
    if (view.strides[axis] != expected) return false;
    expected *= view.shape[axis];
  }
  return true;
}

}  // namespace

bool TensorView::is_contiguous() const {
  if (elements() == 0) return true;
  std::vector<size_t> order(shape.size());
  std::iota(order.begin(), order.end(), 0);
  return packed_in_order(*this, order);
}

bool TensorView::is_channels_last() const {
  if (rank() < 3 || rank() > 5) return false;
  std::vector<size_t> order{0};
  for (size_t axis = 2; axis < shape.size(); ++axis) order.push_back(axis);
  order.push_back(1);
  return packed_in_order(*this, order);
}

bool TensorView::is_dense() const {
  if (elements() == 0) return true;
  std::vector<size_t> order(shape.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return strides[a] > strides[b]; });
  return packed_in_order(*this, order);
}

int64_t TensorView::span() const {
  int64_t last = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) return 0;
    last += (shape[i] - 1) * strides[i];
  }
  return last + 1;
}

std::optional<TensorView> TensorView::reshaped(const Shape& new_shape) const {
  if (element_count(new_shape) != elements()) {
    throw_invalid("cannot view " + shape_string(shape) + " as " + shape_string(new_shape));
  }
  TensorView view = *this;
  view.shape = new_shape;
  view.strides = contiguous_strides(new_shape);
  if (elements() == 0) return view;
  // Old axes in runs that are packed among themselves; each run must be cut by whole new axes.
  size_t from = 0, to = 0;
  while (from < shape.size() || to < new_shape.size()) {
    size_t from_end = from, to_end = to;
    int64_t old_count = 1, new_count = 1;
    if (from_end < shape.size()) old_count = shape[from_end++];
    if (to_end < new_shape.size()) new_count = new_shape[to_end++];
    while (old_count != new_count) {
      if (old_count < new_count) {
        old_count *= shape[from_end++];
      } else {
        new_count *= new_shape[to_end++];
      }
    }
    // Trailing ones join the last run.
    if (from_end == shape.size()) {
      while (to_end < new_shape.size() && new_shape[to_end] == 1) ++to_end;
    }
    std::optional<int64_t> innermost;  // stride of the run's innermost real axis
    int64_t packed = 0;
    for (size_t axis = from_end; axis-- > from;) {
      if (shape[axis] == 1) continue;
      if (!innermost) {
        innermost = strides[axis];
      } else if (strides[axis] != packed) {
        return std::nullopt;
      }
      packed = strides[axis] * shape[axis];
    }
    int64_t inner = innermost ? *innermost : from_end > from ? strides[from_end - 1] : 1;
    for (size_t axis = to_end; axis-- > to;) {
      view.strides[axis] = inner;
      inner *= new_shape[axis];
    }
    from = from_end;
    to = to_end;
  }
  return view;
}

}  // namespace dlk
