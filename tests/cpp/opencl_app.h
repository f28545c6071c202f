// An application with an OpenCL context and queue of its own, made without dlk.
#pragma once

#include <doctest/doctest.h>

#include "backends/opencl/loader.h"

namespace dlk::testing {

struct OpenClApp {
  const opencl::Api& cl = *opencl::api();
  cl_platform_id platform = nullptr;
  cl_device_id device = nullptr;
  cl_context context = nullptr;
  cl_command_queue queue = nullptr;

  explicit OpenClApp(cl_command_queue_properties properties = 0) {
    REQUIRE(cl.clGetPlatformIDs(1, &platform, nullptr) == CL_SUCCESS);
    REQUIRE(cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, nullptr) == CL_SUCCESS);
    context = cl.clCreateContext(nullptr, 1, &device, nullptr, nullptr, nullptr);
    queue = cl.clCreateCommandQueue(context, device, properties, nullptr);
    REQUIRE(queue != nullptr);
  }
  ~OpenClApp() {
    cl.clReleaseCommandQueue(queue);
    cl.clReleaseContext(context);
  }
  OpenClApp(const OpenClApp&) = delete;
  OpenClApp& operator=(const OpenClApp&) = delete;
};

}  // namespace dlk::testing
