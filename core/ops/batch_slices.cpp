#include "core/ops/batch_slices.h"

#include <algorithm>

#include "core/ops/op_util.h"

namespace dlk {

namespace {

class SliceContext : public LowerContext {
 public:
  SliceContext(LowerContext& whole, int64_t first, int64_t count)
      : LowerContext(whole.node()),
        whole_(whole),
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

  const Caps& caps() const override { return whole_.caps(); }
  const TensorView& input(size_t i) const override { return i == 0 ? input_ : whole_.input(i); }
  const TensorView& output(size_t i) const override { return i == 0 ? output_ : whole_.output(i); }
  std::optional<HostTensor> constant(size_t i) const override { return whole_.constant(i); }
  bool is_weight(size_t i) const override { return whole_.is_weight(i); }
  bool accumulate_fp16() const override { return whole_.accumulate_fp16(); }
  MatrixUnits* matrix_units() const override { return whole_.matrix_units(); }
  const Epilogue& epilogue() const override { return whole_.epilogue(); }
  const std::vector<TensorView>& epilogue_views() const override { return views_; }
  const PointwiseProgram* program() const override { return whole_.program(); }
  TensorView workspace(DType dtype, const Shape& shape) override {
    return whole_.workspace(dtype, shape);
  }
  std::optional<TensorView> counters(int64_t count) override { return whole_.counters(count); }
  TensorView contiguous(const TensorView& view) override { return whole_.contiguous(view); }
  void copy(const TensorView& from, const TensorView& to) override { whole_.copy(from, to); }
  TensorView prepacked(size_t input, const std::string& key, DType dtype, const Shape& shape,
                       const std::function<void(LowerContext&, const TensorView&)>& make) override {
    return whole_.prepacked(input, key, dtype, shape, make);
  }
  void dispatch(const KernelRequest& request, const std::vector<TensorView>& operands,
                Params params, std::array<int64_t, 3> groups) override {
    whole_.dispatch(request, operands, std::move(params), groups);
  }

 private:
  LowerContext& whole_;
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
    SliceContext slice(ctx, first, std::min(most, batch - first));
    lower(slice);
  }
}

}  // namespace dlk
