#include "core/base/inflate.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace dlk {

namespace {

constexpr int kMostBits = 15, kFastBits = 10;

/// The bits of a stream, lowest first. Past its end come zeros, and `ok` is false.
class Bits {
 public:
  explicit Bits(std::string_view bytes) : bytes_(bytes) {}
  bool ok() const { return missing_ * 8 <= count_; }

  uint32_t peek(int bits) {
    while (count_ < bits) {
      const bool there = at_ < bytes_.size();
      missing_ += there ? 0 : 1;
      held_ |= uint64_t{there ? static_cast<unsigned char>(bytes_[at_++]) : 0u} << count_;
      count_ += 8;
    }
    return static_cast<uint32_t>(held_ & ((uint64_t{1} << bits) - 1));
  }
  void drop(int bits) {
    held_ >>= bits;
    count_ -= bits;
  }
  uint32_t take(int bits) {
    const uint32_t value = peek(bits);
    drop(bits);
    return value;
  }
  /// The bytes that follow the current one; bits that were looked at already are put back.
  std::string_view rest() {
    drop(count_ % 8);
    const size_t held = static_cast<size_t>(count_ / 8) - std::min<size_t>(count_ / 8, missing_);
    at_ -= held;
    held_ = 0;
    count_ = missing_ = 0;
    return bytes_.substr(at_);
  }
  void skip(size_t bytes) { at_ += bytes; }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
  uint64_t held_ = 0;
  int count_ = 0, missing_ = 0;
};

/// A canonical Huffman code: short codes by a table, the others bit by bit.
class Code {
 public:
  /// False for lengths that are no code. A code of one symbol may be incomplete.
  bool build(std::span<const uint8_t> lengths) {
    counts_.fill(0);
    fast_.fill(0);
    for (const uint8_t length : lengths) ++counts_[length];
    counts_[0] = 0;
    int left = 1;
    std::array<uint16_t, kMostBits + 1> offsets{}, codes{};
    for (int bits = 1; bits <= kMostBits; ++bits) {
      left = 2 * left - counts_[bits];
      if (left < 0) return false;
      offsets[bits] = static_cast<uint16_t>(offsets[bits - 1] + counts_[bits - 1]);
      codes[bits] = static_cast<uint16_t>((codes[bits - 1] + counts_[bits - 1]) << 1);
    }
    for (size_t symbol = 0; symbol < lengths.size(); ++symbol) {
      const int bits = lengths[symbol];
      if (bits == 0) continue;
      symbols_[offsets[bits]++] = static_cast<uint16_t>(symbol);
      const uint32_t code = codes[bits]++;
      if (bits > kFastBits) continue;
      uint32_t turned = 0;
      for (int i = 0; i < bits; ++i) turned |= ((code >> i) & 1u) << (bits - 1 - i);
      for (uint32_t at = turned; at < fast_.size(); at += 1u << bits) {
        fast_[at] = static_cast<uint16_t>(symbol << 4 | static_cast<uint32_t>(bits));
      }
    }
    return true;
  }

