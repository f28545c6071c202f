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

int status_of(CommandBuffer& buffer) {
  const std::lock_guard lock(buffer.mutex);
  return buffer.status;
}

void set_status(CommandBuffer& buffer, int status) {
  {
    const std::lock_guard lock(buffer.mutex);
    buffer.status = status;
  }
  buffer.changed.notify_all();
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

void inject_failure(CommandBuffer& buffer) {
  if (fault_due("command-buffer-timeout")) buffer.fail(2, "Caused GPU Timeout Error (injected)");
  if (fault_due("command-buffer-fault")) buffer.fail(3, "Caused GPU Address Fault Error (injected)");
  if (fault_due("command-buffer-memory")) buffer.fail(8, "Insufficient Memory (injected)");
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
  {
    const std::lock_guard lock(buffer->mutex);
    buffer->finished = true;
  }
  buffer->changed.notify_all();
  buffer->kept.clear();
  release(buffer);
}

void commit(CommandBuffer* self, Sel) {
  if (self->encoding) fatal("commit: a command encoder of the command buffer is still open");
  if (status_of(*self) >= kCommitted) fatal("commit: the command buffer was committed before");
  set_status(*self, kCommitted);
  retain(self);
  CommandQueue& queue = *self->queue.get();
  {
    const std::lock_guard lock(queue.mutex);
    queue.work.emplace_back([self] { run(self); });
  }
  queue.changed.notify_one();
}

void wait_completed(CommandBuffer* self, Sel) {
  std::unique_lock lock(self->mutex);
  if (self->status < kCommitted) fatal("waitUntilCompleted: the command buffer is not committed");
  self->changed.wait(lock, [&] { return self->finished; });
  lock.unlock();
  observe(*self);
}

void add_completed_handler(CommandBuffer* self, Sel, void* block) {
  if (!block) fatal("addCompletedHandler: the block is nil");
  if (status_of(*self) >= kCommitted) {
    fatal("addCompletedHandler: the command buffer is committed, the handler comes too late");
  }
  self->handlers.push_back(_Block_copy(block));
}

void add_scheduled_handler(CommandBuffer* self, Sel, void* block) {
  if (status_of(*self) >= kCommitted) {
    fatal("addScheduledHandler: the command buffer is committed, the handler comes too late");
  }
  self->scheduled.push_back(_Block_copy(block));
}

void install_state() {
  method(
      "MTLCommandBuffer", "status", +[](CommandBuffer* self, Sel) -> UInt {
        const int status = status_of(*self);
        if (status >= kCompleted) observe(*self);
        return static_cast<UInt>(status);
      });
  method(
      "MTLCommandBuffer", "error", +[](CommandBuffer* self, Sel) {
        return status_of(*self) >= kCompleted ? self->error.get() : nullptr;
      });
  for (const char* name : {"GPUStartTime", "kernelStartTime"}) {
    method(
        "MTLCommandBuffer", name, +[](CommandBuffer* self, Sel) { return self->start; });
  }
  for (const char* name : {"GPUEndTime", "kernelEndTime"}) {
    method(
        "MTLCommandBuffer", name, +[](CommandBuffer* self, Sel) { return self->end; });
  }
  method(
      "MTLCommandBuffer", "commandQueue",
      +[](CommandBuffer* self, Sel) { return self->queue.get(); });
}

}  // namespace

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
  if (status >= kCommitted && !finished) fatal("a running command buffer was deallocated");
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
        if (status_of(*self) != kNotEnqueued) fatal("enqueue: the command buffer is enqueued");
        set_status(*self, kEnqueued);
      });
  method("MTLCommandBuffer", "waitUntilCompleted", wait_completed);
  method(
      "MTLCommandBuffer", "waitUntilScheduled", +[](CommandBuffer* self, Sel) {
        std::unique_lock lock(self->mutex);
        if (self->status < kCommitted) {
          fatal("waitUntilScheduled: the command buffer is not committed");
        }
        self->changed.wait(lock, [&] { return self->status >= kScheduled; });
      });
  method("MTLCommandBuffer", "addCompletedHandler:", add_completed_handler);
  method("MTLCommandBuffer", "addScheduledHandler:", add_scheduled_handler);
  method(
      "MTLCommandBuffer", "pushDebugGroup:", +[](CommandBuffer*, Sel, String*) {});
  method(
      "MTLCommandBuffer", "popDebugGroup", +[](CommandBuffer*, Sel) {});
}

}  // namespace metal_sim
