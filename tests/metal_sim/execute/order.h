// Which commands are ordered before which. A scope is one encoder; barriers inside it, fences,
// events, hazard tracking and what the CPU has waited for put commands in order. Two commands that
// nothing orders may run at the same time on a GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

namespace metal_sim {

class Allocation;

using ScopeSet = std::set<uint64_t>;

struct Barrier {
  uint32_t position;                      // before the command of this position
  std::vector<const Allocation*> memory;  // empty: all buffers
};

struct Scope {
  uint64_t id = 0;
  bool serial = true;
  ScopeSet before;  // scopes that are ordered before this one
  std::vector<Barrier> barriers;
};

/// One executed command: the stamps of its threadgroups start at `first_group`.
struct CommandRecord {
  uint32_t first_group = 0;
  std::shared_ptr<Scope> scope;
  uint32_t position = 0;
};

std::shared_ptr<Scope> new_scope(bool serial, ScopeSet before);

/// Called once a command starts to run; returns the first stamp of its `groups` threadgroups.
uint32_t start_command(std::shared_ptr<Scope> scope, uint32_t position, uint32_t groups);
/// True where the command that made `group`'s stamp is ordered before the command (scope,
/// position) for what they do to `memory`.
bool is_ordered(uint32_t group, const Scope& scope, uint32_t position, const Allocation& memory);

/// The first stamp that such a command, not ordered before this one, can have made.
uint32_t first_unordered(const Scope& scope, uint32_t position, const Allocation& memory);

}  // namespace metal_sim
