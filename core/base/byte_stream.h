// Numbers and texts as bytes, for files that dlk writes and reads itself: little endian, eight
// bytes a number, texts with their length in front. Reading is bounded and never throws.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace dlk {

class ByteWriter {
 public:
  void number(uint64_t value) {
    for (int i = 0; i < 8; ++i) bytes_ += static_cast<char>((value >> (8 * i)) & 0xff);
  }
  void text(std::string_view value) {
    number(value.size());
    bytes_ += value;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads what ByteWriter wrote; `ok` turns false at the first thing that does not fit.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool done() const { return ok_ && bytes_.empty(); }

  uint64_t number() {
    uint64_t value = 0;
    const std::string_view taken = take(8);
    for (size_t i = 0; i < taken.size(); ++i) {
      value |= static_cast<uint64_t>(static_cast<unsigned char>(taken[i])) << (8 * i);
    }
    return value;
  }
  uint32_t number32() { return static_cast<uint32_t>(number()); }
  std::string text() { return std::string(take(number())); }
  /// A count of elements that take at least 8 bytes each.
  uint64_t count() {
    const uint64_t value = number();
    if (value > bytes_.size() / 8) ok_ = false;
    return ok_ ? value : 0;
  }

 private:
  std::string_view take(uint64_t size) {
    if (size > bytes_.size()) ok_ = false;
    if (!ok_) return {};
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace dlk
