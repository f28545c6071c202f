#include "backends/metal/kernel.h"

namespace dlk::metal {

MetalKernel::MetalKernel(std::shared_ptr<Context> context, KernelCode code)
    : Kernel(std::move(code)), context_(std::move(context)) {
  const Pool pool;
  if (code_.format != KernelFormat::kMsl) {
    throw_invalid("kernel '" + code_.name + "' on " + context_->caps().id +
                  ": its code is not MSL");
  }
  const auto library = context_->library(code_.code, code_.name);
  // Registers may leave fewer threads than the device allows: the compiler is told what is needed.
  const bool possible = threads() <= context_->caps().max_group_invocations;
  pipeline_ = context_->pipeline(library.get(), code_.name, possible ? threads() : 0);
  check_limits();
  code_.code.clear();
  code_.code.shrink_to_fit();
}

MetalKernel::~MetalKernel() {
  const Pool pool;
  pipeline_.reset();
}

uint64_t MetalKernel::threads() const {
  return uint64_t{code_.group_size[0]} * code_.group_size[1] * code_.group_size[2];
}

void MetalKernel::check_limits() const {
  const std::string who = "kernel '" + code_.name + "' on " + context_->caps().id;
  // The registers that a kernel needs may lower what the device allows.
  const uint64_t most = pipeline_->maxTotalThreadsPerThreadgroup();
  if (threads() > most) {
    throw_unsupported(who + " needs " + std::to_string(threads()) +
                      " threads in a group; its pipeline allows " + std::to_string(most));
  }
  const uint64_t local = pipeline_->staticThreadgroupMemoryLength();
  if (local > context_->caps().local_memory_bytes) {
    throw_unsupported(who + " needs " + std::to_string(local) +
                      " bytes of threadgroup memory; the device has " +
                      std::to_string(context_->caps().local_memory_bytes));
  }
  const uint64_t width = pipeline_->threadExecutionWidth();
  if (code_.required_subgroup_size != 0 && width != code_.required_subgroup_size) {
    throw_unsupported(who + " needs SIMD-groups of " +
                      std::to_string(code_.required_subgroup_size) + "; its pipeline has " +
                      std::to_string(width));
  }
}

}  // namespace dlk::metal
