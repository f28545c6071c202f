// The gradient of a convolution's weights where each group has one input channel
// (kernels/conv_gradient.k): items hold the window's sums of neighbouring channels and share the
// lines of pixels in slices, which a second pass adds up.
#include <algorithm>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

constexpr int64_t kMostTaps = 49;

/// Output channels of an item: on CPU drivers a vector, where memory has them side by side.
int64_t width_of(const LowerContext& ctx, const WeightGradient& p) {
  int64_t width = ctx.caps().is_cpu && p.kg == 1 ? ctx.caps().vector_width : 1;
  while (width > 1 && !(vectors_along(p.x, 1, width) && vectors_along(p.dy, 1, width))) width /= 2;
  return width;
}

Shape planar_strides(const TensorView& view) {
  return {view.strides[0], view.strides[1], view.strides[3], view.strides[4]};
}

}  // namespace

void add_weight_sums(LowerContext& ctx, const WeightGradient& p, const TensorView& sums) {
  KernelRequest sum;
  sum.name = "conv_weight_sum";
  sum.types = {{"TW", p.dw.dtype}};
  dispatch_linear(ctx, std::move(sum), {sums, p.dw},
                  {{"slices", sums.shape[0]},
                   {"rows", p.rows},
                   {"cg", p.cg},
                   {"kg", p.kg},
                   {"k_h", p.window.kernel[1]},
                   {"k_w", p.window.kernel[2]},
                   {"ws", p.dw.strides}},
                  p.dw.elements());
}

bool lower_weight_gradient_depthwise(LowerContext& ctx, const WeightGradient& p) {
  const Caps& caps = ctx.caps();
  const Window& w = p.window;
  const bool is_planar =
      w.kernel[0] == 1 && w.input[0] == 1 && w.output[0] == 1 && w.pad_begin[0] == 0;
  if (p.cg != 1 || p.groups == 1 || !is_planar || w.taps() > kMostTaps) return false;
  const int64_t width = width_of(ctx, p), blocks = p.groups * p.kg / width;
  // Few channels that are no vector leave a CPU's lanes empty: the kernel for tiles fills them.
  if (caps.is_cpu && width == 1 && caps.vector_width > 1) return false;
  const int64_t lines = p.dy.shape[0] * w.output[1];
  const int64_t wanted = caps.compute_units * (caps.is_cpu ? 4 : 1024);
  constexpr int64_t kMostSlices = 512;
  int64_t slices = std::clamp<int64_t>(ceil_div(wanted, blocks), 1, std::min(kMostSlices, lines));
  const int64_t depth = ceil_div(lines, slices);
  slices = ceil_div(lines, depth);
  const TensorView sums = ctx.workspace(DType::kFloat32, {slices, p.groups, p.rows, p.kg});
  require_32bit(ctx, sums);
  const int64_t group = caps.is_cpu ? 1 : kLinearGroup, total = slices * blocks;
  KernelRequest request;
  request.name = "conv_weight_depthwise";
  request.types = {{"TX", p.x.dtype}, {"TD", p.dy.dtype}};
  request.constants = {{"VW", width}, {"WG", group}, {"KH", w.kernel[1]}, {"KW", w.kernel[2]}};
  ctx.dispatch(request, {p.x, p.dy, sums},
               {{"total", total},
                {"blocks", blocks},
                {"groups", p.groups},
                {"kg", p.kg},
                {"lines", lines},
                {"depth", depth},
                {"xs", planar_strides(p.x)},
                {"ds", planar_strides(p.dy)},
                {"in_h", w.input[1]},
                {"in_w", w.input[2]},
                {"out_h", w.output[1]},
                {"out_w", w.output[2]},
                {"stride_h", w.stride[1]},
                {"stride_w", w.stride[2]},
                {"dil_h", w.dilation[1]},
                {"dil_w", w.dilation[2]},
                {"pad_h", w.pad_begin[1]},
                {"pad_w", w.pad_begin[2]}},
               ctx.linear_groups(ceil_div(total, group)));
  if (caps.is_cpu) {
    add_weight_sums(ctx, p, sums);
  } else {
    fold_weight_sums(ctx, p, sums, 1);
  }
  return true;
}

}  // namespace dlk
