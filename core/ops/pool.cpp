// MaxPool, AveragePool, LpPool and their global forms. A global pool is a pool whose window is the
// whole image.
#include <algorithm>

#include "core/ops/batch_slices.h"
#include "core/ops/conv.h"
#include "core/ops/gradients.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

enum class PoolMode : int64_t { kMax = 0, kAverage = 1, kLp = 2 };

bool is_byte(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kUInt8; }

void require_spatial(const NodeReader& node, const Shape& x) {
  if (x.size() < 3) node.fail("the input " + shape_string(x) + " must be (N, C, spatial axes...)");
}

void infer_pool(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  require_spatial(ctx, x);
  const bool is_max = ctx.node().op == "MaxPool";
  if (!(is_max && is_byte(ctx.dtype(0)))) require_arithmetic_dtype(ctx, 0);
  if (ctx.attr_int("p", 2) < 1) ctx.fail("p must be at least 1");
  const Window window = read_window(ctx, x, required_kernel_shape(ctx, x));
  const Shape y = with_spatial(x[0], x[1], window.output);
  ctx.set_output(0, ctx.dtype(0), y);
  if (is_max && ctx.has_output(1)) ctx.set_output(1, DType::kInt64, y);
}

void infer_global(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  require_spatial(ctx, x);
  require_arithmetic_dtype(ctx, 0);
  if (x.size() > 5) ctx.unsupported("more than 3 spatial axes");
  for (size_t i = 2; i < x.size(); ++i) {
    if (x[i] == 0) ctx.fail("the input " + shape_string(x) + " has nothing to pool");
  }
  ctx.set_output(0, ctx.dtype(0), with_spatial(x[0], x[1], Shape(x.size() - 2, 1)));
}

void add_window(Params& params, const Window& w) {
  params["ext"] = w.input;
  params["res"] = w.output;
  params["k"] = w.kernel;
  params["stride"] = w.stride;
  params["dil"] = w.dilation;
  params["pad"] = w.pad_begin;
}

int64_t common_width(const LowerContext& ctx, const TensorView& x, const TensorView& y) {
  int64_t width = ctx.caps().vector_width;
  while (width > 1 && !(vectors_along(x, 1, width) && vectors_along(y, 1, width))) width /= 2;
  return width;
}

// For CPU drivers that run one work-item to a group; false where the pool is not for them.
bool lower_rows(LowerContext& ctx, const Window& window, PoolMode mode, bool count_pad) {
  constexpr int64_t kGroupsPerUnit = 16;
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  const Caps& caps = ctx.caps();
  const int64_t width = common_width(ctx, x, y);
  if (!caps.is_cpu || caps.subgroup_size != 0 || width < 4) return false;
  if (window.rank() > 2 || mode == PoolMode::kLp) return false;
  KernelRequest request = request_with_epilogue(ctx, "pool_rows");
  request.types = {{"TX", x.dtype}, {"TY", y.dtype}};
  request.constants["VW"] = width;
  request.constants["MODE"] = static_cast<int64_t>(mode);
  const Window w = window.expanded(2);
  Shape limit = w.input;
  for (size_t i = 0; i < limit.size(); ++i) limit[i] += w.pad_end[i];
  const int64_t rows = x.shape[0] * w.output[0];
  const int64_t each = std::max<int64_t>(1, rows / (caps.compute_units * kGroupsPerUnit));
  Params params{{"rows", rows},
                {"each", each},
                {"channels", x.shape[1]},
                {"count_pad", count_pad ? 1 : 0},
                {"xs", expanded_strides(x, 2)},
                {"ys", expanded_strides(y, 2)},
                {"limit", limit}};
  add_window(params, w);
  ctx.dispatch(request, with_epilogue_views(ctx, {x, y}), std::move(params),
               ctx.linear_groups(ceil_div(rows, each)));
  return true;
}

