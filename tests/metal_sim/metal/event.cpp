// MTLSharedEvent, MTLEvent and MTLFence.
#include <chrono>

#include "tests/metal_sim/metal/classes.h"

namespace metal_sim {

namespace {

void check_idle(CommandBuffer& buffer, const char* what) {
  if (buffer.encoding) fatal("%s: a command encoder of the command buffer is open", what);
  if (buffer.status() >= kCommitted) fatal("%s: the command buffer is committed", what);
}

void signal(Event& event, uint64_t value) {
  {
    const std::lock_guard lock(event.mutex);
    event.value = value;
  }
  event.changed.notify_all();
}

void encode_signal(CommandBuffer* self, Sel, Event* event, uint64_t value) {
  if (!event) fatal("encodeSignalEvent: the event is nil");
  check_idle(*self, "encodeSignalEvent");
  self->use(event);
  event->before.insert(self->scopes.begin(), self->scopes.end());
  event->before.insert(self->before.begin(), self->before.end());
  self->commands.emplace_back([event, value](CommandBuffer&) {
    if (event->dead.load()) fatal("encodeSignalEvent: the event was deallocated before its use");
    signal(*event, value);
  });
}

void encode_wait(CommandBuffer* self, Sel, Event* event, uint64_t value) {
  if (!event) fatal("encodeWaitForEvent: the event is nil");
  check_idle(*self, "encodeWaitForEvent");
  self->use(event);
  self->before.insert(event->before.begin(), event->before.end());
  self->commands.emplace_back([event, value](CommandBuffer& buffer) {
    std::unique_lock lock(event->mutex);
    if (!event->changed.wait_for(lock, std::chrono::seconds(20),
                                 [&] { return event->value >= value; })) {
      buffer.fail(2, "Caused GPU Timeout Error: an event is never signaled");
    }
  });
}

bool wait_signaled(Event* self, Sel, uint64_t value, uint64_t milliseconds) {
  std::unique_lock lock(self->mutex);
  return self->changed.wait_for(lock, std::chrono::milliseconds(milliseconds),
                                [&] { return self->value >= value; });
}

}  // namespace

void install_events() {
  method(
      "MTLDevice", "newSharedEvent",
      +[](Device*, Sel) -> Object* { return make<Event>("MTLSharedEvent"); });
  method("MTLDevice", "newEvent", +[](Device*, Sel) -> Object* { return make<Event>("MTLEvent"); });
  method("MTLDevice", "newFence", +[](Device*, Sel) -> Object* { return make<Fence>("MTLFence"); });
  method(
      "MTLSharedEvent", "signaledValue", +[](Event* self, Sel) {
        const std::lock_guard lock(self->mutex);
        return self->value;
      });
  method(
      "MTLSharedEvent",
      "setSignaledValue:", +[](Event* self, Sel, uint64_t value) { signal(*self, value); });
  method("MTLSharedEvent", "waitUntilSignaledValue:timeoutMS:", wait_signaled, 12);
  method("MTLCommandBuffer", "encodeSignalEvent:value:", encode_signal);
  method("MTLCommandBuffer", "encodeWaitForEvent:value:", encode_wait);
}

}  // namespace metal_sim
