// A compiled Metal library: MSL text translated to C++, built by clang into a shared object with
// instrumented memory accesses, and loaded. Shared objects are cached on disk by content.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace metal_sim {

/// The built-in values of one thread, as the kernels' wrappers read them.
struct ThreadPlace {
  uint32_t position_in_grid[3], position_in_group[3], group_in_grid[3], group_size[3], groups[3],
      grid_size[3];
  uint32_t index_in_group, lane, simdgroup, simdgroups, simd_width;
};

enum ArgumentKind : int32_t { kBufferArgument, kThreadgroupArgument, kPlaceArgument };

/// One parameter of a kernel, as the generated wrapper describes it.
struct KernelArgument {
  const char* name;  // nullptr ends the list
  int32_t kind, index;
  uint32_t bytes, alignment;  // of what it points to
  int32_t is_reference, is_const;
};

struct KernelEntry {
  std::string name;
  void (*run)(void** arguments, const ThreadPlace* place) = nullptr;
  const KernelArgument* arguments = nullptr;
  std::vector<uint32_t> threadgroup_arrays;  // bytes of each, in order
  bool has_barriers = false;                 // or simdgroup functions: threads must be fibers
  uint32_t threadgroup_bytes() const;
};

class Module {
 public:
  Module() = default;
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  void* handle = nullptr;
  std::string key;  // of the content
  std::vector<KernelEntry> kernels;
  bool uses_matrix = false;
  const char* begin = nullptr;  // the loaded image: program-scope constants are read from it
  const char* end = nullptr;
};

struct CompileResult {
  std::shared_ptr<Module> module;  // or
  std::string log;
};

/// Compiles MSL text; `language_version` as MTLLanguageVersion (major << 16 | minor).
CompileResult compile_msl(const std::string& text, unsigned long language_version);

/// Only looks whether Metal's compiler would take the text: the log of what it refuses, or "".
std::string check_msl(const std::string& text, unsigned long language_version);

}  // namespace metal_sim
