// Waiting for a device without going to sleep: a thread that a driver has put to sleep wakes some
// tens of microseconds after the device is done, as long as a small network takes. For devices with
// processors of their own only: on a CPU driver, who polls takes a core from the work.
#pragma once

#include <chrono>

namespace dlk {

/// How long a poll goes on: longer work is slept for, and loses nothing that counts by it.
inline constexpr std::chrono::microseconds kPollTime{2000};

/// False on a single processor, which others need meanwhile.
bool may_poll();
/// Between two looks: lets the processor rest, or others run where there are few.
void pause_poll();

/// Asks `done` for as long as kPollTime; true once it says so, false where it is time to sleep.
template <typename Done>
bool poll(Done&& done) {
  if (done()) return true;
  if (!may_poll()) return false;
  const auto end = std::chrono::steady_clock::now() + kPollTime;
  while (std::chrono::steady_clock::now() < end) {
    if (done()) return true;
    pause_poll();
  }
  return false;
}

}  // namespace dlk
