// The text of a pointwise program's kernel, and the loop that it runs over. Used by pointwise.cpp.
#pragma once

#include <string>
#include <vector>

#include "core/ops/pointwise.h"

namespace dlk {

inline constexpr int64_t kPointwiseGroup = 64;  // work-items of a group

/// Dimensions from the outermost, and for each tensor its strides along them. Tensor 0 is the
/// output.
struct IterationSpace {
  std::vector<int64_t> dims;
  std::vector<std::vector<int64_t>> strides;  // [tensor][dimension]

  /// One dimension that every tensor walks element by element, or stays in place.
  bool is_linear() const;
  static std::string tensor_name(size_t tensor);
};

/// Orders the axes as the output stores them and joins those that every tensor steps through alike.
/// Axis 0 stays even at size 1 (a batch of one takes the kernel of any batch).
IterationSpace make_space(const TensorView& output, const std::vector<TensorView>& operands,
                          const std::vector<bool>& weights);

/// Dialect text. `binding_of[i]` is the buffer of the program's operand i; `width` elements are
/// taken at once (1, or more in linear spaces of floats).
std::string pointwise_kernel(const PointwiseProgram& program, const std::vector<int>& binding_of,
                             const std::vector<TensorView>& views, const TensorView& output,
                             const IterationSpace& space, int64_t width);

}  // namespace dlk
