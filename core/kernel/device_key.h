// What tells the kernels of one device from those of another, in the keys of caches. Used by the
// kernel library.
#pragma once

#include <string>

#include "core/device/device.h"

namespace dlk {

/// Everything about a device that a printed or compiled kernel may depend on.
std::string device_key(const Caps& caps);

}  // namespace dlk
