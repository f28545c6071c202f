// The null backend: the smallest one that links, and the template for new ones. Buffers, copies,
// fills, reads and writes work on host memory; kernels do nothing. Runs the engine where no GPU
// API is to be had (cross builds, tests of host code).
#pragma once

#include "core/device/device.h"

namespace dlk::null_backend {

class NullDevice : public Device {
 public:
  explicit NullDevice(Caps caps) : caps_(std::move(caps)) {}
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override;
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override;
  std::shared_ptr<Kernel> compile(KernelCode code) override;
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override;
  std::unique_ptr<Queue> create_queue() override;

 private:
  Caps caps_;
};

class NullBackend : public Backend {
 public:
  std::string name() const override { return "null"; }
  int priority() const override { return -100; }
  /// Shown in device lists only with DLK_ENABLE_NULL=1.
  bool hidden() const override;
  KernelFormat kernel_format() const override { return KernelFormat::kNone; }
  std::vector<Caps> enumerate() override;
  std::string unavailable_reason() override { return {}; }
  std::shared_ptr<Device> open(uint32_t index) override;
};

}  // namespace dlk::null_backend