// For GPUs: small windows over channels-last images. False where the pool is another.
bool lower_window(LowerContext& ctx, const Window& window, PoolMode mode, bool count_pad) {
  constexpr int64_t kLargestWindow = 25;
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  const Caps& caps = ctx.caps();
  const int64_t width = std::min<int64_t>(common_width(ctx, x, y), 4);
  if (caps.is_cpu || window.rank() > 2 || mode == PoolMode::kLp) return false;
  if (width < 2 || window.taps() > kLargestWindow) return false;
  const Window w = window.expanded(2);
  if (w.input[0] == 0 || w.input[1] == 0) return false;
  KernelRequest request = request_with_epilogue(ctx, "pool_window");
  request.types = {{"TX", x.dtype}, {"TY", y.dtype}};
  request.constants = {{"VW", width},
                       {"WG", kLinearGroup},
                       {"MODE", static_cast<int64_t>(mode)},
                       {"KH", w.kernel[0]},
                       {"KW", w.kernel[1]}};
  const int64_t line = ceil_div(w.output[1] * (x.shape[1] / width), kLinearGroup);
  const std::array<int64_t, 3> groups{line, w.output[0], x.shape[0]};
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i] > caps.max_group_count[i]) return false;
  }
  Shape limit = w.input;
  for (size_t i = 0; i < limit.size(); ++i) limit[i] += w.pad_end[i];
  ctx.dispatch(request, with_epilogue_views(ctx, {x, y}),
               {{"channels", x.shape[1]},
                {"out_w", w.output[1]},
                {"count_pad", count_pad ? 1 : 0},
                {"xs", expanded_strides(x, 2)},
                {"ys", expanded_strides(y, 2)},
                {"ext", w.input},
                {"stride", w.stride},
                {"dil", w.dilation},
                {"pad", w.pad_begin},
                {"limit", limit}},
               groups);
  return true;
}

void lower_float(LowerContext& ctx, const Window& window, PoolMode mode, bool count_pad) {
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  require_float_storage(ctx, x.dtype);
  require_32bit(ctx, x);
  require_32bit(ctx, y);
  if (lower_rows(ctx, window, mode, count_pad)) return;
  if (lower_window(ctx, window, mode, count_pad)) return;
  const int64_t width = common_width(ctx, x, y);
  KernelRequest request = request_with_epilogue(ctx, "pool");
  request.types = {{"TX", x.dtype}, {"TY", y.dtype}};
  request.constants["VW"] = width;
  request.constants["MODE"] = static_cast<int64_t>(mode);
  const Window w = window.expanded(3);
  Shape limit = w.input;
  for (size_t i = 0; i < limit.size(); ++i) limit[i] += w.pad_end[i];
  Params params{{"channels", x.shape[1]},        {"count_pad", count_pad ? 1 : 0},
                {"power", ctx.attr_int("p", 2)}, {"xs", expanded_strides(x, 3)},
                {"ys", expanded_strides(y, 3)},  {"limit", limit}};
  add_window(params, w);
  dispatch_linear(ctx, std::move(request), with_epilogue_views(ctx, {x, y}), std::move(params),
                  y.elements() / width);
}

/// Neighbouring positions are the last stride apart, across lines and planes too.
bool is_even(const TensorView& view) {
  const std::vector<int64_t> strides = expanded_strides(view, 3);
  const Shape& shape = view.shape;
  const size_t last = shape.size() - 1;
  const int64_t width = shape[last], height = shape.size() > 3 ? shape[last - 1] : 1;
  const bool lines = height == 1 || strides[3] == width * strides[4];
  const bool planes =
      shape.size() < 5 || shape[2] == 1 || strides[2] == height * width * strides[4];
  return lines && planes && (width > 1 || height * (shape.size() < 5 ? 1 : shape[2]) == 1);
}

/// As many as an item has, in few variants.
int64_t loads_ahead(int64_t loads) { return loads > 4 ? 8 : loads > 2 ? 4 : 2; }

