// Convolution by Winograd's minimal filtering (kernels/winograd.k): two transforms around A * A
// matrix products with fewer multiplications than the window has.
#include <algorithm>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

struct Tiling {
  int64_t m = 0, a = 0;  // results and inputs along a side of a tile
  int64_t high = 0, wide = 0, count = 0;
};

Tiling tiling_of(const Window& w, int64_t batch, int64_t m) {
  Tiling t{m, m + 2, ceil_div(w.output[0], m), ceil_div(w.output[1], m), 0};
  t.count = batch * t.high * t.wide;
  return t;
}

int64_t common_width(const LowerContext& ctx, const TensorView& view) {
  int64_t width = ctx.caps().vector_width;
  while (width > 1 && !vectors_along(view, 1, width)) width /= 2;
  return width;
}

TensorView transformed_filters(LowerContext& ctx, const ConvProblem& p, const Tiling& t) {
  const ConvSizes s = sizes_of(p);
  const auto make = [&, m = t.m](LowerContext& to, const TensorView& destination) {
    const TensorView filters =
        p.reshape_weight ? p.reshape_weight(to.input(p.weight_input)) : to.input(p.weight_input);
    KernelRequest request;
    request.name = "winograd_filter";
    request.types["TX"] = filters.dtype;
    request.constants["M"] = m;
    dispatch_linear(to, std::move(request), {filters, destination},
                    {{"channels", filters.shape[0]}, {"xs", filters.strides}},
                    filters.shape[0] * filters.shape[1]);
  };
  return ctx.prepacked(p.weight_input, p.weight_key + ":winograd:" + std::to_string(t.m),
                       DType::kFloat32, {t.a * t.a, s.channels_in, s.channels_out}, make);
}

// products[i] = images[i] * filters[i], all of them dense.
void multiply(LowerContext& ctx, const TensorView& images, const TensorView& filters,
              const TensorView& products) {
  const int64_t batches = images.shape[0], m = images.shape[1], k = images.shape[2];
  const int64_t n = filters.shape[2];
  const bool is_cpu = ctx.caps().is_cpu;
  const int64_t width = is_cpu ? ctx.caps().vector_width : 4;
  const int64_t rows = is_cpu ? 8 : 64, columns = is_cpu ? width * (width >= 16 ? 1 : 2) : 64;
  KernelRequest request;
  request.name = is_cpu ? "gemm_simple" : "gemm_tile";
  request.constants = {{"VW", width}, {"B_VECTORS", n % width == 0 ? 1 : 0}};
  if (is_cpu) {
    request.constants["TM"] = rows;
    request.constants["NV"] = columns / width;
    request.constants["C_VECTORS"] = n % width == 0 ? 1 : 0;
  } else {
    request.constants["A_VECTORS"] = k % width == 0 ? 1 : 0;
    request.constants["STAGES"] = 2;
  }
  ctx.dispatch(request, {images, filters, products},
               {{"m", m},
                {"n", n},
                {"k", k},
                {"a_row", k},
                {"a_col", 1},
                {"a_batch", m * k},
                {"b_row", n},
                {"b_col", 1},
                {"b_batch", k * n},
                {"c_row", n},
                {"c_col", 1},
                {"c_batch", m * n},
                {"alpha", 1.0}},
               {ceil_div(n, columns), ceil_div(m, rows), batches});
}

void transform_images(LowerContext& ctx, const ConvProblem& p, const Window& w, const Tiling& t,
                      const TensorView& images) {
  const int64_t width = common_width(ctx, p.x);
  KernelRequest request;
  request.name = "winograd_input";
  request.types["TX"] = p.x.dtype;
  request.constants = {{"VW", width}, {"M", t.m}};
  dispatch_linear(ctx, std::move(request), {p.x, images},
                  {{"channels", p.x.shape[1]},
                   {"tiles", t.count},
                   {"tiles_h", t.high},
                   {"tiles_w", t.wide},
                   {"in_h", w.input[0]},
                   {"in_w", w.input[1]},
                   {"pad_h", w.pad_begin[0]},
                   {"pad_w", w.pad_begin[1]},
                   {"xs", expanded_strides(p.x, 2)}},
                  t.count * (p.x.shape[1] / width));
}

void transform_products(LowerContext& ctx, const ConvProblem& p, const Window& w, const Tiling& t,
                        const TensorView& products) {
  const int64_t channels = p.y.shape[1], width = common_width(ctx, p.y);
  KernelRequest request = request_with_epilogue(ctx, "winograd_output");
  request.types["TY"] = p.y.dtype;
  request.constants = {{"VW", width}, {"M", t.m}, {"HAS_BIAS", p.bias ? 1 : 0}};
  std::vector<TensorView> views{products};
  if (p.bias) {
    request.types["TB"] = p.bias->dtype;
    views.push_back(*p.bias);
  }
  views.push_back(p.y);
  dispatch_linear(ctx, std::move(request), with_epilogue_views(ctx, std::move(views)),
                  {{"channels", channels},
                   {"tiles", t.count},
                   {"tiles_h", t.high},
                   {"tiles_w", t.wide},
                   {"out_h", w.output[0]},
                   {"out_w", w.output[1]},
                   {"ys", expanded_strides(p.y, 2)}},
                  t.count * (channels / width));
}

}  // namespace

bool lower_conv_winograd(LowerContext& ctx, const ConvProblem& p, int64_t m) {
  if (p.window.rank() != 2 || p.groups != 1) return false;
  const Window& w = p.window;
  for (size_t i = 0; i < 2; ++i) {
    if (w.kernel[i] != 3 || w.stride[i] != 1 || w.dilation[i] != 1) return false;
  }
  const ConvSizes s = sizes_of(p);
  const Tiling t = tiling_of(w, s.batch, m);
  const int64_t squares = t.a * t.a;
  const auto reach = static_cast<int64_t>(ctx.caps().max_binding_bytes) / 4;
  const int64_t most =
      std::max({t.count * s.channels_in, t.count * s.channels_out, s.channels_in * s.channels_out});
  constexpr int64_t kMostGroups = 65535;
  if (most * squares > std::min<int64_t>(reach, INT32_MAX) || t.count > kMostGroups * 8) {
    return false;
  }
  const TensorView filters = transformed_filters(ctx, p, t);
  const TensorView images = ctx.workspace(DType::kFloat32, {squares, t.count, s.channels_in});
  const TensorView products = ctx.workspace(DType::kFloat32, {squares, t.count, s.channels_out});
  transform_images(ctx, p, w, t, images);
  multiply(ctx, images, filters, products);
  transform_products(ctx, p, w, t, products);
  return true;
}

}  // namespace dlk
