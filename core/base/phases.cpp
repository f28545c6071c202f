#include "core/base/phases.h"

#include <mutex>

namespace dlk {

namespace {

struct Times {
  std::mutex mutex;
  std::map<std::string, PhaseTime> of;
};

// Never destroyed: threads may end after main.
Times& times() {
  static Times* all = new Times;
  return *all;
}

}  // namespace

Phase::~Phase() {
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - begin_;
  Times& all = times();
  const std::lock_guard lock(all.mutex);
  PhaseTime& time = all.of[name_];
  ++time.count;
  time.milliseconds += spent.count();
}

std::map<std::string, PhaseTime> phase_times() {
  Times& all = times();
  const std::lock_guard lock(all.mutex);
  return all.of;
}

void reset_phase_times() {
  Times& all = times();
  const std::lock_guard lock(all.mutex);
  all.of.clear();
}

}  // namespace dlk
