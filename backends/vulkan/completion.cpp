#include "backends/vulkan/completion.h"

namespace dlk::vulkan {

CompletionThread::CompletionThread(std::function<void(uint64_t)> wait)
    : state_(std::make_shared<State>()) {
  state_->wait = std::move(wait);
}

CompletionThread::~CompletionThread() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_one();
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void CompletionThread::add(uint64_t ticket, Callback callback) {
  {
    std::lock_guard lock(state_->mutex);
    state_->callbacks.emplace(ticket, std::move(callback));
  }
  if (!thread_.joinable()) thread_ = std::thread([state = state_] { run(state); });
  state_->changed.notify_one();
}

void CompletionThread::run(const std::shared_ptr<State>& state) {
  while (true) {
    Callback callback;
    uint64_t ticket = 0;
    {
      std::unique_lock lock(state->mutex);
      state->changed.wait(lock, [&] { return state->stopping || !state->callbacks.empty(); });
      if (state->callbacks.empty()) return;
      const auto first = state->callbacks.begin();
      ticket = first->first;
      callback = std::move(first->second);
      state->callbacks.erase(first);
    }
    std::exception_ptr error;
    try {
      state->wait(ticket);
    } catch (...) {
      error = std::current_exception();
    }
    callback(error);
  }
}

}  // namespace dlk::vulkan
