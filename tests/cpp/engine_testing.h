// Shared by the engine's tests: the devices to run on, small graphs and comparisons.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/device/registry.h"
#include "core/runtime/model.h"

namespace dlk::testing {

/// One device of each live backend; those that DLK_REQUIRE names must be there.
inline std::vector<std::shared_ptr<Device>> test_devices() {
  std::vector<std::shared_ptr<Device>> devices;
  const char* list = std::getenv("DLK_REQUIRE");
  const std::string required = "," + std::string(list ? list : "") + ",";
  for (const std::string name : {"opencl", "vulkan", "metal", "metal-sim"}) {
    Backend* backend = find_backend(name);
    const bool there = backend && !backend->enumerate().empty();
    if (!there && required.find("," + name + ",") != std::string::npos) {
      FAIL("DLK_REQUIRE names " << name << ", which is not there");
    }
    if (there) devices.push_back(open_device(name));
  }
  return devices;
}

inline SymbolicShape static_shape(const Shape& shape) {
  SymbolicShape dims;
  for (const int64_t dim : shape) dims.push_back(Dim::of(dim));
  return dims;
}

inline HostTensor floats(const Shape& shape, const std::vector<double>& values) {
  return HostTensor::from_doubles(DType::kFloat32, shape, values);
}

/// Reproducible values between -1 and 1.
inline HostTensor noise(const Shape& shape, uint32_t seed = 1) {
  std::vector<double> values(static_cast<size_t>(element_count(shape)));
  uint32_t state = seed * 2654435761u + 12345u;
  for (double& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<double>(state >> 8) / (1 << 23) - 1.0;
  }
  return floats(shape, values);
}

/// ||a - b|| / ||b||
inline double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

}  // namespace dlk::testing
