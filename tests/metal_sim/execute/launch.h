// Runs dispatches and copies. One command runs at a time in the whole process; the shadow of
// memory decides afterwards what a GPU could have run at the same time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/metal_sim/execute/memory.h"
#include "tests/metal_sim/execute/order.h"
#include "tests/metal_sim/msl/module.h"

namespace metal_sim {

/// What one buffer argument of a kernel may reach.
struct BoundRange {
  std::byte* begin = nullptr;
  std::byte* end = nullptr;
  Allocation* memory = nullptr;  // nullptr: bytes of setBytes
  bool writable = false;
  int index = 0;
  uint32_t unordered_since = 0;  // older stamps are of commands that are ordered before
};

struct LaunchArguments {
  std::shared_ptr<Module> module;
  const KernelEntry* kernel = nullptr;
  std::vector<void*> values;  // of buffer arguments; threadgroup and place arguments stay null
  std::vector<BoundRange> ranges;
  std::vector<uint32_t> threadgroup_bytes;  // by argument
  std::array<uint32_t, 3> grid{}, threads{};
  bool non_uniform = false;
  std::shared_ptr<Scope> scope;
  uint32_t position = 0;
};

/// Runs a kernel over its grid. Returns the first thing that was wrong, or an empty string.
std::string launch(const LaunchArguments& arguments);

/// Copy and fill commands, with the same checks of order. Return the first conflict or "".
std::string run_copy(std::shared_ptr<Scope> scope, Allocation& source, uint64_t source_offset,
                     Allocation& destination, uint64_t destination_offset, uint64_t size);
std::string run_fill(std::shared_ptr<Scope> scope, Allocation& destination, uint64_t offset,
                     uint64_t size, uint8_t value);

}  // namespace metal_sim
