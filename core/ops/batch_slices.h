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

}  // namespace dlk
