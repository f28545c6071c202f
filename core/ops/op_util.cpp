#include "core/ops/op_util.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace dlk {

int64_t product(const Shape& shape, size_t begin, size_t end) {
  int64_t result = 1;
  for (size_t i = begin; i < std::min(end, shape.size()); ++i) result *= shape[i];
  return result;
}

TensorView slice_view(TensorView view, int64_t axis, int64_t start, int64_t count, int64_t step) {
  const auto a = static_cast<size_t>(axis);
  if (count > 0) view.offset += start * view.strides[a];
  view.strides[a] *= step;
  view.shape[a] = count;
  return view;
}

TensorView permute_view(const TensorView& view, const std::vector<int64_t>& perm) {
  TensorView result = view;
  for (size_t i = 0; i < perm.size(); ++i) {
    result.shape[i] = view.shape[static_cast<size_t>(perm[i])];
    result.strides[i] = view.strides[static_cast<size_t>(perm[i])];
  }
  return result;
}

TensorView split_axis(const TensorView& view, int64_t axis, const Shape& parts) {
  TensorView result = view;
  const auto at = static_cast<std::ptrdiff_t>(axis);
  const int64_t stride = view.strides[static_cast<size_t>(axis)];
  Shape strides = contiguous_strides(parts);
  for (int64_t& s : strides) s *= stride;
  result.shape.erase(result.shape.begin() + at);
  result.shape.insert(result.shape.begin() + at, parts.begin(), parts.end());
  result.strides.erase(result.strides.begin() + at);
  result.strides.insert(result.strides.begin() + at, strides.begin(), strides.end());
  return result;
}

TensorView drop_axis(TensorView view, int64_t axis) {
  view.shape.erase(view.shape.begin() + static_cast<std::ptrdiff_t>(axis));
  view.strides.erase(view.strides.begin() + static_cast<std::ptrdiff_t>(axis));
  return view;
}

TensorView insert_axis(TensorView view, int64_t axis, int64_t size, int64_t stride) {
  view.shape.insert(view.shape.begin() + static_cast<std::ptrdiff_t>(axis), size);
  view.strides.insert(view.strides.begin() + static_cast<std::ptrdiff_t>(axis), stride);
  return view;
}

TensorView broadcast_view(const TensorView& view, const Shape& shape) {
  TensorView result = view;
  const size_t missing = shape.size() - view.shape.size();
  result.shape = shape;
  result.strides.assign(shape.size(), 0);
  for (size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] == shape[i + missing]) result.strides[i + missing] = view.strides[i];
  }
  return result;
}

TensorView workspace_like(LowerContext& context, DType dtype, const Shape& shape,
                          const TensorView& like) {
  std::vector<size_t> order(shape.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return like.strides[a] > like.strides[b]; });
  Shape nested;
  for (size_t axis : order) nested.push_back(shape[axis]);
  const TensorView dense = context.workspace(dtype, nested);
  TensorView result = dense;
  for (size_t i = 0; i < order.size(); ++i) {
    result.shape[order[i]] = dense.shape[i];
    result.strides[order[i]] = dense.strides[i];
  }
  return result;
}

bool same_view(const TensorView& a, const TensorView& b) {
  return a.storage == b.storage && a.dtype == b.dtype && a.offset == b.offset &&
         a.shape == b.shape && a.strides == b.strides;
}

DType raw_dtype(DType dtype, const Caps& caps) {
  switch (dtype_size(dtype)) {
    case 1:
      return DType::kUInt8;
    case 2:
      return DType::kUInt16;
    case 8:
      return caps.int64 ? DType::kUInt64 : DType::kUInt32;
    default:
      return DType::kUInt32;
  }
}

namespace {

TensorView as_words(const TensorView& view, DType word) {
  TensorView result = view;
  result.dtype = word;
  result.offset *= 2;
  for (int64_t& s : result.strides) s *= 2;
  return insert_axis(result, result.rank(), 2, 1);
}

}  // namespace

TensorView raw_view(const TensorView& view, const Caps& caps) {
  const DType raw = raw_dtype(view.dtype, caps);
  if (dtype_size(raw) != dtype_size(view.dtype)) return as_words(view, raw);
  TensorView result = view;
  result.dtype = raw;
  return result;
}

TensorView word_view(const TensorView& view) { return as_words(view, DType::kInt32); }