// Many positions and few results: items share an image. False where one item a result does.
bool lower_shared(LowerContext& ctx, const Window& window, PoolMode mode) {
  constexpr int64_t kFewPositions = 16, kManyResults = 1 << 18, kLanes = 8, kSlices = 32;
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  const Window w = window.expanded(3);
  if (ctx.caps().is_cpu || w.taps() < kFewPositions || y.elements() > kManyResults) return false;
  if (x.dtype == DType::kFloat64) return false;  // the shared kernel's sums are of 32 bits
  require_float_storage(ctx, x.dtype);
  require_32bit(ctx, x);
  const int64_t width = common_width(ctx, x, y);
  KernelRequest request = request_with_epilogue(ctx, "pool_global");
  request.types = {{"TX", x.dtype}, {"TY", y.dtype}};
  request.constants = {{"VW", width},
                       {"MODE", static_cast<int64_t>(mode)},
                       {"EVEN", is_even(x) ? 1 : 0},
                       {"LANES", kLanes},
                       {"SLICES", kSlices},
                       {"AHEAD", loads_ahead(ceil_div(w.taps(), kSlices))}};
  const int64_t groups = x.shape[0] * ceil_div(x.shape[1] / width, kLanes);
  ctx.dispatch(request, with_epilogue_views(ctx, {x, y}),
               {{"images", x.shape[0]},
                {"channels", x.shape[1]},
                {"positions", w.taps()},
                {"height", w.input[1]},
                {"width", w.input[2]},
                {"xs", expanded_strides(x, 3)},
                {"ys_n", y.strides[0]},
                {"ys_c", y.strides[1]}},
               ctx.linear_groups(groups));
  return true;
}

void lower_indexed(LowerContext& ctx, const Window& window) {
  const TensorView& x = ctx.input(0);
  const TensorView& y = ctx.output(0);
  if (is_byte(x.dtype)) {
    if (!ctx.caps().int8_storage) ctx.unsupported("MaxPool of 8-bit integers needs int8_storage");
  } else {
    require_float_storage(ctx, x.dtype);
  }
  require_32bit(ctx, x);
  const bool has_index = ctx.has_output(1);
  KernelRequest request;
  request.name = "max_pool_index";
  request.types["T"] = x.dtype;
  request.constants["HAS_INDEX"] = has_index ? 1 : 0;
  const Window w = window.expanded(3);
  std::vector<TensorView> views{x, y};
  Params params{{"channels", x.shape[1]},
                {"column_major", ctx.attr_int("storage_order", 0)},
                {"xs", expanded_strides(x, 3)},
                {"ys", expanded_strides(y, 3)},
                {"ps", Shape(5, 0)}};
  if (has_index) {
    views.push_back(word_view(ctx.output(1)));
    std::vector<int64_t> strides = expanded_strides(ctx.output(1), 3);
    for (int64_t& stride : strides) stride *= 2;
    params["ps"] = strides;
  }
  add_window(params, w);
  dispatch_linear(ctx, std::move(request), views, std::move(params), y.elements());
}

Window window_of(const LowerContext& ctx) {
  const Shape& x = ctx.input(0).shape;
  return read_window(ctx, x, required_kernel_shape(ctx, x));
}

Window whole_window(const Shape& x) {
  Window w;
  w.input = w.kernel = Shape(x.begin() + 2, x.end());
  w.output = w.stride = w.dilation = Shape(w.input.size(), 1);
  w.pad_begin = w.pad_end = Shape(w.input.size(), 0);
  return w;
}

Window global_window(const LowerContext& ctx) { return whole_window(ctx.input(0).shape); }

void lower_global(LowerContext& ctx, PoolMode mode) {
  const Window window = global_window(ctx);
  if (!lower_shared(ctx, window, mode)) lower_float(ctx, window, mode, false);
}

