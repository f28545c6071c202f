// A hash for cache keys and checksums: the same on every machine and in every version.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dlk {

/// 64-bit FNV-1a.
inline uint64_t hash_text(std::string_view text, uint64_t seed = 14695981039346656037u) {
  uint64_t hash = seed;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

/// `value` as hexadecimal, the last `digits` of it.
inline std::string hex_text(uint64_t value, int digits = 16) {
  std::string text;
  for (int i = digits - 1; i >= 0; --i) text += "0123456789abcdef"[(value >> (4 * i)) & 15];
  return text;
}

}  // namespace dlk
