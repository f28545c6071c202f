#include "core/kernel/background_kernels.h"

#include <cstdlib>
#include <set>
#include <utility>

#include "core/base/log.h"
#include "core/base/phases.h"

namespace dlk {

/// Those of the process: a driver must not compile while its library is taken down at exit.
struct LiveBackgrounds {
  std::mutex mutex;
  std::set<BackgroundKernels*> all;
  bool stops_at_exit = false;

  // Never destroyed: devices may outlive main.
  static LiveBackgrounds& get() {
    static auto* live = new LiveBackgrounds;
    return *live;
  }
  static void stop_all() {
    LiveBackgrounds& live = get();
    const std::lock_guard lock(live.mutex);
    for (BackgroundKernels* one : live.all) one->stop();
  }
};

BackgroundKernels::BackgroundKernels(Compile compile) : compile_(std::move(compile)) {}

BackgroundKernels::~BackgroundKernels() {
  {
    LiveBackgrounds& live = LiveBackgrounds::get();
    const std::lock_guard lock(live.mutex);
    live.all.erase(this);
  }
  stop();
}

void BackgroundKernels::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    queue_.clear();
  }
  changed_.notify_all();
  const std::lock_guard lock(thread_mutex_);
  if (thread_.joinable()) thread_.join();
}

void BackgroundKernels::add(const std::shared_ptr<Kernel>& kernel, KernelCode text) {
  const std::lock_guard lock(mutex_);
  entries_.try_emplace(kernel.get(), Entry{std::move(text), State::kAdded, nullptr});
}

bool BackgroundKernels::settle(std::span<const std::shared_ptr<Kernel>> kernels) {
  bool settled = true;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ || entries_.empty()) return true;
    for (const std::shared_ptr<Kernel>& kernel : kernels) {
      const auto found = entries_.find(kernel.get());
      if (found == entries_.end() || found->second.state == State::kDone) continue;
      settled = false;
      if (found->second.state == State::kQueued) continue;
      found->second.state = State::kQueued;
      queue_.push_back(kernel.get());
    }
  }
  if (settled) return true;
  {
    LiveBackgrounds& live = LiveBackgrounds::get();
    const std::lock_guard lock(live.mutex);
    live.all.insert(this);
    // After the driver's own handlers, which ran when it was opened: before them at exit.
    if (!std::exchange(live.stops_at_exit, true)) std::atexit(LiveBackgrounds::stop_all);
  }
  changed_.notify_all();
  const std::lock_guard lock(thread_mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  return false;
}

std::shared_ptr<Kernel> BackgroundKernels::best(const std::shared_ptr<Kernel>& kernel) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(kernel.get());
  if (found == entries_.end() || found->second.made == nullptr) return kernel;
  return found->second.made;
}

void BackgroundKernels::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || (queue_.empty() && !busy_); });
}

void BackgroundKernels::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopped_ || (holds_ == 0 && !queue_.empty()); });
    if (stopped_) return;
    Entry& entry = entries_.at(queue_.front());
    queue_.pop_front();
    busy_ = true;
    KernelCode text = std::exchange(entry.text, {});
    lock.unlock();
    std::shared_ptr<Kernel> made;
    try {
      const Phase phase("kernels/background");
      made = compile_(std::move(text));
    } catch (const std::exception& error) {
      log_once(std::string("a kernel stays as machine code: ") + error.what());
    }
    lock.lock();
    entry.made = std::move(made);
    entry.state = State::kDone;
    busy_ = false;
    ++done_;
    changed_.notify_all();
  }
}

BackgroundKernels::Hold::Hold(BackgroundKernels& of) : of_(of) {
  const std::lock_guard lock(of_.mutex_);
  ++of_.holds_;
}

BackgroundKernels::Hold::~Hold() {
  {
    const std::lock_guard lock(of_.mutex_);
    --of_.holds_;
  }
  of_.changed_.notify_all();
}

}  // namespace dlk
