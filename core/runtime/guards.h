// Guard words, for models compiled with CompileOptions::guards: every storage that kernels write
// stands alone between two strips of a known pattern, which a run must leave as they were. What is
// not yet written reads as NaN. Used by sessions; a way to find kernels that write (or read) where
// they should not, on devices that do not check. Internal to the engine.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/graph/tensor.h"
#include "core/runtime/program.h"

namespace dlk {

/// `bytes` bytes of a pattern that is NaN as float64, float32, float16 and bfloat16.
std::vector<std::byte> guard_pattern(uint64_t bytes);

/// As `guard_pattern`, with `data` behind the first strip: an input between its guards.
std::vector<std::byte> guarded(std::span<const std::byte> data);

/// Throws DeviceLost where the strips around an output of `size_bytes` bytes were written; `buffer`
/// is all of its buffer.
void check_output_guards(const Program& program, uint32_t output, const std::string& name,
                         uint64_t size_bytes, std::span<const std::byte> buffer);

/// The same for the storages of chunk `chunk` of the arena.
void check_arena_guards(const Program& program, uint32_t chunk, std::span<const std::byte> buffer);

}  // namespace dlk
