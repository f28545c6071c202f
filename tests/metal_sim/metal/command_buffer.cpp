// MTLCommandBuffer: encode, commit, run, complete. The rules that Metal's debug layer asserts are
// fatal here: an open encoder at commit, a handler added late, waiting before commit.
#include <chrono>
#include <cstring>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/objc/block.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

constexpr const char* kDomain = "MTLCommandBufferErrorDomain";

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void set_status(CommandBuffer& buffer, int status) {
  {
    const std::lock_guard lock(buffer.progress->mutex);
    buffer.progress->status = status;
  }
  buffer.progress->changed.notify_all();
}

/// The CPU has seen that the command buffer is done: what it commits from now on comes after.
void observe(CommandBuffer& buffer) {
  const std::lock_guard lock(buffer.queue->mutex);
  buffer.queue->observed.insert(buffer.scopes.begin(), buffer.scopes.end());
}

void call_handlers(std::vector<void*>& blocks, CommandBuffer* buffer) {
  for (void* block : blocks) {
    call_block(block, buffer);
    _Block_release(block);
  }
  blocks.clear();
}

/// Faults to inject. A queue whose work failed runs nothing more, as on a GPU.
void inject_failure(CommandBuffer& buffer) {
  if (fault_due("command-buffer-timeout")) buffer.fail(2, "Caused GPU Timeout Error (injected)");
  if (fault_due("command-buffer-fault"))
    buffer.fail(3, "Caused GPU Address Fault Error (injected)");
  if (fault_due("command-buffer-memory")) buffer.fail(8, "Insufficient Memory (injected)");
  if (buffer.error) {
    buffer.queue->failed = true;
  } else if (buffer.queue->failed) {
    buffer.fail(4, "Ignored (for causing prior/excessive GPU errors)");
  }
}

void run(CommandBuffer* buffer) {
  set_status(*buffer, kScheduled);
  call_handlers(buffer->scheduled, buffer);
  if (const uint32_t delay = settings().delay_us) {
    std::this_thread::sleep_for(std::chrono::microseconds(delay));
  }
  buffer->start = now();
  inject_failure(*buffer);
  for (const auto& command : buffer->commands) {
    if (buffer->error) break;
    command(*buffer);
  }
  buffer->end = now();
  buffer->commands.clear();
  set_status(*buffer, buffer->error ? kFailed : kCompleted);
  call_handlers(buffer->handlers, buffer);
  buffer->kept.clear();
  buffer->running = false;
  // Waiters return once the queue's own reference is gone, so that nothing dies behind them.
  const std::shared_ptr<Progress> progress = buffer->progress;
  release(buffer);
  {
    const std::lock_guard lock(progress->mutex);
    progress->finished = true;
  }
  progress->changed.notify_all();
}

void commit(CommandBuffer* self, Sel) {
  if (self->encoding) fatal("commit: a command encoder of the command buffer is still open");
  if (self->status() >= kCommitted) fatal("commit: the command buffer was committed before");
  set_status(*self, kCommitted);
  self->running = true;
  retain(self);
  CommandQueue& queue = *self->queue.get();
  {
    const std::lock_guard lock(queue.mutex);
    queue.work.emplace_back([self] { run(self); });
  }
  queue.changed.notify_one();
}

void wait_until(CommandBuffer* self, const char* what, bool (*reached)(const Progress&)) {
  if (self->status() < kCommitted) fatal("%s: the command buffer is not committed", what);
  const std::shared_ptr<Progress> progress = self->progress;
  std::unique_lock lock(progress->mutex);
  progress->changed.wait(lock, [&] { return reached(*progress); });
}

void wait_completed(CommandBuffer* self, Sel) {
  wait_until(self, "waitUntilCompleted",
             [](const Progress& progress) { return progress.finished; });
  observe(*self);
}

void add_completed_handler(CommandBuffer* self, Sel, void* block) {
  if (!block) fatal("addCompletedHandler: the block is nil");
  if (self->status() >= kCommitted) {
    fatal("addCompletedHandler: the command buffer is committed, the handler comes too late");
  }
  self->handlers.push_back(_Block_copy(block));
}

void add_scheduled_handler(CommandBuffer* self, Sel, void* block) {
  if (self->status() >= kCommitted) {
    fatal("addScheduledHandler: the command buffer is committed, the handler comes too late");
  }
  self->scheduled.push_back(_Block_copy(block));
}

void install_state() {
  method(
      "MTLCommandBuffer", "status", +[](CommandBuffer* self, Sel) -> UInt {
        const int status = self->status();
        if (status >= kCompleted) observe(*self);
        return static_cast<UInt>(status);
      });
  method(
      "MTLCommandBuffer", "error", +[](CommandBuffer* self, Sel) {
        return self->status() >= kCompleted ? self->error.get() : nullptr;
      });
  for (const char* name : {"GPUStartTime", "kernelStartTime"}) {
    method("MTLCommandBuffer", name, +[](CommandBuffer* self, Sel) { return self->start; });
  }
  for (const char* name : {"GPUEndTime", "kernelEndTime"}) {
    method("MTLCommandBuffer", name, +[](CommandBuffer* self, Sel) { return self->end; });
  }
  method(
      "MTLCommandBuffer", "commandQueue",
      +[](CommandBuffer* self, Sel) { return self->queue.get(); });
}

}  // namespace

int CommandBuffer::status() {
  const std::lock_guard lock(progress->mutex);
  return progress->status;
}

void CommandBuffer::fail(Int code, const std::string& what) {
  if (error) return;
  auto* failure = make<Error>("NSError");
  failure->code = code;
  failure->domain = Ref<String>::adopt(make<String>("NSString"));
  failure->domain->text = kDomain;
  failure->description = Ref<String>::adopt(make<String>("NSString"));
  failure->description->text = what;
  error = Ref<Error>::adopt(failure);
}

void CommandBuffer::dispose() {
  if (running) fatal("a running command buffer was deallocated");
  if (encoding) fatal("a command buffer was deallocated while one of its encoders is open");
  for (auto* blocks : {&scheduled, &handlers}) {
    for (void* block : *blocks) _Block_release(block);
    blocks->clear();
  }
  commands.clear();
  kept.clear();
  error.reset();
  queue.reset();
  DeviceObject::dispose();
}

void install_command_buffers() {
  install_state();
  method("MTLCommandBuffer", "commit", commit);
  method(
      "MTLCommandBuffer", "enqueue", +[](CommandBuffer* self, Sel) {
        if (self->status() != kNotEnqueued) fatal("enqueue: the command buffer is enqueued");
        set_status(*self, kEnqueued);
      });
  method("MTLCommandBuffer", "waitUntilCompleted", wait_completed);
  method(
      "MTLCommandBuffer", "waitUntilScheduled", +[](CommandBuffer* self, Sel) {
        wait_until(self, "waitUntilScheduled",
                   [](const Progress& progress) { return progress.status >= kScheduled; });
      });
  method("MTLCommandBuffer", "addCompletedHandler:", add_completed_handler);
  method("MTLCommandBuffer", "addScheduledHandler:", add_scheduled_handler);
  method("MTLCommandBuffer", "pushDebugGroup:", +[](CommandBuffer*, Sel, String*) {});
  method("MTLCommandBuffer", "popDebugGroup", +[](CommandBuffer*, Sel) {});
}

}  // namespace metal_sim
