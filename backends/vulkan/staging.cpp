#include "backends/vulkan/staging.h"

#include <algorithm>
#include <bit>

#include "backends/vulkan/recording.h"
#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

constexpr uint64_t kSmallestBytes = 64 << 10;
constexpr uint64_t kRoundedBytes = 16 << 20;
constexpr uint64_t kIdleBytes = 512 << 20;

}  // namespace

StagingPool::StagingPool(std::shared_ptr<Context> context) : context_(std::move(context)) {
  VkCommandPoolCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
  info.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
  info.queueFamilyIndex = context_->physical().queue_family;
  check(context_->api().vkCreateCommandPool(context_->device(), &info, nullptr, &pool_),
        "vkCreateCommandPool");
}

StagingPool::~StagingPool() {
  context_->api().vkDestroyCommandPool(context_->device(), pool_, nullptr);
}

Transfer StagingPool::take(const NativeRange& range, MemoryKind kind) {
  auto found = std::ranges::find_if(idle_, [&](const Transfer& transfer) {
    return transfer.kind == kind && transfer.recorded == range;
  });
  if (found == idle_.end()) {
    // The one that was unused for longest: what runs again keeps its own.
    found = std::ranges::find_if(idle_, [&](const Transfer& transfer) {
      return transfer.kind == kind && transfer.buffer->size_bytes() >= range.size;
    });
  }
  if (found == idle_.end()) return make(range.size, kind);
  Transfer transfer = std::move(*found);
  idle_.erase(found);
  idle_bytes_ -= transfer.buffer->size_bytes();
  return transfer;
}

Transfer StagingPool::make(uint64_t size_bytes, MemoryKind kind) {
  // Small ones are rounded up to be of use again; large ones would waste too much.
  uint64_t bytes = std::max(size_bytes, kSmallestBytes);
  if (bytes < kRoundedBytes) bytes = std::bit_ceil(bytes);
  Transfer transfer;
  transfer.kind = kind;
  transfer.buffer = std::make_shared<VulkanBuffer>(context_, bytes, kind);
  if (!transfer.buffer->host_pointer()) {
    throw_unsupported("Vulkan: " + context_->caps().name + " has no memory that the host can map");
  }
  if (!idle_commands_.empty()) {
    transfer.commands = idle_commands_.back();
    idle_commands_.pop_back();
    return transfer;
  }
  VkCommandBufferAllocateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
  info.commandPool = pool_;
  info.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  info.commandBufferCount = 1;
  check(context_->api().vkAllocateCommandBuffers(context_->device(), &info, &transfer.commands),
        "vkAllocateCommandBuffers");
  return transfer;
}

Transfer StagingPool::acquire(const View& view, MemoryKind kind) {
  const NativeRange range = native_range(view);
  Transfer transfer = take(range, kind);
  if (transfer.recorded == range) return transfer;
  transfer.recorded = {};
  record(transfer, view);
  transfer.recorded = range;
  return transfer;
}

void StagingPool::record(const Transfer& transfer, const View& view) {
  const DeviceApi& api = context_->api();
  VkCommandBufferBeginInfo begin{};
  begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
  check(api.vkBeginCommandBuffer(transfer.commands, &begin), "vkBeginCommandBuffer");
  record_barrier(api, transfer.commands);
  const NativeRange range = native_range(view);
  const bool upload = transfer.kind == MemoryKind::kUpload;
  if (range.size) {
    const VkBufferCopy region{upload ? 0 : range.offset, upload ? range.offset : 0, range.size};
    const VkBuffer staging = transfer.buffer->handle();
    api.vkCmdCopyBuffer(transfer.commands, upload ? staging : range.buffer,
                        upload ? range.buffer : staging, 1, &region);
  }
  if (!upload || view.buffer->host_pointer()) record_host_barrier(api, transfer.commands);
  check(api.vkEndCommandBuffer(transfer.commands), "vkEndCommandBuffer");
}

void StagingPool::release(Transfer transfer) {
  idle_bytes_ += transfer.buffer->size_bytes();
  idle_.push_back(std::move(transfer));
  size_t dropped = 0;
  for (; idle_bytes_ > kIdleBytes; dropped++) {
    idle_bytes_ -= idle_[dropped].buffer->size_bytes();
    idle_commands_.push_back(idle_[dropped].commands);
  }
  idle_.erase(idle_.begin(), idle_.begin() + static_cast<std::ptrdiff_t>(dropped));
}

}  // namespace dlk::vulkan
