#include "core/device/hazards.h"

#include <algorithm>

namespace dlk {

namespace {

// Buffers are told apart by address, which is even; slots get odd numbers.
RangeUse use_of(const Operand& operand, Access access, const Stripes& stripes) {
  if (const auto* view = std::get_if<View>(&operand)) {
    return {reinterpret_cast<uintptr_t>(view->buffer.get()), view->offset_bytes,
            view->offset_bytes + view->size_bytes, access, stripes};
  }
  const auto& slot = std::get<SlotRef>(operand);
  return {uint64_t{slot.slot} * 2 + 1, slot.offset_bytes, slot.offset_bytes + slot.size_bytes,
          access, stripes};
}

bool interleave(const RangeUse& a, const RangeUse& b) {
  const uint64_t period = a.stripes.period_bytes;
  if (period == 0 || b.stripes.period_bytes != period) return false;
  const uint64_t after = b.begin >= a.begin ? (b.begin - a.begin) % period
                                            : (period - (a.begin - b.begin) % period) % period;
  return a.stripes.run_bytes <= after && b.stripes.run_bytes <= period - after;
}

}  // namespace

bool conflict(const RangeUse& a, const RangeUse& b) {
  return a.resource == b.resource && (a.access != Access::kRead || b.access != Access::kRead) &&
         a.begin < b.end && b.begin < a.end && !interleave(a, b);
}

bool HazardTracker::conflicts(const RangeUse& use) const {
  const auto found = uses_.find(use.resource);
  if (found == uses_.end() || use.begin >= use.end) return false;
  return std::any_of(found->second.begin(), found->second.end(),
                     [&](const RangeUse& earlier) { return conflict(earlier, use); });
}

bool HazardTracker::add(std::span<const RangeUse> uses) {
  const bool barrier =
      std::any_of(uses.begin(), uses.end(), [&](const RangeUse& use) { return conflicts(use); });
  if (barrier) uses_.clear();
  for (const RangeUse& use : uses) {
    if (use.begin < use.end) uses_[use.resource].push_back(use);
  }
  return barrier;
}

std::vector<RangeUse> command_uses(const Command& command) {
  std::vector<RangeUse> uses;
  each_use(command, [&](const Operand& operand, Access access, const Stripes& stripes) {
    uses.push_back(use_of(operand, access, stripes));
  });
  return uses;
}

}  // namespace dlk
