// What a Metal device can do: its own figures, and what a probe that ran on it has shown.
#pragma once

#include <string>

#include "backends/metal/metal.h"
#include "core/device/device.h"

namespace dlk::metal {

/// `backend` and `index` make the id. Probes run once in a process for each device.
Caps read_caps(MTL::Device* device, const std::string& backend, size_t index);

}  // namespace dlk::metal
