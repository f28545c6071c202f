// Convolutions of 8-bit integers on gang tiles (kernels/integer_conv_tile.k): images become int8
// with channels innermost, unless they are that already, filters rows along the depth, once.
#include <algorithm>

#include "core/kernel/matrix_units.h"
#include "core/ops/conv_parts.h"
#include "core/ops/integer_product.h"

namespace dlk {

namespace {

constexpr int64_t kChunk = 16;

int64_t offset_of(DType dtype) { return dtype == DType::kUInt8 ? 128 : 0; }

/// What both sides become, and what is made up for after the product.
struct Form {
  int64_t stored;       // channels of a group
  bool x_zero, w_zero;  // something is taken off
  int64_t depth(const Window& w) const { return w.taps() * stored; }
};

// Nothing is taken off a side whose zero points are known to be what was taken off already.
bool takes_nothing_off(const LowerContext& ctx, std::optional<size_t> zero, DType dtype) {
  if (!zero) return offset_of(dtype) == 0;
  const std::optional<HostTensor> known = ctx.constant(*zero);
  return known && std::ranges::all_of(known->to_ints(),
                                      [&](int64_t value) { return value == offset_of(dtype); });
}

bool has_padding(const Window& w) {
  const auto some = [](int64_t pad) { return pad != 0; };
  return std::ranges::any_of(w.pad_begin, some) || std::ranges::any_of(w.pad_end, some);
}

// The image can be copied into tiles as it stands in memory.
bool is_usable(const IntegerConv& p, const Form& form, const Window& w) {
  return p.x.dtype == DType::kInt8 && p.x.shape[1] == p.groups * form.stored &&
         vectors_along(p.x, 1, kChunk) && !(form.x_zero && has_padding(w));
}

/// The image as (N, groups * stored, H, W) with channels innermost and its padding around it, as
/// far as the window reaches; `w` loses the padding.
TensorView packed_image(LowerContext& ctx, const IntegerConv& p, const Form& form, Window& w) {
  const TensorView image = with_spatial_rank(p.x, 2);
  Shape reach(2);
  for (size_t i = 0; i < 2; ++i) {
    reach[i] = (w.output[i] - 1) * w.stride[i] + (w.kernel[i] - 1) * w.dilation[i] + 1;
  }
  const int64_t all = p.groups * form.stored, batch = image.shape[0];
  const TensorView words = ctx.workspace(DType::kUInt32, {batch, reach[0], reach[1], all / 4});
  KernelRequest request;
  request.name = "integer_image";
  request.types["TX"] = image.dtype;
  request.constants["POINTS"] = p.x_zero ? 1 : 0;
  std::vector<TensorView> views{image};
  if (p.x_zero) views.push_back(ctx.input(*p.x_zero));
  views.push_back(words);
  dispatch_linear(ctx, std::move(request), views,
                  {{"cg", p.weight.shape[1]},
                   {"stored", form.stored},
                   {"all_stored", all},
                   {"height", reach[0]},
                   {"width", reach[1]},
                   {"in_h", w.input[0]},
                   {"in_w", w.input[1]},
                   {"pad_h", w.pad_begin[0]},
                   {"pad_w", w.pad_begin[1]},
                   {"xs", image.strides},
                   {"offset", offset_of(image.dtype)}},
                  words.elements());
  w.input = reach;
  w.pad_begin = w.pad_end = {0, 0};
  TensorView result = words;
  result.dtype = DType::kInt8;
  result.shape = {batch, all, reach[0], reach[1]};
  result.strides = {reach[0] * reach[1] * all, 1, reach[1] * all, all};
  return result;
}

struct Filters {
  TensorView rows, sums;
};

Filters packed_filters(LowerContext& ctx, const IntegerConv& p, const Form& form, const Window& w) {
  const int64_t depth = form.depth(w), channels = p.weight.shape[0];
  const Shape shape{channels, depth}, sums{channels};
  const auto pack = [=, input = p.w_input](LowerContext& to, const TensorView& rows,
                                           const TensorView& totals) {
    const TensorView source = with_spatial_rank(to.input(input), 2);
    KernelRequest request;
    request.name = "integer_filters";
    request.types = {{"TW", source.dtype}};
    to.dispatch(request, {source, rows, totals},
                {{"total", channels},
                 {"cg", source.shape[1]},
                 {"stored", form.stored},
                 {"depth", depth},
                 {"k_w", source.shape[3]},
                 {"ws", source.strides},
                 {"offset", offset_of(source.dtype)}},
                to.linear_groups(channels));
  };
  Filters filters;
  filters.rows = ctx.prepacked(p.w_input, "integer filters", DType::kInt8, shape,
                               [=](LowerContext& to, const TensorView& destination) {
                                 pack(to, destination, to.workspace(DType::kInt32, sums));
                               });
  if (!form.x_zero) return filters;
  filters.sums = ctx.prepacked(p.w_input, "integer filter sums", DType::kInt32, sums,
                               [=](LowerContext& to, const TensorView& destination) {
                                 pack(to, to.workspace(DType::kInt8, shape), destination);
                               });
  return filters;
}

TensorView window_sums(LowerContext& ctx, const IntegerConv& p, const TensorView& image,
                       const Form& form, const Window& w) {
  const int64_t pixels = p.y.shape[0] * w.output[0] * w.output[1];
  const TensorView sums = ctx.workspace(DType::kInt32, {pixels, p.groups});
  KernelRequest request;
  request.name = "integer_window_sums";
  Params params{{"groups", p.groups}, {"cg", form.stored}, {"xs", expanded_strides(image, 2)}};
  add_window_params(params, w);
  dispatch_linear(ctx, std::move(request), {image, sums}, std::move(params), sums.elements());
  return sums;
}

// Groups of few channels are mostly padding.
bool is_for_tiles(const IntegerConv& p) {
  constexpr int64_t kLeastChannels = 8;
  return p.window.rank() <= 2 &&
         (p.groups == 1 ||
          (p.weight.shape[1] >= kLeastChannels && p.weight.shape[0] / p.groups >= kLeastChannels));
}

}  // namespace

bool lower_integer_conv_tiles(LowerContext& ctx, const IntegerConv& p) {
  MatrixUnits* units = ctx.matrix_units();
  if (units == nullptr || !is_for_tiles(p)) return false;
  const int64_t kg = p.weight.shape[0] / p.groups;
  Window w = p.window.expanded(2);
  const int64_t pixels = p.y.shape[0] * w.output[0] * w.output[1];
  const std::optional<MatrixTile> tile = integer_tile_for(
      *units, MatrixUse::kByteImages, {pixels, kg, p.groups, ctx.caps().compute_units});
  if (!tile) return false;
  const Form form{ceil_div(p.weight.shape[1], kChunk) * kChunk,
                  !takes_nothing_off(ctx, p.x_zero, p.x.dtype),
                  !takes_nothing_off(ctx, p.w_zero, p.weight.dtype)};
  const int64_t depth = w.taps() * p.weight.shape[1];
  const TensorView image = is_usable(p, form, w) ? p.x : packed_image(ctx, p, form, w);
  const Filters filters = packed_filters(ctx, p, form, w);
  for (const TensorView* view : {&image, &filters.rows, &p.y}) require_32bit(ctx, *view);

  KernelRequest request;
  request.name = "integer_conv_tile";
  request.types = {{"TX", p.x.dtype}, {"TW", p.weight.dtype}, {"TY", p.y.dtype}};
  tile->set_constants(request, units->lowering());
  set_half_sums(ctx, request, false);
  const TensorView y = with_spatial_rank(p.y, 2);
  const bool is_image = w.output[0] * w.output[1] > 1;
  const bool is_even = is_image && pixel_step(y) == y.strides[3];
  const bool x_points = form.x_zero && p.x_zero, w_points = form.w_zero && p.w_zero;
  for (const auto& [name, value] : {std::pair{"X_ZERO", form.x_zero},
                                    {"W_ZERO", form.w_zero},
                                    {"X_POINTS", x_points},
                                    {"W_POINTS", w_points},
                                    {"HAS_BIAS", p.bias.has_value()},
                                    {"SCALED", p.scaled},
                                    {"EVEN_Y", is_even}}) {
    request.constants[name] = value ? 1 : 0;
  }
  const auto dense = [&](size_t input) { return ctx.contiguous(ctx.input(input)); };
  std::vector<TensorView> views{image, filters.rows};
  if (form.w_zero) views.push_back(window_sums(ctx, p, image, form, w));
  if (form.x_zero) views.push_back(filters.sums);
  if (x_points) views.push_back(ctx.input(*p.x_zero));
  if (w_points) views.push_back(dense(*p.w_zero));
  if (p.bias) views.push_back(dense(*p.bias));
  if (p.scaled) views.insert(views.end(), {ctx.input(1), dense(4), ctx.input(6), ctx.input(7)});
  views.push_back(p.y);
  const auto step = [&](size_t input) { return ctx.input(input).elements() > 1 ? 1 : 0; };
  const bool is_signed = p.y.dtype == DType::kInt8;
  const int64_t total = ceil_div(pixels, tile->bm) * ceil_div(kg, tile->bn) * p.groups;
  Params params{{"total", total},
                {"pixels", pixels},
                {"groups", p.groups},
                {"cg", form.stored},
                {"kg", kg},
                {"depth", depth},
                {"zero_step", p.w_zero ? step(*p.w_zero) : 0},
                {"scale_step", p.scaled ? step(4) : 0},
                {"xs", expanded_strides(image, 2)},
                {"ys", expanded_strides(p.y, 2)},
                {"low", is_signed ? -128 : 0},
                {"high", is_signed ? 127 : 255},
                {"x_offset", offset_of(p.x.dtype)},
                {"w_offset", offset_of(p.weight.dtype)}};
  add_window_params(params, w);
  ctx.dispatch(request, views, std::move(params), ctx.linear_groups(total));
  return true;
}

}  // namespace dlk
