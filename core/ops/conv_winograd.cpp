// Convolution by Winograd's minimal filtering (kernels/winograd.k): two transforms around A * A
// matrix products with fewer multiplications than the window has.
//
// On GPUs the products are one convolution with a window of 1 and A * A groups, whose channels are
// those of the transformed tiles: it gets the tiles of conv_gemm, or of the matrix units.
#include <algorithm>

#include "core/ops/conv_parts.h"
#include "core/ops/forwarding.h"

namespace dlk {

namespace {

const ConvChoice kWhole{.algorithm = "", .tile = {}, .slices = 1};  // of the products

struct Tiling {
  int64_t m = 0, a = 0;  // results and inputs along a side of a tile
  int64_t high = 0, wide = 0;
  int64_t image = 0, count = 0;  // tiles of one image, and of all

  int64_t squares() const { return a * a; }
  int64_t window() const { return a - m + 1; }
};

Tiling tiling_of(const Window& w, int64_t batch, int64_t m) {
  Tiling t{m, m + w.kernel[0] - 1, ceil_div(w.output[0], m), ceil_div(w.output[1], m), 0, 0};
  t.image = t.high * t.wide;
  t.count = batch * t.image;
  return t;
}

// Channels of an item. On GPUs, which hide waiting behind many items, fewer where items are few;
// a tile of 36 vectors of 4 would not stay in registers.
int64_t width_of(const LowerContext& ctx, const TensorView& view, const Tiling& t) {
  constexpr int64_t kManyItems = 1 << 17;
  int64_t width = ctx.caps().vector_width;
  if (!ctx.caps().is_cpu) {
    width = t.a == 4 ? 4 : 2;
    while (width > 1 && t.image * view.shape[1] / width < kManyItems) width /= 2;
  }
  while (width > 1 && !vectors_along(view, 1, width)) width /= 2;
  return width;
}

/// Transformed filters: `rows` for the channels of a block of `columns` filters.
struct FilterLayout {
  int64_t rows = 0, columns = 0, blocks = 1;
  DType dtype = DType::kFloat32;
};

TensorView transformed_filters(LowerContext& ctx, const ConvProblem& p, const Tiling& t,
                               const FilterLayout& layout) {
  const auto make = [layout, m = t.m, window = t.window(), input = p.weight_input,
                     reshape = p.reshape_weight](LowerContext& to, const TensorView& destination) {
    const TensorView filters = reshape ? reshape(to.input(input)) : to.input(input);
    KernelRequest request;
    request.name = "winograd_filter";
    request.types = {{"TX", filters.dtype}, {"TU", destination.dtype}};
    request.constants["M"] = m;
    request.constants["R"] = window;
    dispatch_linear(to, std::move(request), {filters, destination},
                    {{"filters", filters.shape[0]},
                     {"channels", filters.shape[1]},
                     {"rows", layout.rows},
                     {"columns", layout.columns},
                     {"xs", filters.strides}},
                    layout.blocks * layout.rows * layout.columns);
  };
  std::string key = p.weight_key + ":winograd";
  for (const int64_t part : {t.m, t.a, layout.rows, layout.columns})
    key += ":" + std::to_string(part);
  return ctx.prepacked(p.weight_input, key + std::string(dtype_name(layout.dtype)), layout.dtype,
                       {t.squares() * layout.blocks, layout.rows, layout.columns}, make);
}

// products[i] = images[i] * filters[i], all of them dense: for CPU drivers.
void multiply_dense(LowerContext& ctx, const TensorView& images, const TensorView& filters,
                    const TensorView& products) {
  const int64_t batches = images.shape[0], m = images.shape[1], k = images.shape[2];
  const int64_t n = filters.shape[2];
  const int64_t width = ctx.caps().vector_width;
  const int64_t rows = 8, columns = width * (width >= 16 ? 1 : 2);
  KernelRequest request;
  request.name = "gemm_simple";
  const int64_t whole = n % width == 0 ? 1 : 0;
  request.constants = {{"VW", width},
                       {"B_VECTORS", whole},
                       {"C_VECTORS", whole},
                       {"TM", rows},
                       {"NV", columns / width}};
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

// Images and products [tile][square][channel] as pixels with squares * channels channels.
TensorView as_pixels(const TensorView& view, const Tiling& t) {
  const int64_t channels = view.shape[1] * view.shape[2], batch = view.shape[0] / t.image;
  TensorView pixels = view;
  pixels.shape = {batch, channels, 1, t.image};
  pixels.strides = {t.image * channels, 1, t.image * channels, channels};
  return pixels;
}

// The products as a convolution with a window of 1 and a group for each square.
ConvProblem as_groups(const ConvProblem& p, const Tiling& t, const TensorView& x,
                      const TensorView& y, DType dtype) {
  const ConvSizes s = sizes_of(p);
  ConvProblem q;
  q.x = x;
  q.y = y;
  q.weight_input = p.weight_input;
  q.weight = p.weight;
  q.weight.dtype = dtype;
  q.groups = t.squares();
  q.window.input = q.window.output = {1, x.shape[3]};
  q.window.kernel = q.window.stride = q.window.dilation = {1, 1};
  q.window.pad_begin = q.window.pad_end = {0, 0};
  q.pack = [&p, &t, s, dtype](LowerContext& to, const WeightPacking& packing) {
    const FilterLayout layout{ceil_div(s.channels_in, packing.row_multiple) * packing.row_multiple,
                              packing.bn, ceil_div(s.channels_out, packing.bn), dtype};
    return transformed_filters(to, p, t, layout);
  };
  return q;
}

void multiply_groups(LowerContext& ctx, const ConvProblem& p, const Tiling& t,
                     const TensorView& images, const TensorView& products) {
  const ConvProblem q = as_groups(p, t, as_pixels(images, t), as_pixels(products, t), images.dtype);
  BareContext bare(ctx);
  if (lower_conv_mma(bare, q, kWhole)) return;
  lower_conv_gemm(bare, q, false);
}

// Images and products [square][tile][channel] as pixels of one image; squares are groups.
TensorView as_tiles(const TensorView& view) {
  const int64_t squares = view.shape[0], tiles = view.shape[1], channels = view.shape[2];
  TensorView pixels = view;
  pixels.shape = {1, squares * channels, 1, tiles};
  pixels.strides = {tiles * channels, 1, tiles * channels, channels};
  return pixels;
}

bool multiply_panels(LowerContext& ctx, const ConvProblem& p, const Tiling& t,
                     const TensorView& images, const TensorView& products) {
  const ConvProblem q = as_groups(p, t, as_tiles(images), as_tiles(products), images.dtype);
  BareContext bare(ctx);
  return lower_conv_panel(
      bare, q, {images.shape[1] * images.shape[2], products.shape[1] * products.shape[2]});
}

/// Elements from tile to tile and from square to square.
struct Steps {
  int64_t tile = 0, square = 0;
};

void transform_images(LowerContext& ctx, const ConvProblem& p, const Tiling& t, const Steps& steps,
                      const TensorView& images) {
  const Window& w = p.window;
  const int64_t width = width_of(ctx, p.x, t);
  KernelRequest request;
  request.name = "winograd_input";
  request.types = {{"TX", p.x.dtype}, {"TV", images.dtype}};
  request.constants = {{"VW", width}, {"M", t.m}, {"R", t.window()}};
  dispatch_linear(ctx, std::move(request), {p.x, images},
                  {{"channels", p.x.shape[1]},
                   {"tile_step", steps.tile},
                   {"square_step", steps.square},
                   {"tiles_h", t.high},
                   {"tiles_w", t.wide},
                   {"in_h", w.input[0]},
                   {"in_w", w.input[1]},
                   {"pad_h", w.pad_begin[0]},
                   {"pad_w", w.pad_begin[1]},
                   {"xs", expanded_strides(p.x, 2)}},
                  t.count * (p.x.shape[1] / width));
}

void transform_products(LowerContext& ctx, const ConvProblem& p, const Tiling& t,
                        const Steps& steps, const TensorView& products) {
  const Window& w = p.window;
  const int64_t channels = p.y.shape[1], width = width_of(ctx, p.y, t);
  KernelRequest request = request_with_epilogue(ctx, "winograd_output");
  request.types = {{"TP", products.dtype}, {"TY", p.y.dtype}};
  request.constants = {{"VW", width}, {"M", t.m}, {"R", t.window()}};
  std::vector<TensorView> views = ending_of(ctx, request, p, products);
  dispatch_linear(ctx, std::move(request), std::move(views),
                  {{"channels", channels},
                   {"tile_step", steps.tile},
                   {"square_step", steps.square},
                   {"tiles_h", t.high},
                   {"tiles_w", t.wide},
                   {"out_h", w.output[0]},
                   {"out_w", w.output[1]},
                   {"ys", expanded_strides(p.y, 2)}},
                  t.count * (channels / width));
}

void lower_for_cpu(LowerContext& ctx, const ConvProblem& p, const Tiling& t) {
  const ConvSizes s = sizes_of(p);
  const TensorView images = ctx.workspace(DType::kFloat32, {t.squares(), t.count, s.channels_in});
  const TensorView products =
      ctx.workspace(DType::kFloat32, {t.squares(), t.count, s.channels_out});
  transform_images(ctx, p, t, {s.channels_in, t.count * s.channels_in}, images);
  if (!multiply_panels(ctx, p, t, images, products)) {
    const TensorView filters =
        transformed_filters(ctx, p, t, {s.channels_in, s.channels_out, 1, DType::kFloat32});
    multiply_dense(ctx, images, filters, products);
  }
  transform_products(ctx, p, t, {s.channels_out, t.count * s.channels_out}, products);
}

// The operands of matrix units are float16.
DType operand_type(const LowerContext& ctx, const ConvProblem& p) {
  const bool halves = p.x.dtype == DType::kFloat16 && p.weight.dtype == DType::kFloat16 &&
                      ctx.matrix_units() != nullptr && !ctx.accumulate_fp16() &&
                      p.x.shape[1] % 8 == 0;
  return halves ? DType::kFloat16 : DType::kFloat32;
}

void lower_for_gpu(LowerContext& ctx, const ConvProblem& p, const Tiling& t, int64_t images) {
  const ConvSizes s = sizes_of(p);
  const TensorView transformed =
      ctx.workspace(operand_type(ctx, p), {images * t.image, t.squares(), s.channels_in});
  const TensorView products =
      ctx.workspace(DType::kFloat32, {images * t.image, t.squares(), s.channels_out});
  lower_in_parts(ctx, p, images, [&](LowerContext& to, const ConvProblem& part) {
    const Tiling own = tiling_of(part.window, part.x.shape[0], t.m);
    const TensorView from = slice_view(transformed, 0, 0, own.count);
    const TensorView into = slice_view(products, 0, 0, own.count);
    transform_images(to, part, own, {t.squares() * s.channels_in, s.channels_in}, from);
    multiply_groups(to, part, own, from, into);
    transform_products(to, part, own, {t.squares() * s.channels_out, s.channels_out}, into);
  });
}

// Windows of 3, and for tiles of 2 of 5.
bool is_winograd(const ConvProblem& p, int64_t m) {
  const Window& w = p.window;
  if (w.rank() != 2 || p.groups != 1) return false;
  const int64_t side = w.kernel[0] == 5 && m == 2 ? 5 : 3;
  for (size_t i = 0; i < 2; ++i) {
    if (w.kernel[i] != side || w.stride[i] != 1 || w.dilation[i] != 1) return false;
  }
  return true;
}

}  // namespace

double winograd_microseconds(const LowerContext& ctx, const ConvProblem& p, int64_t m) {
  if (!is_winograd(p, m)) return 0;
  constexpr double kTransform = 3.75, kBytesPerUs = 3.3e6, kFilterBytesPerUs = 3.0e6;
  constexpr int64_t kLargeImage = 2048, kColumns = 64;  // of conv_gemm
  const ConvSizes s = sizes_of(p);
  const Tiling t = tiling_of(p.window, s.batch, m);
  const double share = share_of_h200(ctx.caps());
  const auto transform = [&](const TensorView& view, int64_t channels) {
    const int64_t bytes = view.elements() * dtype_size(view.dtype);
    const int64_t moved = bytes + 4 * t.count * t.squares() * channels;
    return kTransform + static_cast<double>(moved) / (kBytesPerUs * share);
  };
  const int64_t rows = t.image >= kLargeImage ? 128 : 64;
  const int64_t groups = t.squares() * ceil_div(t.count, rows) * ceil_div(s.channels_out, kColumns);
  const auto filters = static_cast<double>(4 * t.squares() * s.channels_in * s.channels_out);
  double product = tiles_microseconds(ctx.caps(), groups, rows, s.channels_in);
  const DType operands = operand_type(ctx, p);
  const auto of_tiles = [&](int64_t channels, DType dtype) {
    TensorView view = p.x;
    view.dtype = dtype;
    view.shape = {t.count, t.squares(), channels};
    return as_pixels(view, t);
  };
  const ConvProblem q = as_groups(p, t, of_tiles(s.channels_in, operands),
                                  of_tiles(s.channels_out, DType::kFloat32), operands);
  if (const double units = mma_microseconds(ctx, q, kWhole); units != 0) product = units;
  return transform(p.x, s.channels_in) + transform(p.y, s.channels_out) +
         std::max(product, kTransform + filters / (kFilterBytesPerUs * share));
}

bool lower_conv_winograd(LowerContext& ctx, const ConvProblem& p, int64_t m) {
  if (!is_winograd(p, m)) return false;
  const Window& w = p.window;
  const ConvSizes s = sizes_of(p);
  const Tiling t = tiling_of(w, s.batch, m);
  const auto reach =
      std::min<int64_t>(static_cast<int64_t>(ctx.caps().max_binding_bytes) / 4, INT32_MAX) /
      t.squares();
  constexpr int64_t kMostGroups = 65535;
  if (ctx.caps().is_cpu) {
    const int64_t most = std::max(
        {t.count * s.channels_in, t.count * s.channels_out, s.channels_in * s.channels_out});
    if (most > reach || t.count > kMostGroups * 8) return false;
    lower_for_cpu(ctx, p, t);
    return true;
  }
  // Filters are padded to whole tiles. Images go in parts that leave memory for the rest.
  constexpr int64_t kRows = 128, kColumns = 192, kMostElements = 1 << 27;
  const int64_t padded =
      ceil_div(s.channels_in, kRows) * kRows * (ceil_div(s.channels_out, kColumns) * kColumns);
  const int64_t an_image = t.image * std::max(s.channels_in, s.channels_out);
  const int64_t images = std::min(reach, kMostElements / t.squares()) / an_image;
  const bool whole = images >= s.batch;
  const auto is_batch = [&](const TensorView& view) { return view.shape[0] == s.batch; };
  if (padded > reach || images < 1) return false;
  if (!whole && !(is_batch(ctx.input(0)) && is_batch(ctx.output(0)))) return false;
  const int64_t parts = ceil_div(s.batch, images);
  lower_for_gpu(ctx, p, t, ceil_div(s.batch, parts));
  return true;
}

}  // namespace dlk
