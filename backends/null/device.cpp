#include "backends/null/device.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "backends/null/buffer.h"
#include "backends/null/kernel.h"
#include "backends/null/queue.h"
#include "core/device/registry.h"

namespace dlk::null_backend {

std::shared_ptr<Buffer> NullDevice::allocate(uint64_t size_bytes, MemoryKind) {
  return std::make_shared<NullBuffer>(size_bytes);
}

std::shared_ptr<Buffer> NullDevice::adopt(void* data, uint64_t size_bytes,
                                          std::shared_ptr<void> owner) {
  return std::make_shared<NullBuffer>(data, size_bytes, std::move(owner));
}

std::shared_ptr<Kernel> NullDevice::compile(KernelCode code) {
  return std::make_shared<NullKernel>(std::move(code));
}

std::shared_ptr<Recording> NullDevice::record(const CommandList& commands, bool profile) {
  return std::make_shared<NullRecording>(commands, profile);
}

std::unique_ptr<Queue> NullDevice::create_queue() { return std::make_unique<NullQueue>(); }

bool NullBackend::hidden() const {
  const char* enabled = std::getenv("DLK_ENABLE_NULL");
  return !enabled || std::string_view(enabled) != "1";
}

namespace {

[[noreturn]] void refuse(std::string_view profile) {
  throw Error(ErrorCode::kInvalidArgument,
              "DLK_NULL_PROFILE=" + std::string(profile) +
                  ": use nvidia, nvidia-opencl, apple or mali, or leave it out");
}

/// What plans depend on, as these devices report it.
void imitate(Caps& caps, std::string_view profile) {
  caps.is_cpu = false;
  caps.fp64 = caps.host_import = false;
  caps.vector_width = 4;
  caps.subgroup_arithmetic = caps.native_recordings = true;
  caps.max_push_bytes = 256;
  if (profile.starts_with("nvidia")) {  // an H200
    caps.unified_memory = false;
    caps.compute_units = 132, caps.subgroup_size = 32, caps.local_memory_bytes = 49152;
    caps.device_fences = true;
    caps.memory_bytes = uint64_t{140} << 30;
    const bool through_opencl = profile == "nvidia-opencl";  // tensor cores by PTX
    if (!through_opencl && profile != "nvidia") refuse(profile);
    (through_opencl ? caps.inline_ptx : caps.cooperative_matrix) = true;
    caps.cooperative_matrix_int8 = caps.cooperative_matrix_fp16_sums = caps.cooperative_matrix;
  } else if (profile == "apple") {
    caps.compute_units = 10, caps.subgroup_size = 32;
  } else if (profile == "mali") {
    caps.compute_units = 10, caps.subgroup_size = 16;
    caps.max_group_size = {384, 384, 384}, caps.max_group_invocations = 384;
    caps.max_push_bytes = 128;
    caps.device_fences = true;
  } else {
    refuse(profile);
  }
  caps.name += ", planned for as " + std::string(profile);
}

}  // namespace

std::vector<Caps> NullBackend::enumerate() {
  Caps caps;
  caps.id = "null:0";
  caps.backend = "null";
  caps.name = "null device (kernels do nothing)";
  caps.vendor = "dlk";
  caps.driver = "null " DLK_VERSION;
  caps.api_version = DLK_VERSION;
  caps.is_cpu = true;
  caps.unified_memory = true;
  caps.memory_bytes = uint64_t{1} << 32;
  caps.max_buffer_bytes = caps.max_binding_bytes = uint64_t{1} << 31;
  caps.max_bindings = 64;
  caps.max_group_size = {1024, 1024, 64};
  caps.max_group_invocations = 1024;
  caps.local_memory_bytes = 32768;
  caps.fp16_storage = caps.fp16_arithmetic = caps.fp64 = caps.int64 = true;
  caps.int8_storage = caps.int16_storage = true;
  caps.host_import = caps.timestamps = true;
  const char* profile = std::getenv("DLK_NULL_PROFILE");
  if (profile != nullptr && *profile != '\0') imitate(caps, profile);
  return {caps};
}

std::shared_ptr<Device> NullBackend::open(uint32_t index) {
  return std::make_shared<NullDevice>(enumerate().at(index));
}

}  // namespace dlk::null_backend

DLK_REGISTER_BACKEND(dlk::null_backend::NullBackend)
