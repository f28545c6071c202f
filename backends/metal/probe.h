// Small kernels that are run when a device is first seen: a feature counts where its result is
// right, not where a table says so.
#pragma once

#include <cstdint>

#include "backends/metal/metal.h"

namespace dlk::metal {

/// The width of SIMD-groups where reductions and broadcasts work, else 0.
uint32_t probe_subgroups(MTL::Device* device);
/// True where a product of two 8x8 matrices comes out right.
bool probe_simdgroup_matrix(MTL::Device* device);

}  // namespace dlk::metal
