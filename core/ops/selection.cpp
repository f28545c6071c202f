// NonZero, Compress, Unique and NonMaxSuppression: operators whose result is as long as the data
// say. The counts are one more output, which the plan reads back.
#include <algorithm>

#include "core/ops/op_util.h"
#include "core/ops/sorting.h"

namespace dlk {
namespace {

constexpr DType kCount = DType::kInt32;

void require_computable(const LowerContext& context, const TensorView& view) {
  require_compute(context, view.dtype);
  if (is_storage_only(view.dtype)) {
    context.unsupported("type " + std::string(dtype_name(view.dtype)) + "; cast it first");
  }
}

void infer_nonzero(InferContext& context) {
  const int64_t rank = std::max<int64_t>(context.rank(0), 1);
  context.set_output(0, DType::kInt64, {rank, element_count(context.shape(0))});
  context.set_output(1, kCount, {1});
}

void eval_nonzero(HostEvalContext& context) {
  if (!context.is_known(0)) return;
  const HostTensor& input = context.input(0);
  const std::vector<double> values = input.to_doubles();
  const Shape shape = input.shape.empty() ? Shape{1} : input.shape;
  std::vector<int64_t> found;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] != 0) found.push_back(static_cast<int64_t>(i));
  }
  const auto count = static_cast<int64_t>(found.size());
  std::vector<int64_t> coordinates(shape.size() * found.size());
  for (size_t k = 0; k < found.size(); ++k) {
    int64_t rest = found[k];
    for (size_t d = shape.size(); d-- > 0; rest /= shape[d]) {
      coordinates[d * found.size() + k] = rest % shape[d];
    }
  }
  context.set_output(
      0, HostTensor::from_ints(DType::kInt64, {static_cast<int64_t>(shape.size()), count},
                               coordinates));
}

void lower_nonzero(LowerContext& context) {
  const TensorView x = context.contiguous(context.input(0));
  require_computable(context, x);
  const TensorView before = count_before(context, x, context.output(1));
  DenseOutput output(context, context.output(0));
  KernelRequest request;
  request.name = "nonzero";
  request.types = {{"T", x.dtype}};
  const Shape dims = x.shape.empty() ? Shape{1} : x.shape;
  request.constants = {{"ND", static_cast<int64_t>(dims.size())}};
  dispatch_linear(context, request, {x, before, word_view(output.view())},
                  {{"y_row", 2 * x.elements()}, {"y_column", 2}, {"dims", dims}}, x.elements());
  output.finish();
}

/// Axes outside, on and inside of `axis`; all as one axis where there is none.
struct AxisSplit {
  int64_t outer = 1, length = 1, inner = 1;
};

AxisSplit split_at(const NodeReader& node, const Shape& shape) {
  if (!node.has_attr("axis")) return {1, element_count(shape), 1};
  const auto axis = static_cast<size_t>(
      node.normalize_axis(node.attr_int("axis", 0), static_cast<int64_t>(shape.size())));
  return {product(shape, 0, axis), shape[axis], product(shape, axis + 1)};
}

std::vector<DynamicAxis> axis_or_whole(const NodeReader& node) {
  return {{0, node.attr_int("axis", 0), 0}};
}

void infer_compress(InferContext& context) {
  if (context.rank(1) != 1 || context.dtype(1) != DType::kBool) {
    context.fail("the condition must be a 1-D tensor of bool");
  }
  const AxisSplit split = split_at(context, context.shape(0));
  const int64_t width = std::min(split.length, context.shape(1)[0]);
  Shape shape{width};
  if (context.has_attr("axis")) {
    shape = context.shape(0);
    shape[static_cast<size_t>(
        context.normalize_axis(context.attr_int("axis", 0), context.rank(0)))] = width;
  }
  context.set_output(0, context.dtype(0), shape);
  context.set_output(1, kCount, {1});
}

