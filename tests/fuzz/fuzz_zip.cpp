// Any bytes are either an archive whose entries lie inside it, or a dlk::Error.
#include <cstdint>
#include <cstdlib>

#include "core/base/error.h"
#include "core/model/zip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> archive(reinterpret_cast<const std::byte*>(data), size);
  try {
    dlk::is_zip(archive);
    uint32_t sum = 0;
    for (const auto& [name, bytes] : dlk::read_stored_zip(archive, "fuzz")) {
      if (name.empty() || bytes.size() > size) std::abort();
      sum = dlk::crc32(bytes, sum);  // touches every byte
    }
  } catch (const dlk::Error&) {
  }
  return 0;
}
