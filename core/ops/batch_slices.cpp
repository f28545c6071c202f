#include "core/ops/batch_slices.h"

#include <algorithm>

#include "core/ops/forwarding.h"
#include "core/ops/op_util.h"

namespace dlk {

namespace {

class SliceContext : public ForwardingContext {
 public:
  SliceContext(LowerContext& whole, int64_t first, int64_t count)
      : ForwardingContext(whole),
        input_(slice_view(whole.input(0), 0, first, count)),
        output_(slice_view(whole.output(0), 0, first, count)),
        views_(whole.epilogue_views()) {
    size_t view = 0;
    for (const EpilogueOperand& operand : whole.epilogue().operands) {
      if (operand.kind == EpilogueOperand::Kind::kValue) continue;
      if (operand.kind == EpilogueOperand::Kind::kFull) {
        views_[view] = slice_view(views_[view], 0, first, count);
      }
      ++view;
    }
  }

  const TensorView& input(size_t i) const override {
    return i == 0 ? input_ : ForwardingContext::input(i);
  }
  const TensorView& output(size_t i) const override {
    return i == 0 ? output_ : ForwardingContext::output(i);
  }
  const std::vector<TensorView>& epilogue_views() const override { return views_; }

 private:
  TensorView input_, output_;
  std::vector<TensorView> views_;
};

// Bytes from the first to the last element, of one image and from image to image.
struct Span {
  int64_t image = 0, step = 0;
};

Span span_of(const TensorView& view) {
  int64_t last = 0;
  for (size_t i = 1; i < view.shape.size(); ++i) last += (view.shape[i] - 1) * view.strides[i];
  const int64_t bytes = dtype_size(view.dtype);
  return {(last + 1) * bytes, view.strides[0] * bytes};
}

}  // namespace

void lower_batch_slice(LowerContext& ctx, int64_t first, int64_t count,
                       const std::function<void(LowerContext&)>& lower) {
  if (first == 0 && count == ctx.output(0).shape[0]) return lower(ctx);
  SliceContext slice(ctx, first, count);
  lower(slice);
}

void lower_in_batch_slices(LowerContext& ctx, const std::function<void(LowerContext&)>& lower) {
  const TensorView &x = ctx.input(0), &y = ctx.output(0);
  // A binding starts at an aligned offset, so that a little of its reach may be lost.
  const auto reach =
      static_cast<int64_t>(ctx.caps().max_binding_bytes - ctx.caps().binding_alignment);
  const int64_t batch = y.shape[0];
  if (y.elements() == 0 || x.elements() == 0) return lower(ctx);
  int64_t most = batch;
  for (const TensorView* view : {&x, &y}) {
    const Span span = span_of(*view);
    if (span.image > reach) {
      ctx.unsupported("one image of " + shape_string(view->shape) + " takes " +
                      std::to_string(span.image) + " bytes; a kernel argument of " + ctx.caps().id +
                      " reaches " + std::to_string(reach));
    }
    if (span.step > 0) most = std::min(most, (reach - span.image) / span.step + 1);
  }
  if (most >= batch) return lower(ctx);
  for (int64_t first = 0; first < batch; first += most) {
    lower_batch_slice(ctx, first, std::min(most, batch - first), lower);
  }
}

}  // namespace dlk
