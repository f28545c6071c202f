// Which backends are compiled in and which devices they offer. `open_device` is how every user of
// dlk gets a device: by id ("vulkan:0", "vulkan"), by a part of its name ("name:H200"), or by
// DLK_DEVICE, or the default (a GPU before a CPU, then Backend::priority).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"

namespace dlk {

/// Takes ownership; called by static initializers through DLK_REGISTER_BACKEND.
void register_backend(std::unique_ptr<Backend> backend);
/// By descending priority.
const std::vector<std::unique_ptr<Backend>>& backends();
Backend* find_backend(const std::string& name);  // nullptr where there is none

/// All devices that users may choose, backend by backend, the higher priority first. Hidden
/// backends are left out ("null" is one unless DLK_ENABLE_NULL=1).
std::vector<Caps> list_devices();

/// `spec`: "" (DLK_DEVICE, else the default), "vulkan", "vulkan:1", "name:TEXT". Devices are
/// shared: two calls with the same id return the same Device while it lives. InvalidArgument with
/// the list of what is there (and why a backend is not) when nothing matches. Wrapped by
/// checked_device unless `checked` is false.
std::shared_ptr<Device> open_device(const std::string& spec = {}, bool checked = true);

/// A checked device on an application's own objects. InvalidArgument for an unknown backend and for
/// handles that are missing.
std::shared_ptr<Device> wrap_device(const std::string& backend, const NativeDevice& native);

}  // namespace dlk

#define DLK_REGISTER_BACKEND(Type)                          \
  namespace {                                               \
  [[maybe_unused]] const bool dlk_backend_registered = [] { \
    ::dlk::register_backend(std::make_unique<Type>());      \
    return true;                                            \
  }();                                                      \
  }
