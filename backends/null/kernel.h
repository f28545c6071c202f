// Kernels and recordings of the null device: kernels are kept and never run.
#pragma once

#include <vector>

#include "core/device/device.h"

namespace dlk::null_backend {

class NullKernel : public Kernel {
 public:
  using Kernel::Kernel;
};

class NullRecording : public Recording {
 public:
  NullRecording(const CommandList& list, bool profile);
  /// Carries out the copies and fills; `slots` are the views given to submit.
  void run(std::span<const View> slots) const;
  bool profiled() const { return profiled_; }
  size_t size() const { return commands_.size(); }

 private:
  std::vector<Command> commands_;
  bool profiled_;
};

}  // namespace dlk::null_backend
