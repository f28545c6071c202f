#include "tests/metal_sim/execute/kernel_calls.h"

#include "tests/metal_sim/execute/group.h"

namespace metal_sim {

const KernelCalls& kernel_calls() {
  static const KernelCalls calls = {
      [](void* address, unsigned bytes, int is_write, int is_atomic) {
        running->access(static_cast<char*>(address), bytes, is_write != 0, is_atomic != 0);
      },
      [](int simdgroup_only, int flags, const void* site) {
        running->wait_at(simdgroup_only ? ThreadState::kAtSimdBarrier : ThreadState::kAtBarrier,
                         flags, site);
      },
      [](const void* value, unsigned bytes, const void* site, unsigned* lane) -> const void* {
        return running->exchange(value, bytes, site, lane);
      },
      [](unsigned ordinal) { return running->threadgroup_array(ordinal); },
      [] { running->report("a simdgroup_matrix function is not reached by all 32 lanes"); }};
  return calls;
}

}  // namespace metal_sim