TensorView index_view(const NodeReader& node, const TensorView& view) {
  if (dtype_size(view.dtype) == 8 && is_integer(view.dtype)) {
    return drop_axis(as_words(view, DType::kInt32), view.rank());
  }
  if (view.dtype != DType::kInt32 && view.dtype != DType::kUInt32) {
    node.unsupported("indices of type " + std::string(dtype_name(view.dtype)) +
                     "; use int32 or int64");
  }
  TensorView result = view;
  result.dtype = DType::kInt32;
  return result;
}

void require_compute(const LowerContext& context, DType dtype) {
  const Caps& caps = context.caps();
  if (dtype == DType::kFloat64 && !caps.fp64) {
    context.unsupported("float64 needs a device with Caps::fp64; convert the model to float32");
  }
  if ((dtype == DType::kInt64 || dtype == DType::kUInt64) && !caps.int64) {
    context.unsupported("64-bit integers need a device with Caps::int64; use int32");
  }
}

DType accumulator_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
    case DType::kUInt64:
      return dtype;
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return DType::kInt32;
    case DType::kUInt8:
    case DType::kUInt16:
    case DType::kUInt32:
    case DType::kBool:
      return DType::kUInt32;
    default:
      return DType::kFloat32;
  }
}

LoopNest LoopNest::of_group(int group) const {
  LoopNest result;
  result.strides.resize(strides.size());
  for (size_t d = 0; d < dims.size(); ++d) {
    if (groups[d] != group) continue;
    result.dims.push_back(dims[d]);
    result.groups.push_back(group);
    for (size_t v = 0; v < strides.size(); ++v) result.strides[v].push_back(strides[v][d]);
  }
  if (result.dims.empty()) {
    result.dims.push_back(1);
    result.groups.push_back(group);
    for (Shape& s : result.strides) s.push_back(0);
  }
  return result;
}

namespace {

struct LoopDim {
  int64_t size = 1;
  int group = 0;
  std::vector<int64_t> strides;
};

/// `outer` just outside `inner`: one dimension for every view.
bool mergeable(const LoopDim& outer, const LoopDim& inner) {
  if (outer.group != inner.group || inner.group < 0) return false;
  for (size_t v = 0; v < inner.strides.size(); ++v) {
    if (outer.strides[v] != inner.strides[v] * inner.size) return false;
  }
  return true;
}

}  // namespace

LoopNest collapse(const Shape& dims, const std::vector<Shape>& strides,
                  const std::vector<int>& groups, bool reorder) {
  std::vector<LoopDim> loop;
  for (size_t d = 0; d < dims.size(); ++d) {
    const int group = groups.empty() ? 0 : groups[d];
    if (dims[d] == 1 && group >= 0) continue;
    LoopDim dim{dims[d], group, {}};
    for (const Shape& s : strides) dim.strides.push_back(s[d]);
    loop.push_back(std::move(dim));
  }
  if (reorder) {
    for (auto begin = loop.begin(); begin != loop.end();) {
      auto end = begin;
      while (end != loop.end() && end->group == begin->group) ++end;
      std::stable_sort(begin, end, [](const LoopDim& a, const LoopDim& b) {
        return a.strides[0] > b.strides[0];
      });
      begin = end;
    }
  }
  std::vector<LoopDim> merged;
  for (LoopDim& dim : loop) {
    if (!merged.empty() && mergeable(merged.back(), dim)) {
      merged.back().size *= dim.size;
      merged.back().strides = dim.strides;
    } else {
      merged.push_back(std::move(dim));
    }
  }
  if (merged.empty()) {
    merged.push_back({1, groups.empty() ? 0 : groups.front(), Shape(strides.size(), 0)});
  }
  LoopNest nest;
  nest.strides.resize(strides.size());
  for (const LoopDim& dim : merged) {
    nest.dims.push_back(dim.size);
    nest.groups.push_back(dim.group);
    for (size_t v = 0; v < strides.size(); ++v) nest.strides[v].push_back(dim.strides[v]);
  }
  return nest;
}

void dispatch_linear(LowerContext& context, KernelRequest request,
                     const std::vector<TensorView>& operands, Params params, int64_t items) {
  if (items == 0) return;
  request.constants["WG"] = kLinearGroup;
  params["total"] = items;
  context.dispatch(request, operands, std::move(params),
                   context.linear_groups(ceil_div(items, kLinearGroup)));
}

