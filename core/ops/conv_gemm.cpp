// Convolution as an implicit matrix product on gang tiles (kernels/conv_gemm.k).
//
// Which variant runs follows from one image's shape, never from the batch, so that a new batch size
// needs no new pipeline. Layers with few tiles an image share the depth of each tile among `slices`
// groups; how many depends on the whole problem and the device.
#include <algorithm>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

constexpr int64_t kColumns = 64, kWideColumns = 96, kDepth = 16, kWidth = 4;

// Columns of a tile: of networks in training, whose pipelines need not serve other widths, those
// that leave the fewest of a group's channels' places empty.
int64_t columns_for(int64_t channels, bool is_training) {
  const auto stored = [&](int64_t columns) { return ceil_div(channels, columns) * columns; };
  return is_training && stored(kWideColumns) < stored(kColumns) ? kWideColumns : kColumns;
}

// Vectors of channels can be loaded: channels innermost, and every group starts aligned.
bool has_channel_vectors(const TensorView& x, int64_t cg) {
  return vectors_along(x, 1, kWidth) && cg % kWidth == 0;
}

struct GemmPlan {
  int64_t rows;  // of a tile
  bool split;
  int64_t slices = 1, depth = 0;
  int64_t tm = 0, tn = 0;  // of an item; 0: the lowering's choice
};

GemmPlan plan_of(const Caps& caps, const ConvSizes& s, int64_t pixels, int64_t blocks,
                 bool is_training) {
  constexpr int64_t kFewTiles = 128, kLeastSteps = 4, kMostSlices = 16, kLargeImage = 2048;
  const int64_t steps = ceil_div(s.taps * s.cg, kDepth);
  const int64_t an_image = pixels / s.batch;
  GemmPlan plan{an_image >= kLargeImage ? 128 : 64, false};
  const int64_t tiles = ceil_div(pixels, plan.rows) * blocks;
  const bool is_product = an_image == 1;
  // A product of a few rows only streams its weights: more groups keep more loads under way.
  const int64_t enough = (is_product ? 8 : 3) * static_cast<int64_t>(caps.compute_units);
  // One of thousands of rows is no classifier at some batch size: sums would only cost memory.
  const bool is_large_product = is_product && tiles >= 2 * enough;
  plan.split = ceil_div(an_image, plan.rows) * blocks < kFewTiles && steps >= 3 * kLeastSteps &&
               !is_large_product;
  if (!plan.split) return plan;
  const int64_t wanted = ceil_div(enough, tiles);
  plan.slices = std::clamp<int64_t>(wanted, 1, std::min(kMostSlices, steps / kLeastSteps));
  plan.depth = ceil_div(steps, plan.slices);
  plan.slices = ceil_div(steps, plan.depth);
  // Training has one batch size, so that a variant for it costs one pipeline.
  if (is_training && plan.slices == 1) plan.split = false;
  return plan;
}

// What training, which needs no variants for other batch sizes, gains by: few items with large
// parts of the tile each, where the compiler keeps them in registers (measured on an H200: NVIDIA's
// OpenCL does, its Vulkan does not), and all columns of a tile in use.
void fit_to_training(const Caps& caps, int64_t pixels, int64_t blocks, bool is_wide,
                     GemmPlan& plan) {
  constexpr int64_t kRows = 128, kPart = 8, kGroupsPerUnit = 2;
  const int64_t tiles = ceil_div(pixels, kRows) * blocks;
  if (caps.inline_ptx && !plan.split && tiles >= kGroupsPerUnit * caps.compute_units) {
    plan.rows = kRows;
    plan.tm = plan.tn = kPart;
  } else if (is_wide) {
    plan.tm = plan.rows / 16;
    plan.tn = kPart;
  }
}

}  // namespace

std::optional<std::vector<TensorView>> shared_sums(LowerContext& ctx, const SplitTiles& split,
                                                   size_t operands) {
  const Caps& caps = ctx.caps();
  const size_t block = 1;  // of parameters, where these are a buffer
  if (operands + 2 + block > caps.max_bindings) return std::nullopt;
  const bool is_stream = split.streams != 0, alone = !is_stream && split.slices == 1;
  const int64_t parts = is_stream ? split.tiles + split.streams : split.tiles * split.slices;
  const int64_t floats = alone ? 1 : parts * (split.elements + 1);
  if (static_cast<uint64_t>(floats) * sizeof(float) > caps.max_binding_bytes || floats > INT32_MAX)
    return std::nullopt;
  const std::optional<TensorView> counters = ctx.counters(alone ? 1 : split.tiles);
  if (!counters) return std::nullopt;
  return std::vector<TensorView>{ctx.workspace(DType::kFloat32, {floats}), *counters};
}

void sum_slices(LowerContext& ctx, const ConvProblem& p, const Window& w, const TensorView& sums) {
  KernelRequest request = request_with_epilogue(ctx, "conv_gemm_sum");
  request.types["TY"] = p.y.dtype;
  std::vector<TensorView> views = ending_of(ctx, request, p, sums);
  dispatch_linear(ctx, std::move(request), std::move(views),
                  {{"slices", sums.shape[0]},
                   {"channels", sums.shape[2]},
                   {"out_h", w.output[0]},
                   {"out_w", w.output[1]},
                   {"ys", expanded_strides(p.y, 2)}},
                  sums.shape[1] * sums.shape[2]);
}

