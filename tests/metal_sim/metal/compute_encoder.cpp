// MTLComputeCommandEncoder: the argument table, dispatches and the barriers between them. What
// Metal's validation layer checks at encode time is checked here.
#include <array>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

constexpr UInt kMaxBytes = 4096;
constexpr UInt kScopeBuffers = 1;

Object* make_encoder(CommandBuffer* self, bool serial) {
  if (self->encoding) fatal("computeCommandEncoder: an encoder of this command buffer is open");
  if (self->status() >= kCommitted) fatal("computeCommandEncoder: the command buffer is committed");
  self->encoding = true;
  auto* encoder = autoreleased(make<ComputeEncoder>("MTLComputeCommandEncoder"));
  encoder->buffer = Ref<CommandBuffer>(self);
  ScopeSet before = self->before;
  {
    const std::lock_guard lock(self->queue->mutex);
    before.insert(self->queue->observed.begin(), self->queue->observed.end());
  }
  encoder->scope = new_scope(serial, std::move(before));
  self->scopes.insert(encoder->scope->id);
  return encoder;
}

void check_index(UInt index, const char* what) {
  if (index >= kBindings) fatal("%s: index %lu is beyond 30", what, index);
}

void set_buffer(ComputeEncoder* self, Sel, Buffer* buffer, UInt offset, UInt index) {
  self->check_open("setBuffer");
  check_index(index, "setBuffer");
  self->bindings[index] = {};
  if (!buffer) return;
  if (buffer->dead.load()) fatal("setBuffer: the buffer was deallocated");
  if (offset >= buffer->size) {
    fatal("setBuffer: offset %lu is beyond the buffer's %lu bytes", offset,
          static_cast<UInt>(buffer->size));
  }
  self->bindings[index].buffer = Ref<Buffer>(buffer);
  self->bindings[index].offset = offset;
}

void set_bytes(ComputeEncoder* self, Sel, const std::byte* bytes, UInt length, UInt index) {
  self->check_open("setBytes");
  check_index(index, "setBytes");
  if (length > kMaxBytes) fatal("setBytes: %lu bytes are more than 4096", length);
  if (!bytes || !length) fatal("setBytes: there are no bytes");
  self->bindings[index] = {};
  self->bindings[index].bytes = std::make_shared<std::vector<std::byte>>(bytes, bytes + length);
}

void set_offset(ComputeEncoder* self, Sel, UInt offset, UInt index) {
  self->check_open("setBufferOffset");
  check_index(index, "setBufferOffset");
  Binding& binding = self->bindings[index];
  if (!binding.buffer) fatal("setBufferOffset: no buffer is bound at index %lu", index);
  if (offset >= binding.buffer->size) fatal("setBufferOffset: %lu is beyond the buffer", offset);
  binding.offset = offset;
}

void set_threadgroup_memory(ComputeEncoder* self, Sel, UInt length, UInt index) {
  self->check_open("setThreadgroupMemoryLength");
  check_index(index, "setThreadgroupMemoryLength");
  if (length % 16) {
    problem("setThreadgroupMemoryLength: %lu is no multiple of 16 bytes", length);
  }
  self->threadgroup_bytes[index] = length;
}

/// False where a binding is missing or too small, which makes the dispatch pointless.
bool check_argument(const ComputeEncoder& encoder, const KernelArgument& argument) {
  const char* kernel = encoder.pipeline->kernel->name.c_str();
  const auto index = static_cast<size_t>(argument.index);
  if (argument.kind == kThreadgroupArgument) {
    if (encoder.threadgroup_bytes[index]) return true;
    problem("%s: no threadgroup memory length is set for threadgroup(%zu)", kernel, index);
    return false;
  }
  const Binding& binding = encoder.bindings[index];
  if (!binding.is_set()) {
    problem("%s: missing buffer binding at index %zu for argument '%s'", kernel, index,
            argument.name);
    return false;
  }
  const uint64_t bytes =
      binding.buffer ? binding.buffer->size - binding.offset : binding.bytes->size();
  if (bytes < argument.bytes) {
    problem("%s: argument '%s' needs %u bytes, %llu are bound at index %zu", kernel, argument.name,
            argument.bytes, static_cast<unsigned long long>(bytes), index);
    return false;
  }
  if (binding.buffer && argument.alignment && binding.offset % argument.alignment) {
    problem("%s: offset %lu of argument '%s' is no multiple of %u", kernel, binding.offset,
            argument.name, argument.alignment);
  }
  if (binding.bytes && !argument.is_const) {
    problem("%s: setBytes is bound to the writable argument '%s'", kernel, argument.name);
  }
  return true;
}