  /// -1 where the bits are no code.
  int take(Bits& bits) const {
    if (const uint16_t entry = fast_[bits.peek(kFastBits)]; entry != 0) {
      bits.drop(entry & 15);
      return entry >> 4;
    }
    int code = 0, first = 0, index = 0;
    for (int length = 1; length <= kMostBits; ++length) {
      code |= static_cast<int>(bits.take(1));
      const int count = counts_[length];
      if (code - first < count) return symbols_[static_cast<size_t>(index + code - first)];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    return -1;
  }

 private:
  std::array<uint16_t, kMostBits + 1> counts_{};
  std::array<uint16_t, 288> symbols_{};
  std::array<uint16_t, 1u << kFastBits> fast_{};  // symbol and length; 0: longer, or none
};

constexpr uint16_t kLengths[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr uint8_t kLengthBits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                   2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr uint16_t kDistances[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                   33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                   1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
constexpr uint8_t kOrder[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

class Inflater {
 public:
  Inflater(std::string_view bytes, size_t size) : bits_(bytes), size_(size) { out_.reserve(size); }

  bool run() {
    for (bool last = false; !last;) {
      last = bits_.take(1) != 0;
      const uint32_t kind = bits_.take(2);
      if (kind == 0 ? !stored() : kind == 1 ? !fixed() : kind == 2 ? !dynamic() : true)
        return false;
    }
    return bits_.ok() && out_.size() == size_;
  }
  std::string_view rest() { return bits_.rest(); }
  std::string take() { return std::move(out_); }

 private:
  bool stored() {
    const std::string_view rest = bits_.rest();
    if (rest.size() < 4) return false;
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(rest[i]); };
    const size_t count = byte(0) | static_cast<size_t>(byte(1)) << 8;
    const size_t check = byte(2) | static_cast<size_t>(byte(3)) << 8;
    if ((count ^ check) != 0xffff || rest.size() - 4 < count || size_ - out_.size() < count) {
      return false;
    }
    out_ += rest.substr(4, count);
    bits_.skip(4 + count);
    return true;
  }

  bool fixed() {
    std::array<uint8_t, 288> lengths{};
    for (size_t i = 0; i < lengths.size(); ++i) {
      lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    }
    std::array<uint8_t, 30> distances{};
    distances.fill(5);
    return symbols_.build(lengths) && distances_.build(distances) && body();
  }

  bool dynamic() {
    const size_t symbols = bits_.take(5) + 257, distances = bits_.take(5) + 1;
    const size_t count = bits_.take(4) + 4;
    if (symbols > 286 || distances > 30) return false;
    std::array<uint8_t, 19> short_lengths{};
    for (size_t i = 0; i < count; ++i) {
      short_lengths[kOrder[i]] = static_cast<uint8_t>(bits_.take(3));
    }
    if (!symbols_.build(short_lengths)) return false;
    std::array<uint8_t, 286 + 30> lengths{};
    for (size_t at = 0; at < symbols + distances;) {
      const int symbol = symbols_.take(bits_);
      if (symbol < 0 || !bits_.ok() || (symbol == 16 && at == 0)) return false;
      if (symbol < 16) {
        lengths[at++] = static_cast<uint8_t>(symbol);
        continue;
      }
      const uint8_t value = symbol == 16 ? lengths[at - 1] : uint8_t{0};
      const size_t repeats = symbol == 16   ? 3 + bits_.take(2)
                             : symbol == 17 ? 3 + bits_.take(3)
                                            : 11 + bits_.take(7);
      if (at + repeats > symbols + distances) return false;
      std::fill_n(lengths.begin() + static_cast<ptrdiff_t>(at), repeats, value);
      at += repeats;
    }
    const std::span<const uint8_t> all(lengths);
    return symbols_.build(all.first(symbols)) &&
           distances_.build(all.subspan(symbols, distances)) && body();
  }

  /// Symbols to the end of a block.
  bool body() {
    while (bits_.ok()) {
      const int symbol = symbols_.take(bits_);
      if (symbol < 0) return false;
      if (symbol == 256) return true;
      if (symbol < 256) {
        if (out_.size() == size_) return false;
        out_ += static_cast<char>(symbol);
        continue;
      }
      const auto which = static_cast<size_t>(symbol - 257);
      if (which >= std::size(kLengths)) return false;
      const size_t length = kLengths[which] + bits_.take(kLengthBits[which]);
      const int far = distances_.take(bits_);
      if (far < 0 || static_cast<size_t>(far) >= std::size(kDistances)) return false;
      const size_t distance = kDistances[far] + bits_.take(far < 4 ? 0 : far / 2 - 1);
      if (distance > out_.size() || length > size_ - out_.size()) return false;
      const size_t from = out_.size() - distance;
      for (size_t i = 0; i < length; ++i) out_ += out_[from + i];
    }
    return false;
  }

  Bits bits_;
  const size_t size_;
  std::string out_;
  Code symbols_, distances_;
};

uint32_t adler32(std::string_view bytes) {
  uint32_t a = 1, b = 0;
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, 5552);  // before the sums can overflow
    for (const char c : part) b += a += static_cast<unsigned char>(c);
    a %= 65521, b %= 65521;
    bytes.remove_prefix(part.size());
  }
  return b << 16 | a;
}

}  // namespace

std::optional<std::string> inflated(std::string_view bytes, size_t size) {
  constexpr size_t kHeader = 2, kChecksum = 4, kMostGrowth = 1032;
  if (bytes.size() < kHeader + kChecksum || size / kMostGrowth > bytes.size()) return std::nullopt;
  const auto byte = [](std::string_view text, size_t i) {
    return uint32_t{static_cast<unsigned char>(text[i])};
  };
  const uint32_t method = byte(bytes, 0), flags = byte(bytes, 1);
  const bool plain = (method & 15) == 8 && (flags & 32) == 0;
  if (!plain || (method << 8 | flags) % 31 != 0) return std::nullopt;
  Inflater inflater(bytes.substr(kHeader), size);
  if (!inflater.run()) return std::nullopt;
  const std::string_view end = inflater.rest();
  if (end.size() != kChecksum) return std::nullopt;
  std::string out = inflater.take();
  const uint32_t checksum =
      byte(end, 0) << 24 | byte(end, 1) << 16 | byte(end, 2) << 8 | byte(end, 3);
  return checksum == adler32(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace dlk
