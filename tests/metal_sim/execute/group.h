// The threadgroup that is running: its threads as fibers (or, where the kernel has no barrier, as
// plain calls), its threadgroup memory, and the checks of every load and store.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/metal_sim/execute/launch.h"

namespace metal_sim {

/// What the lanes of a simdgroup handed in at one simdgroup function.
struct SimdExchange {
  uint64_t mask = 0;
  unsigned char data[32][64];
};

enum class ThreadState : uint8_t { kReady, kAtBarrier, kAtSimdBarrier, kAtExchange, kDone };

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  const void* site = nullptr;  // of the barrier or exchange that it waits at
  const SimdExchange* exchange = nullptr;
  int flags = 0;
  ThreadState state = ThreadState::kReady;
  ThreadPlace place;
};

/// The state of the dispatch that runs now. One at a time; guarded by the execution lock.
class Execution {
 public:
  explicit Execution(const LaunchArguments& launch, uint32_t first_group);
  ~Execution();
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;

  void run_group(std::array<uint32_t, 3> group, std::array<uint32_t, 3> threads);
  /// Reports a problem of the thread that runs now; keeps the first for the command buffer.
  [[gnu::format(printf, 2, 3)]] void report(const char* format, ...);
  const std::string& first_problem() const { return first_problem_; }
  bool gave_up() const { return problems_ >= kMaxProblems; }

  // Called by the kernel.
  void access(char* address, uint32_t bytes, bool is_write, bool is_atomic);
  void wait_at(ThreadState state, int flags, const void* site);
  const SimdExchange* exchange(const void* value, uint32_t bytes, const void* site, uint32_t* lane);
  char* threadgroup_array(uint32_t ordinal) { return array_begin_[ordinal]; }
  void run_fiber();

 private:
  static constexpr int kMaxProblems = 20;

  void place_threads(std::array<uint32_t, 3> group, std::array<uint32_t, 3> threads);
  void run_plain();
  void run_fibers();
  void make_stacks(size_t count);
  bool resolve_simdgroups();
  void resolve_simdgroup(uint32_t simdgroup);
  void pass_barrier();
  /// One load or store of a word. `range` is null for threadgroup memory.
  struct Touch {
    uint32_t bytes;  // which of the word's four
    bool is_write, is_atomic;
    const BoundRange* range;
  };
  void check_words(Cell* cells, const char* words, uint64_t offset, uint32_t bytes, Touch touch);
  void check_word(Cell& cell, const Touch& touch, uint32_t value);
  bool conflicts(const Stamp& earlier, const Touch& touch, bool* other_command) const;
  void stamp(Stamp& last, const Touch& touch) const;
  const BoundRange* find_range(const char* address, uint32_t bytes, bool is_write);
  void out_of_bounds(const char* address, uint32_t bytes, bool is_write);

  const LaunchArguments& launch_;
  uint32_t first_group_;
  uint32_t group_;
  uint32_t clock_ = 1;
  uint32_t group_barrier_[2] = {0, 0};  // clock of the last barrier: threadgroup, device memory
  std::vector<std::array<uint32_t, 2>> simd_barrier_;
  std::vector<Fiber> fibers_;
  std::vector<uint32_t> order_;
  uint32_t current_ = 0;
  void* scheduler_ = nullptr;
  char* stack_begin_ = nullptr;  // of the thread that runs now
  size_t stack_bytes_ = 0;
  std::vector<char> threadgroup_memory_;
  char* threadgroup_begin_ = nullptr;
  size_t threadgroup_bytes_ = 0;
  std::vector<Cell> threadgroup_cells_;
  std::vector<char*> array_begin_;
  std::vector<void*> values_;
  size_t last_range_ = 0;
  std::vector<SimdExchange> posted_;     // by simdgroup
  std::vector<SimdExchange> exchanges_;  // what lanes read, a ring a simdgroup
  std::vector<uint32_t> next_exchange_;
  std::string first_problem_;
  int problems_ = 0;
};

/// The running dispatch, or nullptr.
extern Execution* running;

}  // namespace metal_sim
