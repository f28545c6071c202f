// TensorScatter: new entries into a cache, from each batch's write index on.
#include "core/ops/op_util.h"

namespace dlk {
namespace {

bool wraps(const NodeReader& node) {
  const std::string mode = node.attr_string("mode", "linear");
  if (mode != "linear" && mode != "circular") node.fail("mode is linear or circular, not " + mode);
  return mode == "circular";
}

void infer(InferContext& context) {
  const Shape &cache = context.shape(0), &update = context.shape(1);
  wraps(context);
  const auto axis =
      static_cast<size_t>(context.normalize_axis(context.attr_int("axis", -2), context.rank(0)));
  if (axis == 0) context.fail("axis must not be the batch axis");
  bool fits = cache.size() == update.size() && context.dtype(0) == context.dtype(1);
  for (size_t d = 0; fits && d < cache.size(); ++d) {
    fits = d == axis ? update[d] <= cache[d] : update[d] == cache[d];
  }
  if (!fits) {
    context.fail("the update " + shape_string(update) + " does not fit the cache " +
                 shape_string(cache));
  }
  if (context.has_input(2) && context.shape(2) != Shape{cache[0]}) {
    context.fail("needs one write index a batch");
  }
  context.set_output(0, context.dtype(0), cache);
}

void lower(LowerContext& context) {
  if (!same_view(context.input(0), context.output(0))) {
    context.copy(context.input(0), context.output(0));
  }
  const TensorView update = raw_view(context.input(1), context.caps());
  const TensorView output = raw_view(context.output(0), context.caps());
  const bool has_index = context.has_input(2);
  const int64_t axis =
      context.normalize_axis(context.attr_int("axis", -2), context.input(0).rank());
  KernelRequest request;
  request.name = "tensor_scatter";
  request.types = {{"T", update.dtype}};
  request.constants = {
      {"ND", update.rank()}, {"HAS_INDEX", has_index ? 1 : 0}, {"WRAP", wraps(context) ? 1 : 0}};
  std::vector<TensorView> views{update};
  int64_t step = 0;
  if (has_index) {
    views.push_back(index_view(context, context.input(2)));
    step = views.back().strides[0];
  }
  views.push_back(output);
  dispatch_linear(context, request, views,
                  {{"axis", axis},
                   {"length", output.shape[static_cast<size_t>(axis)]},
                   {"i_step", step},
                   {"dims", update.shape},
                   {"us", update.strides},
                   {"ys", output.strides}},
                  update.elements());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "TensorScatter",
               .since_version = 24,
               .doc = "A cache with new entries from each batch's write index on; axis=-2, "
                      "mode=linear|circular.",
               .min_inputs = 2,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer,
               .lower = lower});
}

}  // namespace dlk
