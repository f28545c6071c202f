// Registers the backend where Metal is the system's own. A simulator that provides Metal's symbols
// elsewhere registers the same backend under a name of its own.
#include "backends/metal/device.h"
#include "core/device/registry.h"

DLK_REGISTER_BACKEND(dlk::metal::MetalBackend)
