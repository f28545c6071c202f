// Submissions that may overlap give what a queue in order gives. Sets DLK_VULKAN_LANES=2 itself:
// devices with one VkQueue then have two lanes on it.
#include <random>

#include "backends/vulkan/lanes.h"
#include "tests/cpp/vulkan_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

using vulkan::NativeRange;
using vulkan::Touched;

constexpr size_t kBuffers = 6, kFloats = 256;

std::shared_ptr<Device> device_with_lanes() {
  setenv("DLK_VULKAN_LANES", "2", 1);
  return vulkan_device();
}

Touched touched(std::initializer_list<std::pair<NativeRange, Access>> uses) {
  Touched result;
  for (const auto& [range, access] : uses) result.add(range, access);
  return result;
}

NativeRange range(uint64_t id, uint64_t offset, uint64_t size) {
  return {VK_NULL_HANDLE, id, offset, size, 1024};
}

}  // namespace

TEST_CASE("submissions conflict where one writes what the other uses") {
  const Touched reads =
      touched({{range(1, 0, 64), Access::kRead}, {range(2, 0, 8), Access::kRead}});
  const Touched writes = touched({{range(1, 32, 64), Access::kWrite}});
  const Touched other = touched({{range(1, 96, 64), Access::kReadWrite}});
  CHECK_FALSE(reads.conflicts(reads));
  CHECK(reads.conflicts(writes));
  CHECK(writes.conflicts(reads));
  CHECK(writes.conflicts(writes));
  CHECK_FALSE(other.conflicts(writes));
  CHECK_FALSE(other.conflicts(reads));
  CHECK_FALSE(touched({{range(3, 0, 1024), Access::kWrite}}).conflicts(writes));
  // Between the first and the last byte everything counts.
  const Touched both =
      touched({{range(1, 0, 8), Access::kWrite}, {range(1, 160, 8), Access::kWrite}});
  CHECK(both.conflicts(other));
  Touched alone;
  alone.alone = true;
  CHECK(alone.conflicts(Touched{}));
  CHECK(Touched{}.conflicts(alone));
}

TEST_CASE("random submissions on two lanes come out as in order") {
  const auto device = device_with_lanes();
  if (!device) return;
  const auto queue = device->create_queue();
  const auto sum = device->compile(axpy_code());
  const auto scaled = device->compile(step_code());
  std::mt19937 random(3);
  std::vector<View> views;
  for (size_t i = 0; i < kBuffers; ++i) views.push_back(floats(*device, kFloats));
  std::vector<std::vector<float>> expected(kBuffers);
  for (int round = 0; round < 30; ++round) {
    for (size_t i = 0; i < kBuffers; ++i) {
      expected[i] = ramp(kFloats, static_cast<float>(random() % 100));
      upload(*queue, views[i], expected[i]);
    }
    Ticket last;
    for (int i = 0; i < 10; ++i) {
      if (round % 2 == 1) queue->hold(i % 4 < 2);  // some go together
      const size_t x = random() % kBuffers, y = (x + 1 + random() % 2) % kBuffers;
      const size_t z = (x + 3 + random() % 3) % kBuffers;
      CommandList list;
      if (random() % 3 == 0) {
        list.dispatch(step(scaled, views[x], kFloats, -1.0f, 3));
        for (float& value : expected[x]) value = 1.0f - value;
      } else {
        list.dispatch(axpy(sum, views[x], views[y], views[z], kFloats, -1.0f));
        for (size_t k = 0; k < kFloats; ++k) expected[z][k] = expected[y][k] - expected[x][k];
      }
      last = queue->submit(device->record(list));
    }
    queue->hold(false);
    queue->wait(last);
    CHECK(queue->is_done(last));
    for (size_t i = 0; i < kBuffers; ++i) CHECK(download(*queue, views[i]) == expected[i]);
  }
}

TEST_CASE("a ticket is done when all before it are") {
  const auto device = device_with_lanes();
  if (!device) return;
  const auto queue = device->create_queue();
  const auto kernel = device->compile(step_code());
  const View slow = floats(*device, kFloats), quick = floats(*device, kFloats);
  const std::vector<float> ones(kFloats, 1.0f);
  for (const View& view : {slow, quick}) upload(*queue, view, ones);
  const auto submit = [&](const View& view, uint32_t repeat) {
    CommandList list;
    list.dispatch(step(kernel, view, kFloats, 1.0f, repeat));
    return queue->submit(device->record(list));
  };
  const Ticket first = submit(slow, 60'000), second = submit(quick, 1);
  queue->wait(second);
  CHECK(queue->is_done(first));
  CHECK(download(*queue, quick) == std::vector<float>(kFloats, 2.0f));
  CHECK(download(*queue, slow) == std::vector<float>(kFloats, 60'001.0f));
}
