// RandomNormal, RandomUniform, their Like forms, Bernoulli, Multinomial and Dropout.
#include "core/ops/random.h"

#include <bit>

#include "core/ops/elementwise.h"
#include "core/ops/gradient.h"
#include "core/ops/op_util.h"
#include "core/ops/sorting.h"

namespace dlk {

RandomKey random_key(const NodeReader& node) {
  uint64_t bits = 0xcbf29ce484222325u;  // FNV-1a
  if (node.has_attr("seed")) {
    bits = std::bit_cast<uint64_t>(node.attr_float("seed", 0));
  } else {
    for (const char c : node.node().name) {
      bits = (bits ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
    }
  }
  return {static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)};
}

void add_key(Params& params, const RandomKey& key) {
  params["key_low"] = static_cast<int64_t>(key.low);
  params["key_high"] = static_cast<int64_t>(key.high);
}

namespace {

void require_float(const NodeReader& node, DType dtype) {
  if (!is_floating(dtype)) node.fail("draws floating point numbers only");
}

/// `dtype` of a Like form is its input's where the attribute does not say.
void infer_random(InferContext& context) {
  const bool like = context.input_count() > 0;
  DType dtype = like ? context.dtype(0) : DType::kFloat32;
  if (context.has_attr("dtype")) dtype = cast_target(context, "dtype");
  require_float(context, dtype);
  Shape shape = like ? context.shape(0) : context.attr_ints("shape");
  element_count(shape);
  context.set_output(0, dtype, std::move(shape));
}

void lower_random(LowerContext& context) {
  const bool normal = context.node().op.starts_with("RandomNormal");
  DenseOutput output(context, context.output(0));
  require_compute(context, output.view().dtype);
  KernelRequest request;
  request.name = "random";
  request.types = {{"T", output.view().dtype}};
  request.constants = {{"MODE", normal ? 1 : 0}};
  Params params{{"a", context.attr_float(normal ? "mean" : "low", 0.0)},
                {"b", context.attr_float(normal ? "scale" : "high", 1.0)}};
  add_key(params, random_key(context));
  dispatch_linear(context, request, {output.view()}, std::move(params), output.view().elements());
  output.finish();
}

void infer_bernoulli(InferContext& context) {
  require_float(context, context.dtype(0));
  const DType dtype = context.has_attr("dtype") ? cast_target(context, "dtype") : context.dtype(0);
  context.set_output(0, dtype, context.shape(0));
}

void lower_bernoulli(LowerContext& context) {
  const TensorView x = context.contiguous(context.input(0));
  DenseOutput output(context, context.output(0));
  require_compute(context, x.dtype);
  require_compute(context, output.view().dtype);
  KernelRequest request;
  request.name = "bernoulli";
  request.types = {{"T", x.dtype}, {"TY", output.view().dtype}};
  Params params;
  add_key(params, random_key(context));
  dispatch_linear(context, request, {x, output.view()}, std::move(params), x.elements());
  output.finish();
}

void infer_multinomial(InferContext& context) {
  require_float(context, context.dtype(0));
  if (context.rank(0) != 2 || context.shape(0)[1] == 0) {
    context.fail("the input must be (batch, classes) with at least one class");
  }
  const DType dtype = context.has_attr("dtype") ? cast_target(context, "dtype") : DType::kInt32;
  if (dtype != DType::kInt32 && dtype != DType::kInt64) context.fail("dtype is int32 or int64");
  context.set_output(0, dtype, {context.shape(0)[0], context.attr_int("sample_size", 1)});
}

void lower_multinomial(LowerContext& context) {
  const TensorView x = context.contiguous(context.input(0));
  require_compute(context, x.dtype);
  DenseOutput output(context, context.output(0));
  const bool wide = output.view().dtype == DType::kInt64;
  KernelRequest request;
  request.name = "multinomial";
  request.types = {{"T", x.dtype}};
  request.constants = {{"WORDS", wide ? 2 : 1}};
  Params params{{"classes", x.shape[1]}, {"samples", output.view().shape[1]}};
  add_key(params, random_key(context));
  dispatch_linear(context, request, {x, wide ? word_view(output.view()) : output.view()},
                  std::move(params), output.view().elements());
  output.finish();
}

/// The ratio of a Dropout that drops: 0 in inference.
double dropped(const NodeReader& node, const std::optional<HostTensor>& ratio,
               const std::optional<HostTensor>& training) {
  if (!training || training->to_ints().at(0) == 0) return 0.0;
  const double value = ratio ? ratio->to_doubles().at(0) : 0.5;
  if (value < 0 || value > 1) node.fail("ratio must be from 0 to 1");
  return value;
}

template <typename Context>
double ratio_of(const Context& context) {
  const bool asks = context.has_input(2);
  const auto training = asks ? context.constant(2) : std::nullopt;
  if (asks && !training) context.fail("training_mode must be known before the run");
  const auto ratio = training && context.has_input(1) ? context.constant(1) : std::nullopt;
  if (training && context.has_input(1) && !ratio) {
    context.fail("ratio must be known before the run");
  }
  return dropped(context, ratio, training);
}

void infer_dropout(InferContext& context) {
  require_float(context, context.dtype(0));
  ratio_of(context);
  context.set_output(0, context.dtype(0), context.shape(0));
  if (context.has_output(1)) context.set_output(1, DType::kBool, context.shape(0));
}

std::optional<AliasResult> alias_dropout(const AliasContext& context) {
  if (context.output() != 0 || ratio_of(context) != 0) return std::nullopt;
  return AliasResult{0, context.input(0)};
}

/// In inference the identity; in training what the mask kept, scaled as the data was.
void dropout_gradient(GradientContext& ctx) {
  const ValueId dy = ctx.output_gradient(0);
  const auto training = ctx.constant(ctx.input(2));
  if (!ctx.has_input(2) || (training && training->to_ints().at(0) == 0)) {
    return ctx.set_gradient(0, dy);
  }
  const auto ratio = ctx.constant(ctx.input(1));
  if (!training || (ctx.has_input(1) && !ratio)) {
    ctx.unsupported("has a gradient where its ratio and mode are constants");
  }
  const double kept = 1.0 - (ratio ? ratio->to_doubles().at(0) : 0.5);
  const ValueId zero = ctx.scalar(0.0, dy);
  const ValueId scaled = ctx.onnx("Div", {dy, ctx.scalar(kept, dy)});
  ctx.set_gradient(0, ctx.onnx("Where", {ctx.saved_output(1), scaled, zero}));
}

void lower_dropout(LowerContext& context) {
  const double ratio = ratio_of(context);
  if (ratio == 0) {
    context.copy(context.input(0), context.output(0));
    if (context.has_output(1)) fill_view(context, context.output(1), 1);
    return;
  }
  const TensorView x = context.contiguous(context.input(0));
  require_compute(context, x.dtype);
  DenseOutput output(context, context.output(0));
  std::optional<DenseOutput> mask;
  if (context.has_output(1)) mask.emplace(context, context.output(1));
  KernelRequest request;
  request.name = "dropout";
  request.types = {{"T", x.dtype}};
  request.constants = {{"HAS_MASK", mask ? 1 : 0}};
  Params params{{"ratio", ratio}};
  add_key(params, random_key(context));
  std::vector<TensorView> views{x, output.view()};
  if (mask) views.push_back(mask->view());
  dispatch_linear(context, request, views, std::move(params), x.elements());
  output.finish();
  if (mask) mask->finish();
}

OpSchema drawing(const std::string& name, int inputs, const std::string& doc,
                 std::function<void(InferContext&)> infer,
                 std::function<void(LowerContext&)> lower) {
  OpSchema schema;
  schema.name = name;
  schema.since_version = 22;
  schema.doc = doc;
  schema.min_inputs = schema.max_inputs = inputs;
  schema.layout = LayoutRule::kContiguous;
  schema.infer = std::move(infer);
  schema.lower = std::move(lower);
  return schema;
}

}  // namespace

DLK_REGISTER_OPS {
  const char* const normal = "normal numbers; mean=0, scale=1, seed";
  const char* const uniform = "uniform numbers in [low, high); low=0, high=1, seed";
  register_op(drawing("RandomNormal", 0, normal, infer_random, lower_random));
  register_op(drawing("RandomNormalLike", 1, normal, infer_random, lower_random));
  register_op(drawing("RandomUniform", 0, uniform, infer_random, lower_random));
  register_op(drawing("RandomUniformLike", 1, uniform, infer_random, lower_random));
  register_op(drawing("Bernoulli", 1, "1 with the probability that the input gives; seed",
                      infer_bernoulli, lower_bernoulli));
  register_op(drawing("Multinomial", 1, "draws from rows of log probabilities; sample_size, seed",
                      infer_multinomial, lower_multinomial));
  OpSchema dropout = drawing("Dropout", 1, "zeros with a probability in training, else identity",
                             infer_dropout, lower_dropout);
  dropout.max_inputs = 3;
  dropout.max_outputs = 2;
  dropout.layout = LayoutRule::kFollow;
  dropout.alias = alias_dropout;
  dropout.gradient = dropout_gradient;
  register_op(std::move(dropout));
}

}  // namespace dlk
