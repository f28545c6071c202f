#include "core/kernel/cubin_local.h"

#include <charconv>
#include <cstring>
#include <string_view>

#include "core/base/error.h"
#include "core/device/device.h"

namespace dlk {

namespace {

constexpr uint64_t kCompiledBytes = 32 << 10;

// Of the ELF format, 64 bits, little endian: https://refspecs.linuxfoundation.org/elf/elf.pdf
constexpr size_t kProgramHeaders = 32, kSectionHeaders = 40, kProgramHeaderCount = 56,
                 kSectionCount = 60, kNamesIndex = 62;
constexpr size_t kSectionBytes = 64, kSectionOffset = 24, kSectionSize = 32;
constexpr size_t kProgramBytes = 56, kFileSize = 32, kMemorySize = 40;
constexpr uint32_t kNoBits = 8;

[[noreturn]] void refuse() {
  throw Error(ErrorCode::kCompileFailed,
              "machine code of a kernel with more than 48 KB of local memory is not as expected");
}

template <typename T>
T number_at(const std::string& bytes, uint64_t at) {
  if (at > bytes.size() || sizeof(T) > bytes.size() - at) refuse();
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace

uint64_t shrink_local(std::string& ptx) {
  constexpr std::string_view kShared = "\t.shared .align ";
  const size_t begin = ptx.find(kShared);
  if (begin == std::string::npos || ptx.find(kShared, begin + 1) != std::string::npos) return 0;
  const size_t end = ptx.find(';', begin), open = ptx.rfind('[', end);
  if (end == std::string::npos || open == std::string::npos || open < begin) return 0;
  uint64_t size = 0;
  const char* last = ptx.data() + end - 1;
  const auto parsed = std::from_chars(ptx.data() + open + 1, last, size);
  if (parsed.ec != std::errc() || parsed.ptr != last || *last != ']') return 0;
  if (size <= kMostStaticLocalBytes ||
      ptx.substr(begin, open - begin).find(".b8 ") == std::string::npos) {
    return 0;
  }
  ptx.replace(open + 1, end - 1 - (open + 1), std::to_string(kCompiledBytes));
  return size - kCompiledBytes;
}

void grow_local(std::string& cubin, uint64_t bytes) {
  if (bytes == 0) return;
  if (!cubin.starts_with("\177ELF\2\1")) refuse();
  const auto sections = number_at<uint64_t>(cubin, kSectionHeaders);
  const auto names = number_at<uint64_t>(
      cubin, sections + number_at<uint16_t>(cubin, kNamesIndex) * kSectionBytes + kSectionOffset);
  uint64_t found = 0, size = 0;
  for (uint64_t i = 0; i < number_at<uint16_t>(cubin, kSectionCount); ++i) {
    const uint64_t at = sections + i * kSectionBytes;
    const uint64_t name = names + number_at<uint32_t>(cubin, at);
    if (name >= cubin.size()) refuse();
    const std::string_view text(cubin.c_str() + name);
    const auto its_size = number_at<uint64_t>(cubin, at + kSectionSize);
    if (!text.starts_with(".nv.shared.") || number_at<uint32_t>(cubin, at + 4) != kNoBits) continue;
    if (its_size < kCompiledBytes) continue;  // what the system reserves
    if (found != 0) refuse();
    found = at + kSectionSize;
    size = its_size;
  }
  if (found == 0) refuse();
  const uint64_t grown = size + bytes;
  std::memcpy(cubin.data() + found, &grown, sizeof grown);
  const auto segments = number_at<uint64_t>(cubin, kProgramHeaders);
  for (uint64_t i = 0; i < number_at<uint16_t>(cubin, kProgramHeaderCount); ++i) {
    const uint64_t at = segments + i * kProgramBytes;
    if (number_at<uint64_t>(cubin, at + kFileSize) != 0) continue;
    if (number_at<uint64_t>(cubin, at + kMemorySize) != size) continue;
    std::memcpy(cubin.data() + at + kMemorySize, &grown, sizeof grown);
  }
}

}  // namespace dlk
