// The safetensors weight format: a JSON header and raw tensors. Reading is strict (bounded header,
// every byte accounted for, sizes that fit shapes) and copies nothing; writing pads the header to
// 16 KiB and every tensor to 256 bytes with explicit pad tensors, because the format allows no
// holes.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/graph/tensor.h"

namespace dlk {

inline constexpr uint64_t kTensorAlignment = 256;
inline constexpr uint64_t kHeaderAlignment = 16384;

/// Tensors share `owner`, which keeps `bytes` alive and unchanged. InvalidArgument with `name` for
/// anything that is not well formed. Pad tensors are left out.
std::map<std::string, HostTensor> read_safetensors(std::span<const std::byte> bytes,
                                                   std::shared_ptr<const void> owner,
                                                   const std::string& name);

struct NamedTensor {
  std::string name;
  HostTensor tensor;
};

/// The file's header; the tensors' bytes follow in order, each after `padding_before` zero bytes.
struct SafetensorsLayout {
  std::string header;
  std::vector<uint64_t> padding_before;
};
SafetensorsLayout layout_safetensors(const std::vector<NamedTensor>& tensors);

}  // namespace dlk
