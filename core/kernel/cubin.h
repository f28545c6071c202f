// PTX as the machine code of one NVIDIA GPU, made by the driver's own CUDA library where that is
// installed: drivers compile PTX anew in each process, and take machine code as it is. Optional:
// nothing links to it, and without it PTX stays what is loaded. Used by the kernel library.
#pragma once

#include <memory>
#include <string>

#include "core/device/device.h"

namespace dlk {

/// Holds the GPU's primary context while it lives. Thread-safe.
class CubinCompiler {
 public:
  /// Of the GPU with the name of `caps`. Unsupported, with the reason, where the library or the GPU
  /// is missing. DLK_CUBIN=0 turns it off; DLK_CUBIN_LIBRARY names another library than the
  /// driver's libcuda.so.1, for tests.
  static std::unique_ptr<CubinCompiler> open(const Caps& caps);
  virtual ~CubinCompiler() = default;
  /// CompileFailed with the library's log. `label` is for messages.
  virtual std::string compile(const std::string& ptx, const std::string& label) = 0;
};

/// True for the text of a PTX module.
bool is_ptx_text(const std::string& code);
/// True for a kernel that is one, also as a driver's own form of it.
bool is_ptx_text(const KernelCode& code);

}  // namespace dlk
