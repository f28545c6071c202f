// Compiled kernels: one MTLComputePipelineState each.
#pragma once

#include <memory>

#include "backends/metal/context.h"
#include "core/device/device.h"

namespace dlk::metal {

class MetalKernel : public Kernel {
 public:
  /// Builds the pipeline; CompileFailed with the compiler's log, Unsupported where the pipeline
  /// allows fewer threads in a group than the kernel has.
  MetalKernel(std::shared_ptr<Context> context, KernelCode code);
  ~MetalKernel() override;
  MTL::ComputePipelineState* pipeline() const noexcept { return pipeline_.get(); }

 private:
  uint64_t threads() const;  // of a group
  void check_limits() const;

  std::shared_ptr<Context> context_;
  Ref<MTL::ComputePipelineState> pipeline_;
};

}  // namespace dlk::metal
