// Dispatches: sets a kernel's arguments up and runs its threadgroups; copies and fills.
#include "tests/metal_sim/execute/launch.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "tests/metal_sim/execute/group.h"
#include "tests/metal_sim/metal/classes.h"

namespace metal_sim {

namespace {

std::mutex& execution_lock() {
  static auto* lock = new std::mutex;
  return *lock;
}

uint64_t aligned16(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

std::array<uint32_t, 3> groups_of(const LaunchArguments& launch) {
  if (!launch.non_uniform) return launch.grid;
  std::array<uint32_t, 3> groups{};
  for (size_t axis = 0; axis < 3; ++axis) {
    groups[axis] = (launch.grid[axis] + launch.threads[axis] - 1) / launch.threads[axis];
  }
  return groups;
}

BoundRange range_of(const Binding& binding, const KernelArgument& argument) {
  BoundRange range;
  range.index = argument.index;
  range.writable = !argument.is_const;
  if (binding.buffer) {
    range.memory = binding.buffer->memory.get();
    range.begin = binding.buffer->gpu() + binding.offset;
    range.end = binding.buffer->gpu() + binding.buffer->size;
  } else {
    range.begin = binding.bytes->data();
    range.end = range.begin + binding.bytes->size();
  }
  return range;
}

/// Checks and records one command that is no kernel on a range of memory.
std::string touch_range(const Scope& scope, uint32_t group, uint32_t position, Allocation& memory,
                        uint64_t offset, uint64_t size, bool is_write) {
  if (memory.tracked || !memory.written_by_kernel) return {};
  Cell* cells = memory.cells();
  for (uint64_t word = offset / 4; word < (offset + size + 3) / 4; ++word) {
    const auto conflicts = [&](const Stamp& earlier) {
      return earlier.bytes && !is_ordered(earlier.group, scope, position, memory);
    };
    if (conflicts(cells[word].write) || (is_write && conflicts(cells[word].read))) {
      return "missing barrier between commands: its memory is used by an earlier command that "
             "nothing orders before it";
    }
    Stamp& stamp = is_write ? cells[word].write : cells[word].read;
    stamp = {};
    stamp.group = group;
    stamp.bytes = 15;
    stamp.clock = 1;
  }
  return {};
}

}  // namespace

Execution::Execution(const LaunchArguments& launch, uint32_t first_group)
    : launch_(launch), first_group_(first_group), group_(first_group), values_(launch.values) {
  uint64_t bytes = 0;
  for (const uint32_t array : launch.kernel->threadgroup_arrays) bytes += aligned16(array);
  for (const uint32_t argument : launch.threadgroup_bytes) bytes += aligned16(argument);
  threadgroup_memory_.assign(bytes + 128, '\xa5');
  const auto base = reinterpret_cast<uintptr_t>(threadgroup_memory_.data());
  threadgroup_begin_ = threadgroup_memory_.data() + (64 - base % 64) % 64;
  threadgroup_bytes_ = bytes;
  threadgroup_cells_.resize(bytes / 4 + 1);
  char* at = threadgroup_begin_;
  for (const uint32_t array : launch.kernel->threadgroup_arrays) {
    array_begin_.push_back(at);
    at += aligned16(array);
  }
  for (size_t i = 0; i < launch.threadgroup_bytes.size(); ++i) {
    if (launch.threadgroup_bytes[i] == 0) continue;
    values_[i] = at;
    at += aligned16(launch.threadgroup_bytes[i]);
  }
  running = this;
}

Execution::~Execution() { running = nullptr; }

std::string launch(const LaunchArguments& arguments) {
  const std::lock_guard lock(execution_lock());
  const std::array<uint32_t, 3> groups = groups_of(arguments);
  LaunchArguments bound = arguments;
  for (BoundRange& range : bound.ranges) {
    if (!range.memory) continue;
    range.unordered_since = first_unordered(*arguments.scope, arguments.position, *range.memory);
  }
  const uint32_t first =
      start_command(arguments.scope, arguments.position, groups[0] * groups[1] * groups[2]);
  Execution execution(bound, first);
  for (uint32_t z = 0; z < groups[2]; ++z) {
    for (uint32_t y = 0; y < groups[1]; ++y) {
      for (uint32_t x = 0; x < groups[0]; ++x) {
        const std::array<uint32_t, 3> group{x, y, z};
        std::array<uint32_t, 3> threads = arguments.threads;
        for (size_t axis = 0; axis < 3 && arguments.non_uniform; ++axis) {
          threads[axis] =
              std::min(threads[axis], arguments.grid[axis] - group[axis] * threads[axis]);
        }
        execution.run_group(group, threads);
        if (execution.gave_up()) return execution.first_problem();
      }
    }
  }
  return execution.first_problem();
}

std::string run_copy(std::shared_ptr<Scope> scope, Allocation& source, uint64_t source_offset,
                     Allocation& destination, uint64_t destination_offset, uint64_t size) {
  const std::lock_guard lock(execution_lock());
  const uint32_t group = start_command(scope, 0, 1);
  std::string conflict = touch_range(*scope, group, 0, source, source_offset, size, false);
  if (conflict.empty()) {
    conflict = touch_range(*scope, group, 0, destination, destination_offset, size, true);
  }
  if (!conflict.empty()) problem("copyFromBuffer: %s", conflict.c_str());
  std::memmove(destination.bytes() + destination_offset, source.bytes() + source_offset, size);
  return conflict;
}

std::string run_fill(std::shared_ptr<Scope> scope, Allocation& destination, uint64_t offset,
                     uint64_t size, uint8_t value) {
  const std::lock_guard lock(execution_lock());
  const uint32_t group = start_command(scope, 0, 1);
  const std::string conflict = touch_range(*scope, group, 0, destination, offset, size, true);
  if (!conflict.empty()) problem("fillBuffer: %s", conflict.c_str());
  std::memset(destination.bytes() + offset, value, size);
  return conflict;
}

void run_dispatch(CommandBuffer& buffer, const Dispatch& dispatch) {
  LaunchArguments launch_arguments;
  const KernelEntry& kernel = *dispatch.pipeline->kernel;
  launch_arguments.module = dispatch.pipeline->module;
  launch_arguments.kernel = &kernel;
  launch_arguments.grid = dispatch.grid;
  launch_arguments.threads = dispatch.threads;
  launch_arguments.non_uniform = dispatch.non_uniform;
  launch_arguments.scope = dispatch.scope;
  launch_arguments.position = dispatch.position;
  for (const KernelArgument* a = kernel.arguments; a->name; ++a) {
    launch_arguments.values.push_back(nullptr);
    launch_arguments.threadgroup_bytes.push_back(0);
    const auto index = static_cast<size_t>(a->index);
    if (a->kind == kThreadgroupArgument) {
      launch_arguments.threadgroup_bytes.back() =
          static_cast<uint32_t>(dispatch.threadgroup_bytes[index]);
    } else if (a->kind == kBufferArgument) {
      const BoundRange range = range_of(dispatch.bindings[index], *a);
      launch_arguments.values.back() = range.begin;
      launch_arguments.ranges.push_back(range);
    }
  }
  const std::string wrong = launch(launch_arguments);
  if (!wrong.empty()) buffer.fail(3, "kernel " + kernel.name + ": " + wrong);
}

}  // namespace metal_sim
