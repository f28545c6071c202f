// The thread that calls completion callbacks: waits for tickets in order and calls what was asked
// for, with the error or nullptr. Started by the first callback; its owner's destructor returns
// when all have been called (or at once where a callback itself destroys the owner).
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace dlk::vulkan {

class CompletionThread {
 public:
  using Callback = std::function<void(std::exception_ptr)>;
  /// `wait` blocks until a ticket is done and throws its error.
  explicit CompletionThread(std::function<void(uint64_t)> wait);
  ~CompletionThread();
  CompletionThread(const CompletionThread&) = delete;
  CompletionThread& operator=(const CompletionThread&) = delete;
  void add(uint64_t ticket, Callback callback);

 private:
  struct State {
    std::function<void(uint64_t)> wait;
    std::mutex mutex;
    std::condition_variable changed;
    std::multimap<uint64_t, Callback> callbacks;
    bool stopping = false;
  };
  static void run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace dlk::vulkan
