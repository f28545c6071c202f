// Files that may be lost: what dlk keeps on disk to be faster next time. Used for kernels and
// drivers' pipeline caches. Safe with several processes (files appear by rename and carry a
// checksum), held below a size, and never an error: whatever is wrong with the folder or a file
// counts as a miss, and a folder that cannot be written is reported once through the log.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dlk {

/// `DLK_CACHE_DIR`, else `$XDG_CACHE_HOME/dlk`, else `~/.cache/dlk`; "" where there is none.
std::string cache_directory();

/// `DLK_CACHE_SIZE`: bytes, or with K, M or G (powers of 1024); 1 GiB if it is not set.
uint64_t cache_size_limit();

class CacheFolder {
 public:
  /// The kernels' folder below cache_directory(); off with DLK_CACHE=0.
  static CacheFolder kernels();
  /// An empty path turns the cache off.
  explicit CacheFolder(std::string path) : path_(std::move(path)) {}

  bool enabled() const { return !path_.empty(); }
  const std::string& path() const { return path_; }
  /// The bytes that `write` was given, or nothing; counts as a use of the file.
  std::optional<std::string> read(const std::string& name) const noexcept;
  /// Replaces the file whole. Now and then removes the files that were unused for longest, until
  /// the folder holds less than cache_size_limit().
  void write(const std::string& name, std::string_view bytes) const noexcept;

 private:
  std::string path_;
};

}  // namespace dlk
