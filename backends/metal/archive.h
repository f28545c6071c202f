// Compiled pipelines kept on disk in an MTLBinaryArchive, one file for each device and system. A
// miss, a damaged or a read-only file costs time, never a result.
#pragma once

#include <mutex>
#include <string>

#include "backends/metal/metal.h"
#include "core/device/device.h"

namespace dlk::metal {

class Archive {
 public:
  /// Off with DLK_CACHE=0 and DLK_METAL_ARCHIVE=0. `caps` name the file.
  Archive(MTL::Device* device, const Caps& caps);
  /// Writes what was added.
  ~Archive();
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  /// The function's pipeline: from the archive, or built and added to it. Null with the reason in
  /// `error`. Its groups may have `threads` threads; 0: whatever its registers leave. Thread-safe.
  Ref<MTL::ComputePipelineState> pipeline(MTL::Function* function, const std::string& label,
                                          uint64_t threads, NS::Error** error);
  uint64_t hits() const noexcept { return hits_; }

 private:
  void open();
  void save();

  MTL::Device* device_;
  std::string path_;
  Ref<MTL::BinaryArchive> archive_;
  std::mutex mutex_;  // of what follows
  uint64_t hits_ = 0;
  uint64_t added_ = 0;
};

}  // namespace dlk::metal