bool check_arguments(const ComputeEncoder& encoder) {
  const KernelEntry& kernel = *encoder.pipeline->kernel;
  bool good = true;
  std::array<bool, kBindings> used{};
  UInt threadgroup_bytes = kernel.threadgroup_bytes();
  for (const KernelArgument* argument = kernel.arguments; argument->name; ++argument) {
    if (argument->kind == kPlaceArgument) continue;
    good &= check_argument(encoder, *argument);
    const auto index = static_cast<size_t>(argument->index);
    if (argument->kind == kThreadgroupArgument) {
      threadgroup_bytes += encoder.threadgroup_bytes[index];
    } else {
      used[index] = true;
    }
  }
  if (threadgroup_bytes > settings().profile->threadgroup_bytes) {
    fatal("%s: %lu bytes of threadgroup memory exceed the device's %u", kernel.name.c_str(),
          threadgroup_bytes, settings().profile->threadgroup_bytes);
  }
  return good;
}

/// Threadgroup writes and kernel writes need shadow records on the allocations they may touch.
void mark_written(const Dispatch& dispatch) {
  for (const KernelArgument* a = dispatch.pipeline->kernel->arguments; a->name; ++a) {
    if (a->kind != kBufferArgument || a->is_const) continue;
    const Binding& binding = dispatch.bindings[static_cast<size_t>(a->index)];
    if (binding.buffer) binding.buffer->memory->written_by_kernel = true;
  }
}

void keep_alive(CommandBuffer& buffer, const Dispatch& dispatch) {
  buffer.use(dispatch.pipeline.get());
  for (const Binding& binding : dispatch.bindings) {
    if (binding.buffer) buffer.use(binding.buffer.get());
  }
}

void encode(ComputeEncoder* self, Size3 grid, Size3 threads, bool non_uniform) {
  self->check_open("dispatch");
  if (!self->pipeline) fatal("dispatch: no compute pipeline state is set");
  const UInt count = threads.width * threads.height * threads.depth;
  const char* name = self->pipeline->kernel->name.c_str();
  if (!count || count > self->pipeline->max_threads) {
    fatal("%s: %lu threads a threadgroup; this pipeline takes 1 to %lu", name, count,
          self->pipeline->max_threads);
  }
  if (!grid.width || !grid.height || !grid.depth) {
    problem("%s: dispatched with an empty grid", name);
    return;
  }
  if (!check_arguments(*self)) {
    self->buffer->fail(3, std::string(name) + ": invalid arguments");
    return;
  }
  auto dispatch = std::make_shared<Dispatch>();
  dispatch->pipeline = self->pipeline;
  dispatch->bindings = self->bindings;
  dispatch->threadgroup_bytes = self->threadgroup_bytes;
  const auto narrow = [](Size3 size) {
    return std::array<uint32_t, 3>{static_cast<uint32_t>(size.width),
                                   static_cast<uint32_t>(size.height),
                                   static_cast<uint32_t>(size.depth)};
  };
  dispatch->grid = narrow(grid);
  dispatch->threads = narrow(threads);
  dispatch->non_uniform = non_uniform;
  dispatch->scope = self->scope;
  dispatch->position = self->position++;
  mark_written(*dispatch);
  keep_alive(*self->buffer.get(), *dispatch);
  self->buffer->commands.emplace_back(
      [dispatch](CommandBuffer& buffer) { run_dispatch(buffer, *dispatch); });
}

