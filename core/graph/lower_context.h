// The LowerContext that the engine gives to operators: collects commands into a Lowered program.
// Internal to the engine.
#pragma once

#include "core/graph/lowered.h"
#include "core/kernel/library.h"

namespace dlk {

/// What all nodes of one lowering share.
struct LowerState {
  const ConcreteGraph& graph;
  const std::vector<TensorView>& views;  // of the graph's values
  const LowerOptions& options;
};

class NodeLowering : public LowerContext {
 public:
  /// Commands and storages go to `target`. Outer programs' storages are a prefix of `target`'s.
  NodeLowering(const LowerState& state, const ConcreteNode& node, NodeId id, Lowered& target);

  const Caps& caps() const override { return *state_.options.caps; }
  const TensorView& input(size_t i) const override;
  const TensorView& output(size_t i) const override;
  std::optional<HostTensor> constant(size_t input) const override;
  bool is_weight(size_t input) const override;
  bool accumulate_fp16() const override { return state_.options.accumulate_fp16; }
  MatrixUnits* matrix_units() const override { return state_.options.matrix_units; }
  const Epilogue& epilogue() const override { return node_of_.epilogue; }
  const std::vector<TensorView>& epilogue_views() const override { return epilogue_views_; }
  const PointwiseProgram* program() const override { return node_of_.program.get(); }
  TensorView workspace(DType dtype, const Shape& shape) override;
  std::optional<TensorView> counters(int64_t count) override;
  TensorView contiguous(const TensorView& view) override;
  void copy(const TensorView& from, const TensorView& to) override;
  TensorView prepacked(size_t input, const std::string& key, DType dtype, const Shape& shape,
                       const std::function<void(LowerContext&, const TensorView&)>& make) override;
  void dispatch(const KernelRequest& request, const std::vector<TensorView>& operands,
                Params params, std::array<int64_t, 3> groups) override;

  /// Residuals and the like in the strides of the output, as kernels expect them.
  void prepare_epilogue();

 private:
  TensorView new_tensor(StorageKind kind, DType dtype, const Shape& shape, const std::string& name);
  std::vector<std::byte> packed_params(const KernelRequest& request,
                                       const KernelInterface& interface, Params params) const;
  void check_operands(const KernelRequest& request, const KernelInterface& interface,
                      const std::vector<TensorView>& operands) const;

  const LowerState& state_;
  const ConcreteNode& node_of_;
  NodeId id_;
  Lowered& target_;
  std::vector<TensorView> epilogue_views_;
};

/// The bytes of `view` in its storage.
PlannedOperand planned_operand(const TensorView& view, Access access);

}  // namespace dlk
