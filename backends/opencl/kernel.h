// Compiled OpenCL programs, and recordings: each dispatch of a recording owns a kernel object whose
// arguments were set when it was recorded, so that a replay is one enqueue a command and sets only
// the arguments of slots that were bound to something else.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "backends/opencl/buffer.h"
#include "backends/opencl/chain.h"
#include "core/device/device.h"

namespace dlk::opencl {

class OpenClKernel : public Kernel {
 public:
  /// Builds the program; CompileFailed with the driver's log.
  OpenClKernel(std::shared_ptr<Context> context, KernelCode code);
  ~OpenClKernel() override;
  /// A new kernel object of the program, with arguments of its own.
  std::shared_ptr<_cl_kernel> clone() const;
  std::string binary() const override;
  /// OpenCL C, where chains are made of it (chain.h); else empty.
  const std::string& source() const noexcept { return source_; }

 private:
  void build();
  void check_kernel(cl_kernel kernel) const;
  std::string build_log() const;

  std::shared_ptr<Context> context_;
  cl_program program_ = nullptr;
  std::string source_;
};

class OpenClRecording : public Recording {
 public:
  OpenClRecording(std::shared_ptr<Context> context, const CommandList& list, bool profile);

  /// Enqueues all commands, as chains where there are some, and returns the event of the last one
  /// (null for an empty recording); appends the events of all to `each` where it is given. Safe
  /// from several threads: the arguments are guarded.
  Event enqueue(cl_command_queue queue, std::span<const View> slots,
                std::vector<Event>* each) const;
  bool profiled() const noexcept { return profiled_; }

 private:
  struct SlotArgument {
    uint32_t slot, argument;
    uint64_t offset_bytes, element_bytes;
  };
  struct Step {
    std::shared_ptr<_cl_kernel> kernel;  // null for copies and fills
    size_t global[3] = {1, 1, 1};
    size_t local[3] = {1, 1, 1};
    std::vector<SlotArgument> slots;
  };
  struct Range {
    cl_mem memory;
    uint64_t offset_bytes, size_bytes;
  };
  static Range range_of(const Operand& operand, std::span<const View> slots);
  void set_arguments(Step& step, const DispatchCommand& dispatch);
  void bind_slots(std::span<const View> slots) const;
  void enqueue_step(size_t index, cl_command_queue queue, std::span<const View> slots,
                    cl_event* event) const;

  std::shared_ptr<Context> context_;
  std::vector<Command> commands_;  // keeps kernels and buffers alive
  std::vector<Step> steps_;
  bool profiled_;
  mutable std::mutex mutex_;  // of the kernel objects' arguments and the chains
  mutable Chains chains_;
  // By slot, what the arguments say: buffer (0: unknown) and offset.
  mutable std::vector<std::pair<uint64_t, uint64_t>> bound_;
};

}  // namespace dlk::opencl
