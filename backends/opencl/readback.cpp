#include "backends/opencl/readback.h"

#include <algorithm>
#include <atomic>
#include <bit>

namespace dlk::opencl {

namespace {

constexpr uint64_t kSmallestBytes = 64 << 10;
constexpr uint64_t kKeptBytes = 32 << 20;

}  // namespace

Pinned::Pinned(std::shared_ptr<Context> context, uint64_t size_bytes)
    : context_(std::move(context)), size_bytes_(size_bytes) {
  const Api& cl = *context_->cl;
  try {
    cl_int code = CL_SUCCESS;
    queue_ = cl.clCreateCommandQueue(context_->context, context_->device, 0, &code);
    check(code, "clCreateCommandQueue");
    memory_ = cl.clCreateBuffer(context_->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                size_bytes, nullptr, &code);
    check(code, "clCreateBuffer for downloads");
    data_ = static_cast<std::byte*>(cl.clEnqueueMapBuffer(queue_, memory_, CL_TRUE,
                                                          CL_MAP_READ | CL_MAP_WRITE, 0, size_bytes,
                                                          0, nullptr, nullptr, &code));
    check(code, "clEnqueueMapBuffer");
  } catch (...) {
    destroy();
    throw;
  }
}

Pinned::~Pinned() { destroy(); }

void Pinned::destroy() noexcept {
  const Api& cl = *context_->cl;
  if (data_) cl.clEnqueueUnmapMemObject(queue_, memory_, data_, 0, nullptr, nullptr);
  if (queue_) cl.clFinish(queue_);
  if (memory_) cl.clReleaseMemObject(memory_);
  if (queue_) cl.clReleaseCommandQueue(queue_);
}

std::shared_ptr<Pinned> PinnedPool::take(uint64_t size_bytes) {
  uint64_t kept = 0;
  for (const auto& pinned : all_) {
    kept += pinned->size_bytes();
    if (pinned.use_count() != 1 || pinned->size_bytes() < size_bytes) continue;
    std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the last holder's release
    return pinned;
  }
  const uint64_t bytes = std::bit_ceil(std::max(size_bytes, kSmallestBytes));
  if (kept + bytes > kKeptBytes) {
    std::erase_if(all_, [](const auto& pinned) { return pinned.use_count() == 1; });
  }
  all_.push_back(std::make_shared<Pinned>(context_, bytes));
  return all_.back();
}

}  // namespace dlk::opencl
