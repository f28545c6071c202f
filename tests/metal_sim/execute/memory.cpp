#include "tests/metal_sim/execute/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <mutex>
#include <new>

namespace metal_sim {

namespace {

std::byte* map_pages(uint64_t size) {
  void* pages = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(pages);
}

uint64_t cells_bytes(uint64_t size) { return (size / 4 + 2) * sizeof(Cell); }

}  // namespace

Allocation::Allocation(uint64_t size) : bytes_(map_pages(size + 64)), size_(size) {
  poison(0, size);
}

Allocation::Allocation(void* bytes, uint64_t size, std::function<void()> on_release)
    : bytes_(static_cast<std::byte*>(bytes)), size_(size), on_release_(std::move(on_release)) {}

Allocation::~Allocation() {
  if (cells_) ::munmap(static_cast<void*>(cells_), cells_bytes(size_));
  if (on_release_) {
    on_release_();
  } else {
    ::munmap(bytes_, size_ + 64);
  }
}

Cell* Allocation::cells() {
  if (!cells_) cells_ = reinterpret_cast<Cell*>(map_pages(cells_bytes(size_)));
  return cells_;
}

void Allocation::poison(uint64_t begin, uint64_t end) {
  uint64_t at = begin;
  for (; at < end && at % 4; ++at) {
    bytes_[at] = static_cast<std::byte>(kPoison >> (8 * (at % 4)));
  }
  for (; at + 4 <= end; at += 4) std::memcpy(bytes_ + at, &kPoison, 4);
  for (; at < end; ++at) bytes_[at] = static_cast<std::byte>(kPoison >> (8 * (at % 4)));
}

void Allocation::forget(uint64_t begin, uint64_t end) {
  if (!cells_) return;
  std::memset(static_cast<void*>(cells_ + begin / 4), 0, (end - begin + 3) / 4 * sizeof(Cell));
}

}  // namespace metal_sim
