// Sorting and counting on the device, shared by Unique, TopK, NonZero and Compress.
#pragma once

#include "core/ops/op.h"

namespace dlk {

/// For each element of the dense `flags` how many before it are not 0 (int32), and in `total` (one
/// int32) how many there are.
TensorView count_before(LowerContext& context, const TensorView& flags, const TensorView& total);

/// Indices (int32) that sort each row of the dense `keys` (rows, n, inner): rows are compared
/// element by element, equal ones by their index; NaN is the largest. The result is (rows, width)
/// with a power of two of at least n columns, those from n on are not used.
TensorView sorted_indices(LowerContext& context, const TensorView& keys, bool descending);

/// A dense view to write to in place of `output`: itself, or a workspace that `finish` copies.
class DenseOutput {
 public:
  DenseOutput(LowerContext& context, const TensorView& output)
      : context_(context),
        output_(output),
        dense_(output.is_contiguous() ? output : context.workspace(output.dtype, output.shape)) {}
  const TensorView& view() const { return dense_; }
  void finish() {
    if (!output_.is_contiguous()) context_.copy(dense_, output_);
  }

 private:
  LowerContext& context_;
  TensorView output_, dense_;
};

}  // namespace dlk
