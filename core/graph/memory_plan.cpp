#include <algorithm>
#include <numeric>

#include "core/device/arena.h"
#include "core/graph/lowered.h"

namespace dlk {

namespace {

uint64_t aligned(uint64_t bytes) {
  return (std::max<uint64_t>(bytes, 4) + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

/// The first and last command of the stretch of each command.
std::vector<std::pair<int32_t, int32_t>> stretches_of(const Lowered& lowered) {
  const auto count = static_cast<int32_t>(lowered.commands.size());
  std::vector<std::pair<int32_t, int32_t>> stretches(lowered.commands.size());
  const auto same = [&](int32_t a, int32_t b) {
    return lowered.commands[a].stretch >= 0 &&
           lowered.commands[a].stretch == lowered.commands[b].stretch;
  };
  for (int32_t c = 0; c < count; ++c) {
    stretches[c].first = c > 0 && same(c, c - 1) ? stretches[c - 1].first : c;
  }
  for (int32_t c = count; c-- > 0;) {
    stretches[c].second = c + 1 < count && same(c, c + 1) ? stretches[c + 1].second : c;
  }
  return stretches;
}

/// A storage that one command of a stretch uses is not another's memory until the stretch ends.
void find_lifetimes(Lowered& lowered) {
  for (Storage& storage : lowered.storages) storage.first_command = storage.last_command = -1;
  const auto stretches = stretches_of(lowered);
  for (size_t c = 0; c < lowered.commands.size(); ++c) {
    for (const PlannedOperand& operand : lowered.commands[c].operands) {
      Storage& storage = lowered.storages[operand.storage];
      if (storage.first_command < 0) storage.first_command = stretches[c].first;
      storage.last_command = stretches[c].second;
    }
  }
}

struct Placed {
  uint32_t chunk;
  uint64_t begin, end;
  const Storage* storage;
};

struct Room {
  uint64_t max_chunk_bytes;
  bool guards;

  uint64_t needs(const Storage& storage) const {
    return guards ? guarded_bytes(storage.size_bytes) : aligned(storage.size_bytes);
  }
  bool kept_apart(const Storage& a, const Storage& b) const {
    return guards || (a.first_command <= b.last_command && b.first_command <= a.last_command);
  }
};

/// Lowest place among `placed` storages of `chunk` that live at the same time.
uint64_t lowest_offset(const std::vector<Placed>& placed, uint32_t chunk, const Storage& storage,
                       const Room& room) {
  const uint64_t size = room.needs(storage);
  uint64_t offset = 0;
  for (const Placed& other : placed) {  // sorted by begin
    if (other.chunk != chunk || !room.kept_apart(*other.storage, storage)) continue;
    if (offset + size <= other.begin) break;
    offset = std::max(offset, other.end);
  }
  return offset;
}

/// Places in the given order, each storage at the lowest free offset of the first chunk with room.
std::vector<uint64_t> place(const std::vector<Storage*>& order, const Room& room) {
  std::vector<Placed> placed;
  std::vector<uint64_t> chunks;
  for (Storage* storage : order) {
    const uint64_t size = room.needs(*storage);
    for (uint32_t chunk = 0;; ++chunk) {
      const uint64_t offset = lowest_offset(placed, chunk, *storage, room);
      if (offset + size > room.max_chunk_bytes && !(chunk == chunks.size() && offset == 0))
        continue;
      if (chunk == chunks.size()) chunks.push_back(0);
      chunks[chunk] = std::max(chunks[chunk], offset + size);
      storage->chunk = chunk;
      storage->offset_bytes = offset + (room.guards ? kGuardBytes : 0);
      const Placed entry{chunk, offset, offset + size, storage};
      placed.insert(
          std::upper_bound(placed.begin(), placed.end(), entry,
                           [](const Placed& a, const Placed& b) { return a.begin < b.begin; }),
          entry);
      break;
    }
  }
  return chunks;
}

uint64_t total(const std::vector<uint64_t>& chunks) {
  return std::accumulate(chunks.begin(), chunks.end(), uint64_t{0});
}

/// Improves an order until its arena is close to `bound`: what reaches highest is placed first, so
/// that what had been in its way goes elsewhere.
void improve(std::vector<Storage*>& order, const Room& room, uint64_t bound) {
  constexpr size_t kRounds = 64, kPairs = 4'000'000;  // of storages that are compared, in all
  const size_t rounds = std::min(kRounds, kPairs / (order.size() * order.size() + 1));
  std::vector<Storage*> tried = order;
  uint64_t best = total(place(tried, room));
  for (size_t round = 0; round < rounds && best > bound + bound / 64; ++round) {
    const auto highest =
        std::max_element(tried.begin(), tried.end(), [&](const Storage* a, const Storage* b) {
          const uint64_t end_a = a->offset_bytes + room.needs(*a);
          const uint64_t end_b = b->offset_bytes + room.needs(*b);
          return std::pair(a->chunk, end_a) < std::pair(b->chunk, end_b);
        });
    if (highest == tried.begin()) break;
    std::rotate(tried.begin(), highest, highest + 1);
    const uint64_t bytes = total(place(tried, room));
    if (bytes < best) {
      best = bytes;
      order = tried;
    }
  }
}

}  // namespace

uint64_t MemoryPlan::arena_bytes() const { return total(chunk_bytes); }

uint64_t peak_live_bytes(Lowered& lowered) {
  find_lifetimes(lowered);
  std::vector<int64_t> change(lowered.commands.size() + 1, 0);
  for (const Storage& storage : lowered.storages) {
    if (storage.kind != StorageKind::kArena || storage.first_command < 0) continue;
    change[storage.first_command] += static_cast<int64_t>(aligned(storage.size_bytes));
    change[storage.last_command + 1] -= static_cast<int64_t>(aligned(storage.size_bytes));
  }
  int64_t live = 0, peak = 0;
  for (const int64_t delta : change) peak = std::max(peak, live += delta);
  return static_cast<uint64_t>(peak);
}

uint64_t guarded_bytes(uint64_t size_bytes) { return aligned(size_bytes) + 2 * kGuardBytes; }

MemoryPlan plan_memory(Lowered& lowered, uint64_t max_chunk_bytes, bool guards) {
  const Room room{max_chunk_bytes, guards};
  MemoryPlan plan;
  plan.peak_live_bytes = peak_live_bytes(lowered);
  std::vector<Storage*> used;
  for (Storage& storage : lowered.storages) {
    if (storage.kind != StorageKind::kArena || storage.first_command < 0) continue;
    if (storage.size_bytes > max_chunk_bytes) {
      throw Error(ErrorCode::kOutOfMemory, "'" + storage.name + "' needs " +
                                               std::to_string(storage.size_bytes) +
                                               " bytes; one buffer of the device has at most " +
                                               std::to_string(max_chunk_bytes));
    }
    used.push_back(&storage);
  }
  // Several good orders; the smallest arena wins. Ties keep execution order, so plans are stable.
  const auto by_size = [](const Storage* a, const Storage* b) {
    return a->size_bytes > b->size_bytes;
  };
  const auto by_span = [](const Storage* a, const Storage* b) {
    const auto weight = [](const Storage* s) {
      return s->size_bytes * static_cast<uint64_t>(s->last_command - s->first_command + 1);
    };
    return weight(a) > weight(b);
  };
  const auto by_start = [](const Storage* a, const Storage* b) {
    return a->first_command < b->first_command;
  };
  std::vector<std::vector<Storage*>> orders(3, used);
  std::stable_sort(orders[0].begin(), orders[0].end(), by_size);
  std::stable_sort(orders[1].begin(), orders[1].end(), by_span);
  std::stable_sort(orders[2].begin(), orders[2].end(), by_start);
  size_t best = 0;
  uint64_t best_bytes = UINT64_MAX;
  for (size_t i = 0; i < orders.size(); ++i) {
    plan.chunk_bytes = place(orders[i], room);
    if (plan.arena_bytes() < best_bytes) {
      best_bytes = plan.arena_bytes();
      best = i;
    }
  }
  if (!used.empty() && !guards) improve(orders[best], room, plan.peak_live_bytes);
  plan.chunk_bytes = place(orders[best], room);
  for (Storage& storage : lowered.storages) {
    if (storage.kind != StorageKind::kCounters) continue;
    storage.offset_bytes = plan.counter_bytes;
    plan.counter_bytes += aligned(storage.size_bytes);
  }
  return plan;
}

}  // namespace dlk
