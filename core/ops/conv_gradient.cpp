// Gradients of Conv and ConvTranspose. That of the data is a convolution with turned weights
// (stride 1) or a transposed convolution; that of the weights has kernels of its own
// (kernels/conv_gradient.k); that of the bias is a sum.
#include <algorithm>
#include <numeric>

#include "core/ops/batch_slices.h"
#include "core/ops/conv_parts.h"
#include "core/ops/gradients.h"
#include "core/ops/matmul.h"

namespace dlk {

namespace {

constexpr size_t kInput = 0, kWeight = 1, kBias = 2, kShape = 2;

Shape kernel_of(const Shape& weight) { return Shape(weight.begin() + 2, weight.end()); }

ValueId bias_gradient(GradientContext& ctx, ValueId dy) {
  std::vector<int64_t> axes{0};
  for (int64_t i = 2; i < ctx.rank(ctx.input(kInput)); ++i) axes.push_back(i);
  return ctx.reduce_sum(dy, axes, false);
}

}  // namespace

void conv_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(kInput), w = ctx.input(kWeight), dy = ctx.output_gradient(0);
  const Attributes& attributes = ctx.node().attributes;
  if (ctx.wants(kInput)) {
    ctx.set_gradient(kInput, ctx.own("ConvInputGradient", {dy, w, ctx.shape_of(x)}, attributes));
  }
  if (ctx.wants(kWeight)) {
    ctx.set_gradient(kWeight, ctx.own("ConvWeightGradient", {x, dy, ctx.shape_of(w)}, attributes));
  }
  if (ctx.has_input(kBias) && ctx.wants(kBias)) ctx.set_gradient(kBias, bias_gradient(ctx, dy));
}

void conv_transpose_gradient(GradientContext& ctx) {
  const ValueId x = ctx.input(kInput), w = ctx.input(kWeight), dy = ctx.output_gradient(0);
  const std::string pad = ctx.attr_string("auto_pad", "NOTSET");
  const size_t axes = static_cast<size_t>(ctx.rank(x)) - 2;
  const Shape strides = ctx.attr_ints("strides", Shape(axes, 1));
  const Shape extra = ctx.attr_ints("output_padding", Shape(axes, 0));
  bool is_plain =
      (pad == "NOTSET" || pad == "VALID" || pad.empty()) && !ctx.has_attr("output_shape");
  // Padding of the output that is as large as the stride gives a last row that nothing reads.
  for (size_t i = 0; i < axes; ++i) is_plain = is_plain && extra.at(i) < strides.at(i);
  Attributes attributes = ctx.node().attributes;
  // Else the window follows from the sizes of a run.
  if (is_plain) {
    attributes.erase("output_padding");
  } else {
    attributes["transposed"] = int64_t{1};
  }
  if (ctx.wants(kInput)) {
    ctx.set_gradient(kInput, is_plain ? ctx.onnx("Conv", {dy, w}, attributes)
                                      : ctx.own("ConvTransposeInputGradient",
                                                {dy, w, ctx.shape_of(x)}, attributes));
  }
  if (ctx.wants(kWeight)) {
    ctx.set_gradient(kWeight, ctx.own("ConvWeightGradient", {dy, x, ctx.shape_of(w)}, attributes));
  }
  if (ctx.has_input(kBias) && ctx.wants(kBias)) ctx.set_gradient(kBias, bias_gradient(ctx, dy));
}

