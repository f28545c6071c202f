// Stored (uncompressed) zip archives, so that a model file can be mapped and also opened with any
// zip tool. Reads what is well formed and refuses the rest; writes entries aligned for mapping.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/model/mapped_file.h"

namespace dlk {

/// True if the bytes start like a zip archive.
bool is_zip(std::span<const std::byte> bytes);

/// Entry name -> bytes inside `archive`. InvalidArgument (with `name`) for anything but a complete
/// archive of stored, unencrypted entries with distinct relative names.
std::map<std::string, std::span<const std::byte>> read_stored_zip(
    std::span<const std::byte> archive, const std::string& name);

uint32_t crc32(std::span<const std::byte> bytes, uint32_t seed = 0);

class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file) : file_(file) {}
  /// The entry's data starts at a multiple of `alignment`. InvalidArgument beyond 4 GiB: save such
  /// a model as a directory.
  void add(const std::string& name, const std::vector<std::span<const std::byte>>& pieces,
           uint32_t alignment);
  void finish();

 private:
  struct Entry {
    std::string name;
    uint32_t crc, size, offset;
  };
  AtomicFile& file_;
  std::vector<Entry> entries_;
};

}  // namespace dlk