void lower_compress(LowerContext& context) {
  const AxisSplit split = split_at(context, context.input(0).shape);
  const TensorView x = context.contiguous(context.input(0));
  TensorView flags = context.contiguous(context.input(1));
  const int64_t used = std::min(split.length, flags.shape[0]);
  flags = slice_view(flags, 0, 0, used);
  const TensorView before = count_before(context, flags, context.output(1));
  DenseOutput output(context, context.output(0));
  const TensorView raw = raw_view(x, context.caps());
  const int64_t words = raw.rank() > x.rank() ? 2 : 1;
  KernelRequest request;
  request.name = "compress";
  request.types = {{"T", raw.dtype}};
  dispatch_linear(
      context, request, {raw, flags, before, raw_view(output.view(), context.caps())},
      {{"n", split.length}, {"flags", used}, {"inner", split.inner * words}, {"width", used}},
      used == 0 ? 0 : x.elements() * words);
  output.finish();
}

void infer_unique(InferContext& context) {
  const AxisSplit split = split_at(context, context.shape(0));
  context.set_output(0, context.dtype(0),
                     context.has_attr("axis") ? context.shape(0) : Shape{split.length});
  for (size_t i = 1; i < 4; ++i) {
    if (context.has_output(i)) context.set_output(i, DType::kInt64, {split.length});
  }
  context.set_output(4, kCount, {1});
}

void lower_unique(LowerContext& context) {
  const TensorView x = context.contiguous(context.input(0));
  require_computable(context, x);
  const AxisSplit split = split_at(context, x.shape);
  const int64_t n = split.length;
  const TensorView& count = context.output(4);
  if (x.elements() == 0) return fill_view(context, count, 0);
  TensorView blocks = x;  // (outer, n, inner), and as rows of keys (n, outer * inner)
  blocks.shape = {split.outer, n, split.inner};
  blocks.strides = contiguous_strides(blocks.shape);
  TensorView keys = context.contiguous(permute_view(blocks, {1, 0, 2}));
  keys.shape = {1, n, split.outer * split.inner};
  keys.strides = contiguous_strides(keys.shape);
  const TensorView order = sorted_indices(context, keys, false);
  const TensorView first = context.workspace(DType::kInt32, {n});
  const TensorView starts = context.workspace(DType::kInt32, {n});
  const TensorView marks = context.workspace(DType::kInt32, {n});
  KernelRequest request;
  request.name = "first_flags";
  request.types = {{"T", keys.dtype}};
  dispatch_linear(context, request, {keys, order, first}, {{"inner", keys.shape[2]}}, n);
  const TensorView groups = count_before(context, first, count);
  KernelRequest mark;
  mark.name = "group_starts";
  dispatch_linear(context, mark, {first, groups, order, starts, marks}, {}, n);
  const TensorView ranks = count_before(context, marks, context.workspace(DType::kInt32, {1}));

  const TensorView raw = raw_view(x, context.caps());
  const int64_t words = raw.rank() > x.rank() ? 2 : 1;
  std::vector<DenseOutput> outputs;
  for (size_t i = 0; i < 4; ++i) {
    if (context.has_output(i)) outputs.emplace_back(context, context.output(i));
  }
  KernelRequest results;
  results.name = "unique_results";
  results.types = {{"T", raw.dtype}};
  results.constants = {{"BY_VALUE", context.attr_int("sorted", 1) != 0 ? 1 : 0},
                       {"HAS_INDEX", context.has_output(1) ? 1 : 0},
                       {"HAS_INVERSE", context.has_output(2) ? 1 : 0},
                       {"HAS_COUNT", context.has_output(3) ? 1 : 0}};
  std::vector<TensorView> operands{raw, order, first, groups, starts, ranks, count};
  operands.push_back(raw_view(outputs[0].view(), context.caps()));
  for (size_t i = 1; i < outputs.size(); ++i) operands.push_back(word_view(outputs[i].view()));
  dispatch_linear(context, results, operands,
                  {{"n", n}, {"outer", split.outer}, {"inner", split.inner * words}, {"width", n}},
                  n);
  for (DenseOutput& output : outputs) output.finish();
}

double threshold(const LowerContext& context, size_t input) {
  return context.has_input(input) ? context.constant(input)->to_doubles().at(0) : 0.0;
}

int64_t boxes_per_class(const NodeReader& node, const std::optional<HostTensor>& limit,
                        int64_t boxes) {
  if (!limit) return 0;
  const std::vector<int64_t> values = limit->to_ints();
  if (values.size() != 1) node.fail("max_output_boxes_per_class must be one number");
  return std::clamp<int64_t>(values[0], 0, boxes);
}

