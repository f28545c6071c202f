// The check of one load or store: bounds, memory that nobody wrote, and races, by the shadow.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/metal_sim/execute/group.h"

namespace metal_sim {

namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kMaxClock = (1u << 15) - 1;

/// True where a read of these bytes of a word finds what nobody wrote. A lone small value at the
/// start of a word may happen to be the pattern's: only more of the pattern tells.
bool looks_unwritten(uint32_t value, uint32_t bytes) {
  return value == kPoison && (bytes & 12u) != 0;
}

}  // namespace

const BoundRange* Execution::find_range(const char* address, uint32_t bytes, bool is_write) {
  const auto* begin = reinterpret_cast<const std::byte*>(address);
  const std::byte* end = begin + bytes;
  const auto fits = [&](const BoundRange& range) {
    return begin >= range.begin && end <= range.end && (range.writable || !is_write);
  };
  if (last_range_ < launch_.ranges.size() && fits(launch_.ranges[last_range_])) {
    return &launch_.ranges[last_range_];
  }
  for (size_t i = 0; i < launch_.ranges.size(); ++i) {
    if (!fits(launch_.ranges[i])) continue;
    last_range_ = i;
    return &launch_.ranges[i];
  }
  return nullptr;
}

void Execution::out_of_bounds(const char* address, uint32_t bytes, bool is_write) {
  const auto* begin = reinterpret_cast<const std::byte*>(address);
  const BoundRange* nearest = nullptr;
  long distance = 0;
  for (const BoundRange& range : launch_.ranges) {
    if (begin >= range.begin && begin + bytes <= range.end) {
      report("write to the read-only argument buffer(%d)", range.index);
      return;
    }
    const long past = begin < range.begin ? begin - range.begin : begin - range.end;
    if (nearest && std::abs(past) >= std::abs(distance)) continue;
    nearest = &range;
    distance = past;
  }
  report("out-of-bounds %s of %u bytes, %ld bytes %s of buffer(%d)", is_write ? "write" : "read",
         bytes, std::abs(distance), distance < 0 ? "before the start" : "past the end",
         nearest ? nearest->index : -1);
}

/// True where the access of `earlier` and the one of the thread that runs now are not ordered.
bool Execution::conflicts(const Stamp& earlier, const Touch& touch, bool* other_command) const {
  if (!(earlier.bytes & touch.bytes) || (earlier.atomic && touch.is_atomic)) return false;
  *other_command = false;
  const bool in_group = touch.range == nullptr;
  if (earlier.group == group_) {
    const ThreadPlace& place = fibers_[current_].place;
    if (earlier.thread == place.index_in_group && !earlier.many) return false;
    const size_t kind = in_group ? 0 : 1;
    if (earlier.clock <= group_barrier_[kind]) return false;
    const bool same_simdgroup = earlier.thread / kLanes == place.simdgroup;
    return !same_simdgroup || earlier.clock > simd_barrier_[place.simdgroup][kind];
  }
  if (in_group) return false;
  if (earlier.group >= first_group_) return true;
  if (earlier.group < touch.range->unordered_since) return false;
  *other_command = true;
  return !is_ordered(earlier.group, *launch_.scope, launch_.position, *touch.range->memory);
}

/// Notes the access in the word's cell.
void Execution::stamp(Stamp& last, const Touch& touch) const {
  const uint32_t thread = fibers_[current_].place.index_in_group;
  const uint32_t clock = std::min(clock_, kMaxClock);
  uint32_t bytes = touch.bytes;
  bool many = false;
  if (last.group == group_ && last.clock == clock) {
    if (last.thread == thread && !last.many) {
      bytes |= last.bytes;
    } else if (!touch.is_write && (last.bytes & bytes)) {
      many = true;
      bytes &= last.bytes;
    }
  } else if (!touch.is_write && last.group != group_ && last.group >= first_group_) {
    return;  // Read by several threadgroups: a write by any but the first is a race with it.
  }
  last.group = group_;
  last.thread = thread & 0x7ff;
  last.clock = clock & kMaxClock;
  last.bytes = bytes & 15;
  last.atomic = touch.is_atomic;
  last.many = many;
}

void Execution::check_word(Cell& cell, const Touch& touch, uint32_t value) {
  const char* where = touch.range ? "device" : "threadgroup";
  const bool written =
      touch.range ? !looks_unwritten(value, touch.bytes) || cell.write.group >= first_group_
                  : cell.write.group == group_;
  if (!touch.is_write && !written) report("read of uninitialised %s memory", where);
  const char* action = touch.is_write ? "write" : "read";
  bool other_command = false;
  if (conflicts(cell.write, touch, &other_command)) {
    report("%s on %s memory: %s after an unordered write by %s",
           other_command ? "missing barrier between commands" : "data race", where, action,
           other_command ? "an earlier command" : "another thread");
    cell = {};
  } else if (touch.is_write && conflicts(cell.read, touch, &other_command)) {
    report("%s on %s memory: %s after an unordered read by %s",
           other_command ? "missing barrier between commands" : "data race", where, action,
           other_command ? "an earlier command" : "another thread");
    cell = {};
  }
  stamp(touch.is_write ? cell.write : cell.read, touch);
}

void Execution::access(char* address, uint32_t bytes, bool is_write, bool is_atomic) {
  if (static_cast<size_t>(address - stack_begin_) < stack_bytes_) return;
  const auto in_group = static_cast<uint64_t>(address - threadgroup_begin_);
  if (in_group < threadgroup_bytes_) {
    if (in_group + bytes > threadgroup_bytes_) {
      report("out-of-bounds %s of threadgroup memory", is_write ? "write" : "read");
    } else {
      check_words(threadgroup_cells_.data(), threadgroup_begin_, in_group, bytes,
                  {0, is_write, is_atomic, nullptr});
    }
    return;
  }
  const BoundRange* range = find_range(address, bytes, is_write);
  if (!range) {
    const Module& module = *launch_.module;
    if (!is_write && address >= module.begin && address + bytes <= module.end) return;
    out_of_bounds(address, bytes, is_write);
    return;
  }
  if (!range->memory) return;
  Allocation& memory = *range->memory;
  char* words = reinterpret_cast<char*>(memory.bytes());
  const auto offset = static_cast<uint64_t>(address - words);
  if (memory.written_by_kernel) {
    check_words(memory.cells(), words, offset, bytes, {0, is_write, is_atomic, range});
    return;
  }
  uint32_t value = 0;
  std::memcpy(&value, words + offset / 4 * 4, 4);
  const uint32_t mask = ((1u << std::min<uint64_t>(bytes, 4 - offset % 4)) - 1) << (offset % 4);
  if (looks_unwritten(value, mask)) report("read of uninitialised device memory");
}

void Execution::check_words(Cell* cells, const char* words, uint64_t offset, uint32_t bytes,
                            Touch touch) {
  for (uint64_t at = offset; at < offset + bytes;) {
    const uint64_t word = at / 4, end = std::min((word + 1) * 4, offset + bytes);
    touch.bytes = ((1u << (end - at)) - 1) << (at % 4);
    uint32_t value = 0;
    std::memcpy(&value, words + word * 4, 4);
    check_word(cells[word], touch, value);
    at = end;
  }
}

}  // namespace metal_sim
