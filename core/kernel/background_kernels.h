// Kernels that started from machine code where the driver itself makes a faster program of the same
// PTX, but takes its time: one thread lets it compile them, one after the other, while the first
// ones run. Used by the kernel library, which holds the first ones as long as this lives.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include "core/device/device.h"

namespace dlk {

/// Thread-safe. Its thread ends with it, and at the latest when the process exits.
class BackgroundKernels {
 public:
  using Compile = std::function<std::shared_ptr<Kernel>(KernelCode)>;

  explicit BackgroundKernels(Compile compile);
  ~BackgroundKernels();
  BackgroundKernels(const BackgroundKernels&) = delete;
  BackgroundKernels& operator=(const BackgroundKernels&) = delete;

  /// `kernel` runs machine code of `text`; that is compiled once somebody settles it.
  void add(const std::shared_ptr<Kernel>& kernel, KernelCode text);
  /// True where none of the kernels will be replaced any more; those that may be are compiled from
  /// now on.
  bool settle(std::span<const std::shared_ptr<Kernel>> kernels);
  /// What was compiled in the kernel's place, or itself.
  std::shared_ptr<Kernel> best(const std::shared_ptr<Kernel>& kernel) const;
  /// Returns when nothing is left to compile.
  void finish();
  /// How many were compiled or refused so far.
  uint64_t done() const { return done_; }

  /// While one lives no compilation begins: drivers do one at a time, and others wait for this one.
  class Hold {
   public:
    explicit Hold(BackgroundKernels& of);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    BackgroundKernels& of_;
  };

 private:
  enum class State : uint8_t { kAdded, kQueued, kDone };
  struct Entry {
    KernelCode text;
    State state = State::kAdded;
    std::shared_ptr<Kernel> made;  // null where the driver refused the text
  };
  friend struct LiveBackgrounds;
  void run();
  void stop();

  const Compile compile_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<const Kernel*, Entry> entries_;
  std::deque<const Kernel*> queue_;
  bool busy_ = false, stopped_ = false;
  int holds_ = 0;
  std::atomic<uint64_t> done_ = 0;
  std::mutex thread_mutex_;
  std::thread thread_;
};

}  // namespace dlk