void infer_nms(InferContext& context) {
  const Shape &boxes = context.shape(0), &scores = context.shape(1);
  if (boxes.size() != 3 || scores.size() != 3 || boxes[2] != 4 || boxes[0] != scores[0] ||
      boxes[1] != scores[2]) {
    context.fail("boxes " + shape_string(boxes) + " and scores " + shape_string(scores) +
                 " must be (batches, boxes, 4) and (batches, classes, boxes)");
  }
  std::optional<HostTensor> limit;
  if (context.has_input(2)) {
    limit = context.require_constant(2, "max_output_boxes_per_class");
  }
  for (size_t i = 3; i < 5; ++i) {
    if (context.has_input(i)) context.require_constant(i, "a threshold");
  }
  const int64_t most = boxes_per_class(context, limit, boxes[1]);
  context.set_output(0, DType::kInt64, {scores[0] * scores[1] * most, 3});
  context.set_output(1, kCount, {1});
}

void lower_nms(LowerContext& context) {
  const TensorView boxes = context.contiguous(context.input(0));
  const TensorView scores = context.contiguous(context.input(1));
  const int64_t count = boxes.shape[1], classes = scores.shape[1];
  const int64_t pairs = scores.shape[0] * classes;
  const int64_t limit =
      boxes_per_class(context, context.has_input(2) ? context.constant(2) : std::nullopt, count);
  if (pairs == 0 || limit == 0) return fill_view(context, context.output(1), 0);
  const TensorView in_play = context.workspace(DType::kInt32, {pairs, count});
  const TensorView picks = context.workspace(DType::kInt32, {pairs, limit});
  const TensorView counts = context.workspace(DType::kInt32, {pairs});
  KernelRequest request;
  request.name = "nms_select";
  request.types = {{"T", boxes.dtype}};
  request.constants = {{"WG", kLinearGroup},
                       {"CENTERS", context.attr_int("center_point_box", 0) != 0 ? 1 : 0}};
  context.dispatch(request, {boxes, scores, in_play, picks, counts},
                   {{"boxes", count},
                    {"classes", classes},
                    {"limit", limit},
                    {"has_threshold", context.has_input(4) ? 1 : 0},
                    {"iou_threshold", threshold(context, 3)},
                    {"score_threshold", threshold(context, 4)}},
                   {pairs, 1, 1});
  DenseOutput output(context, context.output(0));
  KernelRequest join;
  join.name = "nms_join";
  dispatch_linear(context, join, {picks, counts, word_view(output.view()), context.output(1)},
                  {{"classes", classes}, {"limit", limit}}, pairs);
  output.finish();
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "NonZero",
               .since_version = 13,
               .doc = "Coordinates of the elements that are not 0, one row an axis.",
               .layout = LayoutRule::kContiguous,
               .infer = infer_nonzero,
               .host_eval = eval_nonzero,
               .lower = lower_nonzero,
               .dynamic = [](const NodeReader&) { return std::vector<DynamicAxis>{{0, 1, 0}}; }});
  register_op({.name = "Compress",
               .since_version = 11,
               .doc = "Slices along `axis` (or elements) whose condition holds.",
               .min_inputs = 2,
               .max_inputs = 2,
               .layout = LayoutRule::kContiguous,
               .infer = infer_compress,
               .lower = lower_compress,
               .dynamic = axis_or_whole});
  register_op({.name = "Unique",
               .since_version = 11,
               .doc = "Distinct elements or slices along `axis`; first indices, inverse, counts.",
               .max_outputs = 4,
               .layout = LayoutRule::kContiguous,
               .infer = infer_unique,
               .lower = lower_unique,
               .dynamic = [](const NodeReader& node) {
                 std::vector<DynamicAxis> axes = axis_or_whole(node);
                 if (node.has_output(1)) axes.push_back({1, 0, 0});
                 if (node.has_output(3)) axes.push_back({3, 0, 0});
                 return axes;
               }});
  register_op({.name = "NonMaxSuppression",
               .since_version = 11,
               .doc = "Greedy choice of boxes by score that do not overlap; center_point_box.",
               .min_inputs = 2,
               .max_inputs = 5,
               .layout = LayoutRule::kContiguous,
               .infer = infer_nms,
               .lower = lower_nms,
               .dynamic = [](const NodeReader&) { return std::vector<DynamicAxis>{{0, 0, 0}}; }});
}

}  // namespace dlk
