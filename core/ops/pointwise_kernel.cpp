#include "core/ops/pointwise_kernel.h"

#include <algorithm>

namespace dlk {

namespace {

/// Strides of `view` as seen from the output's axes: 0 where it is broadcast. A weight's axis of
/// size 1 counts as broadcast even where the output's is 1 too: the kernel must not depend on the
/// batch size.
std::vector<int64_t> broadcast_strides(const TensorView& view, const Shape& shape, bool weight) {
  std::vector<int64_t> strides(shape.size(), 0);
  const size_t missing = shape.size() - view.shape.size();
  for (size_t i = 0; i < view.shape.size(); ++i) {
    const bool broadcast = view.shape[i] == 1 && (weight || shape[missing + i] != 1);
    strides[missing + i] = broadcast ? 0 : view.strides[i];
  }
  return strides;
}

/// Writes the kernel of one program for one kind of iteration space.
class KernelText {
 public:
  KernelText(const PointwiseProgram& program, const std::vector<int>& binding_of,
             const std::vector<TensorView>& views, const TensorView& output,
             const IterationSpace& space, int64_t width)
      : program_(program), binding_of_(binding_of), space_(space), width_(width) {
    for (const TensorView& view : views) dtypes_.push_back(view.dtype);
    output_dtype_ = output.dtype;
  }

  std::string print() const {
    const std::string items = std::to_string(kPointwiseGroup);
    const std::string width = std::to_string(width_);
    std::string text = header() + "group " + items + "\n{\n";
    if (width_ == 1) {
      text += "  uint i = WL * " + items + "u + LX;\n  if (i < n) {\n" + indices();
      return text + loads(true) + loads(false) + steps() + store() + "  }\n}\n";
    }
    text += "  uint i = (WL * " + items + "u + LX) * " + width + "u;\n" + loads(true);
    text += "  if (i + " + width + "u <= n) {\n" + vector_body() + "  } else {\n";
    text += "    for (; i < n; i += 1u) {\n" + loads(false) + steps() + store() + "    }\n  }\n}\n";
    return text;
  }

 private:
  std::string header() const {
    std::string text = "kernel pointwise\n";
    if (width_ > 1) text += "const VW = " + std::to_string(width_) + "\n";
    for (size_t i = 0; i < dtypes_.size(); ++i) {
      text += "in " + IterationSpace::tensor_name(i + 1) + " : " +
              std::string(dtype_short_name(dtypes_[i])) + "\n";
    }
    text += "out Y : " + std::string(dtype_short_name(output_dtype_)) + "\nparam n : uint\n";
    if (!space_.is_linear()) {
      const std::string rank = "[" + std::to_string(space_.dims.size()) + "] : uint\n";
      text += "param d" + rank;
      for (size_t t = 0; t < space_.strides.size(); ++t) {
        text += "param s" + IterationSpace::tensor_name(t) + rank;
      }
    }
    for (size_t i = 0; i < program_.values.size(); ++i) {
      text += "param v" + std::to_string(i) + " : float\n";
    }
    return text;
  }

  std::string indices() const {
    if (space_.is_linear()) return {};
    std::string text = "    uint r = i;\n";
    for (size_t axis = space_.dims.size(); axis-- > 0;) {
      const std::string k = std::to_string(axis);
      if (axis == 0) {
        text += "    uint i0 = r;\n";
      } else {
        text += "    uint i" + k + " = r % d[" + k + "];\n    r = r / d[" + k + "];\n";
      }
    }
    return text;
  }

  /// One element for all results: read before the loop.
  bool is_scalar(size_t tensor) const {
    return space_.is_linear() && space_.strides[tensor][0] == 0;
  }

  std::string index(size_t tensor) const {
    if (space_.is_linear()) return is_scalar(tensor) ? "0u" : "i";
    std::string text;
    for (size_t axis = 0; axis < space_.dims.size(); ++axis) {
      const std::string k = std::to_string(axis);
      text +=
          (axis ? " + i" : "i") + k + " * s" + IterationSpace::tensor_name(tensor) + "[" + k + "]";
    }
    return text;
  }

