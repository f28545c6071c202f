// MTLBlitCommandEncoder: copies, fills and the synchronization of managed buffers.
#include <cstring>

#include "tests/metal_sim/execute/launch.h"
#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

struct NsRange {
  UInt location, length;
};

Object* make_encoder(CommandBuffer* self, Sel) {
  if (self->encoding) fatal("blitCommandEncoder: an encoder of this command buffer is open");
  if (self->status() >= kCommitted) fatal("blitCommandEncoder: the command buffer is committed");
  self->encoding = true;
  auto* encoder = autoreleased(make<BlitEncoder>("MTLBlitCommandEncoder"));
  encoder->buffer = Ref<CommandBuffer>(self);
  ScopeSet before = self->before;
  {
    const std::lock_guard lock(self->queue->mutex);
    before.insert(self->queue->observed.begin(), self->queue->observed.end());
  }
  encoder->scope = new_scope(true, std::move(before));
  self->scopes.insert(encoder->scope->id);
  return encoder;
}

void check_range(const Buffer* buffer, UInt offset, UInt size, const char* what) {
  if (!buffer) fatal("%s: the buffer is nil", what);
  if (buffer->dead.load()) fatal("%s: the buffer was deallocated", what);
  if (offset > buffer->size || size > buffer->size - offset) {
    fatal("%s: %lu bytes at %lu do not fit the buffer's %lu bytes", what, size, offset,
          static_cast<UInt>(buffer->size));
  }
}

void copy(BlitEncoder* self, Sel, Buffer* source, UInt source_offset, Buffer* destination,
          UInt destination_offset, UInt size) {
  self->check_open("copyFromBuffer");
  check_range(source, source_offset, size, "copyFromBuffer (source)");
  check_range(destination, destination_offset, size, "copyFromBuffer (destination)");
  if (source_offset % 4 || destination_offset % 4 || size % 4) {
    problem("copyFromBuffer: offsets %lu, %lu and size %lu must be multiples of 4 on macOS",
            source_offset, destination_offset, size);
  }
  self->buffer->use(source);
  self->buffer->use(destination);
  self->buffer->commands.emplace_back([=, scope = self->scope](CommandBuffer& buffer) {
    check_range(source, source_offset, size, "copyFromBuffer (source)");
    check_range(destination, destination_offset, size, "copyFromBuffer (destination)");
    const std::string conflict =
        run_copy(scope, *source->memory, source->offset + source_offset, *destination->memory,
                 destination->offset + destination_offset, size);
    if (!conflict.empty()) buffer.fail(3, "copyFromBuffer: " + conflict);
  });
}

void fill(BlitEncoder* self, Sel, Buffer* buffer, NsRange range, uint8_t value) {
  self->check_open("fillBuffer");
  check_range(buffer, range.location, range.length, "fillBuffer");
  if (range.location % 4 || range.length % 4) {
    problem("fillBuffer: the range (%lu, %lu) must be a multiple of 4 on macOS", range.location,
            range.length);
  }
  self->buffer->use(buffer);
  self->buffer->commands.emplace_back([=, scope = self->scope](CommandBuffer& commands) {
    const std::string conflict =
        run_fill(scope, *buffer->memory, buffer->offset + range.location, range.length, value);
    if (!conflict.empty()) commands.fail(3, "fillBuffer: " + conflict);
  });
}

void synchronize(BlitEncoder* self, Sel, Buffer* buffer) {
  self->check_open("synchronizeResource");
  check_range(buffer, 0, 0, "synchronizeResource");
  if (storage_of(buffer->options) != StorageMode::kManaged) {
    problem("synchronizeResource: the buffer's storage is not managed");
    return;
  }
  self->buffer->use(buffer);
  self->buffer->commands.emplace_back([buffer](CommandBuffer&) {
    std::memcpy(buffer->host_copy.data(), buffer->gpu(), buffer->size);
  });
}

}  // namespace

void install_blit_encoders() {
  method("MTLCommandBuffer", "blitCommandEncoder", make_encoder);
  method("MTLBlitCommandEncoder",
         "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:", copy);
  method("MTLBlitCommandEncoder", "fillBuffer:range:value:", fill);
  method("MTLBlitCommandEncoder", "synchronizeResource:", synchronize);
}

}  // namespace metal_sim
