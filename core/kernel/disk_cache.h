// Printed and compiled kernels on disk, one file a variant. Safe with several processes: entries
// appear by rename. Nothing here throws: whatever is wrong with the folder or an entry counts as a
// miss, and an entry that is damaged is written again.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/device/device.h"

namespace dlk {

class DiskCache {
 public:
  /// An empty folder name turns the cache off.
  explicit DiskCache(std::string folder) : folder_(std::move(folder)) {}
  bool enabled() const { return !folder_.empty(); }
  /// `key` names the variant in full; it is stored in the entry and compared.
  std::optional<KernelCode> load(const std::string& key) const noexcept;
  void store(const std::string& key, const KernelCode& code) const noexcept;
  std::string path_of(const std::string& key) const;

 private:
  std::string folder_;
};

/// 64-bit FNV-1a.
uint64_t hash_text(std::string_view text, uint64_t seed = 14695981039346656037u);

}  // namespace dlk
