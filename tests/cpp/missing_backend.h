// A backend whose loader or driver is missing: what must be reported, seen from a child process.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

#include "core/device/registry.h"

namespace dlk::testing {

/// True where `check` returns "" in a child process; its text is printed otherwise.
inline bool in_child(const std::function<std::string()>& check) {
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
inline std::string report_of_missing(const std::string& name, const std::string& expected_reason) {
  Backend* backend = find_backend(name);
  if (!backend) return "no such backend in this build";
  if (!backend->enumerate().empty()) return "devices were found";
  const std::string reason = backend->unavailable_reason();
  if (reason.find(expected_reason) == std::string::npos) return "reason: " + reason;
  if (reason.find("install") == std::string::npos) return "no advice: " + reason;
  try {
    open_device(name);
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

}  // namespace dlk::testing
