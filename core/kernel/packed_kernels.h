// What kernel packs hold for one device, and what is recorded for packs to come: SPIR-V of printed
// GLSL, and PTX of the OpenCL C that NVIDIA's compiler gets. Used by the kernel library.
#pragma once

#include <optional>
#include <string>

#include "core/kernel/dialect.h"
#include "core/kernel/kernel_pack.h"

namespace dlk {

/// Thread-safe. `caps` and `sources` must outlive it.
class PackedKernels {
 public:
  PackedKernels(const Caps& caps, const KernelSources& sources) : caps_(caps), sources_(sources) {}
  /// Puts the compiled form in the place of the printed text. False where no pack has it.
  bool take(KernelCode& printed) const;
  /// PTX for launches under `caps` without its compiler.
  std::optional<KernelCode> ptx_of(const KernelRequest& request) const;
  /// True where what becomes of OpenCL C is recorded.
  bool records(const KernelCode& printed) const;
  /// What a compiler made of a printed text: SPIR-V, or PTX, else nothing happens.
  void record(const KernelCode& printed, const std::string& code) const;

 private:
  std::optional<std::string> find(const KernelCode& printed) const;
  bool makes_ptx(const KernelCode& printed) const;

  const Caps& caps_;
  const KernelSources& sources_;
};

}  // namespace dlk
