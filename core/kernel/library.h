// Kernels of one device: turns requests into compiled kernels, once. Variants are kept in memory
// and their printed and compiled code on disk, keyed by source, constants, device and driver.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/kernel/dialect.h"

namespace dlk {

struct KernelLibraryStats {
  uint64_t pipelines = 0;  // distinct variants built or loaded
  uint64_t disk_hits = 0;
  uint64_t disk_misses = 0;
  uint64_t pack_hits = 0;  // taken from a kernel pack instead of a compiler
  uint64_t memory_hits = 0;
};

/// A kernel as a bundle keeps it.
struct KernelPackage {
  KernelCode portable;               // what any driver of the API compiles, or PTX
  std::optional<KernelCode> binary;  // of one device and driver
};

class KernelLibrary {
 public:
  /// One library a device, shared: `of` returns the same object while it lives.
  static std::shared_ptr<KernelLibrary> of(const std::shared_ptr<Device>& device);
  virtual ~KernelLibrary() = default;

  /// Interface without compiling (works on any device); memoized.
  virtual const KernelInterface& interface_of(const KernelRequest& request) = 0;
  /// The compiled kernel. Thread-safe: two threads that ask for one variant build it once.
  virtual std::shared_ptr<Kernel> get(const KernelRequest& request) = 0;
  /// Builds many in parallel; `progress(done, total)` is called from the calling thread.
  virtual std::vector<std::shared_ptr<Kernel>> get_all(
      const std::vector<KernelRequest>& requests,
      const std::function<void(size_t, size_t)>& progress = {}) = 0;
  /// Makes a variant anew, to be used by another process.
  virtual KernelPackage package(const KernelRequest& request) = 0;
  /// Kernels that the driver makes better in the background (DLK_CUBIN, docs/speed.md): true where
  /// none of these will be replaced any more; else that begins. `best` gives the replacement, or
  /// the kernel itself; `replaced` grows when there may be new ones.
  virtual bool settle(std::span<const std::shared_ptr<Kernel>> kernels) = 0;
  virtual std::shared_ptr<Kernel> best(const std::shared_ptr<Kernel>& kernel) const = 0;
  virtual uint64_t replaced() const = 0;
  /// Waits until nothing is compiled in the background.
  virtual void finish_background() = 0;
  virtual KernelLibraryStats stats() const = 0;
  /// Everything that printed and compiled kernels depend on besides the request: dlk and its kernel
  /// sources, glslang, device, driver and capabilities.
  virtual const std::string& cache_key() const = 0;
  /// The variants that were built or loaded, in order.
  virtual std::vector<KernelRequest> built() const = 0;
};

}  // namespace dlk
