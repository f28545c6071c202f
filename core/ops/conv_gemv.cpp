// Products of a few rows with a matrix (kernels/gemv.k): a convolution whose window is its whole
// image, or one pixel of few, as classifiers and attention over channels have them. Their time is
// that of reading the weights once, which takes many groups with many loads under way.
#include <algorithm>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

constexpr int64_t kMostRows = 8;

/// The problem as Y (rows, columns) = X (rows, depth) W^T.
struct Rows {
  int64_t count = 0, depth = 0, x_step = 0, y_step = 0;
};

bool is_plain_float(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

bool is_unpadded(const Window& w) {
  return std::ranges::all_of(w.pad_begin, [](int64_t pad) { return pad == 0; }) &&
         std::ranges::all_of(w.pad_end, [](int64_t pad) { return pad == 0; });
}

/// The window is the image, whose elements lie together with the channels innermost.
bool covers_image(const ConvProblem& p, const Window& w) {
  const std::vector<int64_t> xs = expanded_strides(p.x, 2);
  const bool whole = w.kernel == w.input && w.output[0] == 1 && w.output[1] == 1 &&
                     w.dilation[0] == 1 && w.dilation[1] == 1;
  return whole && (w.input[1] == 1 || xs[3] == p.x.shape[1]) &&
         (w.input[0] == 1 || xs[2] == w.input[1] * p.x.shape[1]);
}

std::optional<Rows> rows_of(const ConvProblem& p) {
  const Window w = p.window.expanded(2);
  const bool one_tap = w.taps() == 1;
  if (p.groups != 1 || p.pack || !is_unpadded(w) || p.x.strides[1] != 1) return std::nullopt;
  if (!one_tap && !covers_image(p, w)) return std::nullopt;
  Shape xs = expanded_strides(p.x, 2), ys = expanded_strides(p.y, 2);
  xs[2] *= w.stride[0];
  xs[3] *= w.stride[1];
  const LoopNest nest = collapse({p.x.shape[0], w.output[0], w.output[1]},
                                 {{xs[0], xs[2], xs[3]}, {ys[0], ys[2], ys[3]}});
  if (nest.rank() != 1 || nest.dims[0] > kMostRows) return std::nullopt;
  return Rows{nest.dims[0], w.taps() * p.x.shape[1], nest.strides[0][0], nest.strides[1][0]};
}

/// The weights as they lie are rows of vectors.
bool lies_in_rows(const ConvProblem& p, int64_t taps, int64_t width) {
  const TensorView& w = p.weight;
  return taps == 1 && !p.flattened && w.strides[1] == 1 && w.offset % width == 0 &&
         w.shape[1] % width == 0 && w.strides[0] % width == 0;
}

GemvShape shape_for(const Caps& caps, const Rows& rows, int64_t columns, int64_t width,
                    bool is_long) {
  // As measured on an H200: loads of 16 bytes in groups of 128 items, shorter ones in groups of
  // 256, and as many rows of weights a group as leave each compute unit 256 items.
  constexpr int64_t kFewItems = 32, kItemsPerUnit = 256;
  const bool long_loads = width > 4;
  const int64_t loads = long_loads ? 8 : 8 / std::max<int64_t>(1, rows.count / 4);
  GemvShape shape;
  const bool is_tall = rows.count > 4;  // whose sums fill local memory
  shape.items = rows.depth <= 2 * kFewItems * width ? kFewItems : long_loads || is_tall ? 128 : 256;
  shape.columns = long_loads && !is_tall && !is_long ? 8 : 4;
  const int64_t enough = kItemsPerUnit * static_cast<int64_t>(caps.compute_units) / shape.items;
  while (shape.columns > 1 && ceil_div(columns, shape.columns) < enough) shape.columns /= 2;
  shape.ahead = std::clamp<int64_t>(loads / shape.columns, 1, long_loads ? 4 : 2);
  const int64_t steps = ceil_div(rows.depth, shape.items * width);
  while (shape.ahead > 1 && shape.ahead >= 2 * steps) shape.ahead /= 2;
  return shape;
}

/// Rows of weights, `step` elements apart, or such a stream.
struct PackedRows {
  TensorView view;
  int64_t step = 0;
  bool is_stream = false;
};

TensorView packed_stream(LowerContext& ctx, const ConvProblem& p, int64_t depth, int64_t part,
                         int64_t columns) {
  const int64_t n = p.y.shape[1], parts = ceil_div(depth, part);
  const Shape shape{ceil_div(n, columns), parts, columns, part};
  const size_t input = p.weight_input;
  const auto reshape = p.reshape_weight;
  const auto make = [=](LowerContext& to, const TensorView& destination) {
    const TensorView whole = to.input(input);
    const TensorView source = with_spatial_rank(reshape ? reshape(whole) : whole, 2);
    KernelRequest request;
    request.name = "gemv_pack";
    request.types = {{"TX", source.dtype}, {"TY", destination.dtype}};
    request.constants["RN"] = columns;
    dispatch_linear(to, std::move(request), {source, destination},
                    {{"n", n},
                     {"channels", source.shape[1]},
                     {"k_h", source.shape[2]},
                     {"k_w", source.shape[3]},
                     {"part", part},
                     {"parts", parts},
                     {"xs", source.strides}},
                    destination.elements());
  };
  return ctx.prepacked(input, "gemv_pack:" + p.weight_key, p.weight.dtype, shape, make);
}

/// The weights as they lie where that will do; none where they cannot be reached. `is_long`: they
/// are read from memory, not from a cache, which streams serve best.
std::optional<PackedRows> weights_of(LowerContext& ctx, const ConvProblem& p, const Rows& rows,
                                     const GemvShape& shape, int64_t width, bool is_long) {
  const bool is_weight = ctx.is_weight(p.weight_input);
  const int64_t part = shape.items * width;
  const int64_t depth = ceil_div(rows.depth, part) * part;
  const int64_t most = ceil_div(p.y.shape[1], shape.columns) * shape.columns * depth;
  const auto reach = static_cast<int64_t>(ctx.caps().max_binding_bytes);
  if (most * dtype_size(p.weight.dtype) > reach || most > INT32_MAX) return std::nullopt;
  if (is_weight && is_long) {
    return PackedRows{packed_stream(ctx, p, rows.depth, part, shape.columns), depth, true};
  }
  if (lies_in_rows(p, p.window.taps(), width)) return PackedRows{p.weight, p.weight.strides[0]};
  if (!is_weight) return std::nullopt;
  // One column a block: rows of weights, their elements in the order of the image's.
  WeightPacking packing = packing_of(p, 1, 1);
  packing.row_multiple = 8;
  const TensorView packed = pack_weights(ctx, packing);
  return PackedRows{packed, packed.shape[1]};
}

}  // namespace

