#include "core/ops/sorting.h"

#include <algorithm>

#include "core/ops/op_util.h"

namespace dlk {

TensorView count_before(LowerContext& context, const TensorView& flags, const TensorView& total) {
  constexpr int64_t kChunk = 256;
  const int64_t n = flags.elements(), chunks = ceil_div(std::max<int64_t>(n, 1), kChunk);
  const TensorView sums = context.workspace(DType::kInt32, {chunks});
  const TensorView result = context.workspace(DType::kInt32, {std::max<int64_t>(n, 1)});
  KernelRequest request;
  request.types = {{"T", flags.dtype}};
  const Params params{{"n", n}, {"chunk", kChunk}};
  if (n == 0) {
    fill_view(context, total, 0);
    return result;
  }
  request.name = "count_chunks";
  dispatch_linear(context, request, {flags, sums}, params, chunks);
  KernelRequest scan;
  scan.name = "scan_chunks";
  context.dispatch(scan, {sums, total}, {{"n", chunks}}, {1, 1, 1});
  request.name = "scan_within";
  dispatch_linear(context, request, {flags, sums, result}, params, chunks);
  return result;
}

TensorView sorted_indices(LowerContext& context, const TensorView& keys, bool descending) {
  const int64_t rows = keys.shape[0], n = keys.shape[1], inner = keys.shape[2];
  int64_t width = 1;
  while (width < n) width *= 2;
  const TensorView indices = context.workspace(DType::kInt32, {rows, width});
  KernelRequest start;
  start.name = "sort_start";
  dispatch_linear(context, start, {indices}, {{"width", width}, {"n", n}}, rows * width);
  KernelRequest step;
  step.name = "sort_step";
  step.types = {{"T", keys.dtype}};
  step.constants = {{"DESCENDING", descending ? 1 : 0}};
  for (int64_t size = 2; size <= width; size *= 2) {
    for (int64_t distance = size / 2; distance > 0; distance /= 2) {
      dispatch_linear(
          context, step, {keys, indices},
          {{"width", width}, {"n", n}, {"inner", inner}, {"size", size}, {"distance", distance}},
          rows * width / 2);
    }
  }
  return indices;
}

}  // namespace dlk
