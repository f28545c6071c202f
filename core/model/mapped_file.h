// A file as bytes: memory-mapped where the system can, so that weights are paged in when they are
// used. The mapping lives as long as anything that shares it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dlk {

class MappedFile {
 public:
  /// InvalidArgument with the path and the system's reason if it cannot be opened.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  bool mapped_ = false;
  std::vector<std::byte> copy_;  // where there is no mapping
};

/// Writes a file under a temporary name beside it and renames it when complete: a reader sees the
/// old file or the new one. Removed unless `commit` was called.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(const std::string& text);
  uint64_t position() const { return position_; }
  /// Flushes, checks for errors (a full disk) and renames.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  uint64_t position_ = 0;
};

}  // namespace dlk
