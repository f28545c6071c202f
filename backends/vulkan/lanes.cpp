#include "backends/vulkan/lanes.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace dlk::vulkan {
namespace {

constexpr size_t kMaxLanes = 4;
constexpr uint64_t kLargeBytes = 64 << 20;  // written

size_t lane_count(const Context& context) {
  if (!context.has_timeline()) return 1;
  const char* asked = std::getenv("DLK_VULKAN_LANES");
  const size_t wanted = asked ? std::strtoul(asked, nullptr, 10) : context.queue_count();
  return std::clamp<size_t>(wanted, 1, kMaxLanes);
}

}  // namespace

void Touched::add(const NativeRange& range, Access access) {
  Use& use = buffers_[range.id];
  const auto extend = [&](Range& to) {
    to.begin = std::min(to.begin, range.offset);
    to.end = std::max(to.end, range.offset + range.size);
  };
  if (access != Access::kWrite) extend(use.read);
  if (access != Access::kRead) extend(use.written);
}

bool Touched::is_large() const {
  uint64_t bytes = 0;
  for (const auto& [id, use] : buffers_) {
    if (use.written.begin < use.written.end) bytes += use.written.end - use.written.begin;
  }
  return bytes > kLargeBytes;
}

bool Touched::conflicts(const Touched& other) const {
  if (alone || other.alone) return true;
  return std::ranges::any_of(buffers_, [&](const auto& entry) {
    const auto found = other.buffers_.find(entry.first);
    if (found == other.buffers_.end()) return false;
    const Use &a = entry.second, &b = found->second;
    return a.written.meets(b.written) || a.written.meets(b.read) || a.read.meets(b.written);
  });
}

std::shared_ptr<const Touched> touched_by_transfer(const View& view, Access access) {
  auto touched = std::make_shared<Touched>();
  touched->add(native_range(view), access);
  return touched;
}

Lanes::Lanes(const std::shared_ptr<Context>& context) {
  for (size_t i = 0, count = lane_count(*context); i < count; ++i) {
    lanes_.push_back({&context->next_queue(), Progress::create(context)});
  }
}

bool Lanes::Unfinished::conflicts(const std::vector<std::shared_ptr<const Touched>>& others) const {
  return std::ranges::any_of(touched, [&](const auto& one) {
    return std::ranges::any_of(others, [&](const auto& other) { return one->conflicts(*other); });
  });
}

void Lanes::submit(std::span<const VkCommandBuffer> commands, uint64_t ticket,
                   std::vector<std::shared_ptr<const Touched>> touched) {
  const std::lock_guard lock(mutex_);
  retire();
  std::vector<uint64_t> before(lanes_.size());  // the last ticket of each lane to wait for
  for (const Unfinished& other : unfinished_) {
    if (other.conflicts(touched)) before[other.lane] = other.ticket;
  }
  const size_t lane = choose(before);
  std::vector<Before> elsewhere;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (i != lane && before[i] != 0) {
      elsewhere.push_back({lanes_[i].progress->semaphore(), before[i]});
    }
  }
  lanes_[lane].progress->submit(*lanes_[lane].queue, commands, ticket, elsewhere);
  unfinished_.push_back({ticket, std::exchange(last_, ticket), lane, std::move(touched)});
}

/// After the last one that it waits for; else on the first lane that is free, or longest at work.
size_t Lanes::choose(const std::vector<uint64_t>& before) const {
  const auto latest = std::ranges::max_element(before);
  if (*latest != 0) return static_cast<size_t>(latest - before.begin());
  std::vector<uint64_t> last(lanes_.size());
  for (const Unfinished& other : unfinished_) last[other.lane] = other.ticket;
  return static_cast<size_t>(std::ranges::min_element(last) - last.begin());
}

uint64_t Lanes::retire() {
  std::vector<uint64_t> done;
  for (const Lane& lane : lanes_) done.push_back(lane.progress->completed());
  std::erase_if(unfinished_,
                [&](const Unfinished& other) { return other.ticket <= done[other.lane]; });
  return unfinished_.empty() ? last_ : unfinished_.front().after;
}

uint64_t Lanes::completed() {
  const std::lock_guard lock(mutex_);
  return retire();
}

void Lanes::wait(uint64_t ticket) {
  std::vector<uint64_t> last(lanes_.size());
  {
    const std::lock_guard lock(mutex_);
    for (const Unfinished& other : unfinished_) {
      if (other.after < ticket) last[other.lane] = other.ticket;
    }
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (last[i] != 0) lanes_[i].progress->wait(last[i]);
  }
}

}  // namespace dlk::vulkan
