#include "core/ops/conv_separable.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/ops/batch_slices.h"
#include "core/ops/conv_parts.h"
#include "core/ops/forwarding.h"

namespace dlk {

namespace {

constexpr size_t kInput = 0, kFilter = 1, kFilterBias = 2, kWeight = 3, kBias = 4;
constexpr int64_t kVector = 4, kQuadFloats = 20;   // as in the kernel
constexpr int64_t kMostStrips = int64_t{1} << 22;  // that its quotients are right for

/// Floats of local memory: the filtered strips, then the sums of a group's items.
int64_t floats_used(const SeparableSizes& s, const SeparablePlan& p) {
  return std::max(p.strips * s.channels / kVector * kQuadFloats,
                  p.depths() * p.strips * kVector * p.columns);
}

/// What a variant has: as much as any block needs, so that blocks share it.
int64_t local_floats(const Caps& caps) {
  constexpr int64_t kMost = 8192;
  return std::min<int64_t>(kMost, caps.local_memory_bytes / sizeof(float));
}

/// The plan's time on a GPU, in microseconds without its launch: what a unit's groups share, and
/// the latencies that a group waits for one after the other.
double time_of(const Caps& caps, const SeparableSizes& s, const SeparablePlan& p) {
  constexpr double kClocksPerUs = 1700, kLanes = 128, kCacheBytes = 90, kMemoryBytes = 45;
  constexpr double kStart = 2.0, kRound = 0.6, kWeights = 0.45;
  constexpr int64_t kItemsOfUnit = 768;  // by their registers
  const int64_t units = std::max<int64_t>(1, caps.compute_units);
  const int64_t groups = ceil_div(s.strips(), p.strips) * ceil_div(s.kept, p.columns);
  const int64_t each = ceil_div(groups, units);
  const int64_t most = std::max<int64_t>(1, kItemsOfUnit / p.group);
  const auto waves = static_cast<double>(ceil_div(each, most));
  const auto together = static_cast<double>(std::min(each, most));
  const int64_t depths = p.depths();
  const int64_t filters = p.strips * s.channels / kVector;  // vectors of four pixels
  const int64_t taps = s.k_h * s.k_w, columns = 3 * s.stride_w + s.k_w;
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double filter_bytes = number(filters * (s.k_h * columns + taps) * kVector * s.element);
  const double filter_work = number(filters * taps * kVector * kVector) * 2.5;
  const double weight_bytes = number(s.channels * p.columns * s.element);
  const double work = number(s.channels * p.columns * p.strips * kVector) * 2.0;
  const double sums = number(p.group * 32 + p.strips * kVector * p.columns * depths);
  const double clocks = filter_bytes / kCacheBytes + (filter_work + work + sums) / kLanes +
                        weight_bytes / kMemoryBytes +
                        weight_bytes * number(p.strips - 1) / kCacheBytes;
  const double latency = kStart + kRound * number(ceil_div(filters, p.group)) +
                         kWeights * number(ceil_div(s.channels, depths * p.steps) - 1);
  return waves * (latency + together * clocks / kClocksPerUs);
}

bool fits(const Caps& caps, const SeparableSizes& s, const SeparablePlan& p) {
  if (p.strips * p.columns / kVector > p.group || p.columns % kVector != 0) return false;
  if (p.group >
      static_cast<int64_t>(std::min(caps.max_group_invocations, caps.max_group_size[0]))) {
    return false;
  }
  return floats_used(s, p) <= local_floats(caps) && s.strips() <= kMostStrips &&
         ceil_div(s.strips(), p.strips) <= static_cast<int64_t>(caps.max_group_count[0]) &&
         ceil_div(s.kept, p.columns) <= static_cast<int64_t>(caps.max_group_count[1]);
}

/// What DLK_SEPARABLE says; "" where it is not set.
std::string forced_plan() {
  const char* text = std::getenv("DLK_SEPARABLE");
  return text == nullptr ? "" : text;
}

SeparablePlan parse_plan(const std::string& text) {
  SeparablePlan plan;
  long long group = 0, strips = 0, columns = 0, steps = 0;
  const int found =
      std::sscanf(text.c_str(), "%lld,%lld,%lld,%lld", &group, &strips, &columns, &steps);
  if (found != 4 || std::min({group, strips, columns, steps}) < 1 ||
      std::max({group, strips, columns}) > 1024 || steps > 32 ||
      strips * columns > kVector * group || columns % kVector != 0) {
    throw_invalid("DLK_SEPARABLE is '" + text +
                  "'; it is apart, or GROUP,STRIPS,COLUMNS,STEPS with COLUMNS a multiple of 4 and "
                  "STRIPS * COLUMNS / 4 at most GROUP");
  }
  plan.group = group;
  plan.strips = strips;
  plan.columns = columns;
  plan.steps = steps;
  return plan;
}

/// The two convolutions as problems of their own.
struct Pair {
  ConvProblem filter, product;
};

Pair pair_of(LowerContext& ctx, const TensorView& between) {
  Pair pair;
  pair.filter.x = ctx.input(kInput);
  pair.filter.y = between;
  pair.filter.weight_input = kFilter;
  pair.filter.weight = ctx.input(kFilter);
  if (ctx.has_input(kFilterBias)) pair.filter.bias = ctx.contiguous(ctx.input(kFilterBias));
  const Shape& filter = pair.filter.weight.shape;
  pair.filter.window =
      read_window(ctx, pair.filter.x.shape, Shape(filter.begin() + 2, filter.end()));
  pair.filter.groups = pair.filter.x.shape[1];
  pair.product.x = between;
  pair.product.y = ctx.output(0);
  pair.product.weight_input = kWeight;
  pair.product.weight = ctx.input(kWeight);
  if (ctx.has_input(kBias)) pair.product.bias = ctx.contiguous(ctx.input(kBias));
  Window& w = pair.product.window;
  w.input = w.output = pair.filter.window.output;
  w.kernel = w.stride = w.dilation = Shape(w.input.size(), 1);
  w.pad_begin = w.pad_end = Shape(w.input.size(), 0);
  return pair;
}

std::string literal(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9ef", value);
  return text;
}

/// The depthwise convolution alone, with the limits as its epilogue.
class FilterContext : public BareContext {
 public:
  FilterContext(LowerContext& whole, TensorView output)
      : BareContext(whole), output_(std::move(output)) {
    std::string& text = limits_.expression;
    if (whole.has_attr(kLowestFiltered)) {
      const std::string low = literal(whole.attr_float(kLowestFiltered, 0));
      text = "(x < " + low + " ? " + low + " : x)";
    }
    if (whole.has_attr(kHighestFiltered)) {
      text = "min(" + (text.empty() ? "x" : text) + ", " +
             literal(whole.attr_float(kHighestFiltered, 0)) + ")";
    }
  }
  const TensorView& output(size_t) const override { return output_; }
  const Epilogue& epilogue() const override { return limits_; }

