// What compiled kernels call in the simulator (the table of msl/glue.c).
#pragma once

#include <cstdint>

namespace metal_sim {

struct KernelCalls {
  void (*access)(void* address, unsigned bytes, int is_write, int is_atomic);
  void (*wait)(int simdgroup_only, int flags, const void* site);
  const void* (*exchange)(const void* value, unsigned bytes, const void* site, unsigned* lane);
  char* (*array)(unsigned ordinal);
  void (*partial_simdgroup)();
};

const KernelCalls& kernel_calls();

}  // namespace metal_sim
