#include "core/model/zip.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "core/base/error.h"

namespace dlk {

namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr uint64_t kLimit = 0xffffffffu;

uint32_t read16(const std::byte* p) {
  return std::to_integer<uint32_t>(p[0]) | std::to_integer<uint32_t>(p[1]) << 8;
}
uint32_t read32(const std::byte* p) { return read16(p) | read16(p + 2) << 16; }

void put16(std::string& out, uint32_t v) {
  out.push_back(static_cast<char>(v & 0xff));
  out.push_back(static_cast<char>(v >> 8 & 0xff));
}
void put32(std::string& out, uint32_t v) {
  put16(out, v & 0xffff);
  put16(out, v >> 16);
}

/// Offset of the end record, searched backwards over a possible comment.
uint64_t find_end(std::span<const std::byte> archive, const std::string& name) {
  const uint64_t size = archive.size();
  if (size >= kEndBytes) {
    const uint64_t lowest = size - kEndBytes > 0xffff ? size - kEndBytes - 0xffff : 0;
    for (uint64_t at = size - kEndBytes + 1; at-- > lowest;)
      if (read32(archive.data() + at) == kEnd) return at;
  }
  throw_invalid("'" + name + "' is truncated or no zip archive: it has no end record");
}

bool is_safe_name(const std::string& name) {
  return !name.empty() && name.front() != '/' && name.find("..") == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t seed) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t c = i;
      for (int k = 0; k < 8; k++) c = (c & 1) ? 0xedb88320u ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  uint32_t c = ~seed;
  for (std::byte b : bytes) c = table[(c ^ std::to_integer<uint32_t>(b)) & 0xff] ^ (c >> 8);
  return ~c;
}

bool is_zip(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && read32(bytes.data()) == kLocalHeader;
}

std::map<std::string, std::span<const std::byte>> read_stored_zip(
    std::span<const std::byte> archive, const std::string& name) {
  const auto bad = [&](const std::string& why) { throw_invalid("'" + name + "': " + why); };
  const uint64_t end = find_end(archive, name);
  const uint32_t count = read16(archive.data() + end + 10);
  uint64_t at = read32(archive.data() + end + 16);
  std::map<std::string, std::span<const std::byte>> entries;
  for (uint32_t i = 0; i < count; i++) {
    if (at + kCentralBytes > end || read32(archive.data() + at) != kCentralHeader)
      bad("the archive's directory is damaged");
    const std::byte* p = archive.data() + at;
    const uint64_t name_bytes = read16(p + 28), extra = read16(p + 30), comment = read16(p + 32);
    const uint64_t stored = read32(p + 20), size = read32(p + 24), local = read32(p + 42);
    if (at + kCentralBytes + name_bytes > end) bad("the archive's directory is damaged");
    const std::string entry(reinterpret_cast<const char*>(p + kCentralBytes), name_bytes);
    if (!is_safe_name(entry)) bad("an entry has an unsafe name");
    if (read16(p + 10) != 0 || stored != size || (read16(p + 8) & 1) != 0)
      bad("entry '" + entry + "' is compressed or encrypted; dlk files are stored zip archives");
    if (local + kLocalBytes > archive.size() || read32(archive.data() + local) != kLocalHeader)
      bad("entry '" + entry + "' points outside the archive");
    const std::byte* header = archive.data() + local;
    const uint64_t start = local + kLocalBytes + read16(header + 26) + read16(header + 28);
    if (start + size > archive.size()) bad("entry '" + entry + "' is truncated");
    if (!entries.emplace(entry, archive.subspan(start, size)).second)
      bad("entry '" + entry + "' is there twice");
    at += kCentralBytes + name_bytes + extra + comment;
  }
  return entries;
}

void ZipWriter::add(const std::string& name, const std::vector<std::span<const std::byte>>& pieces,
                    uint32_t alignment) {
  uint64_t size = 0;
  uint32_t crc = 0;
  for (const auto& piece : pieces) {
    size += piece.size();
    crc = crc32(piece, crc);
  }
  const uint64_t offset = file_.position();
  if (offset + size + alignment + 512 > kLimit)
    throw_invalid("the model is larger than 4 GiB; save it to a directory instead of a .dlk file");
  // The extra field pads the data to the alignment; an extra field needs at least 4 bytes.
  const uint64_t data = offset + kLocalBytes + name.size();
  uint64_t padding = (alignment - data % alignment) % alignment;
  if (padding > 0 && padding < 4) padding += alignment;
  std::string header;
  put32(header, kLocalHeader);
  put16(header, 20);
  put16(header, 0x0800);      // UTF-8 names
  put16(header, 0);           // stored
  put32(header, 0x00210000);  // 1980-01-01: the same bytes from the same model
  put32(header, crc);
  put32(header, static_cast<uint32_t>(size));
  put32(header, static_cast<uint32_t>(size));
  put16(header, static_cast<uint32_t>(name.size()));
  put16(header, static_cast<uint32_t>(padding));
  header += name;
  if (padding > 0) {
    put16(header, 0xd935);  // the tag that Android's zipalign uses for padding
    put16(header, static_cast<uint32_t>(padding - 4));
    header.append(padding - 4, '\0');
  }
  file_.write(header);
  for (const auto& piece : pieces) file_.write(piece);
  entries_.push_back({name, crc, static_cast<uint32_t>(size), static_cast<uint32_t>(offset)});
}

void ZipWriter::finish() {
  const uint64_t start = file_.position();
  std::string directory;
  for (const Entry& e : entries_) {
    put32(directory, kCentralHeader);
    put16(directory, 20);
    put16(directory, 20);
    put16(directory, 0x0800);
    put16(directory, 0);
    put32(directory, 0x00210000);
    put32(directory, e.crc);
    put32(directory, e.size);
    put32(directory, e.size);
    put16(directory, static_cast<uint32_t>(e.name.size()));
    directory.append(12, '\0');  // extra, comment, disk, internal and external attributes
    put32(directory, e.offset);
    directory += e.name;
  }
  const auto count = static_cast<uint32_t>(entries_.size());
  const auto bytes = static_cast<uint32_t>(directory.size());
  put32(directory, kEnd);
  put32(directory, 0);
  put16(directory, count);
  put16(directory, count);
  put32(directory, bytes);
  put32(directory, static_cast<uint32_t>(start));
  put16(directory, 0);
  file_.write(directory);
}

}  // namespace dlk
