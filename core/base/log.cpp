#include "core/base/log.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string_view>

namespace dlk {

void log_once(const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string> seen;
  const char* level = std::getenv("DLK_LOG");
  if (level != nullptr && std::string_view(level) == "0") return;
  const std::lock_guard lock(mutex);
  if (seen.insert(message).second) std::fprintf(stderr, "dlk: %s\n", message.c_str());
}

}  // namespace dlk
