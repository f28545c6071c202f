#include "tests/metal_sim/execute/order.h"

#include <algorithm>
#include <atomic>
#include <deque>

#include "tests/metal_sim/execute/memory.h"

namespace metal_sim {

namespace {

constexpr size_t kRemembered = 4096;

/// The commands that ran last, in order. Guarded by the simulator's execution lock.
std::deque<CommandRecord>& records() {
  static auto* records = new std::deque<CommandRecord>;
  return *records;
}

uint32_t next_group = 1;

bool barrier_between(const Scope& scope, uint32_t earlier, uint32_t later,
                     const Allocation& memory) {
  return std::any_of(scope.barriers.begin(), scope.barriers.end(), [&](const Barrier& barrier) {
    if (barrier.position <= earlier || barrier.position > later) return false;
    return barrier.memory.empty() ||
           std::find(barrier.memory.begin(), barrier.memory.end(), &memory) != barrier.memory.end();
  });
}

bool is_before(const CommandRecord& earlier, const Scope& scope, uint32_t position,
               const Allocation& memory) {
  if (earlier.scope->id == scope.id) {
    return scope.serial || barrier_between(scope, earlier.position, position, memory);
  }
  return memory.tracked || scope.before.count(earlier.scope->id) != 0;
}

}  // namespace

std::shared_ptr<Scope> new_scope(bool serial, ScopeSet before) {
  static std::atomic<uint64_t> next_id{1};
  auto scope = std::make_shared<Scope>();
  scope->id = next_id.fetch_add(1);
  scope->serial = serial;
  scope->before = std::move(before);
  return scope;
}

uint32_t start_command(std::shared_ptr<Scope> scope, uint32_t position, uint32_t groups) {
  const uint32_t first = next_group;
  next_group += std::max<uint32_t>(groups, 1);
  records().push_back({first, std::move(scope), position});
  if (records().size() > kRemembered) records().pop_front();
  return first;
}

bool is_ordered(uint32_t group, const Scope& scope, uint32_t position, const Allocation& memory) {
  const auto next = std::upper_bound(
      records().begin(), records().end(), group,
      [](uint32_t wanted, const CommandRecord& record) { return wanted < record.first_group; });
  if (next == records().begin()) return true;  // Too long ago to be remembered.
  return is_before(*std::prev(next), scope, position, memory);
}

uint32_t first_unordered(const Scope& scope, uint32_t position, const Allocation& memory) {
  uint32_t first = next_group;
  for (auto record = records().rbegin(); record != records().rend(); ++record) {
    if (memory.tracked && record->scope->id != scope.id) break;
    if (!is_before(*record, scope, position, memory)) first = record->first_group;
  }
  return first;
}

}  // namespace metal_sim
