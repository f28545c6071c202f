// Metal memory: an MTLBuffer, allocated, cut from a heap, adopted from the host, or an
// application's own.
#pragma once

#include <memory>

#include "backends/metal/context.h"
#include "core/device/device.h"

namespace dlk::metal {

class MetalBuffer : public Buffer {
 public:
  /// Throws OutOfMemory.
  MetalBuffer(std::shared_ptr<Context> context, uint64_t size_bytes, MemoryKind kind);
  /// Adopts host memory; Unsupported where it does not start at a page.
  MetalBuffer(std::shared_ptr<Context> context, void* data, uint64_t size_bytes,
              std::shared_ptr<void> owner);
  /// An application's buffer, retained.
  MetalBuffer(std::shared_ptr<Context> context, MTL::Buffer* buffer);
  ~MetalBuffer() override;
  void* host_pointer() noexcept override { return managed_ ? nullptr : host_; }
  MTL::Buffer* native() const noexcept { return native_.get(); }
  /// Copies into memory that the host can write, shared or managed; false where it cannot. No
  /// queued work may use the bytes.
  bool host_write(uint64_t offset_bytes, const void* source, uint64_t size_bytes);

 private:
  void remember_host_address();

  std::shared_ptr<Context> context_;
  std::shared_ptr<void> owner_;
  Ref<MTL::Buffer> native_;
  void* host_ = nullptr;
  bool managed_ = false;  // two copies, kept equal on demand: not what host_pointer promises
};

inline MTL::Buffer* native_of(const Buffer& buffer) {
  return static_cast<const MetalBuffer&>(buffer).native();
}

}  // namespace dlk::metal
