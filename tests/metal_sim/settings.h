// What the simulator is asked to be: the device profile, the macOS version, the order of threads,
// and faults to inject. Read from the environment; the README lists the variables.
#pragma once

#include <cstdint>
#include <string>

namespace metal_sim {

/// A kind of Apple device.
struct Profile {
  const char* key;
  const char* name;
  int apple_family;  // GPUFamilyApple1 is 1001; 0: reports none
  bool mac_family;   // GPUFamilyMac2
  int metal_family;  // GPUFamilyMetal3 is 5001; 0: reports none
  bool unified_memory;
  bool simdgroup_matrix;  // what its compiler accepts, whatever it reports
  bool bfloat;
  uint32_t threadgroup_bytes;
  uint64_t max_buffer_bytes;
  uint32_t max_threads;  // of a threadgroup, for a pipeline
  bool low_power, removable;
};

enum class ThreadOrder { kForward, kReverse, kRandom };

struct Settings {
  const Profile* profile;
  int macos_major;
  ThreadOrder order;
  uint32_t delay_us;  // before each command buffer runs, so that a missing wait shows
};

/// Read once.
const Settings& settings();

/// METAL_SIM_FAULT holds "name" or "name=value" entries with commas between them; it is read at
/// each call, so that a test may change it. Returns the entry's value ("1" where it has none), or
/// an empty string.
std::string fault(const char* name);
/// True for the value-th call that names this fault (counted from 1 since the value last changed).
bool fault_due(const char* name);

}  // namespace metal_sim
