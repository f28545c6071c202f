// What belongs to one Metal device and is kept alive by all that was made from it: the MTLDevice,
// its capabilities, small kernels for copies and fills, heaps, the archive of compiled pipelines.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>

#include "backends/metal/metal.h"
#include "core/device/device.h"

namespace dlk::metal {

class HeapPool;
class Archive;

/// Copies and fills inside of a recording are dispatches, so that one encoder holds a whole
/// recording and one rule says where its barriers stand.
enum class Utility : uint8_t { kFillWords, kCopyWords, kCopyBytes };

class Context {
 public:
  /// `app_queue`: of a wrapped device, all work goes there; else nullptr.
  Context(MTL::Device* device, Caps caps, MTL::CommandQueue* app_queue);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Caps& caps() const noexcept { return caps_; }
  MTL::Device* device() const noexcept { return device_.get(); }
  MTL::CommandQueue* app_queue() const noexcept { return app_queue_.get(); }
  /// Of MemoryKind::kDevice: shared where memory is unified, else private (DLK_METAL_STORAGE).
  MTL::StorageMode device_storage() const noexcept { return device_storage_; }
  /// Dispatches between two barriers may overlap (DLK_METAL_CONCURRENT=0: never).
  bool concurrent() const noexcept { return concurrent_; }
  HeapPool& heaps() noexcept { return *heaps_; }
  Archive& archive() noexcept { return *archive_; }

  /// The library of a source text; CompileFailed with the compiler's log. `label` names it there.
  Ref<MTL::Library> library(const std::string& source, const std::string& label);
  /// The pipeline of a library's function, from the archive where it is there.
  Ref<MTL::ComputePipelineState> pipeline(MTL::Library* library, const std::string& function,
                                          uint64_t threads);
  /// Built by the first use.
  MTL::ComputePipelineState* utility(Utility which);

 private:
  Ref<MTL::Device> device_;
  Caps caps_;
  Ref<MTL::CommandQueue> app_queue_;
  MTL::StorageMode device_storage_;
  bool concurrent_;
  std::mutex mutex_;  // of the utilities
  std::array<Ref<MTL::ComputePipelineState>, 3> utilities_;
  std::unique_ptr<HeapPool> heaps_;
  std::unique_ptr<Archive> archive_;
};

/// Number of threads in a group of the utilities, and of words or bytes that each handles.
inline constexpr uint32_t kUtilityThreads = 256, kUtilityItems = 16;

/// Compiles `source` with safe math and the newest language that the system has; nullptr with the
/// log in `error`.
Ref<MTL::Library> compile_library(MTL::Device* device, const std::string& source,
                                  NS::Error** error);
/// "3.1": what compile_library uses.
std::string language_version_text();
/// True for "1", false for "0", else `otherwise`.
bool environment_flag(const char* name, bool otherwise);

}  // namespace dlk::metal
