// Threads of a threadgroup: fibers, barriers and simdgroup exchanges.
#include "tests/metal_sim/execute/group.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <numeric>

#include "tests/metal_sim/report.h"
#include "tests/metal_sim/settings.h"

extern "C" void metal_sim_switch(void** save, void* to);
asm(".text\n.globl metal_sim_switch\n.hidden metal_sim_switch\n"
    ".type metal_sim_switch, @function\nmetal_sim_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n  ret\n"
    ".size metal_sim_switch, .-metal_sim_switch\n");

namespace metal_sim {

Execution* running = nullptr;

namespace {

constexpr size_t kStack = 128 * 1024;
constexpr uint32_t kLanes = 32;
constexpr uint32_t kRing = 8;
constexpr int kMemThreadgroup = 2, kMemDevice = 1;

void fiber_entry() {
  running->run_fiber();
  fatal("a finished thread was resumed");
}

/// The stack of this host thread.
std::pair<char*, size_t> host_stack() {
  pthread_attr_t attributes;
  void* begin = nullptr;
  size_t bytes = 0;
  ::pthread_getattr_np(::pthread_self(), &attributes);
  ::pthread_attr_getstack(&attributes, &begin, &bytes);
  ::pthread_attr_destroy(&attributes);
  return {static_cast<char*>(begin), bytes};
}

}  // namespace

void Execution::report(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const ThreadPlace& place = fibers_[current_].place;
  if (problems_++ < 3) {
    problem("kernel %s: %s (threadgroup %u,%u,%u thread %u,%u,%u)", launch_.kernel->name.c_str(),
            text, place.group_in_grid[0], place.group_in_grid[1], place.group_in_grid[2],
            place.position_in_group[0], place.position_in_group[1], place.position_in_group[2]);
  }
  if (first_problem_.empty()) first_problem_ = text;
}

void Execution::place_threads(std::array<uint32_t, 3> group, std::array<uint32_t, 3> threads) {
  const uint32_t count = threads[0] * threads[1] * threads[2];
  fibers_.resize(count);
  uint32_t groups[3], grid_size[3];
  for (int axis = 0; axis < 3; ++axis) {
    const uint32_t size = launch_.threads[axis], grid = launch_.grid[axis];
    groups[axis] = launch_.non_uniform ? (grid + size - 1) / size : grid;
    grid_size[axis] = launch_.non_uniform ? grid : grid * size;
  }
  uint32_t index = 0;
  std::array<uint32_t, 3> at{};
  for (at[2] = 0; at[2] < threads[2]; ++at[2]) {
    for (at[1] = 0; at[1] < threads[1]; ++at[1]) {
      for (at[0] = 0; at[0] < threads[0]; ++at[0], ++index) {
        ThreadPlace& place = fibers_[index].place;
        for (int axis = 0; axis < 3; ++axis) {
          place.position_in_group[axis] = at[axis];
          place.group_in_grid[axis] = group[axis];
          place.group_size[axis] = threads[axis];
          place.groups[axis] = groups[axis];
          place.grid_size[axis] = grid_size[axis];
          place.position_in_grid[axis] = group[axis] * launch_.threads[axis] + at[axis];
        }
        place.index_in_group = index;
        place.lane = index % kLanes;
        place.simdgroup = index / kLanes;
        place.simdgroups = (count + kLanes - 1) / kLanes;
        place.simd_width = kLanes;
      }
    }
  }
  if (order_.size() != count) {
    order_.resize(count);
    std::iota(order_.begin(), order_.end(), 0u);
    if (settings().order == ThreadOrder::kReverse) std::reverse(order_.begin(), order_.end());
  }
  if (settings().order == ThreadOrder::kRandom) {
    static uint32_t seed = 1;
    for (uint32_t i = count; i-- > 1;) {
      seed = seed * 1664525u + 1013904223u;
      std::swap(order_[i], order_[(seed >> 8) % (i + 1)]);
    }
  }
}

void Execution::run_group(std::array<uint32_t, 3> group, std::array<uint32_t, 3> threads) {
  clock_ = 1;
  group_barrier_[0] = group_barrier_[1] = 0;
  place_threads(group, threads);
  simd_barrier_.assign(fibers_[0].place.simdgroups, {0, 0});
  if (launch_.kernel->has_barriers) {
    run_fibers();
  } else {
    run_plain();
  }
  ++group_;
}

void Execution::run_plain() {
  const auto [begin, bytes] = host_stack();
  stack_begin_ = begin;
  stack_bytes_ = bytes;
  for (const uint32_t index : order_) {
    current_ = index;
    launch_.kernel->run(values_.data(), &fibers_[index].place);
    if (gave_up()) return;
  }
}

void Execution::run_fiber() {
  Fiber& self = fibers_[current_];
  launch_.kernel->run(values_.data(), &self.place);
  self.state = ThreadState::kDone;
  metal_sim_switch(&self.stack_pointer, scheduler_);
}

void Execution::make_stacks(size_t count) {
  static char* stacks = nullptr;
  static size_t made = 0;
  if (made < count) {
    void* pages = ::mmap(nullptr, kStack * count, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) fatal("no memory for the stacks of %zu threads", count);
    if (stacks) ::munmap(stacks, kStack * made);
    stacks = static_cast<char*>(pages);
    made = count;
  }
  for (size_t i = 0; i < fibers_.size(); ++i) {
    Fiber& fiber = fibers_[i];
    fiber.stack = stacks + i * kStack;
    // Stacks start at different cache sets: 1 KiB apart, within one page or two.
    auto** top = reinterpret_cast<void**>(fiber.stack + kStack - 64 - (i % 8) * 1024);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&fiber_entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    fiber.stack_pointer = top;
    fiber.state = ThreadState::kReady;
    fiber.site = nullptr;
  }
}

void Execution::run_fibers() {
  make_stacks(fibers_.size());
  posted_.resize(simd_barrier_.size());
  exchanges_.resize(simd_barrier_.size() * kRing);
  next_exchange_.assign(simd_barrier_.size(), 0);
  stack_bytes_ = kStack;
  for (;;) {
    for (const uint32_t index : order_) {
      if (fibers_[index].state != ThreadState::kReady) continue;
      current_ = index;
      stack_begin_ = fibers_[index].stack;
      metal_sim_switch(&scheduler_, fibers_[index].stack_pointer);
    }
    if (gave_up()) return;  // The fibers' stacks are abandoned.
    if (resolve_simdgroups()) continue;
    const bool all_done = std::all_of(fibers_.begin(), fibers_.end(), [](const Fiber& fiber) {
      return fiber.state == ThreadState::kDone;
    });
    if (all_done) return;
    pass_barrier();
  }
}

bool Execution::resolve_simdgroups() {
  bool any = false;
  for (uint32_t group = 0; group < simd_barrier_.size(); ++group) {
    const size_t begin = group * kLanes, end = std::min(fibers_.size(), begin + kLanes);
    for (size_t i = begin; i < end; ++i) {
      const ThreadState state = fibers_[i].state;
      if (state != ThreadState::kAtSimdBarrier && state != ThreadState::kAtExchange) continue;
      resolve_simdgroup(group);
      any = true;
      break;
    }
  }
  return any;
}

/// Lets the lanes that wait at one place of the kernel go on together.
void Execution::resolve_simdgroup(uint32_t simdgroup) {
  const size_t begin = simdgroup * kLanes, end = std::min(fibers_.size(), begin + kLanes);
  const Fiber* first = nullptr;
  uint32_t living = 0, together = 0;
  for (size_t i = begin; i < end; ++i) {
    const Fiber& fiber = fibers_[i];
    if (fiber.state == ThreadState::kDone) continue;
    ++living;
    const bool waits =
        fiber.state == ThreadState::kAtSimdBarrier || fiber.state == ThreadState::kAtExchange;
    if (waits && !first) first = &fiber;
    together += first && waits && fiber.site == first->site;
  }
  const void* site = first->site;
  const bool is_barrier = first->state == ThreadState::kAtSimdBarrier;
  const int flags = first->flags;
  current_ = static_cast<uint32_t>(first - fibers_.data());
  if (is_barrier && together != end - begin) {
    report("simdgroup_barrier reached by %u of %zu lanes", together, end - begin);
  }
  SimdExchange& result = exchanges_[simdgroup * kRing + next_exchange_[simdgroup]++ % kRing];
  result = posted_[simdgroup];
  result.mask = 0;
  for (size_t i = begin; i < end; ++i) {
    Fiber& fiber = fibers_[i];
    if (fiber.state == ThreadState::kDone || fiber.site != site) continue;
    result.mask |= uint64_t{1} << (i - begin);
    fiber.exchange = &result;
    fiber.state = ThreadState::kReady;
    fiber.site = nullptr;
  }
  if (!is_barrier) return;
  if (flags & kMemThreadgroup) simd_barrier_[simdgroup][0] = clock_;
  if (flags & kMemDevice) simd_barrier_[simdgroup][1] = clock_;
  ++clock_;
}

void Execution::pass_barrier() {
  const Fiber* first = nullptr;
  size_t waiting = 0;
  bool same_site = true;
  for (const Fiber& fiber : fibers_) {
    if (fiber.state != ThreadState::kAtBarrier) continue;
    if (!first) first = &fiber;
    same_site &= fiber.site == first->site;
    ++waiting;
  }
  current_ = static_cast<uint32_t>(first - fibers_.data());
  if (waiting != fibers_.size()) {
    report("divergent barrier: threadgroup_barrier reached by %zu of %zu threads", waiting,
           fibers_.size());
  } else if (!same_site) {
    report("divergent barrier: threads wait at different threadgroup_barriers");
  }
  if (first->flags & kMemThreadgroup) group_barrier_[0] = clock_;
  if (first->flags & kMemDevice) group_barrier_[1] = clock_;
  ++clock_;
  for (Fiber& fiber : fibers_) {
    if (fiber.state == ThreadState::kAtBarrier) fiber.state = ThreadState::kReady;
  }
}

void Execution::wait_at(ThreadState state, int flags, const void* site) {
  Fiber& self = fibers_[current_];
  self.state = state;
  self.flags = flags;
  self.site = site;
  metal_sim_switch(&self.stack_pointer, scheduler_);
}

const SimdExchange* Execution::exchange(const void* value, uint32_t bytes, const void* site,
                                        uint32_t* lane) {
  Fiber& self = fibers_[current_];
  std::memcpy(posted_[self.place.simdgroup].data[self.place.lane], value, bytes);
  *lane = self.place.lane;
  wait_at(ThreadState::kAtExchange, 0, site);
  return self.exchange;
}

}  // namespace metal_sim
