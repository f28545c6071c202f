// Where the submissions of one dlk queue run. Where the device has several VkQueues and timeline
// semaphores there are as many lanes, up to four: a submission that shares nothing with the
// unfinished ones but what all of them read runs beside them, so that small runs in flight overlap.
// One that does share follows on the same lane, or waits for the others. To everyone else the queue
// is in order.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/progress.h"

namespace dlk::vulkan {

/// The ranges of buffers that a submission reads and writes: of each buffer from the first byte to
/// the last.
class Touched {
 public:
  bool alone = false;  // overlaps nothing
  void add(const NativeRange& range, Access access);
  /// Large work fills the device without help, and has the caches to itself alone.
  bool is_large() const;
  bool conflicts(const Touched& other) const;

 private:
  struct Range {
    uint64_t begin = UINT64_MAX, end = 0;
    bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
  };
  struct Use {
    Range read, written;
  };
  std::map<uint64_t, Use> buffers_;  // by id
};

std::shared_ptr<const Touched> touched_by_transfer(const View& view, Access access);

class Lanes {
 public:
  explicit Lanes(const std::shared_ptr<Context>& context);
  /// Commands that go together, in order: `ticket`, and all since the last submission, are done
  /// with them. `touched` by each.
  void submit(std::span<const VkCommandBuffer> commands, uint64_t ticket,
              std::vector<std::shared_ptr<const Touched>> touched);
  /// This ticket and all before it are done. Throws DeviceLost.
  uint64_t completed();
  /// Blocks until this ticket and all before it are done. Throws DeviceLost.
  void wait(uint64_t ticket);

 private:
  struct Lane {
    NativeQueue* queue = nullptr;
    std::unique_ptr<Progress> progress;
  };
  struct Unfinished {
    uint64_t ticket = 0;
    uint64_t after = 0;  // the ticket before its first
    size_t lane = 0;
    std::vector<std::shared_ptr<const Touched>> touched;
    bool conflicts(const std::vector<std::shared_ptr<const Touched>>& others) const;
  };
  uint64_t retire();
  size_t choose(const std::vector<uint64_t>& before) const;

  std::mutex mutex_;
  std::vector<Lane> lanes_;
  std::deque<Unfinished> unfinished_;
  uint64_t last_ = 0;
};

}  // namespace dlk::vulkan
