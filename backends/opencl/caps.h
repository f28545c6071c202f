// Reads what an OpenCL device can do.
#pragma once

#include <vector>

#include "backends/opencl/loader.h"
#include "core/device/device.h"

namespace dlk::opencl {

/// The devices of all platforms that dlk can use (OpenCL 1.2, a compiler, little endian), in the
/// loader's order; the index is the N of "opencl:N".
std::vector<cl_device_id> usable_devices(const Api& cl);
Caps read_caps(const Api& cl, cl_device_id device, const std::string& id);
/// CL_DEVICE_SVM_CAPABILITIES, 0 before OpenCL 2.0.
cl_bitfield svm_capabilities(const Api& cl, cl_device_id device);

}  // namespace dlk::opencl
