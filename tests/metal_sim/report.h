// What the simulator finds wrong: problems (counted, the program goes on) and fatal misuse (the
// process aborts, as Metal's debug layer or the Objective-C runtime would). Used by every part of
// the simulator; tests read the count and the texts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace metal_sim {

/// Counts a problem, prints "[metal-sim] text" and appends it to the file METAL_SIM_REPORT names.
[[gnu::format(printf, 1, 2)]] void problem(const char* format, ...);
/// Reports like `problem`, then aborts the process.
[[noreturn, gnu::format(printf, 1, 2)]] void fatal(const char* format, ...);

uint64_t problem_count();
/// The texts of the problems so far (the first 200).
std::vector<std::string> problem_texts();
/// Forgets the problems so far.
void clear_problems();

}  // namespace metal_sim
