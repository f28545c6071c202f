// Asks a driver, in the SPIR-V itself, to keep NaN, infinities and the sign of zero in 32-bit
// arithmetic: without it a driver may turn `x < 0 ? 0 : x` into a maximum, which loses NaN. Used by
// VulkanKernel where the device can (Vulkan 1.2 and the property).
#pragma once

#include <cstdint>
#include <vector>

namespace dlk::vulkan {

/// `words` (valid SPIR-V with an entry point) with the execution mode SignedZeroInfNanPreserve 32
/// on every entry point.
std::vector<uint32_t> with_nan_preserved(const std::vector<uint32_t>& words);

}  // namespace dlk::vulkan
