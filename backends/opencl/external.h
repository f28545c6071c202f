// A dlk device made from an application's own OpenCL objects, so that both share memory and a
// queue. For C++ applications; it names no OpenCL type, so that it needs no OpenCL headers.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace dlk {

/// `context`, `device` and `queue` are a cl_context, cl_device_id and cl_command_queue of the same
/// loader that dlk finds; context and queue are retained. With a queue, which must be in order, all
/// dlk queues of the device submit to it, so that the application's own work is ordered with dlk's;
/// without one (nullptr) dlk makes its own. The device checks nothing: wrap it in checked_device.
/// Throws InvalidArgument where the objects do not belong together.
std::shared_ptr<Device> wrap_opencl(void* context, void* device, void* queue = nullptr);

/// The application's cl_mem, retained, as a buffer of a device that wrap_opencl returned (the
/// device itself, not a checked one, which takes only buffers that it allocated).
std::shared_ptr<Buffer> wrap_opencl_buffer(Device& device, void* memory);

}  // namespace dlk
