#include "backends/opencl/buffer.h"

#include <atomic>

namespace dlk::opencl {

namespace {

// Vectors of 16 floats are the widest that kernels load. GPUs that share memory with the host use
// whole pages of it in place and copy the rest behind the caller's back.
constexpr uint64_t kCpuAlignment = 64;
constexpr uint64_t kGpuAlignment = 4096;

[[noreturn]] void throw_out_of_memory(const Context& context, uint64_t size_bytes,
                                      const std::string& detail) {
  throw Error(ErrorCode::kOutOfMemory,
              "cannot allocate " + std::to_string(size_bytes) + " bytes on " + context.caps.id +
                  " (" + context.caps.name + ", one buffer has at most " +
                  std::to_string(context.caps.max_buffer_bytes) + "): " + detail);
}

}  // namespace

Context::~Context() {
  if (app_queue) cl->clReleaseCommandQueue(app_queue);
  if (context) cl->clReleaseContext(context);
}

uint64_t OpenClBuffer::next_number() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

OpenClBuffer::OpenClBuffer(std::shared_ptr<Context> context, uint64_t size_bytes, MemoryKind kind)
    : Buffer(size_bytes), context_(std::move(context)) {
  // Some drivers accept any size and fail when the buffer is first used.
  if (size_bytes > context_->caps.max_buffer_bytes) {
    throw_out_of_memory(*context_, size_bytes, "beyond that limit");
  }
  cl_mem_flags flags = CL_MEM_READ_WRITE;
  if (context_->fine_grain) {
    shared_ = context_->cl->clSVMAlloc(
        context_->context, CL_MEM_READ_WRITE | CL_MEM_SVM_FINE_GRAIN_BUFFER, size_bytes, 0);
    if (!shared_) throw_out_of_memory(*context_, size_bytes, "clSVMAlloc failed");
    flags |= CL_MEM_USE_HOST_PTR;
  } else if (kind == MemoryKind::kUpload || kind == MemoryKind::kReadback) {
    flags |= CL_MEM_ALLOC_HOST_PTR;
  }
  cl_int code = CL_SUCCESS;
  memory_ = context_->cl->clCreateBuffer(context_->context, flags, size_bytes, shared_, &code);
  if (code != CL_SUCCESS) {
    if (shared_) context_->cl->clSVMFree(context_->context, shared_);
    throw_out_of_memory(*context_, size_bytes, error_text(code));
  }
  host_ = shared_;
}

OpenClBuffer::OpenClBuffer(std::shared_ptr<Context> context, void* data, uint64_t size_bytes,
                           std::shared_ptr<void> owner)
    : Buffer(size_bytes), context_(std::move(context)), owner_(std::move(owner)) {
  const uint64_t alignment = context_->caps.is_cpu ? kCpuAlignment : kGpuAlignment;
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0) {
    throw_unsupported(context_->caps.id +
                      " uses host memory in place only from addresses that are " + "multiples of " +
                      std::to_string(alignment) + ": allocate and copy instead");
  }
  cl_int code = CL_SUCCESS;
  memory_ = context_->cl->clCreateBuffer(context_->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR,
                                         size_bytes, data, &code);
  if (code != CL_SUCCESS) throw_out_of_memory(*context_, size_bytes, error_text(code));
  if (context_->fine_grain_system) host_ = data;
}

OpenClBuffer::OpenClBuffer(std::shared_ptr<Context> context, cl_mem memory, uint64_t size_bytes)
    : Buffer(size_bytes), context_(std::move(context)), memory_(memory) {
  check(context_->cl->clRetainMemObject(memory_), "clRetainMemObject");
}

OpenClBuffer::~OpenClBuffer() {
  context_->cl->clReleaseMemObject(memory_);
  if (shared_) context_->cl->clSVMFree(context_->context, shared_);
}

}  // namespace dlk::opencl
