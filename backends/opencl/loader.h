// The OpenCL API, loaded at run time: a table of function pointers from the ICD loader, so that dlk
// starts on machines without OpenCL. Also the error texts of the API.
#pragma once

#include <CL/cl.h>

#include <string>

namespace dlk::opencl {

// OpenCL 1.2. Anything newer is in DLK_CL_OPTIONAL and may be null.
// clang-format off
#define DLK_CL_REQUIRED(F)                                                                        \
  F(clGetPlatformIDs) F(clGetPlatformInfo) F(clGetDeviceIDs) F(clGetDeviceInfo)                   \
  F(clCreateContext) F(clRetainContext) F(clReleaseContext) F(clGetContextInfo)                   \
  F(clCreateCommandQueue) F(clRetainCommandQueue) F(clReleaseCommandQueue)                        \
  F(clGetCommandQueueInfo) F(clCreateBuffer) F(clRetainMemObject) F(clReleaseMemObject)           \
  F(clGetMemObjectInfo) F(clCreateProgramWithSource) F(clBuildProgram) F(clGetProgramBuildInfo)   \
  F(clGetProgramInfo) F(clCreateProgramWithBinary) F(clReleaseProgram) F(clCreateKernel) F(clReleaseKernel) F(clGetKernelInfo)                     \
  F(clGetKernelWorkGroupInfo) F(clSetKernelArg) F(clEnqueueNDRangeKernel)                         \
  F(clEnqueueReadBuffer) F(clEnqueueWriteBuffer) F(clEnqueueCopyBuffer) F(clEnqueueFillBuffer)    \
  F(clEnqueueMapBuffer) F(clEnqueueUnmapMemObject)                                                \
  F(clEnqueueMarkerWithWaitList) F(clEnqueueBarrierWithWaitList) F(clWaitForEvents)               \
  F(clGetEventInfo) F(clGetEventProfilingInfo) F(clRetainEvent) F(clReleaseEvent) F(clFlush)      \
  F(clFinish)
#define DLK_CL_OPTIONAL(F) F(clSVMAlloc) F(clSVMFree) F(clSetKernelExecInfo)
// clang-format on

struct Api {
#define DLK_CL_MEMBER(name) decltype(&::name) name = nullptr;
  DLK_CL_REQUIRED(DLK_CL_MEMBER)
  DLK_CL_OPTIONAL(DLK_CL_MEMBER)
#undef DLK_CL_MEMBER
};

/// The table, or nullptr where there is no loader. Loaded once, by the first call, never unloaded.
/// DLK_OPENCL_LIBRARY names another library than the system's.
const Api* api();
/// Why api() is nullptr and what to install; empty when it is not.
const std::string& loader_error();

/// "CL_OUT_OF_RESOURCES (-5)".
std::string error_text(cl_int code);
/// Throws the Error that fits `code`: "WHAT: CL_...".
[[noreturn]] void throw_cl(cl_int code, const std::string& what);
inline void check(cl_int code, const char* what) {
  if (code != CL_SUCCESS) throw_cl(code, what);
}

}  // namespace dlk::opencl
