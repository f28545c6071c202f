#include "core/kernel/packed_kernels.h"

#include <utility>

#include "core/base/phases.h"
#include "core/kernel/cubin.h"
#include "core/kernel/ptx.h"

namespace dlk {

bool PackedKernels::take(KernelCode& printed) const {
  if (printed.format != KernelFormat::kSpirv && !makes_ptx(printed)) return false;
  std::optional<std::string> found = find(printed);
  if (!found) return false;
  printed.code = std::move(*found);
  if (printed.format == KernelFormat::kOpenCLC) {
    printed.format = KernelFormat::kBinary;
    printed.build_options.clear();
  }
  return true;
}

std::optional<KernelCode> PackedKernels::ptx_of(const KernelRequest& request) const {
  if (!KernelPacks::shared().any()) return std::nullopt;
  // The text depends on the compiler's device in this alone.
  Caps caps = caps_;
  caps.inline_ptx = true;
  try {
    KernelCode source =
        ptx_source(sources_.print(request, KernelFormat::kOpenCLC, caps), caps.backend);
    std::optional<std::string> found = find(source);
    if (!found) return std::nullopt;
    return launchable_ptx(std::move(source), std::move(*found), caps.backend);
  } catch (const Error&) {  // the compiler's device says what is wrong
    return std::nullopt;
  }
}

bool PackedKernels::records(const KernelCode& printed) const {
  return KernelPacks::records() && makes_ptx(printed);
}

void PackedKernels::record(const KernelCode& printed, const std::string& code) const {
  if (!KernelPacks::records()) return;
  if (printed.format != KernelFormat::kSpirv && !is_ptx_text(code)) return;
  KernelPacks::record(pack_key(printed, caps_.name), code);
}

std::optional<std::string> PackedKernels::find(const KernelCode& printed) const {
  if (!KernelPacks::shared().any()) return std::nullopt;
  const Phase phase("kernels/pack");
  const PackKey key = pack_key(printed, caps_.name);
  std::optional<std::string> found = KernelPacks::shared().find(key);
  if (found) KernelPacks::record(key, *found);
  return found;
}

bool PackedKernels::makes_ptx(const KernelCode& printed) const {
  return printed.format == KernelFormat::kOpenCLC && caps_.inline_ptx;
}

}  // namespace dlk
