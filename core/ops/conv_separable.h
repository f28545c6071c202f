// The pair that MobileNets consist of: a depthwise convolution, limits on its results, and a
// convolution with a window of 1. As one dispatch (kernels/conv_separable.k) it saves the
// other's launch and keeps what lies between in local memory; worth it for few pixels, on GPUs. The
// fusion pass asks `separable_pays`; the operator dlk.SeparableConv lowers what it made.
#pragma once

#include <cstdint>
#include <optional>

#include "core/device/device.h"
#include "core/ops/window.h"

namespace dlk {

/// Names of dlk.SeparableConv's attributes beside those of the depthwise Conv: the limits, where
/// there are any. Its inputs: x, the filters and their bias, the weights and their bias.
inline constexpr const char *kLowestFiltered = "low", *kHighestFiltered = "high";

struct SeparableSizes {
  int64_t batch = 1, channels = 0, kept = 0;  // of x, of the result
  int64_t out_h = 1, out_w = 1, k_h = 1, k_w = 1, stride_w = 1;
  int64_t element = 4;  // bytes

  int64_t strips() const { return batch * out_h * ((out_w + 3) / 4); }
};

/// Work-items, strips and output channels of a group, an item's loads of weights under way, and
/// what the kernel takes by the cost model.
struct SeparablePlan {
  int64_t group = 0, strips = 0, columns = 0, steps = 8;
  double microseconds = 0;
  /// Items that share a strip and a vector of output channels.
  int64_t depths() const { return group / (strips * columns / 4); }
};

/// Of images `x`, the filters' window, and `kept` output channels.
SeparableSizes separable_sizes(const Shape& x, DType dtype, int64_t kept, const Window& window);

/// The best variant for the device; DLK_SEPARABLE="GROUP,STRIPS,COLUMNS,STEPS" forces one, for
/// measurements ("apart": none). None where the device or the sizes are not for the kernel.
std::optional<SeparablePlan> separable_plan(const Caps& caps, const SeparableSizes& sizes);

/// One dispatch is expected to be faster than two.
bool separable_pays(const Caps& caps, const SeparableSizes& sizes);

}  // namespace dlk
