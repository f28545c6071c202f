// What a graph becomes before it is placed and recorded: storages, and commands over byte ranges of
// them. Layout makes the storages, lowering the commands, the memory planner the places.
// Internal to the engine.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/concrete.h"
#include "core/kernel/dialect.h"

namespace dlk {

enum class StorageKind : uint8_t {
  kArena,     // activations and workspaces, placed by the memory planner
  kInput,     // slot `index`: a graph input
  kOutput,    // slot `index`: a graph output
  kWeight,    // named by `key`, made once a model
  kVariable,  // named by `key`, one a model
  kCounters,  // zeros between commands: kernels leave them so
};

struct Storage {
  StorageKind kind = StorageKind::kArena;
  uint64_t size_bytes = 0;
  uint32_t index = 0;
  std::string key;
  std::string name;                // for messages
  std::optional<HostTensor> data;  // of weights that come from the host, as stored
  DType dtype = DType::kFloat32;   // of weights: what `data` is stored as
  // Arena storages and counters, from the memory plan.
  int32_t first_command = -1, last_command = -1;
  uint32_t chunk = 0;
  uint64_t offset_bytes = 0;
};

struct PlannedOperand {
  int32_t storage = -1;
  uint64_t offset_bytes = 0, size_bytes = 0;
  Access access = Access::kRead;
  Stripes stripes = {};
};

struct PlannedCommand {
  bool is_copy = false;  // operands: source, destination; no kernel
  KernelRequest request;
  std::vector<PlannedOperand> operands;
  std::vector<std::byte> params;
  std::array<uint32_t, 3> groups{1, 1, 1};
  NodeId node = kNoNode;
  std::string label, op;
  int32_t stretch = -1;  // commands with one number overlap: their storages share no memory
};

/// A small program that makes weights once: a packed form, or a folded part of the graph. Its
/// storages of kind kOutput become the weights named by their keys.
struct Preparation;

struct Lowered {
  std::vector<Storage> storages;
  std::vector<PlannedCommand> commands;
  std::vector<Preparation> preparations;  // in order
};

struct Preparation {
  Lowered program;
  std::vector<std::string> keys;  // what it makes
};

struct LayoutOptions {
  bool alias = true;
  bool channels_last = true;
};

/// Where values live: a view for each (storage -1 for values that nothing needs).
struct Layout {
  std::vector<Storage> storages;
  std::vector<TensorView> views;
  std::vector<bool> in_place_of_kernel;  // per node: its outputs are views, nothing to run
};

Layout assign_layout(const ConcreteGraph& graph, const LayoutOptions& options);

class KernelLibrary;

struct LowerOptions {
  const Caps* caps = nullptr;
  KernelLibrary* library = nullptr;
  bool accumulate_fp16 = false;
  bool counters = false;  // who runs the commands has memory for counters
  MatrixUnits* matrix_units = nullptr;
  std::function<bool(const std::string& key)> has_weight;  // made by an earlier plan
};

/// Calls every node's `lower`; ends with the copies to outputs and variables.
Lowered lower_graph(const ConcreteGraph& graph, Layout layout, const LowerOptions& options);

/// Puts commands that do not wait for each other side by side, so that few barriers are left and
/// the branches of a network overlap. For GPUs and programs that write no variable: others stay as
/// they are, and so do commands that fill the device alone, and a program that would need a quarter
/// more memory.
void overlap_commands(Lowered& lowered, const Caps& caps);

struct MemoryPlan {
  std::vector<uint64_t> chunk_bytes;
  uint64_t counter_bytes = 0;
  uint64_t peak_live_bytes = 0;
  uint64_t arena_bytes() const;
};

/// What a plan with guards leaves free before and after each storage, and what one then takes.
inline constexpr uint64_t kGuardBytes = 256;
uint64_t guarded_bytes(uint64_t size_bytes);

/// Bytes of the arena storages that live together, at most. Sets their lifetimes.
uint64_t peak_live_bytes(Lowered& lowered);

/// Lifetimes of the arena storages from the commands, and their places. Chunks respect
/// `max_chunk_bytes`; OutOfMemory names the storage that does not fit. With `guards` nothing shares
/// memory, whatever its lifetime.
MemoryPlan plan_memory(Lowered& lowered, uint64_t max_chunk_bytes, bool guards = false);

}  // namespace dlk
