// Any bytes are either tensors that lie inside them, or a dlk::Error.
#include <cstdint>
#include <cstdlib>

#include "core/base/error.h"
#include "core/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    for (const auto& [name, tensor] : dlk::read_safetensors(file, nullptr, "fuzz")) {
      const auto bytes = tensor.bytes();
      if (bytes.empty()) continue;
      if (bytes.data() < file.data() || bytes.data() + bytes.size() > file.data() + size) {
        std::abort();
      }
    }
  } catch (const dlk::Error&) {
  }
  return 0;
}
