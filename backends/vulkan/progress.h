// How far a queue has come: each submission signals its ticket, on a timeline semaphore where the
// device has them and otherwise on a fence of its own. Thread-safe.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "backends/vulkan/context.h"

namespace dlk::vulkan {

/// A ticket of another Progress that a submission waits for on the device.
struct Before {
  VkSemaphore semaphore = VK_NULL_HANDLE;
  uint64_t ticket = 0;
};

class Progress {
 public:
  virtual ~Progress() = default;
  static std::unique_ptr<Progress> create(std::shared_ptr<Context> context);
  /// Submits `commands` together as `ticket`, which is larger than all before it.
  virtual void submit(NativeQueue& queue, std::span<const VkCommandBuffer> commands,
                      uint64_t ticket, std::span<const Before> before) = 0;
  /// For submissions elsewhere to wait for a ticket of this; only with timeline semaphores.
  virtual VkSemaphore semaphore() const { return VK_NULL_HANDLE; }
  /// The last ticket that is done; never blocks. Throws DeviceLost.
  virtual uint64_t completed() = 0;
  /// Blocks until `ticket` is done. Throws DeviceLost.
  virtual void wait(uint64_t ticket) = 0;
};

}  // namespace dlk::vulkan
