#include "core/base/strings.h"

#include <deque>
#include <mutex>
#include <unordered_map>

#include "core/base/error.h"

namespace dlk {

namespace {

struct Pool {
  std::mutex mutex;
  std::deque<std::string> texts{std::string()};  // 0 is the empty text: zeroed memory is valid
  std::unordered_map<std::string_view, uint64_t> numbers{{texts[0], 0}};
};

Pool& pool() {
  static Pool* one = new Pool;  // texts outlive every static object
  return *one;
}

}  // namespace

uint64_t intern(std::string_view text) {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  if (const auto found = p.numbers.find(text); found != p.numbers.end()) return found->second;
  const uint64_t number = p.texts.size();
  p.texts.emplace_back(text);
  p.numbers.emplace(p.texts.back(), number);
  return number;
}

const std::string& interned(uint64_t number) {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  if (number >= p.texts.size()) throw_invalid("a tensor of strings holds what is no string");
  return p.texts[number];
}

}  // namespace dlk
