// Places barriers: follows which bytes the commands since the last barrier read and wrote, and says
// which command must wait for them. Used by CommandList, so that neither operators nor backends
// think about hazards, and by plans, which order their commands so that independent branches of a
// network overlap.
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
  Stripes stripes = {};
};

/// One of them writes bytes that the other uses too. Stripes of one period keep pieces apart whose
/// ranges interleave.
bool conflict(const RangeUse& a, const RangeUse& b);

class HazardTracker {
 public:
  /// Adds a command. True where it must not overlap the commands since the last barrier
  /// (read after write, write after read, write after write): a barrier is then taken to stand
  /// before it, and what came earlier no longer matters.
  bool add(std::span<const RangeUse> uses);

 private:
  bool conflicts(const RangeUse& use) const;

  std::unordered_map<uint64_t, std::vector<RangeUse>> uses_;
};

/// Calls `use(operand, access, stripes)` for each operand of a command; those of a dispatch have
/// the access of the kernel's bindings.
template <typename Use>
void each_use(const Command& command, Use&& use) {
  if (const auto* dispatch = std::get_if<DispatchCommand>(&command.op)) {
    const auto& bindings = dispatch->kernel->info().bindings;
    for (size_t i = 0; i < dispatch->operands.size(); ++i) {
      use(dispatch->operands[i], i < bindings.size() ? bindings[i].access : Access::kReadWrite,
          i < dispatch->stripes.size() ? dispatch->stripes[i] : Stripes{});
    }
  } else if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
    use(copy->source, Access::kRead, Stripes{});
    use(copy->destination, Access::kWrite, Stripes{});
  } else {
    use(std::get<FillCommand>(command.op).destination, Access::kWrite, Stripes{});
  }
}

/// What `command` reads and writes, one use an operand; those of a dispatch have the access of the
/// kernel's bindings.
std::vector<RangeUse> command_uses(const Command& command);

}  // namespace dlk
