// The OpenCL backend on machines without a loader, and without a driver. The loader is opened once
// a process, so each case runs in a child.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <iostream>

#include "core/device/registry.h"

using namespace dlk;

namespace {

/// True where `check` returns "" in a child process; its text is printed otherwise.
bool in_child(const std::function<std::string()>& check) {
  std::cout.flush();
  const pid_t child = fork();
  if (child == 0) {
    const std::string wrong = check();
    if (!wrong.empty()) std::cerr << wrong << std::endl;
    _exit(wrong.empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// What is wrong when nothing can be opened; "" when it is reported as it should be.
std::string report(const std::string& expected_reason) {
  Backend* backend = find_backend("opencl");
  if (!backend) return "no opencl backend in this build";
  if (!backend->enumerate().empty()) return "devices were found";
  const std::string reason = backend->unavailable_reason();
  if (reason.find(expected_reason) == std::string::npos) return "reason: " + reason;
  if (reason.find("install") == std::string::npos) return "no advice: " + reason;
  try {
    open_device("opencl");
    return "a device was opened";
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) return "another code";
    if (std::string(error.what()).find(reason) == std::string::npos) return error.what();
  }
  try {
    backend->open(0);
    return "device 0 was opened";
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

TEST_CASE("no loader") {
  CHECK(in_child([] {
    setenv("DLK_OPENCL_LIBRARY", "/nonexistent/libOpenCL.so", 1);
    return report("/nonexistent/libOpenCL.so");
  }));
}

TEST_CASE("a loader without drivers") {
  CHECK(in_child([]() -> std::string {
    setenv("OCL_ICD_VENDORS", "/nonexistent", 1);
    if (!find_backend("opencl")->unavailable_reason().starts_with("the OpenCL loader finds")) {
      // Without the system's loader the case above is all there is to see.
      return report("cannot be opened");
    }
    return report("finds no driver");
  }));
}

TEST_CASE("a library that is not OpenCL") {
  CHECK(in_child([]() -> std::string {
    setenv("DLK_OPENCL_LIBRARY", "libm.so.6", 1);
    const std::string reason = find_backend("opencl")->unavailable_reason();
    return reason.find("libm.so.6 has no clGetPlatformIDs") == 0 ? "" : reason;
  }));
}