int64_t cpu_group(int64_t rows, int64_t units) {
  if (rows >= kLinearGroup * units) return kLinearGroup;
  return rows >= 8 * units ? 8 : 1;
}

namespace {

/// Zeros, by vectors of 16 bytes; false where memory does not allow them.
bool clear_vectors(LowerContext& context, const TensorView& view) {
  constexpr int64_t kBytes = 16;
  const auto size = static_cast<int64_t>(dtype_size(view.dtype));
  if (!view.is_dense() || view.offset * size % kBytes != 0 ||
      view.elements() * size % kBytes != 0) {
    return false;
  }
  TensorView words = view;
  words.dtype = DType::kFloat32;
  words.offset = view.offset * size / 4;
  words.shape = {view.elements() * size / 4};
  words.strides = {1};
  KernelRequest request;
  request.name = "clear_vectors";
  dispatch_linear(context, std::move(request), {words}, {}, words.shape[0] / 4);
  return true;
}

}  // namespace

void fill_view(LowerContext& context, const TensorView& view, double value) {
  if (value == 0 && !std::signbit(value) && clear_vectors(context, view)) return;
  const HostTensor host = HostTensor::from_doubles(view.dtype, {1}, {value});
  uint32_t words[2] = {0, 0};
  std::memcpy(words, host.bytes().data(), host.bytes().size());
  const bool pairs = dtype_size(view.dtype) == 8;
  TensorView raw = pairs ? word_view(view) : raw_view(view, context.caps());
  raw.dtype = pairs ? DType::kUInt32 : raw.dtype;
  const LoopNest nest = collapse(view.shape, {view.strides}, {}, true);
  Shape strides = nest.strides[0];
  if (pairs) {
    for (int64_t& s : strides) s *= 2;
  }
  KernelRequest request;
  request.name = "fill";
  request.constants = {{"ND", nest.rank()}, {"PAIR", pairs ? 1 : 0}};
  request.types = {{"T", raw.dtype}};
  dispatch_linear(context, request, {raw},
                  {{"dims", nest.dims},
                   {"ys", strides},
                   {"low", static_cast<int64_t>(words[0])},
                   {"high", static_cast<int64_t>(words[1])}},
                  nest.size());
}

std::vector<int64_t> all_axes(int64_t rank) {
  std::vector<int64_t> axes(static_cast<size_t>(rank));
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

void check_size(const NodeReader& node, double size, const std::string& what) {
  if (!(std::abs(size) <= 2147483648.0)) {
    node.fail(what + " is " + std::to_string(size) + "; the limit is 2147483648 either way");
  }
}

void check_indices(const NodeReader& node, const HostTensor& indices, const Shape& sizes) {
  const auto values = indices.to_ints();
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t size = sizes[i % sizes.size()];
    if (values[i] < -size || values[i] >= size) {
      node.fail("index " + std::to_string(values[i]) + " is out of range for an axis of " +
                std::to_string(size));
    }
  }
}

bool all_known(const HostEvalContext& context) {
  for (size_t i = 0; i < context.input_count(); ++i) {
    if (context.has_input(i) && !context.is_known(i)) return false;
  }
  return true;
}

HostTensor gather_host(const HostTensor& source, Shape shape,
                       const std::vector<int64_t>& element_indices) {
  const size_t size = dtype_size(source.dtype);
  std::vector<std::byte> bytes(element_indices.size() * size);
  for (size_t i = 0; i < element_indices.size(); ++i) {
    std::memcpy(bytes.data() + i * size,
                source.bytes().data() + static_cast<size_t>(element_indices[i]) * size, size);
  }
  return HostTensor::copy_of(source.dtype, std::move(shape), bytes);
}

std::vector<int64_t> strided_indices(const Shape& shape, int64_t base, const Shape& strides) {
  std::vector<int64_t> result{base};
  for (size_t d = 0; d < shape.size(); ++d) {
    std::vector<int64_t> next;
    next.reserve(result.size() * static_cast<size_t>(shape[d]));
    for (int64_t start : result) {
      for (int64_t i = 0; i < shape[d]; ++i) next.push_back(start + i * strides[d]);
    }
    result = std::move(next);
  }
  return result;
}

void set_half_sums(const LowerContext& ctx, KernelRequest& request, bool follows) {
  if (ctx.accumulate_fp16()) request.constants["ACC16"] = follows ? 1 : 0;
}

}  // namespace dlk
