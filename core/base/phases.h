// Where the time of a start goes: how often and how long this process was in each named phase of
// making models ready, added over its threads. Read by benchmarks; a few dozen entries, always on.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

namespace dlk {

struct PhaseTime {
  uint64_t count = 0;
  double milliseconds = 0;  // threads that are in a phase together count each
};

/// Counts its own lifetime. `name` must outlive the process: a literal.
class Phase {
 public:
  explicit Phase(const char* name) : name_(name), begin_(std::chrono::steady_clock::now()) {}
  ~Phase();
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

 private:
  const char* name_;
  std::chrono::steady_clock::time_point begin_;
};

/// All phases so far. Phases may hold others: "plan" holds "plan/lower".
std::map<std::string, PhaseTime> phase_times();
void reset_phase_times();

}  // namespace dlk