bool lower_gemv(LowerContext& ctx, const ConvProblem& p, const ConvChoice& choice) {
  const Caps& caps = ctx.caps();
  if (caps.is_cpu || !is_plain_float(p.x.dtype) || !is_plain_float(p.weight.dtype)) return false;
  const std::optional<Rows> rows = rows_of(p);
  if (!rows) return false;
  // In 16 bits matrix units multiply more rows in the time of reading the weights.
  constexpr int64_t kFewRows = 4;
  const bool short_floats = p.weight.dtype != DType::kFloat32;
  if (choice.algorithm.empty() && rows->count > kFewRows && short_floats &&
      mma_microseconds(ctx, p) != 0)
    return false;
  const int64_t width =
      std::min<int64_t>(caps.vector_width, p.weight.dtype == DType::kFloat32 ? 4 : 8);
  const int64_t columns = p.y.shape[1];
  int64_t tile = 1;
  while (tile < rows->count) tile *= 2;
  constexpr int64_t kLongBytes = 16 << 20;
  const bool is_long =
      choice.gemv || columns * rows->depth * dtype_size(p.weight.dtype) >= kLongBytes;
  const GemvShape shape =
      choice.gemv ? *choice.gemv : shape_for(caps, *rows, columns, width, is_long);
  const int64_t local = 4 * shape.items * (tile * shape.columns + 1);
  if (local > caps.local_memory_bytes || shape.items > caps.max_group_invocations) return false;
  const std::optional<PackedRows> weights = weights_of(ctx, p, *rows, shape, width, is_long);
  if (!weights) return false;
  const bool whole = rows->depth % width == 0 && p.x.offset % width == 0 &&
                     (rows->count == 1 || rows->x_step % width == 0);
  KernelRequest request = request_with_epilogue(ctx, "gemv");
  set_types(request, p, weights->view.dtype);
  request.constants.insert({{"VW", width},
                            {"WG", shape.items},
                            {"TM", tile},
                            {"RN", shape.columns},
                            {"AHEAD", shape.ahead},
                            {"WHOLE", whole ? 1 : 0},
                            {"STREAM", weights->is_stream ? 1 : 0}});
  const int64_t blocks = ceil_div(columns, shape.columns),
                total = blocks * ceil_div(rows->count, tile);
  ctx.dispatch(request, operands_of(ctx, p, weights->view),
               {{"m", rows->count},
                {"n", columns},
                {"k", rows->depth},
                {"blocks", blocks},
                {"total", total},
                {"x_row", rows->x_step},
                {"w_row", weights->step},
                {"y_row", rows->y_step},
                {"y_col", p.y.strides[1]}},
               ctx.linear_groups(total));
  return true;
}

}  // namespace dlk
