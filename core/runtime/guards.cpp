#include "core/runtime/guards.h"

#include <algorithm>
#include <cstring>

namespace dlk {

namespace {

constexpr uint32_t kPattern = 0x7fc17fc1u;

/// The first byte of [begin, end) that differs from the pattern, or `end`.
uint64_t first_change(std::span<const std::byte> buffer, uint64_t begin, uint64_t end) {
  for (uint64_t at = begin; at < end; ++at) {
    const auto expected = static_cast<std::byte>(kPattern >> (8 * (at % sizeof(kPattern))));
    if (buffer[at] != expected) return at;
  }
  return end;
}

/// The commands that write the storages for which `owns` holds.
template <typename Owns>
std::string writers(const Program& program, const Owns& owns) {
  std::string text;
  for (const PlannedCommand& command : program.lowered.commands) {
    const bool writes = std::ranges::any_of(command.operands, [&](const PlannedOperand& operand) {
      return operand.access != Access::kRead && owns(program.lowered.storages[operand.storage]);
    });
    // Copies have their destination second.
    const bool copies = command.is_copy && command.operands.size() == 2 &&
                        owns(program.lowered.storages[command.operands[1].storage]);
    if (writes || copies) text += (text.empty() ? "'" : ", '") + command.label + "'";
  }
  return text.empty() ? "nothing" : text;
}

void check(std::span<const std::byte> buffer, uint64_t begin, uint64_t end, uint64_t limit,
           const std::string& what, const std::string& written_by) {
  const uint64_t before = first_change(buffer, begin - kGuardBytes, begin);
  const uint64_t after = first_change(buffer, end, limit);
  if (before == begin && after == limit) return;
  const std::string place = before != begin
                                ? std::to_string(begin - before) + " bytes before its start"
                                : std::to_string(after - end) + " bytes after its end";
  throw Error(ErrorCode::kDeviceLost, "a kernel wrote outside of " + what + " of " +
                                          std::to_string(end - begin) + " bytes, " + place +
                                          "; it is written by " + written_by);
}

}  // namespace

std::vector<std::byte> guard_pattern(uint64_t bytes) {
  std::vector<std::byte> pattern(bytes);
  for (uint64_t at = 0; at < bytes; ++at) {
    pattern[at] = static_cast<std::byte>(kPattern >> (8 * (at % sizeof(kPattern))));
  }
  return pattern;
}

std::vector<std::byte> guarded(std::span<const std::byte> data) {
  std::vector<std::byte> bytes = guard_pattern(guarded_bytes(data.size()));
  std::ranges::copy(data, bytes.begin() + kGuardBytes);
  return bytes;
}

void check_output_guards(const Program& program, uint32_t output, const std::string& name,
                         uint64_t size_bytes, std::span<const std::byte> buffer) {
  const auto owns = [&](const Storage& storage) {
    return storage.kind == StorageKind::kOutput && storage.index == output;
  };
  check(buffer, kGuardBytes, kGuardBytes + size_bytes, buffer.size(), "output '" + name + "'",
        writers(program, owns));
}

void check_arena_guards(const Program& program, uint32_t chunk, std::span<const std::byte> buffer) {
  for (const Storage& storage : program.lowered.storages) {
    if (storage.kind != StorageKind::kArena || storage.first_command < 0 ||
        storage.chunk != chunk) {
      continue;
    }
    const auto owns = [&](const Storage& other) { return &other == &storage; };
    const uint64_t begin = storage.offset_bytes;
    check(buffer, begin, begin + storage.size_bytes,
          begin - kGuardBytes + guarded_bytes(storage.size_bytes), "'" + storage.name + "'",
          writers(program, owns));
  }
}

}  // namespace dlk
