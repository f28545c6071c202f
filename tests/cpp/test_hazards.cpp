#include <doctest/doctest.h>

#include <memory>
#include <random>

#include "core/device/device.h"
#include "core/device/hazards.h"

using namespace dlk;

namespace {

constexpr Access R = Access::kRead, W = Access::kWrite, RW = Access::kReadWrite;

class FakeBuffer : public Buffer {
 public:
  using Buffer::Buffer;
};

std::shared_ptr<Buffer> buffer(uint64_t size) { return std::make_shared<FakeBuffer>(size); }

std::shared_ptr<Kernel> kernel(std::vector<Access> accesses) {
  KernelCode code;
  code.name = "k";
  for (const Access access : accesses) code.bindings.push_back({"B", access, 4});
  return std::make_shared<Kernel>(code);
}

DispatchCommand dispatch(std::shared_ptr<Kernel> k, std::vector<Operand> operands) {
  return {std::move(k), std::move(operands), {}, {1, 1, 1}};
}

std::vector<bool> barriers(const CommandList& list) {
  std::vector<bool> result;
  for (const Command& command : list.commands()) result.push_back(command.barrier_before);
  return result;
}

bool touches(const RangeUse& use, uint64_t byte) {
  const uint64_t period = use.stripes.period_bytes;
  return byte >= use.begin && byte < use.end &&
         (period == 0 || (byte - use.begin) % period < use.stripes.run_bytes);
}

bool add(HazardTracker& tracker, std::vector<RangeUse> uses) { return tracker.add(uses); }

}  // namespace

TEST_CASE("read after write, write after read and write after write need a barrier") {
  for (const Access first : {R, W, RW}) {
    for (const Access second : {R, W, RW}) {
      HazardTracker tracker;
      CHECK_FALSE(add(tracker, {{1, 0, 16, first}}));
      CHECK(add(tracker, {{1, 8, 24, second}}) == !(first == R && second == R));
    }
  }
}

TEST_CASE("ranges that only touch, other resources and empty ranges do not conflict") {
  HazardTracker tracker;
  CHECK_FALSE(add(tracker, {{1, 16, 32, W}}));
  CHECK_FALSE(add(tracker, {{1, 0, 16, W}}));
  CHECK_FALSE(add(tracker, {{1, 32, 48, W}}));
  CHECK_FALSE(add(tracker, {{2, 16, 32, W}}));
  CHECK_FALSE(add(tracker, {{1, 20, 20, W}}));
  CHECK(add(tracker, {{1, 47, 48, R}}));
}

TEST_CASE("interleaved pieces of one period do not conflict, others do") {
  // Rows of 64 bytes: a piece of 16 at 0, one of 32 at 16, one of 16 at 48.
  const auto piece = [](uint64_t at, uint64_t run, Access access, uint64_t rows = 4) {
    return RangeUse{1, at, at + (rows - 1) * 64 + run, access, {64, run}};
  };
  const RangeUse a = piece(0, 16, W), b = piece(16, 32, W), c = piece(48, 16, W);
  HazardTracker tracker;
  for (const RangeUse& use : {c, a, b}) CHECK_FALSE(add(tracker, {use}));
  CHECK(conflict(a, a));
  CHECK_FALSE(conflict(a, piece(16 + 2 * 64, 32, R, 1)));  // from another row on
  CHECK_FALSE(conflict(piece(16 + 2 * 64, 32, R, 1), a));
  CHECK(conflict(piece(2 * 64, 16, R, 1), a));
  CHECK(conflict(b, piece(0, 17, R)));  // one byte into the next
  CHECK(conflict(piece(0, 17, R), b));
  CHECK(conflict(c, piece(40, 32, W)));  // around the end of a row
  CHECK_FALSE(conflict(piece(48, 32, R), b));
  CHECK(conflict(piece(48, 32, R), a));
  CHECK(conflict(a, {1, 0, 256, R}));                            // the whole
  CHECK(conflict(a, {1, 16, 16 + 3 * 128 + 32, R, {128, 32}}));  // another period
  CHECK_FALSE(conflict({1, 0, 256, R, {64, 16}}, piece(0, 64, R)));
  CHECK(add(tracker, {piece(16, 32, R)}));
}

TEST_CASE("a dispatch says which stripes of its operands it touches") {
  const auto joined = buffer(256), in = buffer(64);
  const auto k = kernel({R, W});
  CommandList list;
  for (uint64_t i = 0; i < 4; ++i) {
    DispatchCommand command = dispatch(k, {View{in, 0, 64}, View{joined, 16 * i, 256 - 48}});
    command.stripes = {{}, {64, 16}};
    list.dispatch(command);
  }
  list.dispatch(dispatch(k, {View{in, 0, 64}, View{joined, 0, 256}}));
  CHECK(barriers(list) == std::vector<bool>{false, false, false, false, true});
}