  std::string loads(bool scalars) const {
    std::string text;
    for (size_t i = 0; i < dtypes_.size(); ++i) {
      if (is_scalar(i + 1) != scalars) continue;
      text += "    " + compute_type(dtypes_[i]) + " a" + std::to_string(i) + " = ld(" +
              IterationSpace::tensor_name(i + 1) + ", " + index(i + 1) + ");\n";
    }
    return text;
  }

  std::string steps() const {
    std::string text;
    for (size_t s = 0; s < program_.steps.size(); ++s) {
      const PointwiseStep& step = program_.steps[s];
      std::vector<std::string> args;
      std::vector<DType> dtypes;
      for (const PointwiseArg& arg : step.args) {
        const bool operand = arg.kind == PointwiseArg::Kind::kOperand;
        const bool value = arg.kind == PointwiseArg::Kind::kValue;
        const std::string prefix = operand ? "a" : value ? "v" : "t";
        args.push_back(prefix + std::to_string(operand ? binding_of_[arg.index] : arg.index));
        dtypes.push_back(operand ? program_.operands[arg.index]
                         : value ? DType::kFloat32
                                 : program_.steps[arg.index].dtype);
      }
      text += "    " + compute_type(step.dtype) + " t" + std::to_string(s) + " = " +
              step_expression(step, dtypes, args) + ";\n";
    }
    return text;
  }

  std::string result() const { return "t" + std::to_string(program_.steps.size() - 1); }

  std::string store() const { return "    st(Y, " + index(0) + ", " + result() + ");\n"; }

  std::string vector_body() const {
    std::string text, lanes;
    for (size_t i = 0; i < dtypes_.size(); ++i) {
      if (is_scalar(i + 1)) continue;
      const std::string k = std::to_string(i);
      text += "    fvec b" + k + " = ldv(A" + k + ", i);\n";
      lanes += "    float a" + k + " = lane(b" + k + ", l);\n";
    }
    text += "    fvec y = fvec(0.0f);\n    static for (l = 0; l < VW; l++) {\n" + lanes + steps();
    return text + "    set_lane(y, l, " + result() + ");\n    }\n    stv(Y, i, y);\n";
  }

  const PointwiseProgram& program_;
  const std::vector<int>& binding_of_;
  const IterationSpace& space_;
  int64_t width_;
  std::vector<DType> dtypes_;
  DType output_dtype_;
};

}  // namespace

bool IterationSpace::is_linear() const {
  if (dims.size() != 1 || strides[0][0] != 1) return false;
  return std::ranges::all_of(strides, [](const auto& s) { return s[0] == 0 || s[0] == 1; });
}

std::string IterationSpace::tensor_name(size_t tensor) {
  return tensor == 0 ? "Y" : "A" + std::to_string(tensor - 1);
}

IterationSpace make_space(const TensorView& output, const std::vector<TensorView>& operands,
                          const std::vector<bool>& weights) {
  std::vector<std::vector<int64_t>> strides{output.strides};
  for (size_t i = 0; i < operands.size(); ++i) {
    strides.push_back(broadcast_strides(operands[i], output.shape, weights[i]));
  }
  std::vector<size_t> order;
  for (size_t axis = 0; axis < output.shape.size(); ++axis) {
    if (axis == 0 || output.shape[axis] != 1) order.push_back(axis);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return output.strides[a] > output.strides[b]; });
  IterationSpace space;
  space.strides.resize(strides.size());
  for (const size_t axis : order) {
    const int64_t dim = output.shape[axis];
    bool joins = !space.dims.empty();
    for (size_t t = 0; joins && t < strides.size(); ++t) {
      joins = space.strides[t].back() == strides[t][axis] * dim;
    }
    if (joins) space.dims.back() *= dim;
    if (!joins) space.dims.push_back(dim);
    for (size_t t = 0; t < strides.size(); ++t) {
      if (joins) space.strides[t].back() = strides[t][axis];
      if (!joins) space.strides[t].push_back(strides[t][axis]);
    }
  }
  if (space.dims.empty()) {
    space.dims.push_back(1);
    for (auto& tensor : space.strides) tensor.push_back(1);
  }
  return space;
}

std::string pointwise_kernel(const PointwiseProgram& program, const std::vector<int>& binding_of,
                             const std::vector<TensorView>& views, const TensorView& output,
                             const IterationSpace& space, int64_t width) {
  return KernelText(program, binding_of, views, output, space, width).print();
}

}  // namespace dlk
