// The OpenCL backend on machines without a loader, and without a driver. The loader is opened once
// a process, so each case runs in a child.
#include "tests/cpp/missing_backend.h"

using namespace dlk;
using namespace dlk::testing;

TEST_CASE("no loader") {
  CHECK(in_child([] {
    setenv("DLK_OPENCL_LIBRARY", "/nonexistent/libOpenCL.so", 1);
    return report_of_missing("opencl", "/nonexistent/libOpenCL.so");
  }));
}

TEST_CASE("a loader without drivers") {
  CHECK(in_child([]() -> std::string {
    setenv("OCL_ICD_VENDORS", "/nonexistent", 1);
    if (!find_backend("opencl")->unavailable_reason().starts_with("the OpenCL loader finds")) {
      // Without the system's loader the case above is all there is to see.
      return report_of_missing("opencl", "cannot be opened");
    }
    return report_of_missing("opencl", "finds no driver");
  }));
}

TEST_CASE("a library that is not OpenCL") {
  CHECK(in_child([]() -> std::string {
    setenv("DLK_OPENCL_LIBRARY", "libm.so.6", 1);
    const std::string reason = find_backend("opencl")->unavailable_reason();
    return reason.find("libm.so.6 has no clGetPlatformIDs") == 0 ? "" : reason;
  }));
}
