#include "tests/metal_sim/msl/scan.h"

#include "tests/metal_sim/msl/translate.h"

namespace metal_sim {

namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Calls visit(begin, end) for each line of the text, without its newline.
template <class Visit>
void each_line(const std::string& text, Visit visit) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    visit(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

/// The directive's name and the rest of the line; empty where the line is none.
std::pair<std::string, std::string> directive(const std::string& line) {
  size_t at = skip_space(line, 0);
  if (at >= line.size() || line[at] != '#') return {};
  at = skip_space(line, at + 1);
  const std::string name(word_at(line, at));
  return {name, trimmed(line.substr(at + name.size()))};
}

bool is_metal_include(const std::string& line) {
  const auto [name, rest] = directive(line);
  if (name == "pragma") return rest.rfind("METAL", 0) == 0;
  return name == "include" && (rest.rfind("<metal_", 0) == 0 || rest.rfind("<simd/", 0) == 0);
}

}  // namespace

std::string blank_comments(const std::string& text) {
  std::string out = text;
  for (size_t at = 0; at + 1 < out.size(); ++at) {
    if (out[at] == '"') {
      at = std::min(out.find('"', at + 1), out.size());
    } else if (out[at] == '/' && (out[at + 1] == '/' || out[at + 1] == '*')) {
      const bool is_line = out[at + 1] == '/';
      size_t end = out.find(is_line ? "\n" : "*/", at + 2);
      end = end == std::string::npos ? out.size() : end + (is_line ? 0 : 2);
      for (; at < end; ++at) {
        if (out[at] != '\n') out[at] = ' ';
      }
    }
  }
  return out;
}

size_t find_word(const std::string& text, std::string_view word, size_t from) {
  for (size_t at = from; (at = text.find(word, at)) != std::string::npos; ++at) {
    const bool starts = at == 0 || !is_word(text[at - 1]);
    const bool ends = at + word.size() >= text.size() || !is_word(text[at + word.size()]);
    if (starts && ends) return at;
  }
  return std::string::npos;
}

std::string_view word_at(const std::string& text, size_t at) {
  size_t end = at;
  while (end < text.size() && is_word(text[end])) ++end;
  return std::string_view(text).substr(std::min(at, text.size()), end - at);
}

size_t skip_space(const std::string& text, size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

size_t matching(const std::string& text, size_t open) {
  const char opening = text[open];
  const char closing = opening == '(' ? ')' : opening == '{' ? '}' : ']';
  int depth = 0;
  for (size_t at = open; at < text.size(); ++at) {
    depth += text[at] == opening;
    depth -= text[at] == closing;
    if (depth == 0) return at;
  }
  return std::string::npos;
}

std::vector<std::pair<size_t, size_t>> split_arguments(const std::string& text, size_t begin,
                                                       size_t end) {
  std::vector<std::pair<size_t, size_t>> parts;
  int depth = 0;
  size_t start = begin;
  for (size_t at = begin; at < end; ++at) {
    const char c = text[at];
    depth += c == '(' || c == '[' || c == '<';
    depth -= c == ')' || c == ']' || c == '>';
    if (c != ',' || depth != 0) continue;
    parts.emplace_back(start, at);
    start = at + 1;
  }
  if (!trimmed(text.substr(start, end - start)).empty()) parts.emplace_back(start, end);
  return parts;
}

std::string trimmed(const std::string& text) {
  size_t begin = 0, end = text.size();
  while (begin < end && is_space(text[begin])) ++begin;
  while (end > begin && is_space(text[end - 1])) --end;
  return text.substr(begin, end - begin);
}

bool starts_statement(const std::string& text, size_t at) {
  while (at > 0 && is_space(text[at - 1])) --at;
  return at == 0 || text[at - 1] == ';' || text[at - 1] == '{' || text[at - 1] == '}';
}

bool is_vector_type(std::string_view word) {
  if (word.size() < 4 || word.back() < '2' || word.back() > '4') return false;
  const std::string_view scalar = word.substr(0, word.size() - 1);
  for (const std::string_view name : {"float", "half", "int", "uint", "short", "ushort", "char",
                                      "uchar", "long", "ulong", "bool"}) {
    if (scalar == name) return true;
  }
  return false;
}

bool needs_preprocessor(const std::string& text) {
  bool needs = false;
  each_line(text, [&](const std::string& line) {
    const std::string name = directive(line).first;
    needs |= !name.empty() && name != "pragma" && !is_metal_include(line);
  });
  return needs;
}

std::string without_metal_includes(const std::string& text) {
  std::string out;
  each_line(text, [&](const std::string& line) {
    if (!is_metal_include(line)) out += line;
    out += '\n';
  });
  return out;
}

}  // namespace metal_sim