TEST_CASE("no shared byte is missed between random stripes") {
  std::mt19937 random(11);
  size_t apart = 0;
  const auto random_use = [&]() -> RangeUse {
    const uint64_t begin = random() % 24, period = random() % 4 * 4;
    const Stripes stripes{period, period == 0 ? 0 : 1 + random() % period};
    return {random() % 2, begin, begin + random() % 24, random() % 2 ? R : W, stripes};
  };
  for (int round = 0; round < 20000; ++round) {
    const RangeUse a = random_use(), b = random_use();
    bool meet = false;
    for (uint64_t byte = 0; byte < 48; ++byte) meet |= touches(a, byte) && touches(b, byte);
    meet &= a.resource == b.resource && (a.access != R || b.access != R);
    REQUIRE((conflict(a, b) || !meet));
    REQUIRE(conflict(a, b) == conflict(b, a));
    apart += !meet && !conflict(a, b) && a.begin < b.end && b.begin < a.end;
  }
  CHECK(apart > 1000);
}

TEST_CASE("a barrier forgets what came before it") {
  HazardTracker tracker;
  CHECK_FALSE(add(tracker, {{1, 0, 16, W}}));
  CHECK_FALSE(add(tracker, {{2, 0, 16, W}}));
  CHECK(add(tracker, {{1, 0, 16, R}, {3, 0, 16, W}}));  // the barrier
  CHECK_FALSE(add(tracker, {{2, 0, 16, R}}));           // ordered by it
  CHECK(add(tracker, {{3, 0, 4, R}}));                  // written after it
}

TEST_CASE("operands of one command do not conflict with each other") {
  HazardTracker tracker;
  CHECK_FALSE(add(tracker, {{1, 0, 16, R}, {1, 0, 16, W}}));
  CHECK(add(tracker, {{1, 0, 16, R}}));
}

TEST_CASE("independent branches overlap, their join waits") {
  auto in = buffer(64), out = buffer(256);
  const auto k = kernel({R, W}), join = kernel({R, W});
  CommandList list;
  for (uint64_t i = 0; i < 4; ++i) {
    list.dispatch(dispatch(k, {View{in, 0, 64}, View{out, 64 * i, 64}}));
  }
  list.dispatch(dispatch(join, {View{out, 0, 256}, View{in, 0, 64}}));
  CHECK(barriers(list) == std::vector<bool>{false, false, false, false, true});
}

TEST_CASE("copies, fills and slots") {
  auto a = buffer(64), b = buffer(64);
  CommandList list;
  const uint32_t s = list.add_slot(64), t = list.add_slot(32);
  CHECK(s == 0);
  CHECK(t == 1);
  CHECK(list.slot_bytes() == std::vector<uint64_t>{64, 32});
  list.fill(View{a, 0, 64}, 0);
  list.fill(SlotRef{s, 0, 64}, 0);                // another resource
  list.copy(SlotRef{t, 0, 32}, View{b, 0, 32});   // reads another slot
  list.copy(View{a, 0, 32}, View{b, 32, 32});     // reads what the first fill wrote
  list.copy(SlotRef{s, 0, 16}, View{a, 48, 16});  // that barrier ordered the fill of s
  list.fill(SlotRef{s, 8, 8}, 1);                 // write after read
  list.fill(SlotRef{s, 8, 8}, 2);                 // write after write
  CHECK(barriers(list) == std::vector<bool>{false, false, false, true, false, true, true});
  CHECK(list.commands()[0].label == "fill");
  CHECK(list.commands()[2].label == "copy");
}

TEST_CASE("operands beyond the bindings count as written") {
  auto a = buffer(64);
  CommandList list;
  list.dispatch(dispatch(kernel({R}), {View{a, 0, 32}, View{a, 32, 32}}));
  list.dispatch(dispatch(kernel({R}), {View{a, 32, 32}}));
  CHECK(barriers(list) == std::vector<bool>{false, true});
}

TEST_CASE("barriers can be dropped for tests") {
  auto a = buffer(64);
  CommandList list;
  for (int i = 0; i < 3; ++i) list.fill(View{a, 0, 64}, i);
  list.drop_barrier_for_test(1);
  CHECK(barriers(list) == std::vector<bool>{false, true, false});
  CHECK_THROWS_WITH_AS(list.drop_barrier_for_test(1), "no barrier 1: the command list has 1",
                       Error);
}

TEST_CASE("a dispatch without a kernel is refused") {
  CommandList list;
  CHECK_THROWS_AS(list.dispatch({}, "relu"), Error);
  CHECK(list.commands().empty());
}

TEST_CASE("random command lists: no conflict inside a section, every barrier has a cause") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    HazardTracker tracker;
    std::vector<std::vector<RangeUse>> section;
    const auto meet = [](const RangeUse& a, const RangeUse& b) {
      return a.resource == b.resource && a.begin < a.end && b.begin < b.end && a.begin < b.end &&
             b.begin < a.end && (a.access != R || b.access != R);
    };
    for (int i = 0; i < 40; ++i) {
      std::vector<RangeUse> uses;
      for (unsigned k = 0; k < 1 + random() % 3; ++k) {
        const uint64_t begin = random() % 30;
        uses.push_back({random() % 2, begin, begin + random() % 6,
                        random() % 2   ? R
                        : random() % 2 ? W
                                       : RW});
      }
      bool expected = false;
      for (const auto& earlier : section) {
        for (const auto& a : earlier) {
          for (const auto& b : uses) expected |= meet(a, b);
        }
      }
      REQUIRE(tracker.add(uses) == expected);
      if (expected) section.clear();
      section.push_back(uses);
    }
  }
}
