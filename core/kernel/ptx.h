// PTX for devices that run it without compiling OpenCL C (Caps::binary_import): NVIDIA's OpenCL
// driver for the same GPU compiles the printed kernel, and its PTX is made fit for launches that
// are not OpenCL's. Also for OpenCL itself, where a kernel needs instructions that OpenCL C does
// not take. Used by the kernel library, which keeps the result on disk.
#pragma once

#include <memory>
#include <string>

#include "core/device/device.h"

namespace dlk {

/// The OpenCL device whose driver compiles PTX for `caps`' GPU. Unsupported where there is none.
std::shared_ptr<Device> ptx_compiler_for(const Caps& caps);

/// OpenCL C that reads its place in the grid from registers of the hardware: other launches do not
/// fill in what OpenCL's functions read.
std::string with_plain_grid(std::string opencl);

/// What an OpenCL driver returns as a program's binary, as a module for any launch. CompileFailed,
/// with the start of the text, where it is no PTX with the entry point `name`.
std::string portable_ptx(std::string binary, const std::string& name);

/// Bytes of local memory that launches under other APIs than OpenCL may have: what a compute unit
/// of the newest GPUs has, or DLK_PTX_LOCAL_KB=N kilobytes, at least the 48 that a module may
/// declare (see docs/speed.md).
uint32_t most_launched_local_bytes();

/// The one array of local memory of a module as memory that the launch gives. Unsupported for a
/// module with several.
std::string with_launched_local(std::string ptx);

/// Makes instructions of the comments that stand for wgmma (the tile lowering of that name) and the
/// target the one that has them. Unsupported for another GPU than Hopper.
std::string with_wgmma(std::string ptx);

/// OpenCL C (KernelFormat::kOpenCLC) becomes PTX with the same interface, for a device of
/// `backend`, in three steps: the text that is compiled, what the driver makes of it, which depends
/// on that text and the GPU alone, and that made fit for launches.
KernelCode ptx_source(KernelCode code, const std::string& backend);
std::string driver_ptx(const KernelCode& source, Device& compiler);
KernelCode launchable_ptx(KernelCode source, std::string ptx, const std::string& backend);

}  // namespace dlk
