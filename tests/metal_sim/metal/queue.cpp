// MTLCommandQueue: a thread that runs committed command buffers in order. Also labels, which most
// classes share.
#include "tests/metal_sim/metal/classes.h"

namespace metal_sim {

namespace {

void run_queue(CommandQueue* queue) {
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(queue->mutex);
      queue->changed.wait(lock, [&] { return queue->stopping || !queue->work.empty(); });
      if (queue->work.empty()) return;
      job = std::move(queue->work.front());
      queue->work.pop_front();
    }
    job();
  }
}

Object* make_queue(Device* device, Sel, UInt max_buffers) {
  if (!max_buffers) fatal("newCommandQueueWithMaxCommandBufferCount: the count is 0");
  auto* queue = make<CommandQueue>("MTLCommandQueue");
  queue->device = Ref<Device>(device);
  queue->max_buffers = max_buffers;
  queue->worker = std::thread(run_queue, queue);
  return queue;
}

Object* make_command_buffer(CommandQueue* self, Sel) {
  auto* buffer = autoreleased(make<CommandBuffer>("MTLCommandBuffer"));
  buffer->queue = Ref<CommandQueue>(self);
  return buffer;
}

void install_labels() {
  for (const char* name :
       {"MTLBuffer", "MTLHeap", "MTLLibrary", "MTLFunction", "MTLComputePipelineDescriptor",
        "MTLCommandQueue", "MTLCommandBuffer", "MTLComputeCommandEncoder", "MTLBlitCommandEncoder",
        "MTLSharedEvent", "MTLEvent", "MTLFence", "MTLBinaryArchive"}) {
    method(
        name, "setLabel:", +[](DeviceObject* self, Sel, String* label) {
          self->label = Ref<String>(label);
        });
    method(name, "label", +[](DeviceObject* self, Sel) { return self->label.get(); });
    method(name, "device", +[](DeviceObject*, Sel) { return the_device(); });
  }
  method("MTLComputePipelineState", "device", +[](Object*, Sel) { return the_device(); });
}

}  // namespace

void CommandQueue::dispose() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  changed.notify_all();
  // The last reference may go away on the worker itself, with its last command buffer.
  if (worker.get_id() == std::this_thread::get_id()) {
    worker.detach();
  } else {
    worker.join();
  }
  device.reset();
  DeviceObject::dispose();
}

void install_queues() {
  install_labels();
  method(
      "MTLDevice", "newCommandQueue",
      +[](Device* device, Sel selector) { return make_queue(device, selector, 64); });
  method("MTLDevice", "newCommandQueueWithMaxCommandBufferCount:", make_queue);
  method("MTLCommandQueue", "commandBuffer", make_command_buffer);
}

}  // namespace metal_sim
