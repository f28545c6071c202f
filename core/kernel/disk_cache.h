// Printed and compiled kernels on disk, one file a variant in dlk's cache folder, under its full
// key. What is damaged or missing is a miss.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/base/cache_folder.h"
#include "core/device/device.h"

namespace dlk {

/// A kernel as bytes, and back; nothing where they are not what serialize_kernel wrote.
std::string serialize_kernel(const KernelCode& code);
std::optional<KernelCode> deserialize_kernel(std::string_view bytes);

class DiskCache {
 public:
  explicit DiskCache(CacheFolder folder) : folder_(std::move(folder)) {}
  bool enabled() const { return folder_.enabled(); }
  /// `key` names the variant in full; it is stored in the entry and compared.
  std::optional<KernelCode> load(const std::string& key) const noexcept;
  void store(const std::string& key, const KernelCode& code) const;
  static std::string name_of(const std::string& key);

 private:
  CacheFolder folder_;
};

}  // namespace dlk
