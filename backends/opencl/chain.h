// Runs of dispatches as one, for CPU drivers that run one work-item to a group (PoCL): such a
// driver wakes its threads for every dispatch, which takes as long as a small convolution. A chain
// is one kernel with the code of all: its groups, one for each thread, walk the dispatches in
// order, take the groups of one from a counter, and wait by reading memory where a barrier is. No
// group needs another to run beside it: what it waits for has been taken by one that runs already,
// and it leaves when that takes long. Recordings use it for what they run often, since a chain
// compiles for seconds.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/opencl/buffer.h"
#include "core/device/device.h"

namespace dlk::opencl {

class Chain {
 public:
  /// How many commands from the first on can be one chain; 0 where it does not pay.
  static size_t reach(const Context& context, std::span<const Command> commands);

  /// Compiles it; CompileFailed with the driver's log. The commands' buffers must stay alive.
  Chain(std::shared_ptr<Context> context, std::span<const Command> commands, size_t slots);

  void bind(std::span<const View> slots);
  /// On one queue at a time: runs share counters.
  void enqueue(cl_command_queue queue, cl_event* event) const;

 private:
  std::shared_ptr<OpenClBuffer> filled(std::span<const std::byte> bytes) const;
  void build(const std::string& text, const std::string& options);
  std::string build_log() const;
  /// Tells the driver of memory that the table names.
  void announce(std::span<const Command> commands) const;
  void set(cl_uint argument, size_t size, const void* value) const;

  std::shared_ptr<Context> context_;
  std::shared_ptr<OpenClBuffer> table_, state_;
  std::shared_ptr<_cl_program> program_;
  std::shared_ptr<_cl_kernel> kernel_;
};

/// The chains of a recording. Not safe from several threads.
class Chains {
 public:
  /// Counts a run, and makes the chains when it is the one that DLK_CHAIN names (32; 0: never).
  /// True then: slots are to be bound again.
  bool count_run(const std::shared_ptr<Context>& context, cl_command_queue queue,
                 std::span<const Command> commands, size_t slots);
  void bind(std::span<const View> slots);
  /// How many commands from `index` on are a chain that this queue may run; 0: none.
  size_t length(size_t index, cl_command_queue queue) const;
  void enqueue(size_t index, cl_command_queue queue, cl_event* event) const;

 private:
  struct Part {
    size_t length;
    std::unique_ptr<Chain> chain;
  };
  std::map<size_t, Part> parts_;  // by the first command
  cl_command_queue queue_ = nullptr;
  size_t runs_ = 0;
};

}  // namespace dlk::opencl
