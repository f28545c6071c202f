// How an operator states its gradient: nodes that it adds to the graph, beside its forward. Used by
// core/ops/*.cpp (OpSchema::gradient) and by core/graph/autodiff.cpp, which walks the graph
// backwards and adds up what several readers of a value contribute. Ranks and dtypes are known,
// dimensions may be symbolic: what depends on a size goes through `shape_of`, which the host
// evaluates when a plan is made.
#pragma once

#include <string>
#include <vector>

#include "core/ops/op.h"

namespace dlk {

class GradientContext : public NodeReader {
 public:
  using NodeReader::NodeReader;
  virtual ~GradientContext() = default;

  /// The gradient of input i is asked for.
  virtual bool wants(size_t input) const = 0;
  /// kNoValue where the result does not depend on this output.
  virtual ValueId output_gradient(size_t output) const = 0;
  virtual void set_gradient(size_t input, ValueId gradient) = 0;
  virtual int64_t rank(ValueId value) const = 0;
  virtual DType dtype(ValueId value) const = 0;
  /// The shape at one binding of the symbols: for choices that hold at every size.
  virtual const Shape& example_shape(ValueId value) const = 0;
  /// Whether an axis of a value has the same size at every binding of the symbols.
  virtual bool is_fixed(ValueId value, int64_t axis) const = 0;
  /// A constant's (or shape arithmetic's) value where it is the same in every run.
  virtual std::optional<HostTensor> constant(ValueId value) const = 0;
  /// An output that the forward node saves for its gradient; it is added where it is not there.
  virtual ValueId saved_output(size_t output) = 0;

  ValueId input(size_t i) const { return has_input(i) ? node().inputs[i] : kNoValue; }
  ValueId output(size_t i) const { return has_output(i) ? node().outputs[i] : kNoValue; }
  bool wants_any(size_t begin, size_t end) const {
    for (size_t i = begin; i < end; ++i) {
      if (has_input(i) && wants(i)) return true;
    }
    return false;
  }

  /// The gradients of values that compute again, in other operators, what the node's outputs are:
  /// sets those of all inputs. For operators that are written out in simpler ones.
  virtual void differentiate(const std::vector<ValueId>& outputs) = 0;

  // Building -----------------------------------------------------------------------------------
  virtual std::vector<ValueId> add_node(const std::string& op, std::vector<ValueId> inputs,
                                        Attributes attributes, int outputs,
                                        const std::string& domain) = 0;
  virtual ValueId add_constant(HostTensor value) = 0;

  /// A node with one output.
  ValueId onnx(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return add_node(op, std::move(inputs), std::move(attributes), 1, "").at(0);
  }
  ValueId own(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return add_node(op, std::move(inputs), std::move(attributes), 1, "dlk").at(0);
  }
  ValueId ints(const std::vector<int64_t>& values) {
    return add_constant(HostTensor::ints(values));
  }
  /// A scalar of the dtype of `like`.
  ValueId scalar(double value, ValueId like) {
    return add_constant(HostTensor::scalar(dtype(like), value));
  }
  ValueId shape_of(ValueId value) { return onnx("Shape", {value}); }
  /// `value` summed over the axes that broadcasting to it repeated.
  ValueId sum_to(ValueId value, ValueId like) { return own("SumTo", {value, shape_of(like)}); }
  ValueId reshape_like(ValueId value, ValueId like) {
    return onnx("Reshape", {value, shape_of(like)}, {{"allowzero", int64_t{1}}});
  }
  ValueId expand_like(ValueId value, ValueId like) {
    return onnx("Expand", {value, shape_of(like)});
  }
  /// Axes 0 .. rank-1 of `value` with two swapped; negative ones count from the end.
  ValueId swap_axes(ValueId value, int64_t a, int64_t b);
  ValueId reduce_sum(ValueId value, const std::vector<int64_t>& axes, bool keepdims) {
    return onnx("ReduceSum", {value, ints(axes)}, {{"keepdims", int64_t{keepdims ? 1 : 0}}});
  }
};

}  // namespace dlk
