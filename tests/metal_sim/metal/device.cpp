// MTLDevice: what it reports, by profile, and the functions that find devices.
#include <unistd.h>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

const Profile& profile() { return *settings().profile; }

bool supports_family(Device*, Sel, Int family) {
  if (family >= 1001 && family < 2000) return family <= profile().apple_family;
  if (family == 2001 || family == 2002) return profile().mac_family;
  if (family >= 3001 && family <= 3003) return true;
  if (family >= 5001 && family < 6000) return family <= profile().metal_family;
  return false;
}

void install_identity() {
  method("MTLDevice", "name", +[](Device*, Sel) -> Object* { return string_of(profile().name); });
  method("MTLDevice", "registryID", +[](Device*, Sel) -> uint64_t { return 0x100000001u; });
  method("MTLDevice", "isLowPower", +[](Device*, Sel) { return profile().low_power; });
  method("MTLDevice", "isHeadless", +[](Device*, Sel) { return false; });
  method("MTLDevice", "isRemovable", +[](Device*, Sel) { return profile().removable; });
  method(
      "MTLDevice", "location", +[](Device*, Sel) -> UInt { return profile().removable ? 2 : 0; });
  method("MTLDevice", "hasUnifiedMemory", +[](Device*, Sel) { return profile().unified_memory; });
  method("MTLDevice", "supportsFamily:", supports_family);
}

void install_limits() {
  method(
      "MTLDevice", "maxThreadgroupMemoryLength",
      +[](Device*, Sel) -> UInt { return profile().threadgroup_bytes; });
  method(
      "MTLDevice", "maxThreadsPerThreadgroup",
      +[](Device*, Sel) { return Size3{1024, 1024, 1024}; });
  method(
      "MTLDevice", "maxBufferLength",
      +[](Device*, Sel) -> UInt { return profile().max_buffer_bytes; });
  method(
      "MTLDevice", "recommendedMaxWorkingSetSize",
      +[](Device*, Sel) -> uint64_t { return 2 * profile().max_buffer_bytes; });
  method("MTLDevice", "currentAllocatedSize", +[](Device*, Sel) -> UInt { return 0; });
}

Object* all_devices() {
  if (!fault("no-device").empty()) return make<Array>("NSArray");
  auto* array = make<Array>("NSArray");
  array->items.emplace_back(the_device());
  return array;
}

}  // namespace

Device* the_device() {
  static Device* device = make<Device>("MTLDevice");
  return device;
}

void install_device() {
  install_identity();
  install_limits();
}

void install_all_classes() {
  install_foundation();
  install_device();
  install_buffers();
  install_heaps();
  install_libraries();
  install_queues();
  install_command_buffers();
  install_compute_encoders();
  install_blit_encoders();
  install_events();
}

}  // namespace metal_sim

extern "C" {

void* objc_lookUpClass(const char* name);

metal_sim::Object* MTLCreateSystemDefaultDevice() {
  objc_lookUpClass("NSObject");  // Installs the classes.
  if (!metal_sim::fault("no-device").empty()) return nullptr;
  return metal_sim::retain(metal_sim::the_device());
}

metal_sim::Object* MTLCopyAllDevices() {
  objc_lookUpClass("NSObject");
  return metal_sim::all_devices();
}

metal_sim::Object* MTLCopyAllDevicesWithObserver(metal_sim::Object** observer, void*) {
  if (observer) *observer = nullptr;
  return MTLCopyAllDevices();
}

void MTLRemoveDeviceObserver(metal_sim::Object*) {}

}  // extern "C"