namespace {

void infer_from_shape(InferContext& ctx) {
  ctx.set_output(0, ctx.dtype(0), ctx.require_constant(kShape, "the shape").to_ints());
}

/// Taps first, first + step, ... of a kernel's axis.
struct Taps {
  int64_t first = 0, count = 0, step = 1;
};

std::string flip_key(int64_t groups, const std::vector<Taps>& taps) {
  std::string key = "flip:" + std::to_string(groups);
  for (const Taps& t : taps) {
    for (const int64_t number : {t.first, t.count, t.step}) key += ":" + std::to_string(number);
  }
  return key;
}

TensorView taps_of(TensorView weight, const std::vector<Taps>& taps) {
  for (size_t i = 0; i < taps.size(); ++i) {
    const auto axis = static_cast<int64_t>(i + 2);
    weight = slice_view(weight, axis, taps[i].first, taps[i].count, taps[i].step);
  }
  return weight;
}

/// The weights (C, K/g, taps backwards) of the convolution that gives the data's gradient.
TensorView flipped_weights(LowerContext& ctx, int64_t groups, const std::vector<Taps>& taps) {
  const TensorView chosen = taps_of(ctx.input(kWeight), taps);
  const TensorView w = with_spatial_rank(chosen, 3);
  const int64_t kg = w.shape[0] / groups, cg = w.shape[1];
  const Shape shape{cg * groups, kg, w.shape[2], w.shape[3], w.shape[4]};
  // Training keeps the weights in float32; what they make may be float16.
  const DType dtype = ctx.output(0).dtype == DType::kFloat16 ? DType::kFloat16 : w.dtype;
  const auto make = [=](LowerContext& to, const TensorView& destination) {
    const TensorView from = with_spatial_rank(taps_of(to.input(kWeight), taps), 3);
    KernelRequest request;
    request.name = "conv_flip";
    request.types = {{"TX", from.dtype}, {"TY", destination.dtype}};
    dispatch_linear(to, std::move(request), {from, destination},
                    {{"cg", cg},
                     {"kg", kg},
                     {"taps", product(shape, 2)},
                     {"k", Shape{shape[2], shape[3], shape[4]}},
                     {"xs", from.strides}},
                    destination.elements());
  };
  TensorView flipped = ctx.prepacked(kWeight, flip_key(groups, taps), dtype, shape, make);
  Shape own{shape[0], shape[1]};
  const Shape kernel = kernel_of(chosen.shape);
  own.insert(own.end(), kernel.begin(), kernel.end());
  return *flipped.reshaped(own);
}

/// dx of the pixels that `window` stands for, with the taps that reach them.
void convolve_back(LowerContext& ctx, const TensorView& dx, const Window& window,
                   const std::vector<Taps>& taps) {
  ConvProblem problem;
  problem.groups = ctx.attr_int("group", 1);
  problem.x = ctx.input(0);
  problem.y = dx;
  problem.weight_input = kWeight;
  problem.weight_key = flip_key(problem.groups, taps);
  problem.weight = flipped_weights(ctx, problem.groups, taps);
  problem.reshape_weight = [flipped = problem.weight](const TensorView&) { return flipped; };
  problem.window = window;
  lower_convolution(ctx, problem);
}

/// Every stride-th pixel of an axis of dx, from `first` on: a convolution of stride 1 with some of
/// the taps; none where no tap reaches these pixels.
struct Phase {
  int64_t first = 0, pixels = 0, dilation = 1, pad = 0;
  Taps taps;
};

std::vector<Phase> phases_of(const Window& forward, size_t axis) {
  const int64_t stride = forward.stride[axis], dilation = forward.dilation[axis];
  const int64_t common = std::gcd(stride, dilation), pad = forward.pad_begin[axis];
  std::vector<Phase> phases;
  for (int64_t first = 0; first < std::min(stride, forward.input[axis]); ++first) {
    Phase phase;
    phase.first = first;
    phase.pixels = ceil_div(forward.input[axis] - first, stride);
    phase.taps.step = stride / common;
    phase.dilation = dilation / common;
    for (int64_t tap = 0; tap < std::min(phase.taps.step, forward.kernel[axis]); ++tap) {
      if ((first + pad - tap * dilation) % stride != 0) continue;
      phase.taps.first = tap;
      phase.taps.count = ceil_div(forward.kernel[axis] - tap, phase.taps.step);
      const int64_t reach = (phase.taps.count - 1) * phase.dilation;
      phase.pad = reach - (first + pad - tap * dilation) / stride;
    }
    phases.push_back(phase);
  }
  return phases;
}

/// The data's gradient of a convolution with strides, for GPUs.
void lower_phases(LowerContext& ctx, const TensorView& dx, const Window& forward) {
  std::vector<std::vector<Phase>> all{{}};
  bool complete = true;
  for (size_t axis = 0; axis < forward.rank(); ++axis) {
    std::vector<std::vector<Phase>> longer;
    for (const Phase& phase : phases_of(forward, axis)) {
      complete = complete && phase.taps.count > 0;
      for (const std::vector<Phase>& before : all) {
        longer.push_back(before);
        longer.back().push_back(phase);
      }
    }
    all = std::move(longer);
  }
  if (!complete) fill_view(ctx, dx, 0);
  for (const std::vector<Phase>& phases : all) {
    TensorView view = dx;
    Window window = forward;
    std::swap(window.input, window.output);
    std::vector<Taps> taps;
    for (size_t i = 0; i < phases.size(); ++i) {
      const Phase& phase = phases[i];
      const auto axis = static_cast<int64_t>(i + 2);
      view = slice_view(view, axis, phase.first, phase.pixels, forward.stride[i]);
      window.output[i] = phase.pixels;
      window.kernel[i] = phase.taps.count;
      window.stride[i] = 1;
      window.dilation[i] = phase.dilation;
      window.pad_begin[i] = phase.pad;
      window.pad_end[i] =
          phase.pixels + (phase.taps.count - 1) * phase.dilation - window.input[i] - phase.pad;
      taps.push_back(phase.taps);
    }
    if (window.taps() > 0) convolve_back(ctx, view, window, taps);
  }
}

/// Phases run on the kernels for dense channels; few channels a group do not.
bool has_phases(const LowerContext& ctx, const Window& forward, int64_t cg, int64_t kg) {
  constexpr int64_t kFewest = 16, kMostPhases = 16;
  const DType dtype = ctx.input(0).dtype;
  return !ctx.caps().is_cpu && forward.rank() <= 2 && product(forward.stride) <= kMostPhases &&
         (dtype == DType::kFloat32 || dtype == DType::kFloat16) &&
         (ctx.attr_int("group", 1) == 1 || std::min(cg, kg) >= kFewest);
}

/// Windows side by side, without padding: each pixel is of one window at most.
bool has_patches(const LowerContext& ctx, const Window& forward) {
  const auto all = [](const Shape& values, int64_t value) {
    return std::all_of(values.begin(), values.end(), [=](int64_t v) { return v == value; });
  };
  return ctx.attr_int("group", 1) == 1 && forward.taps() > 1 && forward.kernel == forward.stride &&
         all(forward.dilation, 1) && all(forward.pad_begin, 0);
}

/// The data's gradient of such windows: one matrix product, whose rows are the pixels of `dy` and
/// whose columns are (channel, tap), and a copy that puts the windows in their places.
void lower_patches(LowerContext& ctx, const TensorView& dx, const Window& forward) {
  const TensorView& dy = ctx.input(0);
  const int64_t channels = dx.shape[1], columns = channels * forward.taps();
  const int64_t rows = dy.shape[0] * product(forward.output), inner = dy.shape[1];
  const size_t axes = forward.rank();
  Shape last{0}, sides{dy.shape[0]};
  for (size_t i = 0; i < axes; ++i) {
    last.push_back(static_cast<int64_t>(i) + 2);
    sides.push_back(forward.output[i]);
  }
  last.push_back(1);
  const TensorView turned = permute_view(dy, last);
  const std::optional<TensorView> flat = turned.reshaped({rows, inner});
  MatrixProblem problem;
  problem.a = flat ? *flat : *ctx.contiguous(turned).reshaped({rows, inner});
  TensorView weights = ctx.contiguous(ctx.input(kWeight));
  if (weights.dtype != dy.dtype) {  // training keeps them in float32
    weights = ctx.workspace(dy.dtype, weights.shape);
    ctx.copy(ctx.input(kWeight), weights);
  }
  problem.b = *weights.reshaped({inner, columns});
  problem.b_input = 0;  // the weights have another shape than the product's
  problem.y = ctx.workspace(dx.dtype, {rows, columns});
  require_32bit(ctx, problem.y);
  lower_matrix_product(ctx, problem);

  // (N, outputs..., C, taps...) on both sides.
  TensorView to = dx;
  bool is_covered = true;
  Shape from_shape = sides, strides{dx.strides[0]}, tap_strides{dx.strides[1]};
  from_shape.push_back(channels);
  for (size_t i = 0; i < axes; ++i) {
    is_covered = is_covered && forward.input[i] == forward.output[i] * forward.kernel[i];
    from_shape.push_back(forward.kernel[i]);
    strides.push_back(dx.strides[i + 2] * forward.kernel[i]);
    tap_strides.push_back(dx.strides[i + 2]);
  }
  strides.insert(strides.end(), tap_strides.begin(), tap_strides.end());
  to.shape = from_shape;
  to.strides = strides;
  if (!is_covered) fill_view(ctx, dx, 0);
  ctx.copy(*problem.y.reshaped(from_shape), to);
}

void lower_input_gradient(LowerContext& ctx) {
  const TensorView& dy = ctx.input(0);
  const TensorView& dx = ctx.output(0);
  const TensorView& w = ctx.input(kWeight);
  const int64_t groups = ctx.attr_int("group", 1);
  const Window forward = read_window(ctx, dx.shape, kernel_of(w.shape));
  const bool dense =
      std::all_of(forward.stride.begin(), forward.stride.end(), [](int64_t s) { return s == 1; });
  Window window = forward;
  std::swap(window.input, window.output);
  if (!dense) {
    const int64_t kg = dy.shape[1] / groups;
    if (has_patches(ctx, forward)) return lower_patches(ctx, dx, forward);
    if (has_phases(ctx, forward, w.shape[1], kg)) return lower_phases(ctx, dx, forward);
    return lower_transposed_convolution(ctx,
                                        {dy, dx, std::nullopt, window, groups, kg, w.shape[1]});
  }
  std::vector<Taps> taps;
  for (size_t i = 0; i < window.rank(); ++i) {
    const int64_t reach = (window.kernel[i] - 1) * window.dilation[i];
    window.pad_begin[i] = reach - forward.pad_begin[i];
    window.pad_end[i] = reach - forward.pad_end[i];
    taps.push_back({0, window.kernel[i], 1});
  }
  convolve_back(ctx, dx, window, taps);
}

/// The convolution over the results of a transposed one, which gives its data's gradient: `x` is
/// the shape of that data.
Window transposed_window(const NodeReader& node, const Shape& x, const Shape& kernel) {
  Window window = read_transposed_window(node, x, kernel);
  std::swap(window.input, window.output);
  return window;
}

void lower_transposed_input_gradient(LowerContext& ctx) {
  ConvProblem problem;
  problem.x = ctx.input(0);
  problem.y = ctx.output(0);
  problem.weight = ctx.input(kWeight);
  problem.groups = ctx.attr_int("group", 1);
  problem.window = transposed_window(ctx, problem.y.shape, kernel_of(problem.weight.shape));
  lower_convolution(ctx, problem);
}

struct Split {
  int64_t width, blocks, tiles, lines, slices, depth;
};

constexpr int64_t kTileRows = 8;

/// How many items share the lines: enough to fill the device, each with work that pays.
Split split_of(const LowerContext& ctx, const WeightGradient& p) {
  const Caps& caps = ctx.caps();
  Split s{};
  s.width = caps.is_cpu ? caps.vector_width : 4;
  while (s.width > 1 && s.width / 2 >= p.kg) s.width /= 2;
  s.blocks = ceil_div(p.kg, s.width);
  s.tiles = ceil_div(p.rows, kTileRows);
  s.lines = p.dy.shape[0] * p.window.output[0] * p.window.output[1];
  const int64_t items = s.blocks * s.tiles * p.groups;
  const int64_t wanted = caps.compute_units * (caps.is_cpu ? 4 : 1024);
  constexpr int64_t kMostSlices = 64;
  s.slices = std::clamp<int64_t>(ceil_div(wanted, items), 1, std::min(kMostSlices, s.lines));
  s.depth = ceil_div(s.lines, s.slices);
  s.slices = ceil_div(s.lines, s.depth);
  return s;
}

void lower_weight_gradient(LowerContext& ctx) {
  WeightGradient p;
  p.x = with_spatial_rank(ctx.input(0), 3);
  p.dy = with_spatial_rank(ctx.input(1), 3);
  p.dw = with_spatial_rank(ctx.output(0), 3);
  require_float_storage(ctx, p.x.dtype);
  for (const TensorView* view : {&p.x, &p.dy, &p.dw}) require_32bit(ctx, *view);
  if (p.dw.elements() == 0) return;
  if (p.dy.elements() == 0) return fill_view(ctx, ctx.output(0), 0);
  const Shape kernel = kernel_of(ctx.output(0).shape);
  const bool is_transposed = ctx.attr_int("transposed", 0) != 0;
  const Window window = is_transposed ? transposed_window(ctx, ctx.input(1).shape, kernel)
                                      : read_window(ctx, ctx.input(0).shape, kernel);
  p.window = window.expanded(3);
  p.window.output = Shape(p.dy.shape.begin() + 2, p.dy.shape.end());
  for (size_t i = 0; i < 3; ++i) {
    if (p.dy.shape[2 + i] == 0) p.window.output[i] = 1;
  }
  p.groups = ctx.attr_int("group", 1);
  p.cg = p.dw.shape[1];
  p.kg = p.dw.shape[0] / p.groups;
  p.rows = p.cg * p.window.taps();
  if (lower_weight_gradient_depthwise(ctx, p) || lower_weight_gradient_tiles(ctx, p)) return;
  const Split s = split_of(ctx, p);
  const TensorView sums = ctx.workspace(DType::kFloat32, {s.slices, p.groups, p.rows, p.kg});
  require_32bit(ctx, sums);
  KernelRequest request;
  request.name = "conv_weight_gradient";
  request.types = {{"TX", p.x.dtype}, {"TD", p.dy.dtype}};
  const Caps& caps = ctx.caps();
  const int64_t group = caps.is_cpu ? std::max<int64_t>(1, caps.subgroup_size) : kLinearGroup;
  request.constants = {{"VW", s.width}, {"TM", kTileRows}, {"WG", group}};
  const bool vectors = vectors_along(ctx.input(1), 1, s.width) && p.kg % s.width == 0;
  const int64_t total = s.slices * p.groups * s.tiles * s.blocks;
  ctx.dispatch(request, {p.x, p.dy, sums},
               {{"total", total},
                {"cg", p.cg},
                {"kg", p.kg},
                {"groups", p.groups},
                {"blocks", s.blocks},
                {"tiles", s.tiles},
                {"lines", s.lines},
                {"depth", s.depth},
                {"vector_load", vectors ? 1 : 0},
                {"xs", p.x.strides},
                {"ds", p.dy.strides},
                {"ext", p.window.input},
                {"res", p.window.output},
                {"k", p.window.kernel},
                {"stride", p.window.stride},
                {"dil", p.window.dilation},
                {"pad", p.window.pad_begin}},
               ctx.linear_groups(ceil_div(total, group)));
  add_weight_sums(ctx, p, sums);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "ConvInputGradient",
               .domain = "dlk",
               .doc = "Gradient of a convolution's data; inputs: gradient, weights, shape of the "
                      "data; the convolution's attributes.",
               .min_inputs = 3,
               .max_inputs = 3,
               .layout = LayoutRule::kChannelsLast,
               .infer = infer_from_shape,
               .lower = [](LowerContext& ctx) { lower_in_batch_slices(ctx, lower_input_gradient); },
               .mixed_floats = true});
  register_op(
      {.name = "ConvTransposeInputGradient",
       .domain = "dlk",
       .doc = "Gradient of a transposed convolution's data; inputs: gradient, weights, "
              "shape of the data; the operator's attributes.",
       .min_inputs = 3,
       .max_inputs = 3,
       .layout = LayoutRule::kChannelsLast,
       .infer = infer_from_shape,
       .lower =
           [](LowerContext& ctx) { lower_in_batch_slices(ctx, lower_transposed_input_gradient); },
       .mixed_floats = true});
  register_op({.name = "ConvWeightGradient",
               .domain = "dlk",
               .doc =
                   "Gradient of a convolution's weights; inputs: data, gradient, shape of the "
                   "weights; the convolution's attributes (`transposed`: those of a ConvTranspose, "
                   "whose gradient stands first).",
               .min_inputs = 3,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_from_shape,
               .lower = lower_weight_gradient,
               .mixed_floats = true});
}

}  // namespace dlk
