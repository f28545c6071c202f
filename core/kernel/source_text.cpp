#include "core/kernel/source_text.h"

#include <algorithm>

#include "core/base/error.h"

namespace dlk::dialect {

void fail_at(const SourceText& source, uint32_t at, const std::string& message) {
  constexpr size_t kLongestQuote = 200;
  const std::string& text = source.text;
  const size_t end = std::min<size_t>(at, text.size());
  const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), '\n');
  const size_t previous = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
  const size_t first = previous == std::string::npos ? 0 : previous + 1;
  const size_t last = std::min(text.find('\n', end), text.size());
  const size_t column = end - first;
  std::string quoted = text.substr(first, std::min(last - first, kLongestQuote));
  // Keeps tabs, so that the caret stands right whatever a tab's width is.
  std::string caret;
  for (size_t i = 0; i < std::min(column, quoted.size()); ++i)
    caret += quoted[i] == '\t' ? '\t' : ' ';
  std::replace_if(
      quoted.begin(), quoted.end(),
      [](char c) { return static_cast<unsigned char>(c) < 32 && c != '\t'; }, '?');
  throw Error(ErrorCode::kCompileFailed, source.name + ":" + std::to_string(line + 1) + ":" +
                                             std::to_string(column + 1) + ": " + message + "\n" +
                                             quoted + "\n" + caret + "^");
}

}  // namespace dlk::dialect
