// The gradient of Attention: it is written out in products and a softmax, and those are
// differentiated. Scores are kept for it, as for any network that is written so.
#include <cmath>
#include <limits>

#include "core/ops/gradients.h"

namespace dlk {

namespace {

enum Input : size_t { kQuery, kKey, kValue, kMask, kPastKey, kPastValue, kLength };

class WrittenOut {
 public:
  explicit WrittenOut(GradientContext& ctx) : ctx_(ctx) {
    heads_ = heads_of(kQuery, "q_num_heads");
    kv_heads_ = heads_of(kKey, "kv_num_heads");
  }

  /// Results in the order of the operator's outputs.
  std::vector<ValueId> build() {
    const ValueId q = by_head(kQuery, heads_);
    const ValueId k = with_past(by_head(kKey, kv_heads_), kPastKey);
    const ValueId v = with_past(by_head(kValue, kv_heads_), kPastValue);
    const double size = static_cast<double>(width_of(kQuery, heads_));
    const ValueId scaled =
        ctx_.onnx("Mul", {q, factor(ctx_.attr_float("scale", 1 / std::sqrt(size)))});
    std::vector<ValueId> scores{
        ctx_.onnx("MatMul", {scaled, turned(repeated(k, kKey), {0, 1, 3, 2})})};
    scores.push_back(masked(scores[0], q, k));
    scores.push_back(capped(scores[1]));
    scores.push_back(ctx_.onnx("Softmax", {scores[2]}, {{"axis", int64_t{-1}}}));
    ValueId y = ctx_.onnx("MatMul", {scores[3], repeated(v, kValue)});
    if (ctx_.rank(ctx_.input(kQuery)) == 3) {
      y = ctx_.onnx("Reshape", {turned(y, {0, 2, 1, 3}), ctx_.ints({0, 0, -1})});
    }
    const int64_t mode = ctx_.attr_int("qk_matmul_output_mode", 0);
    return {y, k, v, scores.at(static_cast<size_t>(mode))};
  }

 private:
  int64_t heads_of(size_t input, const char* attribute) const {
    const Shape& shape = ctx_.example_shape(ctx_.input(input));
    return shape.size() == 4 ? shape[1] : ctx_.attr_int(attribute, 1);
  }
  int64_t width_of(size_t input, int64_t heads) const {
    const Shape& shape = ctx_.example_shape(ctx_.input(input));
    return shape.size() == 4 ? shape[3] : shape.at(2) / heads;
  }
  ValueId factor(double value) { return ctx_.scalar(value, ctx_.input(kQuery)); }
  ValueId turned(ValueId v, std::vector<int64_t> perm) {
    return ctx_.onnx("Transpose", {v}, {{"perm", std::move(perm)}});
  }
  /// (batch, heads, length, size), whatever form the input has.
  ValueId by_head(size_t input, int64_t heads) {
    const ValueId x = ctx_.input(input);
    if (ctx_.rank(x) == 4) return x;
    return turned(ctx_.onnx("Reshape", {x, ctx_.ints({0, 0, heads, -1})}), {0, 2, 1, 3});
  }
  ValueId with_past(ValueId fresh, size_t past) {
    if (!ctx_.has_input(past)) return fresh;
    return ctx_.onnx("Concat", {ctx_.input(past), fresh}, {{"axis", int64_t{2}}});
  }
  /// Keys or values for each head of the queries.
  ValueId repeated(ValueId v, size_t input) {
    const int64_t times = heads_ / kv_heads_;
    if (times == 1) return v;
    const ValueId apart = ctx_.onnx("Unsqueeze", {v, ctx_.ints({2})});
    const ValueId several = ctx_.onnx("Expand", {apart, ctx_.ints({1, 1, times, 1, 1})});
    return ctx_.onnx("Reshape", {several, ctx_.ints({0, heads_, -1, width_of(input, kv_heads_)})});
  }

  /// The length of axis 2, as a tensor of one number.
  ValueId length(ValueId v) {
    return ctx_.onnx("Shape", {v}, {{"start", int64_t{2}}, {"end", int64_t{3}}});
  }
  ValueId number(int64_t value) {
    return ctx_.add_constant(HostTensor::scalar(DType::kInt64, static_cast<double>(value)));
  }
  /// first, first + 1, ... as int32.
  ValueId counted(ValueId first, ValueId count) {
    const ValueId end = ctx_.onnx("Add", {first, ctx_.onnx("Squeeze", {count, ctx_.ints({0})})});
    return as_int32(ctx_.onnx("Range", {first, end, number(1)}));
  }
  ValueId as_int32(ValueId v) { return ctx_.onnx("Cast", {v}, {{"to", std::string("int32")}}); }
  /// scores + 0 where `kept`, -infinity elsewhere.
  ValueId where(ValueId kept) {
    return ctx_.onnx("Where",
                     {kept, factor(0.0), factor(-std::numeric_limits<double>::infinity())});
  }

  ValueId masked(ValueId scores, ValueId q, ValueId k) {
    const auto add = [&](ValueId bias) { scores = ctx_.onnx("Add", {scores, bias}); };
    const bool causal = ctx_.attr_int("is_causal", 0) != 0;
    ValueId columns = kNoValue;
    if (causal || ctx_.has_input(kLength)) columns = counted(number(0), length(k));
    if (causal) {
      const ValueId past =
          ctx_.has_input(kPastKey)
              ? ctx_.onnx("Squeeze", {length(ctx_.input(kPastKey)), ctx_.ints({0})})
              : number(0);
      const ValueId rows = ctx_.onnx("Unsqueeze", {counted(past, length(q)), ctx_.ints({1})});
      add(where(ctx_.onnx("LessOrEqual", {columns, rows})));
    }
    if (ctx_.has_input(kMask)) add(whole_mask(k));
    if (ctx_.has_input(kLength)) {
      const ValueId ends =
          ctx_.onnx("Reshape", {as_int32(ctx_.input(kLength)), ctx_.ints({-1, 1, 1, 1})});
      add(where(ctx_.onnx("Less", {columns, ends})));
    }
    return scores;
  }

  /// The mask as numbers to add, for all keys.
  ValueId whole_mask(ValueId k) {
    const ValueId given = ctx_.input(kMask);
    const ValueId mask = ctx_.dtype(given) == DType::kBool ? where(given) : given;
    const int64_t rank = ctx_.rank(given);
    const ValueId width = ctx_.onnx("Shape", {given}, {{"start", rank - 1}, {"end", rank}});
    const ValueId missing = ctx_.onnx("Sub", {length(k), width});
    const Shape before(static_cast<size_t>(2 * rank - 1), 0);
    const ValueId pads = ctx_.onnx("Concat", {ctx_.ints(before), missing}, {{"axis", int64_t{0}}});
    return ctx_.onnx("Pad", {mask, pads, factor(-std::numeric_limits<double>::infinity())});
  }

  ValueId capped(ValueId scores) {
    const double cap = ctx_.attr_float("softcap", 0.0);
    if (cap <= 0) return scores;
    const ValueId small = ctx_.onnx("Tanh", {ctx_.onnx("Mul", {scores, factor(1 / cap)})});
    return ctx_.onnx("Mul", {small, factor(cap)});
  }

  GradientContext& ctx_;
  int64_t heads_ = 1, kv_heads_ = 1;
};

}  // namespace

void attention_gradient(GradientContext& ctx) {
  if (ctx.dtype(ctx.input(kValue)) != ctx.dtype(ctx.input(kQuery))) {
    ctx.unsupported("has a gradient where queries, keys and values are of one type");
  }
  ctx.differentiate(WrittenOut(ctx).build());
}

}  // namespace dlk
