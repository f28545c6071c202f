// The order of a program's commands where they may overlap: see overlap_commands.
#include <algorithm>
#include <map>
#include <numeric>

#include "core/device/hazards.h"
#include "core/graph/lowered.h"

namespace dlk {

namespace {

constexpr size_t kWindow = 64;              // commands that are looked at ahead of their turn
constexpr size_t kPairs = 4'000'000;        // of operands that are compared, in all
constexpr uint64_t kGroupsPerUnit = 16;     // that fill a device: more gain nothing side by side
constexpr uint64_t kSmallBytes = 16 << 20;  // more memory than before that is no matter

/// What waits for what.
struct Waits {
  std::vector<std::vector<uint32_t>> before;  // per command: those that it waits for
  std::vector<uint32_t> path;                 // commands from it to the end, on the longest way
};

/// Storages that are one memory count as one.
std::vector<uint64_t> resources_of(const Lowered& lowered) {
  std::vector<uint64_t> resources(lowered.storages.size());
  std::map<std::string, uint64_t> variables;
  for (size_t s = 0; s < resources.size(); ++s) {
    const Storage& storage = lowered.storages[s];
    const bool shared = storage.kind == StorageKind::kVariable;
    resources[s] = shared ? variables.emplace(storage.key, s).first->second : s;
  }
  return resources;
}

/// Nullopt where there are too many operands of one storage.
std::optional<Waits> find_waits(const Lowered& lowered) {
  const size_t count = lowered.commands.size();
  const std::vector<uint64_t> resources = resources_of(lowered);
  std::vector<std::vector<std::pair<uint32_t, RangeUse>>> uses(lowered.storages.size());
  Waits waits{std::vector<std::vector<uint32_t>>(count), std::vector<uint32_t>(count, 1)};
  size_t pairs = 0;
  for (uint32_t c = 0; c < count; ++c) {
    const PlannedCommand& command = lowered.commands[c];
    for (const PlannedOperand& operand : command.operands) {
      const uint64_t resource = resources[operand.storage];
      const RangeUse use{resource, operand.offset_bytes, operand.offset_bytes + operand.size_bytes,
                         operand.access, operand.stripes};
      pairs += uses[resource].size();
      if (pairs > kPairs) return std::nullopt;
      for (const auto& [earlier, other] : uses[resource]) {
        if (earlier != c && conflict(other, use)) waits.before[c].push_back(earlier);
      }
      uses[resource].emplace_back(c, use);
    }
  }
  for (size_t c = count; c-- > 0;) {
    for (const uint32_t earlier : waits.before[c]) {
      waits.path[earlier] = std::max(waits.path[earlier], waits.path[c] + 1);
    }
  }
  return waits;
}

uint64_t load_of(const PlannedCommand& command) {
  if (command.is_copy) return 1;
  return uint64_t{command.groups[0]} * command.groups[1] * command.groups[2];
}

/// Stretches of commands, in order: each starts with the first command that is left, so that what
/// fills the device alone stays in its place, and takes others that wait for none of its own.
class Stretches {
 public:
  Stretches(const Lowered& lowered, const Waits& waits, uint64_t room)
      : commands_(lowered.commands), waits_(waits), room_(room) {
    stretch_of_.assign(commands_.size(), -1);
  }

  std::vector<std::vector<uint32_t>> find() {
    std::vector<std::vector<uint32_t>> stretches;
    for (uint32_t first = 0; first < commands_.size(); ++first) {
      if (stretch_of_[first] >= 0) continue;
      const auto index = static_cast<int32_t>(stretches.size());
      std::vector<uint32_t> members{first};
      uint64_t load = load_of(commands_[first]);
      for (const uint32_t other : ready_after(first)) {
        if (load + load_of(commands_[other]) > room_) continue;
        load += load_of(commands_[other]);
        members.push_back(other);
      }
      for (const uint32_t member : members) stretch_of_[member] = index;
      std::ranges::sort(members, [&](uint32_t a, uint32_t b) { return goes_first(a, b); });
      stretches.push_back(std::move(members));
    }
    return stretches;
  }

 private:
  /// Copies at the start, where a barrier is anyway; then what most waits for.
  bool goes_first(uint32_t a, uint32_t b) const {
    if (commands_[a].is_copy != commands_[b].is_copy) return commands_[a].is_copy;
    if (waits_.path[a] != waits_.path[b]) return waits_.path[a] > waits_.path[b];
    return a < b;
  }

  std::vector<uint32_t> ready_after(uint32_t first) const {
    std::vector<uint32_t> ready;
    size_t seen = 0;
    for (uint32_t c = first + 1; c < commands_.size() && seen < kWindow; ++c) {
      if (stretch_of_[c] >= 0) continue;
      ++seen;
      const bool waits = std::ranges::any_of(
          waits_.before[c], [&](uint32_t earlier) { return stretch_of_[earlier] < 0; });
      if (!waits) ready.push_back(c);
    }
    std::ranges::sort(ready, [&](uint32_t a, uint32_t b) { return goes_first(a, b); });
    return ready;
  }

  const std::vector<PlannedCommand>& commands_;
  const Waits& waits_;
  uint64_t room_;
  std::vector<int32_t> stretch_of_;
};

void arrange(Lowered& lowered, const std::vector<uint32_t>& order) {
  std::vector<PlannedCommand> commands;
  commands.reserve(order.size());
  for (const uint32_t c : order) commands.push_back(std::move(lowered.commands[c]));
  lowered.commands = std::move(commands);
}

}  // namespace

void overlap_commands(Lowered& lowered, const Caps& caps) {
  const bool writes_variables = std::ranges::any_of(lowered.commands, [&](const auto& command) {
    return std::ranges::any_of(command.operands, [&](const PlannedOperand& operand) {
      return operand.access != Access::kRead &&
             lowered.storages[operand.storage].kind == StorageKind::kVariable;
    });
  });
  if (caps.is_cpu || writes_variables) return;
  const std::optional<Waits> waits = find_waits(lowered);
  if (!waits) return;
  const uint64_t before = peak_live_bytes(lowered);
  const auto stretches = Stretches(lowered, *waits, caps.compute_units * kGroupsPerUnit).find();
  std::vector<uint32_t> order;
  for (size_t s = 0; s < stretches.size(); ++s) {
    for (const uint32_t c : stretches[s]) {
      lowered.commands[c].stretch = static_cast<int32_t>(s);
      order.push_back(c);
    }
  }
  arrange(lowered, order);
  const uint64_t after = peak_live_bytes(lowered);
  if (after <= before + std::max(before / 4, kSmallBytes)) return;
  std::vector<uint32_t> back(order.size());
  for (uint32_t c = 0; c < order.size(); ++c) back[order[c]] = c;
  arrange(lowered, back);
  for (PlannedCommand& command : lowered.commands) command.stretch = -1;
}

}  // namespace dlk
