#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "tests/cpp/device_conformance.h"

using namespace dlk;
using namespace dlk::conformance;

namespace {

KernelCode opencl_code(const SourceKernel& kernel) {
  KernelCode code = kernel.code;
  code.format = KernelFormat::kOpenCLC;
  code.code = kernel.opencl_c;
  return code;
}

}  // namespace

TEST_CASE("an OpenCL device does what every device must") {
  if (const auto device = test_device("opencl")) check_conformance(device, opencl_code);
}
