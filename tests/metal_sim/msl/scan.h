// Looking at C-like text without parsing it: words, brackets, comments.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace metal_sim {

inline bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// The text with comments as spaces.
std::string blank_comments(const std::string& text);
/// Where `word` stands as a whole word at or after `from`; npos: nowhere.
size_t find_word(const std::string& text, std::string_view word, size_t from);
std::string_view word_at(const std::string& text, size_t at);
size_t skip_space(const std::string& text, size_t at);
/// The bracket that closes the one at `open`; npos: none.
size_t matching(const std::string& text, size_t open);
/// The ranges between the top-level commas of [begin, end).
std::vector<std::pair<size_t, size_t>> split_arguments(const std::string& text, size_t begin,
                                                       size_t end);
std::string trimmed(const std::string& text);
/// True where nothing but space stands between `at` and the start of the statement.
bool starts_statement(const std::string& text, size_t at);
/// float4, uint2, half3, ...
bool is_vector_type(std::string_view word);

}  // namespace metal_sim
