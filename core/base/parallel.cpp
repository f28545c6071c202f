#include "core/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/processors.h"

namespace dlk {

void parallel_for(size_t count, const std::function<void(size_t)>& work) {
  constexpr size_t kMostThreads = 16;
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr problem;
  const auto run = [&] {
    try {
      for (size_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(mutex);
      if (problem == nullptr) problem = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  const size_t threads = std::min<size_t>({count, kMostThreads, usable_processors()});
  for (size_t i = 1; i < threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& other : others) other.join();
  if (problem != nullptr) std::rethrow_exception(problem);
}

}  // namespace dlk
