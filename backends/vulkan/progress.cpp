#include "backends/vulkan/progress.h"

#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

VkSubmitInfo submit_info(std::span<const VkCommandBuffer> commands) {
  VkSubmitInfo info{};
  info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
  info.commandBufferCount = static_cast<uint32_t>(commands.size());
  info.pCommandBuffers = commands.data();
  return info;
}

class TimelineProgress final : public Progress {
 public:
  explicit TimelineProgress(std::shared_ptr<Context> context) : context_(std::move(context)) {
    VkSemaphoreTypeCreateInfo type{};
    type.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO;
    type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
    VkSemaphoreCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO;
    info.pNext = &type;
    check(context_->api().vkCreateSemaphore(context_->device(), &info, nullptr, &semaphore_),
          "vkCreateSemaphore");
  }
  ~TimelineProgress() override {
    context_->api().vkDestroySemaphore(context_->device(), semaphore_, nullptr);
  }

  void submit(NativeQueue& queue, std::span<const VkCommandBuffer> commands, uint64_t ticket,
              std::span<const Before> before) override {
    constexpr VkPipelineStageFlags kStages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    std::vector<VkSemaphore> semaphores;
    std::vector<uint64_t> tickets;
    for (const Before& other : before) {
      semaphores.push_back(other.semaphore);
      tickets.push_back(other.ticket);
    }
    const std::vector<VkPipelineStageFlags> stages(before.size(), kStages);
    VkTimelineSemaphoreSubmitInfo timeline{};
    timeline.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO;
    timeline.signalSemaphoreValueCount = 1;
    timeline.pSignalSemaphoreValues = &ticket;
    VkSubmitInfo info = submit_info(commands);
    info.pNext = &timeline;
    timeline.waitSemaphoreValueCount = static_cast<uint32_t>(before.size());
    timeline.pWaitSemaphoreValues = tickets.data();
    info.waitSemaphoreCount = static_cast<uint32_t>(before.size());
    info.pWaitSemaphores = semaphores.data();
    info.pWaitDstStageMask = stages.data();
    info.signalSemaphoreCount = 1;
    info.pSignalSemaphores = &semaphore_;
    check(queue.submit(context_->api(), info, VK_NULL_HANDLE), "vkQueueSubmit");
  }

  VkSemaphore semaphore() const override { return semaphore_; }

  uint64_t completed() override {
    uint64_t value = 0;
    check(context_->api().vkGetSemaphoreCounterValue(context_->device(), semaphore_, &value),
          "vkGetSemaphoreCounterValue");
    return value;
  }

  void wait(uint64_t ticket) override {
    VkSemaphoreWaitInfo info{};
    info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO;
    info.semaphoreCount = 1;
    info.pSemaphores = &semaphore_;
    info.pValues = &ticket;
    check(context_->api().vkWaitSemaphores(context_->device(), &info, UINT64_MAX),
          "vkWaitSemaphores");
  }

 private:
  std::shared_ptr<Context> context_;
  VkSemaphore semaphore_ = VK_NULL_HANDLE;
};

class FenceProgress final : public Progress {
 public:
  explicit FenceProgress(std::shared_ptr<Context> context) : context_(std::move(context)) {}

  void submit(NativeQueue& queue, std::span<const VkCommandBuffer> commands, uint64_t ticket,
              std::span<const Before>) override {
    std::lock_guard lock(mutex_);
    const std::shared_ptr<Fence> fence = take_fence();
    check(queue.submit(context_->api(), submit_info(commands), fence->handle), "vkQueueSubmit");
    running_.push_back({ticket, fence});
  }

  uint64_t completed() override {
    std::lock_guard lock(mutex_);
    while (!running_.empty()) {
      const std::shared_ptr<Fence>& fence = running_.front().fence;
      const VkResult result = context_->api().vkGetFenceStatus(context_->device(), fence->handle);
      check(result, "vkGetFenceStatus");
      if (result == VK_NOT_READY) break;
      completed_ = running_.front().ticket;
      // A fence that somebody still waits on is left to them.
      if (fence.use_count() == 1) free_.push_back(fence);
      running_.pop_front();
    }
    return completed_;
  }

  void wait(uint64_t ticket) override {
    std::shared_ptr<Fence> fence;
    {
      std::lock_guard lock(mutex_);
      for (const Running& running : running_) {
        if (running.ticket > ticket) break;
        fence = running.fence;
      }
    }
    if (!fence) return;
    check(
        context_->api().vkWaitForFences(context_->device(), 1, &fence->handle, VK_TRUE, UINT64_MAX),
        "vkWaitForFences");
  }

 private:
  struct Fence {
    explicit Fence(std::shared_ptr<Context> owner) : context(std::move(owner)) {
      VkFenceCreateInfo info{};
      info.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO;
      check(context->api().vkCreateFence(context->device(), &info, nullptr, &handle),
            "vkCreateFence");
    }
    ~Fence() { context->api().vkDestroyFence(context->device(), handle, nullptr); }
    std::shared_ptr<Context> context;
    VkFence handle = VK_NULL_HANDLE;
  };
  struct Running {
    uint64_t ticket;
    std::shared_ptr<Fence> fence;
  };

  std::shared_ptr<Fence> take_fence() {
    if (free_.empty()) return std::make_shared<Fence>(context_);
    std::shared_ptr<Fence> fence = std::move(free_.back());
    free_.pop_back();
    check(context_->api().vkResetFences(context_->device(), 1, &fence->handle), "vkResetFences");
    return fence;
  }

  std::shared_ptr<Context> context_;
  std::mutex mutex_;
  std::deque<Running> running_;
  std::vector<std::shared_ptr<Fence>> free_;
  uint64_t completed_ = 0;
};

}  // namespace

std::unique_ptr<Progress> Progress::create(std::shared_ptr<Context> context) {
  if (context->has_timeline()) return std::make_unique<TimelineProgress>(std::move(context));
  return std::make_unique<FenceProgress>(std::move(context));
}

}  // namespace dlk::vulkan
