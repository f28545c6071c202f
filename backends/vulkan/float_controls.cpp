#include "backends/vulkan/float_controls.h"

#include <cstring>
#include <string_view>

namespace dlk::vulkan {
namespace {

constexpr size_t kHeaderWords = 5;
constexpr uint32_t kOpExtension = 10, kOpEntryPoint = 15, kOpExecutionMode = 16, kOpCapability = 17;
constexpr uint32_t kSignedZeroInfNanPreserve = 4461;            // the execution mode
constexpr uint32_t kCapabilitySignedZeroInfNanPreserve = 4466;  // what it needs
constexpr std::string_view kExtension = "SPV_KHR_float_controls";

uint32_t opcode(uint32_t word) { return word & 0xffff; }
uint32_t header(uint32_t length, uint32_t op) { return length << 16 | op; }

void append_extension(std::vector<uint32_t>& out) {
  const size_t text_words = kExtension.size() / 4 + 1;
  out.push_back(header(static_cast<uint32_t>(text_words + 1), kOpExtension));
  const size_t at = out.size();
  out.resize(at + text_words, 0);
  std::memcpy(out.data() + at, kExtension.data(), kExtension.size());
}

}  // namespace

std::vector<uint32_t> with_nan_preserved(const std::vector<uint32_t>& words) {
  std::vector<uint32_t> out(words.begin(), words.begin() + kHeaderWords);
  std::vector<uint32_t> entry_points;
  bool has_extension = false, has_modes = false;
  for (size_t at = kHeaderWords; at < words.size(); at += words[at] >> 16) {
    const uint32_t op = opcode(words[at]);
    // The sections of a module: capabilities, extensions, ..., entry points, execution modes, ...
    if (!has_extension && op != kOpCapability) {
      out.insert(out.end(), {header(2, kOpCapability), kCapabilitySignedZeroInfNanPreserve});
      append_extension(out);
      has_extension = true;
    }
    if (op == kOpEntryPoint) entry_points.push_back(words[at + 2]);
    if (!has_modes && !entry_points.empty() && op != kOpEntryPoint) {
      for (const uint32_t entry : entry_points) {
        out.insert(out.end(), {header(4, kOpExecutionMode), entry, kSignedZeroInfNanPreserve, 32});
      }
      has_modes = true;
    }
    out.insert(out.end(), words.begin() + static_cast<std::ptrdiff_t>(at),
               words.begin() + static_cast<std::ptrdiff_t>(at + (words[at] >> 16)));
  }
  return out;
}

}  // namespace dlk::vulkan
