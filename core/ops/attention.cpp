// Attention: scaled dot product attention with masks, grouped heads, softcap and a key-value cache,
// in one kernel.
#include <algorithm>
#include <cmath>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {
namespace {

enum Input : size_t { kQuery, kKey, kValue, kMask, kPastKey, kPastValue, kLength };

/// Extents of (batch, heads, length, size) tensors.
struct Sizes {
  int64_t batch, heads, kv_heads, queries, fresh, past, size, v_size;
  int64_t keys() const { return past + fresh; }
};

int64_t heads_of(const NodeReader& node, const Shape& shape, const char* attribute) {
  if (shape.size() == 4) return shape[1];
  const int64_t heads = node.attr_int(attribute, 0);
  if (shape.size() != 3 || heads < 1 || shape[2] % heads != 0) {
    node.fail("an input " + shape_string(shape) + " must be 4-D, or 3-D with " + attribute +
              " dividing its last axis");
  }
  return heads;
}

Shape as_heads(const Shape& shape, int64_t heads) {
  if (shape.size() == 4) return shape;
  return {shape[0], heads, shape[1], shape[2] / heads};
}

template <typename ShapeOf>
Sizes read_sizes(const NodeReader& node, ShapeOf&& shape_of) {
  const int64_t heads = heads_of(node, shape_of(kQuery), "q_num_heads");
  const int64_t kv = heads_of(node, shape_of(kKey), "kv_num_heads");
  const Shape q = as_heads(shape_of(kQuery), heads), k = as_heads(shape_of(kKey), kv);
  const Shape v = as_heads(shape_of(kValue), heads_of(node, shape_of(kValue), "kv_num_heads"));
  Sizes s{q[0], heads, kv, q[2], k[2], 0, q[3], v[3]};
  if (k[0] != s.batch || v[0] != s.batch || k[3] != s.size || v[1] != kv || v[2] != s.fresh ||
      kv == 0 || heads % kv != 0) {
    node.fail("queries " + shape_string(q) + ", keys " + shape_string(k) + " and values " +
              shape_string(v) + " do not fit each other");
  }
  if (node.has_input(kPastKey) != node.has_input(kPastValue)) {
    node.fail("past_key and past_value come together");
  }
  if (node.has_input(kPastKey)) {
    const Shape &past_k = shape_of(kPastKey), &past_v = shape_of(kPastValue);
    if (past_k.size() != 4 || past_k != Shape{s.batch, kv, past_k[2], s.size} ||
        past_v != Shape{s.batch, kv, past_k[2], s.v_size}) {
      node.fail("past_key " + shape_string(past_k) + " and past_value " + shape_string(past_v) +
                " do not fit keys " + shape_string(k) + " and values " + shape_string(v));
    }
    s.past = past_k[2];
  }
  return s;
}

void check_mask(const InferContext& context, const Sizes& s) {
  const Shape& mask = context.shape(kMask);
  const Shape scores{s.batch, s.heads, s.queries, s.keys()};
  const DType dtype = context.dtype(kMask);
  bool fits = mask.size() <= 4 && !mask.empty() && mask.back() <= s.keys();
  for (size_t i = 0; fits && i + 1 < mask.size(); ++i) {
    const int64_t full = scores[i + 4 - mask.size()];
    fits = mask[i] == full || mask[i] == 1;
  }
  if (!fits) {
    context.fail("the mask " + shape_string(mask) + " does not fit scores " + shape_string(scores));
  }
  if (dtype != DType::kBool && !is_floating(dtype)) {
    context.fail("the mask must be bool or floating point");
  }
}

void infer(InferContext& context) {
  require_arithmetic_dtype(context, kQuery);
  if (context.dtype(kKey) != context.dtype(kQuery)) {
    context.fail("queries and keys differ in type");
  }
  const Sizes s = read_sizes(context, [&](size_t i) -> const Shape& { return context.shape(i); });
  if (context.has_input(kMask)) check_mask(context, s);
  if (context.has_input(kLength) && context.shape(kLength) != Shape{s.batch}) {
    context.fail("nonpad_kv_seqlen must be (batch)");
  }
  const int64_t mode = context.attr_int("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) context.fail("qk_matmul_output_mode is 0, 1, 2 or 3");
  const DType dtype = context.dtype(kQuery);
  const bool flat = context.shape(kQuery).size() == 3;
  context.set_output(0, dtype,
                     flat ? Shape{s.batch, s.queries, s.heads * s.v_size}
                          : Shape{s.batch, s.heads, s.queries, s.v_size});
  if (context.has_output(1)) {
    context.set_output(1, dtype, {s.batch, s.kv_heads, s.keys(), s.size});
  }
  if (context.has_output(2)) {
    context.set_output(2, context.dtype(kValue), {s.batch, s.kv_heads, s.keys(), s.v_size});
  }
  if (context.has_output(3)) {
    context.set_output(3, dtype, {s.batch, s.heads, s.queries, s.keys()});
  }
}

/// (batch, heads, length, size), whatever form the tensor has.
TensorView by_head(const TensorView& view, int64_t heads) {
  if (view.rank() == 4) return view;
  return permute_view(split_axis(view, 2, {heads, view.shape[2] / heads}), {0, 2, 1, 3});
}

/// What came before, then what is new: the output where it is asked for.
TensorView present(LowerContext& context, size_t past, const TensorView& fresh, size_t output) {
  const bool has_past = context.has_input(past), wanted = context.has_output(output);
  if (!has_past && !wanted) return fresh;
  Shape shape = fresh.shape;
  const int64_t before = has_past ? context.input(past).shape[2] : 0;
  shape[2] += before;
  const TensorView whole = wanted ? context.output(output) : context.workspace(fresh.dtype, shape);
  if (before > 0) context.copy(context.input(past), slice_view(whole, 2, 0, before));
  if (fresh.shape[2] > 0) {
    context.copy(fresh, slice_view(whole, 2, before, fresh.shape[2]));
  }
  return has_past ? whole : fresh;
}

void lower(LowerContext& context) {
  const Sizes s =
      read_sizes(context, [&](size_t i) -> const Shape& { return context.input(i).shape; });
  const TensorView q = by_head(context.input(kQuery), s.heads);
  const TensorView k = present(context, kPastKey, by_head(context.input(kKey), s.kv_heads), 1);
  const TensorView v = present(context, kPastValue, by_head(context.input(kValue), s.kv_heads), 2);
  const TensorView y = by_head(context.output(0), s.heads);
  for (const DType dtype : {q.dtype, v.dtype}) require_float_storage(context, dtype);
  if (y.elements() == 0) return;
  const bool has_mask = context.has_input(kMask), has_length = context.has_input(kLength);
  const double cap = context.attr_float("softcap", 0.0);
  constexpr int64_t kKeys = 64;
  const int64_t rows = std::min<int64_t>(8, s.queries);
  const int64_t groups = s.batch * s.heads * ceil_div(s.queries, rows);
  KernelRequest request;
  request.name = "attention";
  request.types = {{"T", q.dtype}, {"TV", v.dtype}};
  request.constants = {{"WG", kKeys},
                       {"BQ", rows},
                       {"D", s.size},
                       {"NV", std::max<int64_t>(1, ceil_div(s.v_size, kKeys))},
                       {"HAS_MASK", has_mask ? 1 : 0},
                       {"HAS_LENGTH", has_length ? 1 : 0},
                       {"CAP", cap > 0 ? 1 : 0}};
  Params params{
      {"total", groups},
      {"heads", s.heads},
      {"shared", s.heads / s.kv_heads},
      {"queries", s.queries},
      {"keys", s.keys()},
      {"v_size", s.v_size},
      {"past", s.past},
      {"causal", context.attr_int("is_causal", 0) != 0 ? 1 : 0},
      {"mask_keys", 0},
      {"n_step", 0},
      {"qs", q.strides},
      {"ks", k.strides},
      {"vs", v.strides},
      {"ms", Shape(4, 0)},
      {"ys", y.strides},
      {"ss", Shape(4, 0)},
      {"scale", context.attr_float("scale", 1.0 / std::sqrt(static_cast<double>(s.size)))},
      {"cap", cap}};
  std::vector<TensorView> views{q, k, v};
  if (has_mask) {
    TensorView mask = context.input(kMask);
    request.types["TM"] = mask.dtype;
    params["mask_keys"] = mask.shape.back();
    views.push_back(mask);
    params["ms"] = broadcast_view(mask, {s.batch, s.heads, s.queries, mask.shape.back()}).strides;
  }
  if (has_length) {
    views.push_back(index_view(context, context.input(kLength)));
    params["n_step"] = views.back().strides[0];
  }
  views.push_back(y);
  if (context.has_output(3)) {
    request.constants["SCORES"] = context.attr_int("qk_matmul_output_mode", 0);
    views.push_back(context.output(3));
    params["ss"] = context.output(3).strides;
  }
  context.dispatch(request, views, std::move(params), context.linear_groups(groups));
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Attention",
               .since_version = 24,
               .doc = "softmax(scale Q K^T + mask) V with grouped heads, is_causal, softcap and a "
                      "key-value cache.",
               .min_inputs = 3,
               .max_inputs = 7,
               .max_outputs = 4,
               .layout = LayoutRule::kContiguous,
               .infer = infer,
               .lower = lower,
               .gradient = attention_gradient});
}

}  // namespace dlk
