// The Metal device and its backend. Names no type of Metal's, so that anything may include it.
#pragma once

#include <memory>
#include <string>

#include "core/device/device.h"

namespace dlk::metal {

class Context;

class MetalDevice : public Device {
 public:
  explicit MetalDevice(std::shared_ptr<Context> context) : context_(std::move(context)) {}
  const Caps& caps() const noexcept override;
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override;
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override;
  std::shared_ptr<Kernel> compile(KernelCode code) override;
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override;
  std::unique_ptr<Queue> create_queue() override;
  /// An application's MTLBuffer, retained.
  std::shared_ptr<Buffer> wrap(void* buffer);

 private:
  std::shared_ptr<Context> context_;
};

/// Devices in the order default, then all others of the machine; those that DLK_METAL_PREFER names
/// ("low-power", "external") come first.
class MetalBackend : public Backend {
 public:
  explicit MetalBackend(std::string name = "metal") : name_(std::move(name)) {}
  std::string name() const override { return name_; }
  int priority() const override { return 100; }
  KernelFormat kernel_format() const override { return KernelFormat::kMsl; }
  std::vector<Caps> enumerate() override;
  std::string unavailable_reason() override;
  std::shared_ptr<Device> open(uint32_t index) override;
  std::shared_ptr<Device> wrap(const NativeDevice& native) override;

 private:
  std::string name_;
};

}  // namespace dlk::metal
