// OpenCL memory: a buffer object, and where the device shares fine-grained memory with the host,
// the host's address of it.
#pragma once

#include <memory>

#include "backends/opencl/loader.h"
#include "core/device/device.h"

namespace dlk::opencl {

/// What belongs to a device and is kept alive by all that was made from it.
struct Context {
  ~Context();
  const Api* cl = nullptr;
  cl_context context = nullptr;
  cl_device_id device = nullptr;
  cl_command_queue app_queue = nullptr;  // of a wrapped device: all work goes there
  bool fine_grain = false;               // clSVMAlloc gives memory that both sides may use unmapped
  bool fine_grain_system = false;        // any host memory is such memory
  Caps caps;
};

using Event = std::shared_ptr<_cl_event>;

/// Takes over one reference.
inline Event own_event(const std::shared_ptr<Context>& context, cl_event event) {
  return {event, [context](cl_event e) { context->cl->clReleaseEvent(e); }};
}

/// CL_COMPLETE or less when the event's command is done; negative when it failed.
inline cl_int status_of(const Context& context, cl_event event) {
  cl_int status = CL_COMPLETE;
  const cl_int code = context.cl->clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS,
                                                 sizeof status, &status, nullptr);
  return code == CL_SUCCESS ? status : code;
}

class OpenClBuffer : public Buffer {
 public:
  /// Throws OutOfMemory.
  OpenClBuffer(std::shared_ptr<Context> context, uint64_t size_bytes, MemoryKind kind);
  /// Adopts host memory; Unsupported where it is not aligned as the device wants it.
  OpenClBuffer(std::shared_ptr<Context> context, void* data, uint64_t size_bytes,
               std::shared_ptr<void> owner);
  /// An application's buffer object, retained.
  OpenClBuffer(std::shared_ptr<Context> context, cl_mem memory, uint64_t size_bytes);
  ~OpenClBuffer() override;
  void* host_pointer() noexcept override { return host_; }
  cl_mem memory() const noexcept { return memory_; }
  /// Unique in the process, from 1: tells a buffer from a later one at the same address.
  uint64_t number() const noexcept { return number_; }

 private:
  static uint64_t next_number();

  std::shared_ptr<Context> context_;
  std::shared_ptr<void> owner_;
  uint64_t number_ = next_number();
  void* shared_ = nullptr;  // from clSVMAlloc
  void* host_ = nullptr;
  cl_mem memory_ = nullptr;
};

inline cl_mem memory_of(const View& view) {
  return static_cast<const OpenClBuffer&>(*view.buffer).memory();
}

}  // namespace dlk::opencl