double share_of_h200(const Caps& caps) {
  constexpr double kUnits = 132;
  return std::max(1.0, static_cast<double>(caps.compute_units)) / kUnits;
}

double tiles_microseconds(const Caps& caps, int64_t groups, int64_t rows, int64_t depth) {
  constexpr double kStart = 6.0, kFlopsPerUnit = 2.0e5;  // a microsecond, as measured on an H200
  const int64_t waves = ceil_div(groups, std::max<int64_t>(1, caps.compute_units));
  const double flops = 2.0 * static_cast<double>(rows * kColumns * depth);
  return kStart + static_cast<double>(waves) * flops / kFlopsPerUnit;
}

double gemm_microseconds(const LowerContext& ctx, const ConvProblem& p) {
  constexpr double kWindow = 2.0, kSum = 12.0, kSharedSum = 8.0, kBytesPerUs = 3.0e6;
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  const int64_t pixels = s.batch * w.output[0] * w.output[1];
  const int64_t blocks = p.groups * ceil_div(s.kg, kColumns);
  const GemmPlan plan = plan_of(ctx.caps(), s, pixels, blocks, false);
  const int64_t tiles = ceil_div(pixels, plan.rows) * blocks;
  const int64_t depth = plan.split ? plan.depth * kDepth : s.taps * s.cg;
  double sum = 0;
  if (plan.split) {
    const auto bytes = static_cast<double>(4 * plan.slices * pixels * s.channels_out);
    sum = (ctx.caps().device_fences ? kSharedSum : kSum) +
          2 * bytes / (kBytesPerUs * share_of_h200(ctx.caps()));
  }
  return kWindow + tiles_microseconds(ctx.caps(), tiles * plan.slices, plan.rows, depth) + sum;
}

void lower_conv_gemm(LowerContext& ctx, const ConvProblem& p, bool may_split) {
  const ConvSizes s = sizes_of(p);
  const bool is_training = !ctx.is_weight(p.weight_input);
  const int64_t columns = columns_for(s.kg, is_training);
  WeightPacking packing = packing_of(p, p.groups, columns);
  packing.row_multiple = kDepth;
  const TensorView packed = packed_weights(ctx, p, packing);
  const Window w = p.window.expanded(2);
  const int64_t pixels = s.batch * w.output[0] * w.output[1];
  GemmPlan plan = plan_of(ctx.caps(), s, pixels, packed.shape[0], is_training);
  if (!may_split) plan = GemmPlan{plan.rows, false};
  if (is_training) {
    fit_to_training(ctx.caps(), pixels, packed.shape[0], columns == kWideColumns, plan);
  }
  // Blocks that are bound at a time, and their tiles.
  const int64_t step = blocks_in_reach(ctx, p.groups, packed.shape, packed.dtype);
  const int64_t most_tiles = ceil_div(pixels, plan.rows) * std::min<int64_t>(step, packed.shape[0]);
  ConvProblem product = p;
  std::vector<TensorView> shared;
  int64_t split = plan.split ? 1 : 0;
  if (plan.split) {
    const auto sums = shared_sums(ctx, {most_tiles, plan.slices, plan.rows * columns},
                                  operands_of(ctx, p, packed).size());
    if (sums) {
      split = 2;
      shared = *sums;
    }
  }
  KernelRequest request;
  if (split == 1) {
    product.bias.reset();
    product.y = ctx.workspace(DType::kFloat32, {plan.slices, pixels, s.channels_out});
    request.name = "conv_gemm";
    require_32bit(ctx, product.y);
  } else {
    request = request_with_epilogue(ctx, "conv_gemm");
  }
  set_types(request, product, packed.dtype);
  for (const auto& [name, value] :
       std::map<std::string, int64_t>{{"VW", kWidth},
                                      {"BM", plan.rows},
                                      {"BN", columns},
                                      {"BK", kDepth},
                                      {"SPLIT", split},
                                      {"VECTOR_X", has_channel_vectors(p.x, s.cg) ? 1 : 0}}) {
    request.constants[name] = value;
  }
  if (plan.tm != 0) {
    request.constants["TM"] = plan.tm;
    request.constants["TN"] = plan.tn;
  }
  Params params{{"pixels", pixels}, {"cg", s.cg}, {"kg", s.kg}, {"xs", expanded_strides(p.x, 2)}};
  if (plan.split) {
    params["slices"] = plan.slices;
    params["depth"] = plan.depth;
  }
  if (split == 1) {
    params["channels"] = s.channels_out;
  } else {
    params["ys"] = expanded_strides(p.y, 2);
  }
  add_window_params(params, w);
  for (int64_t first = 0; first < packed.shape[0]; first += step) {
    const int64_t count = std::min(step, packed.shape[0] - first);
    const int64_t total = ceil_div(pixels, plan.rows) * count * plan.slices;
    params["first_block"] = first;
    params["bound_blocks"] = count;
    params["total"] = total;
    const TensorView weight = slice_view(packed, 0, first, count);
    std::vector<TensorView> views = shared;
    if (split == 1) {
      views = {p.x, weight, product.y};
    } else {
      std::ranges::copy(operands_of(ctx, product, weight), std::back_inserter(views));
    }
    ctx.dispatch(request, views, params, ctx.linear_groups(total));
  }
  if (split == 1) sum_slices(ctx, p, w, product.y);
}

}  // namespace dlk
