// The OpenCL device and backend: OpenCL 1.2 or later, through the loader that is found at run time.
#pragma once

#include "backends/opencl/buffer.h"
#include "core/device/device.h"

namespace dlk::opencl {

class OpenClDevice : public Device {
 public:
  explicit OpenClDevice(std::shared_ptr<Context> context) : context_(std::move(context)) {}
  const Caps& caps() const noexcept override { return context_->caps; }
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override;
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override;
  std::shared_ptr<Kernel> compile(KernelCode code) override;
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override;
  std::unique_ptr<Queue> create_queue() override;
  /// A buffer that stands for an application's cl_mem of the same context.
  std::shared_ptr<Buffer> wrap(cl_mem memory);

 private:
  std::shared_ptr<Context> context_;
};

class OpenClBackend : public Backend {
 public:
  std::string name() const override { return "opencl"; }
  int priority() const override { return 10; }
  KernelFormat kernel_format() const override { return KernelFormat::kOpenCLC; }
  std::vector<Caps> enumerate() override;
  std::string unavailable_reason() override;
  std::shared_ptr<Device> open(uint32_t index) override;
  std::shared_ptr<Device> wrap(const NativeDevice& native) override;
};

}  // namespace dlk::opencl
