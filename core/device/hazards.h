// Places barriers: follows which byte ranges the commands since the last barrier read and wrote,
// and says which command must wait for them. Used by CommandList, so that neither operators nor
// backends think about hazards, and independent branches of a network overlap.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/device/device.h"

namespace dlk {

/// One range that a command touches. `resource` tells buffers and slots apart.
struct RangeUse {
  uint64_t resource = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
  Access access = Access::kRead;
};

class HazardTracker {
 public:
  /// Adds a command. True where it must not overlap the commands since the last barrier
  /// (read after write, write after read, write after write): a barrier is then taken to stand
  /// before it, and what came earlier no longer matters.
  bool add(std::span<const RangeUse> uses);

 private:
  struct Range {
    uint64_t begin, end;
    bool written;
  };
  bool conflicts(const RangeUse& use) const;

  std::unordered_map<uint64_t, std::vector<Range>> ranges_;
};

/// What `command` reads and writes; the operands of a dispatch have the access of the kernel's
/// bindings.
std::vector<RangeUse> command_uses(const Command& command);

}  // namespace dlk
