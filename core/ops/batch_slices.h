// Lowers an operator in pieces along its batch axis where one kernel argument cannot reach all of a
// tensor (Caps::max_binding_bytes). For operators whose output 0 depends, image by image, on input
// 0 alone of the tensors that have the batch axis.
#pragma once

#include <functional>

#include "core/ops/op.h"

namespace dlk {

/// Calls `lower` once with `ctx` itself, or several times with contexts whose input 0, output 0 and
/// full epilogue operands are slices. Unsupported, with the numbers, where one image is too large.
void lower_in_batch_slices(LowerContext& ctx, const std::function<void(LowerContext&)>& lower);

/// Calls `lower` with a context for images `first` to `first + count - 1` alone.
void lower_batch_slice(LowerContext& ctx, int64_t first, int64_t count,
                       const std::function<void(LowerContext&)>& lower);

}  // namespace dlk
