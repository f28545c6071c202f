// What a device does at most, measured in a fraction of a second: the roof of roofline figures.
// Used by `dlk bench --roofline` and profiles; nothing is chosen by it.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace dlk {

/// Units a second; 0: the device does not have it.
struct DevicePeaks {
  double copy_bytes = 0;  // read and written, between two buffers far larger than caches
  double fp32_flops = 0;  // multiply-adds in registers count as two
  double fp16_flops = 0;  // the same in float16
};

/// Runs the probes of kernels/probe.k and takes the best of a few runs. Throws what the device
/// throws; Unsupported on one whose kernels do nothing.
DevicePeaks measure_peaks(const std::shared_ptr<Device>& device);

}  // namespace dlk
