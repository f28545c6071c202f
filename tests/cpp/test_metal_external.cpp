// A dlk device on an application's own Metal objects, and events that order both. The test plays
// the application: it sends Objective-C messages by itself. Does nothing in builds without Metal.
#include <doctest/doctest.h>

#include <thread>

#include "backends/metal/external.h"
#include "core/device/checked.h"
#include "tests/cpp/device_conformance.h"

extern "C" {
[[gnu::weak]] void* MTLCreateSystemDefaultDevice();
[[gnu::weak]] void objc_msgSend();
[[gnu::weak]] void* sel_registerName(const char* name);
}
namespace dlk {
[[gnu::weak]] std::shared_ptr<Buffer> wrap_metal_buffer(Device& device, void* buffer);
[[gnu::weak]] void* metal_ticket_event(Queue& queue);
[[gnu::weak]] void metal_wait_for_event(Queue& queue, void* event, uint64_t value);
}  // namespace dlk

using namespace dlk;
using namespace dlk::conformance;

namespace {

template <typename Result = void*, typename... Arguments>
Result send(void* object, const char* selector, Arguments... arguments) {
  using Message = Result (*)(void*, void*, Arguments...);
  return reinterpret_cast<Message>(&objc_msgSend)(object, sel_registerName(selector), arguments...);
}

/// What an application owns: released at the end, after everything of dlk's.
struct App {
  void* device = nullptr;
  void* queue = nullptr;
  void* buffer = nullptr;
  void* event = nullptr;
  ~App() {
    for (void* object : {event, buffer, queue, device}) {
      if (object) send<void>(object, "release");
    }
  }
};

Backend* metal_backend() {
  if (&MTLCreateSystemDefaultDevice == nullptr) return nullptr;
  for (const char* name : {"metal-sim", "metal"}) {
    Backend* found = find_backend(name);
    if (found && !found->enumerate().empty()) return found;
  }
  return nullptr;
}

constexpr char kAxpb[] = R"(#include <metal_stdlib>
using namespace metal;
struct block { uint n; float a; float b; };
kernel void axpb(device const float* X [[buffer(0)]], device float* Y [[buffer(1)]],
                 constant block& p [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < p.n) Y[i] = p.a * X[i] + p.b;
})";

std::shared_ptr<Kernel> axpb_of(Device& device) {
  KernelCode code = axpb_kernel().code;
  code.format = KernelFormat::kMsl;
  code.code = kAxpb;
  return device.compile(code);
}

}  // namespace

TEST_CASE("work on an application's device, queue and buffer") {
  Backend* backend = metal_backend();
  if (!backend) {
    for (const char* name : {"metal", "metal-sim"}) CHECK_FALSE(required(name));
    MESSAGE("SKIPPED, no Metal");
    return;
  }
  App app;
  app.device = MTLCreateSystemDefaultDevice();
  app.queue = send(app.device, "newCommandQueue");
  app.buffer = send(app.device, "newBufferWithLength:options:", uintptr_t{4096}, uintptr_t{0});
  NativeDevice native;
  native.device = app.device;
  native.queue = app.queue;
  const auto device = backend->wrap(native);
  const Fixture f{device, axpb_of(*device), nullptr};
  const auto shared = wrap_metal_buffer(*device, app.buffer);
  CHECK(shared->size_bytes() == 4096);
  REQUIRE(shared->host_pointer() == send(app.buffer, "contents"));
  auto* floats_of_app = static_cast<float*>(shared->host_pointer());
  std::iota(floats_of_app, floats_of_app + 1024, 0.0f);
  {
    const auto queue = device->create_queue();
    const auto out = allocate_floats(f, 1024);
    CommandList list;
    list.dispatch(axpb(f, whole(shared), whole(out), 1024, 2, 1));
    list.copy(whole(out), whole(shared));
    const Ticket ticket = queue->submit(device->record(list));
    queue->wait(ticket);
    CHECK(floats_of_app[1023] == 2047);
    CHECK(send<uint64_t>(metal_ticket_event(*queue), "signaledValue") >= ticket.value);
    check_hazards(f);
  }
  CHECK_THROWS_AS(backend->wrap(NativeDevice{}), Error);
}

TEST_CASE("work that waits for an application's event") {
  Backend* backend = metal_backend();
  if (!backend) return;
  App app;
  app.device = MTLCreateSystemDefaultDevice();
  app.event = send(app.device, "newSharedEvent");
  const auto device = backend->open(0);
  const Fixture f{device, axpb_of(*device), nullptr};
  const auto queue = device->create_queue();
  const auto x = allocate_floats(f, 64);
  upload(*queue, whole(x), std::vector<float>(64, 1.0f));
  metal_wait_for_event(*queue, app.event, 3);
  CommandList list;
  list.dispatch(axpb(f, whole(x), whole(x), 64, 2, 0));
  const Ticket ticket = queue->submit(device->record(list));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_FALSE(queue->is_done(ticket));
  send<void>(app.event, "setSignaledValue:", uint64_t{3});
  queue->wait(ticket);
  CHECK(download(*queue, whole(x)) == std::vector<float>(64, 2.0f));
  const auto checked = checked_device(device);
  const auto other = checked->create_queue();
  CHECK_THROWS_AS(metal_ticket_event(*other), Error);
}
