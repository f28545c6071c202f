#include "core/device/completion.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace dlk {

struct CompletionThread::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::pair<Wait, Callback>> jobs;
  bool stopping = false;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return stopping || !jobs.empty(); });
      if (jobs.empty()) return;
      auto job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job.second(job.first());
      job = {};  // what the functions hold is released here, outside the lock
      lock.lock();
    }
  }
};

CompletionThread::CompletionThread() : state_(std::make_shared<State>()) {}

CompletionThread::~CompletionThread() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
  }
  if (!state_->thread.joinable()) return;
  if (state_->thread.get_id() == std::this_thread::get_id()) {
    state_->thread.detach();
  } else {
    state_->thread.join();
  }
}

void CompletionThread::post(Wait wait, Callback callback) {
  const std::lock_guard lock(state_->mutex);
  state_->jobs.emplace_back(std::move(wait), std::move(callback));
  if (!state_->thread.joinable()) {
    state_->thread = std::thread([state = state_] { state->run(); });
  }
  state_->changed.notify_all();
}

}  // namespace dlk
