// Pad: constant, reflect, edge and wrap; negative pads crop (and are a view where nothing is
// added).
#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

/// Elements added before and after each axis.
struct Pads {
  std::vector<int64_t> before, after;
};

template <typename Context>
Pads read_pads(const Context& context, int64_t rank) {
  Pads result{std::vector<int64_t>(static_cast<size_t>(rank), 0),
              std::vector<int64_t>(static_cast<size_t>(rank), 0)};
  const auto pads =
      context.has_input(1) ? required_sizes(context, 1, "a pad") : context.attr_ints("pads");
  const auto axes = read_axes(context, 3, "", rank, all_axes(rank));
  if (pads.size() != 2 * axes.size()) {
    context.fail(std::to_string(pads.size()) + " pads for " + std::to_string(axes.size()) +
                 " axes; two an axis are needed");
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    result.before[static_cast<size_t>(axes[i])] = pads[i];
    result.after[static_cast<size_t>(axes[i])] = pads[i + axes.size()];
  }
  return result;
}

int64_t read_mode(const NodeReader& node) {
  const std::string mode = node.attr_string("mode", "constant");
  const char* const names[] = {"constant", "reflect", "edge", "wrap"};
  for (int64_t i = 0; i < 4; ++i) {
    if (mode == names[i]) return i;
  }
  node.fail("mode is constant, reflect, edge or wrap, not " + mode);
}

void infer_pad(InferContext& context) {
  Shape shape = context.shape(0);
  const Pads pads = read_pads(context, context.rank(0));
  const int64_t mode = read_mode(context);
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t size = shape[d] + pads.before[d] + pads.after[d];
    if (size < 0) {
      context.fail("pads crop axis " + std::to_string(d) + " of " + shape_string(shape) +
                   " to less than nothing");
    }
    if (mode != 0 && shape[d] == 0 && size > 0) {
      context.fail("only mode constant can pad an empty axis");
    }
    shape[d] = size;
  }
  context.set_output(0, context.dtype(0), shape);
}

std::optional<AliasResult> alias_pad(const AliasContext& context) {
  TensorView view = context.input(0);
  const Pads pads = read_pads(context, view.rank());
  for (size_t d = 0; d < view.shape.size(); ++d) {
    if (pads.before[d] > 0 || pads.after[d] > 0) return std::nullopt;
    view = slice_view(view, static_cast<int64_t>(d), -pads.before[d],
                      view.shape[d] + pads.before[d] + pads.after[d]);
  }
  return AliasResult{0, view};
}

/// Applies negative pads: the view without what they crop; they become 0.
TensorView crop(TensorView view, Pads& pads) {
  for (size_t d = 0; d < view.shape.size(); ++d) {
    const int64_t start = std::clamp<int64_t>(-pads.before[d], 0, view.shape[d]);
    const int64_t end = std::clamp<int64_t>(view.shape[d] + pads.after[d], start, view.shape[d]);
    view = slice_view(view, static_cast<int64_t>(d), start, end - start);
    pads.before[d] = std::max<int64_t>(pads.before[d], 0);
    pads.after[d] = std::max<int64_t>(pads.after[d], 0);
  }
  return view;
}

/// The input that holds the constant, unless it is left out or known to be all zero bits.
bool needs_value(const LowerContext& context) {
  if (!context.has_input(2)) return false;
  const auto value = context.constant(2);
  if (!value) return true;
  const auto bytes = value->bytes();
  return std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
}

void lower_pad(LowerContext& context) {
  Pads pads = read_pads(context, context.input(0).rank());
  const TensorView input = crop(context.input(0), pads);
  const int64_t mode = read_mode(context);
  const bool value = mode == 0 && needs_value(context);
  if (input.elements() == 0) {
    if (context.output(0).elements() == 0) return;
    if (mode != 0) context.fail("only mode constant can pad what is cropped to nothing");
    if (!value) return fill_view(context, context.output(0), 0);
    TensorView constant = context.input(2);
    constant.shape.clear();
    constant.strides.clear();
    return context.copy(broadcast_view(constant, context.output(0).shape), context.output(0));
  }
  const TensorView from = raw_view(input, context.caps());
  const TensorView to = raw_view(context.output(0), context.caps());
  const bool pairs = from.rank() != input.rank();
  // A group of its own for each padded axis, so that only the others merge.
  std::vector<int> groups;
  for (size_t d = 0; d < from.shape.size(); ++d) {
    const bool padded =
        d < pads.before.size() && (pads.before[d] != 0 || from.shape[d] != to.shape[d]);
    groups.push_back(padded ? -1 - static_cast<int>(d) : 0);
  }
  const LoopNest nest = collapse(to.shape, {to.strides, from.strides}, groups);
  Shape sizes = nest.dims;
  std::vector<int64_t> before(nest.dims.size(), 0);
  for (size_t d = 0; d < nest.dims.size(); ++d) {
    if (nest.groups[d] == 0) continue;
    const auto axis = static_cast<size_t>(-1 - nest.groups[d]);
    sizes[d] = from.shape[axis];
    before[d] = pads.before[axis];
  }
  KernelRequest request;
  request.name = "pad";
  // CPU drivers make a stretch of a row in one work-item; on GPUs neighbours make neighbours.
  const int64_t run = context.caps().is_cpu ? 16 : 1;
  const int64_t blocks = ceil_div(std::max<int64_t>(nest.dims.back(), 1), run);
  request.constants = {
      {"ND", nest.rank()}, {"MODE", mode}, {"HAS_VALUE", value ? 1 : 0}, {"RUN", run}};
  request.types = {{"T", from.dtype}};
  std::vector<TensorView> operands{from};
  if (value) operands.push_back(raw_view(context.input(2), context.caps()));
  operands.push_back(to);
  dispatch_linear(context, request, operands,
                  {{"blocks", blocks},
                   {"dims", nest.dims},
                   {"sizes", sizes},
                   {"ys", nest.strides[0]},
                   {"xs", nest.strides[1]},
                   {"before", before},
                   {"value_step", pairs ? 1 : 0}},
                  nest.size() == 0 ? 0 : nest.size() / nest.dims.back() * blocks);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Pad",
               .since_version = 21,
               .doc = "Adds elements around a tensor; mode constant, reflect, edge or wrap.",
               .min_inputs = 2,
               .max_inputs = 4,
               .infer = infer_pad,
               .alias = alias_pad,
               .lower = lower_pad,
               .gradient = pad_gradient});
}

}  // namespace dlk
