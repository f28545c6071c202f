#include "core/device/polling.h"

#include <thread>

#include "core/base/processors.h"

namespace dlk {

namespace {

constexpr unsigned kMany = 4;  // processors, of which one may be busy with waiting

unsigned processors() {
  static const unsigned count = usable_processors();
  return count;
}

}  // namespace

bool may_poll() { return processors() > 1; }

void pause_poll() {
  if (processors() < kMany) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace dlk
