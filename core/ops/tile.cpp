// Tile, DepthToSpace and SpaceToDepth: copies between two views of split and permuted axes.
#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

template <typename Context>
std::vector<int64_t> read_repeats(const Context& context, size_t rank) {
  const auto repeats = required_sizes(context, 1, "a repeat");
  if (repeats.size() != rank) {
    context.fail(std::to_string(repeats.size()) + " repeats for a tensor of rank " +
                 std::to_string(rank));
  }
  for (int64_t r : repeats) {
    if (r < 0) context.fail("a negative repeat");
  }
  return repeats;
}

void infer_tile(InferContext& context) {
  Shape shape = context.shape(0);
  const auto repeats = read_repeats(context, shape.size());
  for (size_t d = 0; d < shape.size(); ++d) shape[d] *= repeats[d];
  context.set_output(0, context.dtype(0), shape);
}

/// The input with an axis of stride 0 before each of its own: [r0, d0, r1, d1, ...].
TensorView repeated(const TensorView& view, const std::vector<int64_t>& repeats) {
  TensorView result = view;
  for (size_t d = 0; d < repeats.size(); ++d) {
    result = insert_axis(result, static_cast<int64_t>(2 * d), repeats[d]);
  }
  return result;
}

void eval_tile(HostEvalContext& context) {
  if (!all_known(context)) return;
  const HostTensor& input = context.input(0);
  TensorView view;
  view.shape = input.shape;
  view.strides = contiguous_strides(input.shape);
  view = repeated(view, read_repeats(context, input.shape.size()));
  context.set_output(
      0, gather_host(input, context.output_shape(0), strided_indices(view.shape, 0, view.strides)));
}

std::optional<AliasResult> alias_tile(const AliasContext& context) {
  TensorView view = context.input(0);
  const auto repeats = read_repeats(context, view.shape.size());
  for (size_t d = 0; d < repeats.size(); ++d) {
    if (repeats[d] == 1) continue;
    if (view.shape[d] != 1) return std::nullopt;
    view.shape[d] = repeats[d];
    view.strides[d] = 0;
  }
  return AliasResult{0, view};
}

void lower_tile(LowerContext& context) {
  const TensorView& input = context.input(0);
  const auto repeats = read_repeats(context, input.shape.size());
  TensorView output = context.output(0);
  if (output.elements() == 0) return;
  for (size_t d = 0; d < repeats.size(); ++d) {
    output = split_axis(output, static_cast<int64_t>(2 * d), {repeats[d], input.shape[d]});
  }
  context.copy(repeated(input, repeats), output);
}

int64_t block_size(const NodeReader& node, int64_t rank) {
  const int64_t block = node.attr_int("blocksize", 0);
  if (block < 1) node.fail("blocksize must be at least 1");
  if (rank != 4) node.fail("needs an input of rank 4, (N, C, H, W)");
  return block;
}

void infer_depth_to_space(InferContext& context) {
  const int64_t b = block_size(context, context.rank(0));
  const Shape& s = context.shape(0);
  if (s[1] % (b * b) != 0) {
    context.fail(std::to_string(s[1]) + " channels are no multiple of blocksize squared");
  }
  context.set_output(0, context.dtype(0), {s[0], s[1] / (b * b), s[2] * b, s[3] * b});
}

void infer_space_to_depth(InferContext& context) {
  const int64_t b = block_size(context, context.rank(0));
  const Shape& s = context.shape(0);
  if (s[2] % b != 0 || s[3] % b != 0) {
    context.fail("height and width of " + shape_string(s) + " are no multiples of blocksize");
  }
  context.set_output(0, context.dtype(0), {s[0], s[1] * b * b, s[2] / b, s[3] / b});
}

/// The deep tensor (N, C*b*b, H, W) as (N, C, H, b, W, b), the order of the wide one.
TensorView depth_as_space(const TensorView& deep, int64_t block, bool channels_first) {
  const int64_t channels = deep.shape[1] / (block * block);
  if (channels_first) {
    return permute_view(split_axis(deep, 1, {channels, block, block}), {0, 1, 4, 2, 5, 3});
  }
  return permute_view(split_axis(deep, 1, {block, block, channels}), {0, 3, 4, 1, 5, 2});
}

TensorView split_space(const TensorView& wide, int64_t block) {
  const TensorView rows = split_axis(wide, 2, {wide.shape[2] / block, block});
  return split_axis(rows, 4, {wide.shape[3] / block, block});
}

void lower_depth_to_space(LowerContext& context) {
  const int64_t b = block_size(context, 4);
  const std::string mode = context.attr_string("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") context.fail("mode is DCR or CRD, not " + mode);
  if (context.output(0).elements() == 0) return;
  context.copy(depth_as_space(context.input(0), b, mode == "CRD"),
               split_space(context.output(0), b));
}

void lower_space_to_depth(LowerContext& context) {
  const int64_t b = block_size(context, 4);
  if (context.output(0).elements() == 0) return;
  context.copy(split_space(context.input(0), b), depth_as_space(context.output(0), b, false));
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Tile",
               .since_version = 13,
               .doc = "Repeats a tensor `repeats[i]` times along axis i.",
               .min_inputs = 2,
               .max_inputs = 2,
               .infer = infer_tile,
               .host_eval = eval_tile,
               .alias = alias_tile,
               .lower = lower_tile,
               .gradient = tile_gradient});
  register_op({.name = "DepthToSpace",
               .since_version = 13,
               .doc = "Channels to blocks of pixels; mode DCR (depth-column-row) or CRD.",
               .infer = infer_depth_to_space,
               .lower = lower_depth_to_space,
               .gradient = depth_to_space_gradient});
  register_op({.name = "SpaceToDepth",
               .since_version = 13,
               .doc = "Blocks of pixels to channels.",
               .infer = infer_space_to_depth,
               .lower = lower_space_to_depth,
               .gradient = space_to_depth_gradient});
}

}  // namespace dlk
