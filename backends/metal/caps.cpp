#include "backends/metal/caps.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "backends/metal/context.h"
#include "backends/metal/probe.h"

namespace dlk::metal {

namespace {

struct Probed {
  uint32_t subgroup_size = 0;
  bool simdgroup_matrix = false;
};

/// Families say what should be there, and a probe whether it is: virtual machines name few
/// families, and new systems may have defects. The environment overrules the families, never a
/// probe that failed.
Probed probe(MTL::Device* device) {
  Probed result;
  const bool has_reductions =
      device->supportsFamily(MTL::GPUFamilyApple7) || device->supportsFamily(MTL::GPUFamilyMac2);
  if (environment_flag("DLK_METAL_SUBGROUPS", has_reductions)) {
    result.subgroup_size = probe_subgroups(device);
  }
  const bool has_matrix = device->supportsFamily(MTL::GPUFamilyApple7);
  result.simdgroup_matrix = environment_flag("DLK_METAL_SIMDGROUP_MATRIX", has_matrix) &&
                            result.subgroup_size == 32 && probe_simdgroup_matrix(device);
  return result;
}

Probed probed_once(MTL::Device* device) {
  static std::mutex mutex;
  static std::map<uint64_t, Probed> known;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = known.try_emplace(device->registryID());
  if (is_new) entry->second = probe(device);
  return entry->second;
}

std::string vendor_of(const std::string& name) {
  for (const char* vendor : {"Apple", "AMD", "Intel", "NVIDIA"}) {
    if (name.find(vendor) != std::string::npos) return vendor;
  }
  return "unknown";
}

/// The name, with what tells two GPUs of one Mac apart: `name:external` and `name:low power`
/// choose.
std::string full_name(MTL::Device* device) {
  std::string name = text_of(device->name());
#if TARGET_OS_OSX
  if (device->isLowPower()) name += " (low power)";
  if (device->isRemovable()) name += " (external)";
#endif
  return name;
}

}  // namespace

Caps read_caps(MTL::Device* device, const std::string& backend, size_t index) {
  Caps caps;
  caps.id = backend + ":" + std::to_string(index);
  caps.backend = backend;
  caps.name = full_name(device);
  caps.vendor = vendor_of(caps.name);
  caps.driver = "system " + text_of(NS::ProcessInfo::processInfo()->operatingSystemVersionString());
  caps.api_version = "MSL " + language_version_text();
  caps.unified_memory = device->hasUnifiedMemory();
#if TARGET_OS_OSX
  caps.memory_bytes = device->recommendedMaxWorkingSetSize();
#else
  caps.memory_bytes = NS::ProcessInfo::processInfo()->physicalMemory();
#endif
  caps.max_buffer_bytes = device->maxBufferLength();
  caps.max_binding_bytes = caps.max_buffer_bytes;
  caps.binding_alignment = 4;
  caps.max_push_bytes = 4096;  // setBytes; larger blocks travel in a buffer
  caps.max_bindings = 30;      // of 31; one is the parameters'
  const MTL::Size group = device->maxThreadsPerThreadgroup();
  caps.max_group_size = {static_cast<uint32_t>(group.width), static_cast<uint32_t>(group.height),
                         static_cast<uint32_t>(group.depth)};
  // Metal states no limit of the grid; these are what the other APIs' drivers have.
  caps.max_group_count = {0x7fffffff, 65535, 65535};
  caps.max_group_invocations = static_cast<uint32_t>(std::max<NS::UInteger>(group.width, 1));
  caps.local_memory_bytes = static_cast<uint32_t>(device->maxThreadgroupMemoryLength());
  caps.fp16_storage = caps.fp16_arithmetic = true;
  caps.int8_storage = caps.int16_storage = caps.int64 = true;
  caps.host_import = true;
  caps.timestamps = true;
  const Probed probed = probed_once(device);
  caps.subgroup_size = probed.subgroup_size;
  caps.subgroup_arithmetic = probed.subgroup_size != 0;
  caps.simdgroup_matrix = probed.simdgroup_matrix;
  return caps;
}

}  // namespace dlk::metal