 private:
  TensorView output_;
  Epilogue limits_;
};

/// The convolution with a window of 1 alone.
class ProductContext : public ForwardingContext {
 public:
  ProductContext(LowerContext& whole, TensorView input)
      : ForwardingContext(whole), input_(std::move(input)) {}
  const TensorView& input(size_t i) const override {
    return i == kInput ? input_ : ForwardingContext::input(i);
  }

 private:
  TensorView input_;
};

/// Two dispatches, for what the kernel does not take.
void lower_apart(LowerContext& ctx) {
  const TensorView &x = ctx.input(kInput), &y = ctx.output(0);
  Shape shape = y.shape;
  shape[1] = x.shape[1];
  const TensorView between = workspace_like(ctx, x.dtype, shape, y);
  const Pair pair = pair_of(ctx, between);
  FilterContext first(ctx, between);
  lower_convolution(first, pair.filter);
  ProductContext second(ctx, between);
  lower_convolution(second, pair.product);
}

void lower_together(LowerContext& ctx, const SeparableSizes& s, const SeparablePlan& plan) {
  const TensorView &x = ctx.input(kInput), &y = ctx.output(0);
  const Pair pair = pair_of(ctx, x);
  const Window& w = pair.filter.window;
  const TensorView filters = pack_weights(ctx, packing_of(pair.filter, 1, s.channels));
  const TensorView weights = pack_weights(ctx, packing_of(pair.product, 1, plan.columns));
  KernelRequest request = request_with_epilogue(ctx, "conv_separable");
  request.types = {{"TX", x.dtype}, {"TF", filters.dtype}, {"TW", weights.dtype}, {"TY", y.dtype}};
  request.constants = {{"WG", plan.group},  {"STEPS", plan.steps},
                       {"KH", w.kernel[0]}, {"KW", w.kernel[1]},
                       {"S", w.stride[1]},  {"LOCAL", local_floats(ctx.caps())}};
  const int64_t row_strips = ceil_div(s.out_w, kVector), vectors = plan.columns / kVector;
  const int64_t results = plan.strips * kVector * plan.columns;
  constexpr int64_t kMostShares = 8;
  const int64_t share =
      std::clamp<int64_t>(plan.group / results, 1, std::min(kMostShares, plan.depths()));
  const auto inverse = [](int64_t value) { return 1.0 / static_cast<double>(value); };
  Params params{{"channels", s.channels},
                {"kept", s.kept},
                {"strips", s.strips()},
                {"row_strips", row_strips},
                {"tile", plan.strips},
                {"kq", vectors},
                {"depths", plan.depths()},
                {"share", share},
                {"per_quads", inverse(s.channels / kVector)},
                {"per_row_strips", inverse(row_strips)},
                {"per_out_h", inverse(s.out_h)},
                {"per_tile", inverse(plan.strips)},
                {"per_kq", inverse(vectors)},
                {"per_results", inverse(results)},
                {"xs_n", x.strides[0]},
                {"xs_h", x.strides[2]},
                {"xs_w", x.strides[3]},
                {"ys", y.strides},
                {"in_h", w.input[0]},
                {"in_w", w.input[1]},
                {"out_h", w.output[0]},
                {"out_w", w.output[1]},
                {"stride_h", w.stride[0]},
                {"pad_h", w.pad_begin[0]},
                {"pad_w", w.pad_begin[1]}};
  std::vector<TensorView> views{x, filters};
  const auto add_bias = [&](const std::optional<TensorView>& bias, const char* has,
                            const char* type) {
    request.constants[has] = bias ? 1 : 0;
    if (!bias) return;
    request.types[type] = bias->dtype;
    views.push_back(*bias);
  };
  add_bias(pair.filter.bias, "HAS_FILTER_BIAS", "TG");
  views.push_back(weights);
  add_bias(pair.product.bias, "HAS_BIAS", "TB");
  views.push_back(y);
  const auto add_limit = [&](const char* name, const char* has) {
    if (!ctx.has_attr(name)) return;
    request.constants[has] = 1;
    params[name] = ctx.attr_float(name, 0);
  };
  add_limit(kLowestFiltered, "LOW");
  add_limit(kHighestFiltered, "HIGH");
  ctx.dispatch(request, with_epilogue_views(ctx, std::move(views)), std::move(params),
               {ceil_div(s.strips(), plan.strips), ceil_div(s.kept, plan.columns), 1});
}

void lower(LowerContext& ctx) {
  const TensorView &x = ctx.input(kInput), &y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  if (y.elements() == 0) return;
  for (const TensorView* view : {&x, &y}) require_32bit(ctx, *view);
  const Shape& filter = ctx.input(kFilter).shape;
  const Window w = read_window(ctx, x.shape, Shape(filter.begin() + 2, filter.end()));
  const SeparableSizes sizes = separable_sizes(x.shape, x.dtype, y.shape[1], w);
  const auto plan = separable_plan(ctx.caps(), sizes);
  if (!plan || !vectors_along(x, 1, kVector)) return lower_apart(ctx);
  lower_together(ctx, sizes, *plan);
}

}  // namespace

SeparableSizes separable_sizes(const Shape& x, DType dtype, int64_t kept, const Window& window) {
  SeparableSizes s;
  s.batch = x[0];
  s.channels = x[1];
  s.kept = kept;
  s.out_h = window.output[0];
  s.out_w = window.output[1];
  s.k_h = window.kernel[0];
  s.k_w = window.kernel[1];
  s.stride_w = window.stride[1];
  s.element = dtype_size(dtype);
  return s;
}

std::optional<SeparablePlan> separable_plan(const Caps& caps, const SeparableSizes& s) {
  constexpr int64_t kLargestSide = 5, kLargestStride = 2, kMostDepths = 96;
  if (caps.is_cpu || s.channels % kVector != 0 || std::max(s.k_h, s.k_w) > kLargestSide ||
      s.stride_w > kLargestStride) {
    return std::nullopt;
  }
  const std::string forced = forced_plan();
  if (forced == "apart") return std::nullopt;
  if (!forced.empty()) {
    const SeparablePlan plan = parse_plan(forced);
    return fits(caps, s, plan) ? std::optional(plan) : std::nullopt;
  }
  std::optional<SeparablePlan> best;
  for (const int64_t group : {256, 512}) {
    for (const int64_t strips : {1, 2, 4, 8, 16}) {
      for (const int64_t columns : {8, 16, 24, 32, 40, 48, 64, 80, 96, 128}) {
        SeparablePlan plan{group, strips, columns};
        if (columns >= 2 * s.kept || !fits(caps, s, plan)) continue;
        if (plan.depths() > std::min(kMostDepths, s.channels)) continue;
        plan.microseconds = time_of(caps, s, plan);
        if (!best || plan.microseconds < best->microseconds) best = plan;
      }
    }
  }
  return best;
}

bool separable_pays(const Caps& caps, const SeparableSizes& s) {
  // As measured on an H200: what the two kernels take beside their launches, and bytes and
  // operations in a microsecond.
  constexpr double kLaunch = 2.3, kFilter = 1.7, kProduct = 2.7;
  constexpr double kBytes = 3.0e6, kUnitFlops = 2.0e8, kFlops = 4.0e7;
  const auto plan = separable_plan(caps, s);
  if (!plan) return false;
  if (!forced_plan().empty()) return true;
  const double share = share_of_h200(caps);
  const auto pixels = static_cast<double>(s.batch * s.out_h * s.out_w);
  const double between = pixels * static_cast<double>(s.channels);
  const double bytes = between * static_cast<double>(3 * s.element);
  const double flops = 2 * between * static_cast<double>(s.kept);
  const double apart = 2 * kLaunch + kFilter + kProduct + bytes / (kBytes * share) +
                       flops / ((s.element == 2 ? kUnitFlops : kFlops) * share);
  return kLaunch + plan->microseconds < apart;
}

DLK_REGISTER_OPS {
  register_op({
      .name = "SeparableConv",
      .domain = "dlk",
      .doc = "a depthwise Conv, limits, and a Conv with a window of 1, made by the fusion pass",
      .min_inputs = 4,
      .max_inputs = 5,
      .layout = LayoutRule::kChannelsLast,
      .fuses_epilogue = true,
      .epilogue_channel_axis = 1,
      .infer = [](InferContext& ctx) { ctx.fail("is made by fusion and cannot stand in a model"); },
      .lower = [](LowerContext& ctx) { lower_in_batch_slices(ctx, lower); },
      .mixed_floats = true,
  });
}

}  // namespace dlk
