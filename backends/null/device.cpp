#include "backends/null/device.h"

#include <cstdlib>
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
  return {caps};
}

std::shared_ptr<Device> NullBackend::open(uint32_t index) {
  return std::make_shared<NullDevice>(enumerate().at(index));
}

}  // namespace dlk::null_backend

DLK_REGISTER_BACKEND(dlk::null_backend::NullBackend)
