// The checked device on the null backend: what can be foreseen is refused, by name, and nothing
// else.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <string>

#include "core/device/checked.h"
#include "core/device/registry.h"

using namespace dlk;

namespace {

struct Fixture {
  std::shared_ptr<Device> device = open_device("null");
  std::unique_ptr<Queue> queue = device->create_queue();
  std::shared_ptr<Buffer> a = device->allocate(1024, MemoryKind::kDevice);
  std::shared_ptr<Buffer> b = device->allocate(1024, MemoryKind::kDevice);
  std::shared_ptr<Kernel> kernel = device->compile(code());

  static KernelCode code() {
    KernelCode code;
    code.name = "axpy";
    code.bindings = {{"X", Access::kRead, 4}, {"Y", Access::kWrite, 4}};
    code.params = {{"n", 'u', 1, 0}};
    code.param_bytes = 4;
    code.group_size = {64, 1, 1};
    return code;
  }
  DispatchCommand dispatch(Operand x, Operand y) const {
    return {kernel, {std::move(x), std::move(y)}, std::vector<std::byte>(4), {1, 1, 1}};
  }
  View view(const std::shared_ptr<Buffer>& buffer, uint64_t offset, uint64_t size) const {
    return {buffer, offset, size};
  }
};

/// What `call` throws; fails when it throws nothing or with another code.
std::string refused(const std::function<void()>& call,
                    ErrorCode code = ErrorCode::kInvalidArgument) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

/// What recording one dispatch labelled "conv1" throws.
std::string refused_dispatch(const Fixture& f, DispatchCommand command) {
  return refused([&] {
    CommandList list;
    list.dispatch(std::move(command), "conv1");
    f.device->record(list);
  });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a right dispatch passes") {
  CommandList list;
  list.dispatch(dispatch(view(a, 0, 512), view(b, 4, 512)));
  list.dispatch(dispatch(view(a, 0, 512), view(a, 512, 512)));  // touching
  list.dispatch(dispatch(view(a, 0, 512), view(a, 0, 512)));    // in place
  const Ticket ticket = queue->submit(device->record(list));
  queue->wait(ticket);
}

TEST_CASE_FIXTURE(Fixture, "bounds") {
  const uint64_t huge = ~uint64_t{0};
  for (const View& bad : {view(a, 0, 1028), view(a, 1024, 4), view(a, huge - 3, 8),
                          view(a, 8, huge), view(a, huge, huge)}) {
    const std::string text = refused_dispatch(*this, dispatch(bad, view(b, 0, 4)));
    CHECK(contains(text, "'conv1'"));
    CHECK(contains(text, "operand 'X'"));
    CHECK(contains(text, "1024"));
    CHECK_THROWS_AS(queue->write(bad, {}), Error);
  }
  CHECK(contains(refused_dispatch(*this, dispatch(View{}, view(b, 0, 4))), "no buffer"));
  CHECK(contains(refused_dispatch(*this, dispatch(view(a, 0, 0), view(b, 0, 4))), "empty"));
  CHECK(contains(refused_dispatch(*this, dispatch(view(a, 2, 4), view(b, 0, 4))), "multiple of 4"));
}

TEST_CASE_FIXTURE(Fixture, "overlap of a written view") {
  const std::string text = refused_dispatch(*this, dispatch(view(a, 0, 64), view(a, 60, 64)));
  CHECK(contains(text, "'conv1'"));
  CHECK(contains(text, "overlap"));
  refused_dispatch(*this, dispatch(view(a, 0, 64), view(a, 0, 32)));
  CommandList list;
  list.copy(view(a, 0, 64), view(a, 32, 64));
  CHECK(contains(refused([&] { device->record(list); }), "overlap"));
  CommandList same;
  same.copy(view(a, 0, 64), view(a, 0, 64));
  CHECK(contains(refused([&] { device->record(same); }), "overlap"));
  // Two outputs in one place.
  KernelCode two = code();
  two.bindings[0].access = Access::kWrite;
  DispatchCommand command = dispatch(view(a, 0, 64), view(a, 0, 64));
  command.kernel = device->compile(two);
  refused_dispatch(*this, command);
}

TEST_CASE_FIXTURE(Fixture, "counts of operands, parameters and groups") {
  DispatchCommand command = dispatch(view(a, 0, 64), view(b, 0, 64));
  command.operands.pop_back();
  CHECK(contains(refused_dispatch(*this, command), "takes 2 buffers, 1 were given"));
  command = dispatch(view(a, 0, 64), view(b, 0, 64));
  command.operands.push_back(view(b, 64, 64));
  refused_dispatch(*this, command);
  command = dispatch(view(a, 0, 64), view(b, 0, 64));
  command.params.resize(8);
  CHECK(contains(refused_dispatch(*this, command), "takes 4 bytes of parameters, 8 were given"));
  for (const std::array<uint32_t, 3> groups :
       {std::array<uint32_t, 3>{0, 1, 1}, {1, 1, 0}, {1, 65536, 1}, {65536, 1, 1}}) {
    command = dispatch(view(a, 0, 64), view(b, 0, 64));
    command.groups = groups;
    CHECK(contains(refused_dispatch(*this, command), "groups on axis"));
  }
}

TEST_CASE_FIXTURE(Fixture, "copies and fills") {
  const auto refuse = [&](Operand from, Operand to) {
    CommandList list;
    list.copy(std::move(from), std::move(to), "move");
    const std::string text = refused([&] { device->record(list); });
    CHECK(contains(text, "'move'"));
    return text;
  };
  CHECK(contains(refuse(view(a, 0, 8), view(b, 0, 12)), "copies 8 bytes to 12"));
  CHECK(contains(refuse(view(a, 0, 0), view(b, 0, 0)), "empty"));
  refuse(view(a, 0, 2048), view(b, 0, 2048));
  for (const View& bad : {view(a, 0, 6), view(a, 2, 4), view(a, 1020, 8)}) {
    CommandList list;
    list.fill(bad, 0, "zero");
    CHECK(contains(refused([&] { device->record(list); }), "'zero'"));
  }
}

TEST_CASE_FIXTURE(Fixture, "slots") {
  CommandList list;
  const uint32_t x = list.add_slot(256), y = list.add_slot(256);
  list.dispatch(dispatch(SlotRef{x, 0, 256}, SlotRef{y, 4, 128}), "first");
  list.copy(view(b, 512, 16), view(b, 768, 16));
  const auto recording = device->record(list);
  const auto submit = [&](std::vector<View> slots) { queue->submit(recording, slots); };
  submit({view(a, 0, 256), view(a, 256, 256)});
  submit({view(b, 512, 256), view(a, 0, 512)});  // both only read that part of b
  CHECK(contains(refused([&] { submit({view(a, 0, 256)}); }), "has 2 slots, 1 views"));
  CHECK(contains(refused([&] { submit({}); }), "2 slots"));
  CHECK(contains(refused([&] { submit({view(a, 0, 255), view(b, 0, 256)}); }), "'first'"));
  CHECK(contains(refused([&] { submit({view(a, 2, 256), view(b, 0, 256)}); }), "multiple of 4"));
  CHECK(contains(refused([&] { submit({view(a, 900, 256), view(b, 0, 256)}); }), "out of bounds"));
  CHECK(contains(refused([&] { submit({view(a, 0, 256), view(a, 128, 256)}); }), "overlaps slot"));
  CHECK(contains(refused([&] { submit({view(a, 0, 256), view(a, 0, 256)}); }), "overlaps slot"));
  // What the recording writes through a view, and what it reads there, against a written slot.
  CHECK(contains(refused([&] { submit({view(b, 768, 256), view(a, 0, 256)}); }), "itself uses"));
  CHECK(contains(refused([&] { submit({view(a, 0, 256), view(b, 400, 256)}); }), "itself uses"));
  CHECK(contains(refused([&] { submit({View{}, view(a, 0, 256)}); }), "no buffer"));

  const auto refuse = [&](Operand from, Operand to) {
    CommandList bad;
    bad.add_slot(64);
    bad.dispatch(dispatch(std::move(from), std::move(to)), "slotted");
    const std::string text = refused([&] { device->record(bad); });
    CHECK(contains(text, "'slotted'"));
    return text;
  };
  CHECK(contains(refuse(SlotRef{1, 0, 64}, view(a, 0, 64)), "slot 1 of 1"));
  CHECK(contains(refuse(SlotRef{0, 4, 64}, view(a, 0, 64)), "out of bounds"));
  CHECK(contains(refuse(SlotRef{0, ~uint64_t{3}, 8}, view(a, 0, 64)), "out of bounds"));
  CHECK(contains(refuse(SlotRef{0, 0, 64}, SlotRef{0, 32, 32}), "overlap"));
}

TEST_CASE_FIXTURE(Fixture, "objects of another device") {
  const auto other = checked_device(open_device("null", false));
  const auto foreign = other->allocate(1024, MemoryKind::kDevice);
  CHECK(contains(refused_dispatch(*this, dispatch(view(foreign, 0, 64), view(b, 0, 64))),
                 "did not allocate"));
  DispatchCommand command = dispatch(view(a, 0, 64), view(b, 0, 64));
  command.kernel = other->compile(code());
  CHECK(contains(refused_dispatch(*this, command), "not compiled by this device"));
  CHECK(contains(refused([&] { queue->submit(other->record(CommandList())); }),
                 "not a recording of this device"));
  CHECK(contains(refused([&] { queue->submit(nullptr); }), "not a recording"));
  std::byte bytes[16];
  CHECK(contains(refused([&] { queue->write(view(foreign, 0, 16), bytes); }), "write"));
  CHECK(contains(refused([&] { queue->read(view(foreign, 0, 16), bytes); }), "read"));
  // A buffer outlives the checked device and its last user's release is seen.
  auto device2 = checked_device(open_device("null", false));
  auto orphan = device2->allocate(16, MemoryKind::kDevice);
  device2.reset();
  orphan.reset();
}

TEST_CASE_FIXTURE(Fixture, "transfers and tickets") {
  std::byte bytes[16] = {};
  CHECK(contains(refused([&] { queue->write(view(a, 0, 12), bytes); }), "12 bytes"));
  CHECK(contains(refused([&] { queue->read(view(a, 0, 20), bytes); }), "20 bytes"));
  const Ticket ticket = queue->write(view(a, 0, 16), bytes);
  CHECK(queue->write(view(a, 0, 0), {}).value <= ticket.value);
  const Ticket unknown{ticket.value + 1};
  CHECK(contains(refused([&] { queue->wait(unknown); }), "not of this queue"));
  refused([&] { queue->is_done(unknown); });
  refused([&] { queue->on_complete(unknown, [](std::exception_ptr) {}); });
  refused([&] { queue->command_times_ns(unknown); });
  refused([&] { queue->on_complete(ticket, nullptr); });
  queue->wait(ticket);
}

TEST_CASE_FIXTURE(Fixture, "allocations and adoption") {
  CHECK(contains(refused([&] { device->allocate(0, MemoryKind::kDevice); }), "0 bytes"));
  const uint64_t limit = device->caps().max_buffer_bytes;
  const std::string text =
      refused([&] { device->allocate(limit + 1, MemoryKind::kDevice); }, ErrorCode::kOutOfMemory);
  CHECK(contains(text, std::to_string(limit + 1)));
  CHECK(contains(text, "at most " + std::to_string(limit)));
  refused([&] { device->allocate(~uint64_t{0}, MemoryKind::kDevice); }, ErrorCode::kOutOfMemory);
  refused([&] { device->adopt(nullptr, 16, nullptr); });
  refused([&] { device->adopt(a->host_pointer(), 0, nullptr); });
  refused([&] { checked_device(nullptr); });
}

TEST_CASE_FIXTURE(Fixture, "kernels beyond the device's limits") {
  const auto refuse = [&](const std::function<void(KernelCode&)>& spoil) {
    KernelCode bad = code();
    spoil(bad);
    return refused([&] { device->compile(bad); });
  };
  refuse([](KernelCode& c) { c.name.clear(); });
  CHECK(contains(refuse([](KernelCode& c) { c.group_size = {0, 1, 1}; }), "'axpy'"));
  CHECK(contains(refuse([](KernelCode& c) { c.group_size = {2048, 1, 1}; }), "axis 0"));
  CHECK(contains(refuse([](KernelCode& c) { c.group_size = {64, 64, 1}; }), "4096 work-items"));
  CHECK(contains(refuse([](KernelCode& c) { c.local_bytes = 1 << 20; }), "local memory"));
  CHECK(contains(refuse([](KernelCode& c) { c.bindings.resize(65); }), "65 buffers"));
  CHECK(contains(refuse([](KernelCode& c) { c.params[0].offset_bytes = 4; }), "outside the block"));
  CHECK(contains(refuse([](KernelCode& c) { c.params[0].count = 0x40000001; }), "'n'"));
  CHECK(contains(refuse([](KernelCode& c) { c.params[0].offset_bytes = 2; }), "'n'"));
}
