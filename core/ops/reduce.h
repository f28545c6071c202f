// Reductions as other operators use them: one row of the table of core/ops/reduce_kernel.cpp, over
// some axes of a view. Picks the shape (an item or a group a row, one stage or two) by device and
// size.
#pragma once

#include <string>
#include <vector>

#include "core/ops/op.h"

namespace dlk {

/// Reduces `axes` (normalized) of `from` by the operator `name` ("ReduceSum", ...). `to` has the
/// rank of `from` and size 1 on the reduced axes; its dtype may differ from that of `from`.
void dispatch_reduction(LowerContext& context, const std::string& name, const TensorView& from,
                        const TensorView& to, const std::vector<int64_t>& axes);

/// "ReduceSum", "ReduceMean", ...
std::vector<std::string> reduction_names();
/// Whether the reduction of a single element is that element.
bool keeps_single_elements(const std::string& name);

}  // namespace dlk
