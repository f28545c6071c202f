// Device memory and its shadow. An allocation is what a buffer or a heap stands on; its shadow has
// a cell for each four bytes, which says who read and wrote them last. Fresh memory is filled with
// a pattern, so that reading what nobody wrote is noticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace metal_sim {

/// The fill of memory that nobody has written, repeated every four bytes.
constexpr uint32_t kPoison = 0xfac7a5f3u;

/// Who touched a word last. `group` numbers every threadgroup that ever ran, `clock` counts the
/// barriers of its threadgroup, `bytes` says which of the four bytes were touched.
struct Stamp {
  uint32_t group = 0;
  uint32_t thread : 11 = 0;
  uint32_t clock : 15 = 0;
  uint32_t bytes : 4 = 0;
  uint32_t atomic : 1 = 0;
  uint32_t many : 1 = 0;  // several threads, of which `thread` is the last
};

struct Cell {
  Stamp write, read;
};
static_assert(sizeof(Cell) == 16);

class Allocation {
 public:
  /// Memory of the simulator's own, poisoned.
  explicit Allocation(uint64_t size);
  /// Memory of the application's; `on_release` runs with the last owner.
  Allocation(void* bytes, uint64_t size, std::function<void()> on_release);
  ~Allocation();
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;

  std::byte* bytes() const { return bytes_; }
  uint64_t size() const { return size_; }
  /// The cells, one each four bytes; made (zero) when they are first asked for.
  Cell* cells();
  void poison(uint64_t begin, uint64_t end);
  /// Forgets who touched a range (its memory got a new owner).
  void forget(uint64_t begin, uint64_t end);

  bool tracked = true;             // Metal orders commands that conflict on it
  bool written_by_kernel = false;  // false: reads need no record, nothing can conflict with them

 private:
  std::byte* bytes_ = nullptr;
  uint64_t size_ = 0;
  Cell* cells_ = nullptr;
  std::function<void()> on_release_;
};

}  // namespace metal_sim
