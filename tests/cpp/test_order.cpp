#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

#include "core/device/hazards.h"
#include "core/graph/lowered.h"

using namespace dlk;

namespace {

constexpr Access R = Access::kRead, W = Access::kWrite;

Caps gpu() {
  Caps caps;
  caps.compute_units = 4;  // 64 work-groups fill it
  return caps;
}

int32_t add_storage(Lowered& program, uint64_t bytes, StorageKind kind = StorageKind::kArena) {
  Storage storage;
  storage.kind = kind;
  storage.size_bytes = bytes;
  program.storages.push_back(storage);
  return static_cast<int32_t>(program.storages.size()) - 1;
}

/// A command that reads some storages and writes one; its label is its number.
void add_command(Lowered& program, const std::vector<int32_t>& reads, int32_t writes,
                 uint32_t groups = 1) {
  PlannedCommand command;
  command.label = std::to_string(program.commands.size());
  command.groups = {groups, 1, 1};
  for (const int32_t s : reads) {
    command.operands.push_back({s, 0, program.storages[s].size_bytes, R});
  }
  command.operands.push_back({writes, 0, program.storages[writes].size_bytes, W});
  program.commands.push_back(command);
}

std::vector<int> numbers(const Lowered& program) {
  std::vector<int> order;
  for (const PlannedCommand& command : program.commands) order.push_back(std::stoi(command.label));
  return order;
}

std::vector<int> counted(size_t count) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

/// Chains beside each other, from one input to one result, one chain after the other.
Lowered chains(int count, int length, uint64_t bytes, uint32_t groups = 1) {
  Lowered program;
  const int32_t in = add_storage(program, 64, StorageKind::kInput);
  std::vector<int32_t> ends;
  for (int chain = 0; chain < count; ++chain) {
    int32_t last = in;
    for (int i = 0; i < length; ++i) {
      const int32_t next = add_storage(program, i + 1 == length ? 64 : bytes);
      add_command(program, {last}, next, groups);
      last = next;
    }
    ends.push_back(last);
  }
  add_command(program, ends, add_storage(program, 64, StorageKind::kOutput));
  return program;
}

/// Barriers that the program needs over its memory plan.
size_t barriers(Lowered& program) {
  plan_memory(program, uint64_t{1} << 40);
  HazardTracker tracker;
  size_t count = 0;
  for (const PlannedCommand& command : program.commands) {
    std::vector<RangeUse> uses;
    for (const PlannedOperand& operand : command.operands) {
      const Storage& storage = program.storages[operand.storage];
      const bool arena = storage.kind == StorageKind::kArena;
      const uint64_t base = arena ? storage.offset_bytes : 0;
      uses.push_back({arena ? storage.chunk : 1000 + static_cast<uint64_t>(operand.storage),
                      base + operand.offset_bytes, base + operand.offset_bytes + operand.size_bytes,
                      operand.access, operand.stripes});
    }
    count += tracker.add(uses);
  }
  return count;
}

Lowered random_program(std::mt19937& random, int storages, int commands) {
  Lowered program;
  const auto below = [&](int n) {
    return static_cast<int32_t>(random() % static_cast<unsigned>(n));
  };
  for (int s = 0; s < storages; ++s) {
    add_storage(program, 16 + static_cast<uint64_t>(below(1000)),
                s % 5 == 0 ? StorageKind::kVariable : StorageKind::kArena);
    program.storages.back().key = "v" + std::to_string(below(3));
  }
  const auto arena = [&] {
    const int32_t s = below(storages);
    return s % 5 == 0 ? s + 1 : s;
  };
  for (int c = 0; c < commands; ++c) {
    add_command(program, {below(storages), below(storages)}, arena(),
                static_cast<uint32_t>(1 + below(20)));
  }
  return program;
}

}  // namespace

TEST_CASE("chains beside each other advance together") {
  Lowered program = chains(3, 4, 1000);
  CHECK(barriers(program) >= 10);
  overlap_commands(program, gpu());
  CHECK(numbers(program) == std::vector<int>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, 12});
  CHECK(barriers(program) == 4);
}

