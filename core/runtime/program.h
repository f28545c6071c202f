// A lowered program with its memory placed and its kernels compiled: what turns into command lists.
// The model's plans and the preparations of weights are programs. Internal to the engine.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/device/device.h"
#include "core/graph/lowered.h"
#include "core/kernel/library.h"

namespace dlk {

using Progress = std::function<void(const std::string& stage, size_t done, size_t total)>;

struct Program {
  Lowered lowered;
  MemoryPlan memory;
  std::vector<std::shared_ptr<Kernel>> kernels;  // one a command; null for copies
  size_t pipelines = 0;                          // distinct kernels
};

/// Places the arena (with guards: see plan_memory) and compiles the kernels in parallel, together
/// with those of the preparations, which find them in the library afterwards.
Program compile_program(Lowered lowered, const Caps& caps, KernelLibrary& library,
                        const Progress& progress = {}, bool guards = false,
                        const std::vector<Preparation>& preparations = {});

/// Where a storage's bytes are when the commands run: fixed memory, or a slot.
using StoragePlace = std::function<Operand(const Storage&)>;

/// Adds the program's commands to `list`, with `kernels` (one a command) in the place of its own
/// where they are given.
void add_commands(CommandList& list, const Program& program, const StoragePlace& place,
                  std::span<const std::shared_ptr<Kernel>> kernels = {});

/// Buffers for the program's arena.
std::vector<std::shared_ptr<Buffer>> allocate_chunks(Device& device, const MemoryPlan& memory);

/// The view of an arena storage in `chunks`.
View arena_view(const Storage& storage, const std::vector<std::shared_ptr<Buffer>>& chunks);

}  // namespace dlk