void barrier_on_resources(ComputeEncoder* self, Sel, Buffer* const* resources, UInt count) {
  self->check_open("memoryBarrierWithResources");
  Barrier barrier{self->position, {}};
  for (UInt i = 0; i < count; ++i) barrier.memory.push_back(resources[i]->memory.get());
  if (count) self->scope->barriers.push_back(std::move(barrier));
}

void install_bindings() {
  const char* name = "MTLComputeCommandEncoder";
  method(
      name, "setComputePipelineState:", +[](ComputeEncoder* self, Sel, Pipeline* pipeline) {
        self->check_open("setComputePipelineState");
        if (!pipeline) fatal("setComputePipelineState: the pipeline state is nil");
        self->pipeline = Ref<Pipeline>(pipeline);
      });
  method(name, "setBuffer:offset:atIndex:", set_buffer);
  method(name, "setBufferOffset:atIndex:", set_offset);
  method(name, "setBytes:length:atIndex:", set_bytes);
  method(name, "setThreadgroupMemoryLength:atIndex:", set_threadgroup_memory);
  method(
      name, "useResource:usage:", +[](ComputeEncoder* self, Sel, Object* resource, UInt) {
        self->buffer->use(resource);
      });
}

}  // namespace

void Encoder::check_open(const char* what) const {
  if (ended) fatal("%s: the encoder has ended", what);
}

void Encoder::dispose() {
  if (!ended) fatal("%s was deallocated without endEncoding", isa->name.c_str());
  buffer.reset();
  DeviceObject::dispose();
}

void ComputeEncoder::dispose() {
  pipeline.reset();
  bindings = {};
  Encoder::dispose();
}

void install_compute_encoders() {
  const char* name = "MTLComputeCommandEncoder";
  method(
      "MTLCommandBuffer", "computeCommandEncoder",
      +[](CommandBuffer* self, Sel) { return make_encoder(self, true); });
  method(
      "MTLCommandBuffer", "computeCommandEncoderWithDispatchType:",
      +[](CommandBuffer* self, Sel, UInt type) { return make_encoder(self, type == 0); });
  install_bindings();
  method(
      name, "dispatchThreadgroups:threadsPerThreadgroup:",
      +[](ComputeEncoder* self, Sel, Size3 grid, Size3 threads) {
        encode(self, grid, threads, false);
      });
  method(
      name, "dispatchThreads:threadsPerThreadgroup:",
      +[](ComputeEncoder* self, Sel, Size3 grid, Size3 threads) {
        encode(self, grid, threads, true);
      });
  method(
      name, "memoryBarrierWithScope:", +[](ComputeEncoder* self, Sel, UInt scope) {
        self->check_open("memoryBarrierWithScope");
        if (scope & kScopeBuffers) self->scope->barriers.push_back({self->position, {}});
      });
  method(name, "memoryBarrierWithResources:count:", barrier_on_resources);
  for (const char* type : {name, "MTLBlitCommandEncoder"}) {
    method(
        type, "updateFence:", +[](Encoder* self, Sel, Fence* fence) {
          self->buffer->use(fence);
          fence->before.insert(self->scope->before.begin(), self->scope->before.end());
          fence->before.insert(self->scope->id);
        });
    method(
        type, "waitForFence:", +[](Encoder* self, Sel, Fence* fence) {
          self->buffer->use(fence);
          self->scope->before.insert(fence->before.begin(), fence->before.end());
        });
    method(
        type, "endEncoding", +[](Encoder* self, Sel) {
          self->check_open("endEncoding");
          self->ended = true;
          self->buffer->encoding = false;
        });
    method(type, "pushDebugGroup:", +[](Encoder*, Sel, String*) {});
    method(type, "popDebugGroup", +[](Encoder*, Sel) {});
    method(type, "insertDebugSignpost:", +[](Encoder*, Sel, String*) {});
  }
}

}  // namespace metal_sim