void lower_max(LowerContext& ctx) {
  const Window window = window_of(ctx);
  if (ctx.has_output(1) || is_byte(ctx.input(0).dtype)) {
    return lower_indexed(ctx, window);
  }
  lower_float(ctx, window, PoolMode::kMax, false);
}

OpSchema pool_schema(const std::string& name, int version, const std::string& doc,
                     std::function<void(LowerContext&)> lower) {
  OpSchema schema;
  schema.name = name;
  schema.since_version = version;
  schema.doc = doc;
  schema.layout = LayoutRule::kChannelsLast;
  schema.fuses_epilogue = schema.mixed_floats = name != "MaxPool";
  schema.gradient = pool_gradient;
  schema.infer = name.starts_with("Global") ? infer_global : infer_pool;
  schema.lower = [lower = std::move(lower)](LowerContext& ctx) {
    // Indices count from the first image, so that a pool with indices stays whole.
    ctx.has_output(1) ? lower(ctx) : lower_in_batch_slices(ctx, lower);
  };
  return schema;
}

// PoolGradient: of MaxPool and AveragePool and their global forms, named by the attribute "op".
// Inputs: gradient, then the pool's input and output (maximum) or its input's shape (average).
bool is_max_gradient(const NodeReader& node) {
  return node.attr_string("op", "").find("Max") != std::string::npos;
}

void infer_pool_gradient(InferContext& ctx) {
  const Shape shape =
      is_max_gradient(ctx) ? ctx.shape(1) : ctx.require_constant(1, "the shape").to_ints();
  ctx.set_output(0, ctx.dtype(0), shape);
}

/// Windows that share no element.
bool are_apart(const Window& w) {
  for (size_t i = 0; i < w.rank(); ++i) {
    if (w.kernel[i] > w.stride[i] || (w.dilation[i] != 1 && w.kernel[i] > 1)) return false;
  }
  return true;
}

/// Every element is in a window, if no two windows share one.
bool are_covering(const Window& w) {
  for (size_t i = 0; i < w.rank(); ++i) {
    const int64_t end = w.output[i] * w.stride[i] - w.pad_begin[i];
    if (w.kernel[i] != w.stride[i] || end < w.input[i]) return false;
  }
  return true;
}

void lower_gradient_apart(LowerContext& ctx, const Window& w, int64_t width) {
  const TensorView &dy = ctx.input(0), &x = ctx.input(1), &y = ctx.input(2), &dx = ctx.output(0);
  if (!are_covering(w)) fill_view(ctx, dx, 0);
  KernelRequest request;
  request.name = "pool_gradient_apart";
  request.types["T"] = dx.dtype;
  request.constants["VW"] = width;
  dispatch_linear(ctx, std::move(request), {x, y, dy, dx},
                  {{"channels", dx.shape[1]},
                   {"xs", expanded_strides(x, 3)},
                   {"zs", expanded_strides(y, 3)},
                   {"ds", expanded_strides(dy, 3)},
                   {"ys", expanded_strides(dx, 3)},
                   {"ext", w.input},
                   {"res", w.output},
                   {"k", w.kernel},
                   {"stride", w.stride},
                   {"pad", w.pad_begin}},
                  dy.elements() / width);
}

