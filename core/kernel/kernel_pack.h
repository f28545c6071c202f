// Kernel packs: compiled kernels that ship with dlk, so that a first start compiles little. A pack
// maps a kernel's printed text to what a compiler made of it: GLSL to SPIR-V, and OpenCL C to PTX
// for one model of GPU. The key is a hash of the whole text, so that a kernel of other sources is
// never taken; no key names a driver, a folder or a device's index. Used by the kernel library
// after its disk cache and before compilers. What is wrong with a pack is reported once, and the
// pack is left out. docs/speed.md says how packs are made.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"

namespace dlk {

using PackKey = std::array<uint64_t, 2>;

/// Of a kernel as it is printed for a compiler: OpenCL C for the GPU `device` (Caps::name), or
/// GLSL, where `device` is not used.
PackKey pack_key(const KernelCode& printed, const std::string& device);

/// One file, whose index is read when it is first asked.
class KernelPack {
 public:
  explicit KernelPack(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  /// SPIR-V or PTX; nothing where the pack has none or is damaged. Thread-safe.
  std::optional<std::string> find(const PackKey& key);

 private:
  struct Entry {
    uint64_t offset = 0, packed_bytes = 0, bytes = 0;
  };
  void open();
  void drop(const std::string& why);

  const std::string path_;
  std::mutex mutex_;
  bool opened_ = false;
  std::map<PackKey, Entry> entries_;
};

/// The packs of this process: DLK_KERNEL_PACKS (paths as in PATH; 0: none at all), then those that
/// were added. With DLK_KERNEL_PACK_RECORD=FOLDER what a pack could hold is written there.
class KernelPacks {
 public:
  static KernelPacks& shared();
  /// InvalidArgument where there is no such file; added twice, it counts once.
  void add(const std::string& path);
  std::optional<std::string> find(const PackKey& key);
  /// False where there is nothing to find.
  bool any() const;
  static bool records();
  /// A compiled kernel for a pack to come, where they are recorded.
  static void record(const PackKey& key, std::string_view code);

 private:
  std::vector<std::shared_ptr<KernelPack>> all() const;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<KernelPack>> added_;
  mutable std::map<std::string, std::shared_ptr<KernelPack>> named_;  // by DLK_KERNEL_PACKS
};

}  // namespace dlk