TEST_CASE("what most waits for goes first, and shorter branches beside longer ones") {
  Lowered program;
  const int32_t in = add_storage(program, 64, StorageKind::kInput);
  const int32_t a = add_storage(program, 64), b = add_storage(program, 64);
  const int32_t c = add_storage(program, 64), out = add_storage(program, 64, StorageKind::kOutput);
  add_command(program, {in}, a);
  add_command(program, {in}, b);
  add_command(program, {b}, c);
  add_command(program, {a, c}, out);
  overlap_commands(program, gpu());
  CHECK(numbers(program) == std::vector<int>{1, 0, 2, 3});
  CHECK(barriers(program) == 2);
}

TEST_CASE("orders and memory keep every result") {
  std::mt19937 random(5);
  size_t before = 0, after = 0;
  for (int round = 0; round < 60; ++round) {
    Lowered program = random_program(random, 40, 60);
    const Lowered old = program;
    before += barriers(program);
    Lowered twin = old;
    program = old;
    overlap_commands(program, gpu());
    overlap_commands(twin, gpu());
    const std::vector<int> order = numbers(program);
    CHECK(order == numbers(twin));
    CHECK(std::set<int>(order.begin(), order.end()).size() == old.commands.size());
    for (size_t i = 0; i < order.size(); ++i) {
      for (size_t j = i + 1; j < order.size(); ++j) {
        bool meet = false;
        for (const PlannedOperand& x : program.commands[i].operands) {
          for (const PlannedOperand& y : program.commands[j].operands) {
            meet |= x.storage == y.storage && (x.access != R || y.access != R);
          }
        }
        if (!meet) continue;
        REQUIRE(order[i] < order[j]);
        REQUIRE(program.commands[i].stretch < program.commands[j].stretch);
      }
    }
    after += barriers(program);
    CHECK(barriers(program) <= static_cast<size_t>(program.commands.back().stretch));
    for (const Storage& x : program.storages) {
      for (const Storage& y : program.storages) {
        if (&x == &y || x.kind != StorageKind::kArena || y.kind != StorageKind::kArena) continue;
        if (x.first_command < 0 || y.first_command < 0) continue;
        if (x.last_command < y.first_command || y.last_command < x.first_command) continue;
        REQUIRE((x.offset_bytes + x.size_bytes <= y.offset_bytes ||
                 y.offset_bytes + y.size_bytes <= x.offset_bytes));
      }
    }
  }
  CHECK(after * 10 < before * 9);
}

TEST_CASE("commands that fill the device stay in their places") {
  Lowered program = chains(3, 4, 1000, 40);
  overlap_commands(program, gpu());
  CHECK(numbers(program) == counted(13));
  program = chains(4, 4, 1000, 30);  // two at a time
  overlap_commands(program, gpu());
  CHECK(barriers(program) == 8);
}

TEST_CASE("an order that needs much more memory is not taken") {
  constexpr uint64_t kLarge = 64 << 20;
  Lowered program = chains(8, 3, kLarge);
  Lowered old = program;
  const uint64_t bytes = plan_memory(old, uint64_t{1} << 40).arena_bytes();
  overlap_commands(program, gpu());
  CHECK(numbers(program) == counted(25));
  CHECK(plan_memory(program, uint64_t{1} << 40).arena_bytes() == bytes);
  program = chains(8, 3, 1 << 10);
  overlap_commands(program, gpu());
  CHECK(numbers(program) != counted(25));
}

TEST_CASE("processors and programs that write variables keep their order") {
  Caps cpu = gpu();
  cpu.is_cpu = true;
  Lowered program = chains(3, 4, 1000);
  overlap_commands(program, cpu);
  CHECK(numbers(program) == counted(13));
  const int32_t variable = add_storage(program, 64, StorageKind::kVariable);
  add_command(program, {0}, variable);
  overlap_commands(program, gpu());
  CHECK(numbers(program) == counted(14));
}