void lower_pool_gradient(LowerContext& ctx) {
  const TensorView& dy = ctx.input(0);
  const TensorView& dx = ctx.output(0);
  const bool is_max = is_max_gradient(ctx);
  require_float_storage(ctx, dx.dtype);
  require_32bit(ctx, dx);
  if (dx.elements() == 0) return;
  const bool global = ctx.attr_string("op", "").starts_with("Global");
  const Window window = global ? whole_window(dx.shape)
                               : read_window(ctx, dx.shape, required_kernel_shape(ctx, dx.shape));
  int64_t width = ctx.caps().vector_width;
  const auto fits = [&](int64_t w) {
    return vectors_along(dx, 1, w) && vectors_along(dy, 1, w) &&
           (!is_max || (vectors_along(ctx.input(1), 1, w) && vectors_along(ctx.input(2), 1, w)));
  };
  while (width > 1 && !fits(width)) width /= 2;
  const Window w = window.expanded(3);
  if (is_max && are_apart(w)) return lower_gradient_apart(ctx, w, width);
  KernelRequest request;
  request.name = "pool_gradient";
  request.types["T"] = dx.dtype;
  request.constants["VW"] = width;
  request.constants["MODE"] = is_max ? 0 : 1;
  Shape limit = w.input;
  for (size_t i = 0; i < limit.size(); ++i) limit[i] += w.pad_end[i];
  Params params{{"channels", dx.shape[1]},
                {"count_pad", ctx.attr_int("count_include_pad", 0) != 0 ? 1 : 0},
                {"ds", expanded_strides(dy, 3)},
                {"ys", expanded_strides(dx, 3)},
                {"limit", limit}};
  std::vector<TensorView> views{dy, dx};
  if (is_max) {
    views.insert(views.begin(), {ctx.input(1), ctx.input(2)});
    params["xs"] = expanded_strides(ctx.input(1), 3);
    params["zs"] = expanded_strides(ctx.input(2), 3);
  }
  add_window(params, w);
  dispatch_linear(ctx, std::move(request), views, std::move(params), dx.elements() / width);
}

}  // namespace

void pool_gradient(GradientContext& ctx) {
  const std::string& op = ctx.node().op;
  if (op.ends_with("LpPool")) ctx.unsupported("has no gradient; use AveragePool of powers");
  Attributes attributes = ctx.node().attributes;
  attributes["op"] = op;
  const bool is_max = op.find("Max") != std::string::npos;
  const ValueId x = ctx.input(0);
  std::vector<ValueId> inputs{ctx.output_gradient(0), is_max ? x : ctx.shape_of(x)};
  if (is_max) inputs.push_back(ctx.output(0));
  ctx.set_gradient(0, ctx.own("PoolGradient", inputs, attributes));
}

DLK_REGISTER_OPS {
  register_op({.name = "PoolGradient",
               .domain = "dlk",
               .doc = "Gradient of a pool's input; op and the pool's attributes; inputs: gradient, "
                      "the pool's input and output (maximum) or its input's shape (average).",
               .min_inputs = 2,
               .max_inputs = 3,
               .layout = LayoutRule::kChannelsLast,
               .infer = infer_pool_gradient,
               .lower = lower_pool_gradient});
  OpSchema max_pool = pool_schema(
      "MaxPool", 22, "Maximum over windows; the second output holds the maxima's flat indices.",
      lower_max);
  max_pool.max_outputs = 2;
  register_op(max_pool);
  register_op(pool_schema("AveragePool", 22, "Mean over windows, with or without the padding.",
                          [](LowerContext& ctx) {
                            lower_float(ctx, window_of(ctx), PoolMode::kAverage,
                                        ctx.attr_int("count_include_pad", 0) != 0);
                          }));
  register_op(pool_schema("LpPool", 22, "p-norm over windows.", [](LowerContext& ctx) {
    lower_float(ctx, window_of(ctx), PoolMode::kLp, false);
  }));
  register_op(pool_schema("GlobalMaxPool", 22, "Maximum over the spatial axes.",
                          [](LowerContext& ctx) { lower_global(ctx, PoolMode::kMax); }));
  register_op(pool_schema("GlobalAveragePool", 22, "Mean over the spatial axes.",
                          [](LowerContext& ctx) { lower_global(ctx, PoolMode::kAverage); }));
  register_op(pool_schema(
      "GlobalLpPool", 22, "p-norm over the spatial axes.",
      [](LowerContext& ctx) { lower_float(ctx, global_window(ctx), PoolMode::kLp, false); }));
}

}  // namespace dlk
