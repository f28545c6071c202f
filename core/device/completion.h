// Runs completion callbacks on a thread of dlk's, one after the other, in the order in which they
// were posted. Each queue of a backend owns one; the thread is started by the first callback.
#pragma once

#include <exception>
#include <functional>
#include <memory>

namespace dlk {

class CompletionThread {
 public:
  /// Blocks until the work is done and returns its error or nullptr.
  using Wait = std::function<std::exception_ptr()>;
  using Callback = std::function<void(std::exception_ptr)>;

  CompletionThread();
  /// Runs what was posted, then joins (or lets the thread end by itself when a callback is what
  /// destroys the queue).
  ~CompletionThread();
  CompletionThread(const CompletionThread&) = delete;
  CompletionThread& operator=(const CompletionThread&) = delete;

  /// Thread-safe. Both functions are called on the thread, first `wait`.
  void post(Wait wait, Callback callback);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace dlk
