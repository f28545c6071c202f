// A device that validates: wraps any device, rejects what can be foreseen (bounds, overlap of a
// written view with another operand, operand and parameter counts, group counts and sizes beyond
// the device's limits, unknown tickets, foreign buffers) with an InvalidArgument that names the
// command's label, and passes the rest on. From Python it is always on.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace dlk {

std::shared_ptr<Device> checked_device(std::shared_ptr<Device> device);

}  // namespace dlk
