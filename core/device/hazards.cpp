#include "core/device/hazards.h"

#include <algorithm>

namespace dlk {

namespace {

// Buffers are told apart by address, which is even; slots get odd numbers.
RangeUse use_of(const Operand& operand, Access access) {
  if (const auto* view = std::get_if<View>(&operand)) {
    return {reinterpret_cast<uintptr_t>(view->buffer.get()), view->offset_bytes,
            view->offset_bytes + view->size_bytes, access};
  }
  const auto& slot = std::get<SlotRef>(operand);
  return {uint64_t{slot.slot} * 2 + 1, slot.offset_bytes, slot.offset_bytes + slot.size_bytes,
          access};
}

}  // namespace

bool HazardTracker::conflicts(const RangeUse& use) const {
  const auto found = ranges_.find(use.resource);
  if (found == ranges_.end() || use.begin >= use.end) return false;
  const bool writes = use.access != Access::kRead;
  return std::any_of(found->second.begin(), found->second.end(), [&](const Range& range) {
    return (writes || range.written) && range.begin < use.end && use.begin < range.end;
  });
}

bool HazardTracker::add(std::span<const RangeUse> uses) {
  const bool barrier =
      std::any_of(uses.begin(), uses.end(), [&](const RangeUse& use) { return conflicts(use); });
  if (barrier) ranges_.clear();
  for (const RangeUse& use : uses) {
    if (use.begin < use.end) {
      ranges_[use.resource].push_back({use.begin, use.end, use.access != Access::kRead});
    }
  }
  return barrier;
}

std::vector<RangeUse> command_uses(const Command& command) {
  std::vector<RangeUse> uses;
  if (const auto* dispatch = std::get_if<DispatchCommand>(&command.op)) {
    const auto& bindings = dispatch->kernel->info().bindings;
    for (size_t i = 0; i < dispatch->operands.size(); ++i) {
      const Access access = i < bindings.size() ? bindings[i].access : Access::kReadWrite;
      uses.push_back(use_of(dispatch->operands[i], access));
    }
  } else if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
    uses.push_back(use_of(copy->source, Access::kRead));
    uses.push_back(use_of(copy->destination, Access::kWrite));
  } else {
    uses.push_back(use_of(std::get<FillCommand>(command.op).destination, Access::kWrite));
  }
  return uses;
}

}  // namespace dlk
