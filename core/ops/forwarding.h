// A LowerContext that passes everything on to another one: the base of contexts that change a part,
// as the slices of a batch, or a step whose results are not the node's.
#pragma once

#include <utility>
#include <vector>

#include "core/ops/op.h"

namespace dlk {

class ForwardingContext : public LowerContext {
 public:
  explicit ForwardingContext(LowerContext& whole) : LowerContext(whole.node()), whole_(whole) {}

  const Caps& caps() const override { return whole_.caps(); }
  const TensorView& input(size_t i) const override { return whole_.input(i); }
  const TensorView& output(size_t i) const override { return whole_.output(i); }
  std::optional<HostTensor> constant(size_t i) const override { return whole_.constant(i); }
  bool is_weight(size_t i) const override { return whole_.is_weight(i); }
  bool accumulate_fp16() const override { return whole_.accumulate_fp16(); }
  MatrixUnits* matrix_units() const override { return whole_.matrix_units(); }
  const Epilogue& epilogue() const override { return whole_.epilogue(); }
  const std::vector<TensorView>& epilogue_views() const override { return whole_.epilogue_views(); }
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
};

/// Without the node's epilogue.
class BareContext : public ForwardingContext {
 public:
  using ForwardingContext::ForwardingContext;
  const Epilogue& epilogue() const override { return none_; }
  const std::vector<TensorView>& epilogue_views() const override { return no_views_; }

 private:
  const Epilogue none_{};
  const std::vector<TensorView> no_views_{};
};

}  // namespace dlk
