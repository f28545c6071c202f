#include "core/train/tensor_lists.h"

#include <algorithm>

namespace dlk {

namespace {

std::string numbered(std::string text, size_t number) {
  const std::string digits = std::to_string(number);
  for (size_t at = text.find('@'); at != std::string::npos; at = text.find('@', at + 1)) {
    text.replace(at, 1, digits);
  }
  return text;
}

}  // namespace

std::vector<ListPart> list_parts(const Caps& caps, const Shape& sizes,
                                 const std::vector<int>& kinds, size_t bindings, size_t shared) {
  // More would make long kernels, whose compilation costs more than their dispatches save.
  constexpr size_t kMostTensors = 8;
  const size_t room = caps.max_bindings > shared ? caps.max_bindings - shared : 0;
  const size_t most = std::clamp<size_t>(room / bindings, 1, kMostTensors);
  std::vector<ListPart> parts;
  for (size_t first = 0; first < sizes.size();) {
    ListPart part;
    part.first = first;
    Shape own, ends;
    while (part.count < most && first < sizes.size() && kinds[first] == kinds[part.first]) {
      part.groups += ceil_div(sizes[first], kListItems * kListElements);
      own.push_back(sizes[first]);
      ends.push_back(part.groups);
      ++part.count;
      ++first;
    }
    part.params = {{"sizes", own}, {"ends", ends}};
    parts.push_back(std::move(part));
  }
  return parts;
}

std::string list_kernel(const std::string& header, const std::string& buffers, size_t count,
                        const std::string& before, const std::string& body,
                        const std::string& after) {
  const std::string items = std::to_string(kListItems), each = std::to_string(kListElements);
  const std::string n = std::to_string(count);
  std::string text = header + "const WG = " + items + ", EACH = " + each + "\n";
  for (size_t t = 0; t < count; ++t) text += numbered(buffers, t);
  text += "param sizes[" + n + "], ends[" + n + "] : uint\n";
  text += "group WG\n{\n  if (WL < ends[" + std::to_string(count - 1) + "]) {\n" + before;
  for (size_t t = 0; t < count; ++t) {
    const std::string begin = t == 0 ? "0u" : "ends[" + std::to_string(t - 1) + "]";
    text += "    if (WL >= " + begin + " && WL < ends[" + std::to_string(t) + "]) {\n";
    text += "      uint first = (WL - " + begin + ") * uint(WG * EACH);\n";
    text += "      uint stop = min(first + uint(WG * EACH), sizes[" + std::to_string(t) + "]);\n";
    text += "      for (uint i = first + LX; i < stop; i += uint(WG)) {\n" + numbered(body, t) +
            "      }\n    }\n";
  }
  return text + after + "  }\n}\n";
}

}  // namespace dlk
