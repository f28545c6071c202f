// Strings as elements of tensors: each different text has a number for as long as the process
// lives, so that a tensor of strings is a tensor of 8-byte numbers, which compare and move like any
// other. For the glue of graphs (labels, tokens), not for data. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dlk {

/// The number of a text.
uint64_t intern(std::string_view text);
/// The text of a number; InvalidArgument where `intern` never gave it.
const std::string& interned(uint64_t number);

}  // namespace dlk
