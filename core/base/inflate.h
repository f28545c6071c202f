// Unpacks zlib streams (RFC 1950, 1951). For files that ship compressed: kernel packs.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace dlk {

/// The `size` bytes that a zlib stream holds; nothing where it is damaged, is followed by other
/// bytes, or holds more or fewer. Never reads or allocates beyond `bytes` and `size`.
std::optional<std::string> inflated(std::string_view bytes, size_t size);

}  // namespace dlk
