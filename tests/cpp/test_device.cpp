// Registry, arena, capabilities, completion thread, and the null backend.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <optional>
#include <set>
#include <thread>

#include "core/device/arena.h"
#include "core/device/completion.h"
#include "core/device/device.h"
#include "core/device/polling.h"
#include "core/device/registry.h"

using namespace dlk;

namespace {

/// Sets an environment variable for one scope.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) before_ = old;
    setenv(name, value, 1);
  }
  ~Setting() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// A device of the null backend with other limits.
class LimitedDevice : public Device {
 public:
  LimitedDevice(uint64_t buffer_bytes, uint64_t binding_bytes) : inner_(open_device("null")) {
    caps_ = inner_->caps();
    caps_.max_buffer_bytes = buffer_bytes;
    caps_.max_binding_bytes = binding_bytes;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t size, MemoryKind kind) override {
    if (size > caps_.max_buffer_bytes) throw Error(ErrorCode::kOutOfMemory, "too much");
    return inner_->allocate(size, kind);
  }
  std::shared_ptr<Buffer> adopt(void*, uint64_t, std::shared_ptr<void>) override { return {}; }
  std::shared_ptr<Kernel> compile(KernelCode) override { return {}; }
  std::shared_ptr<Recording> record(const CommandList&, bool) override { return {}; }
  std::unique_ptr<Queue> create_queue() override { return {}; }

 private:
  std::shared_ptr<Device> inner_;
  Caps caps_;
};

class FakeBackend : public Backend {
 public:
  FakeBackend(std::string name, int priority, std::vector<Caps> caps, std::string reason = {})
      : name_(std::move(name)), priority_(priority), caps_(std::move(caps)), reason_(reason) {
    for (size_t i = 0; i < caps_.size(); ++i) caps_[i].id = name_ + ":" + std::to_string(i);
  }
  std::string name() const override { return name_; }
  int priority() const override { return priority_; }
  KernelFormat kernel_format() const override { return KernelFormat::kNone; }
  std::vector<Caps> enumerate() override { return caps_; }
  std::string unavailable_reason() override { return reason_; }
  std::shared_ptr<Device> open(uint32_t index) override {
    return index < caps_.size() ? std::make_shared<LimitedDevice>(4096, 4096) : nullptr;
  }

 private:
  std::string name_;
  int priority_;
  std::vector<Caps> caps_;
  std::string reason_;
};

}  // namespace

TEST_CASE("caps_flags lists every boolean once, with its value") {
  Caps caps;
  caps.fp64 = caps.host_import = true;
  std::set<std::string> names, on;
  for (const auto& [name, value] : caps_flags(caps)) {
    CHECK(names.insert(name).second);
    if (value) on.insert(name);
  }
  CHECK(names.size() == 20);
  CHECK(on == std::set<std::string>{"fp64", "host_import"});
}

TEST_CASE("the null backend is hidden, but opens by its id") {
  CHECK(find_backend("null") != nullptr);
  CHECK(find_backend("nul") == nullptr);
  const auto listed = [] {
    for (const Caps& caps : list_devices()) {
      if (caps.backend == "null") return true;
    }
    return false;
  };
  CHECK_FALSE(listed());
  const auto device = open_device("null");
  CHECK(device->caps().id == "null:0");
  {
    const Setting setting("DLK_ENABLE_NULL", "1");
    CHECK(listed());
    CHECK(open_device("name:KERNELS DO nothing")->caps().id == "null:0");
  }
  CHECK(contains(message_of([] { open_device("name:kernels do nothing"); }), "no device's name"));
}

TEST_CASE("one id, one device, while it lives") {
  const auto a = open_device("null"), b = open_device("null:0");
  CHECK(a == b);
  const auto raw = open_device("null:0", false);
  CHECK(raw != a);
  CHECK(raw == open_device("null", false));
  std::vector<std::future<std::shared_ptr<Device>>> others;
  for (int i = 0; i < 8; ++i) {
    others.push_back(std::async(std::launch::async, [] { return open_device("null"); }));
  }
  for (auto& other : others) CHECK(other.get() == a);
}

TEST_CASE("a device that is not there is an error that lists what is there") {
  for (const char* spec : {"metal:0", "null:1", "null:", "null:-1", "null:0x", "null:1e9", ":0",
                           "null:99999999999999", "name:", "name:no such thing", "null :0"}) {
    const std::string text = message_of([&] { open_device(spec); });
    CAPTURE(spec);
    CHECK(contains(text, "devices:"));
  }
  const Setting setting("DLK_DEVICE", "warp:9");
  const std::string text = message_of([] { open_device(); });
  CHECK(contains(text, "'warp:9' (from DLK_DEVICE)"));
}

TEST_CASE("DLK_DEVICE chooses, an explicit device wins over it") {
  const Setting setting("DLK_DEVICE", "null");
  CHECK(open_device()->caps().backend == "null");
  CHECK_THROWS_AS(open_device("null:7"), Error);
}

TEST_CASE("the default is a GPU before a CPU, then the priority; reasons are told") {
  Caps cpu, gpu;
  cpu.is_cpu = true;
  cpu.name = "Toy processor";
  gpu.name = "Toy graphics";
  register_backend(std::make_unique<FakeBackend>("toy-low", 1001, std::vector{cpu, gpu}));
  register_backend(std::make_unique<FakeBackend>("toy-high", 1002, std::vector{cpu}));
  register_backend(
      std::make_unique<FakeBackend>("toy-none", 1000, std::vector<Caps>{}, "install toys"));
  CHECK(backends().front()->name() == "toy-high");
  CHECK(list_devices()[0].id == "toy-high:0");
  CHECK(list_devices()[1].id == "toy-low:0");
  // The toys stand before real devices, of which some may be GPUs of their own priority.
  const auto chosen = open_device("name:toy GRAPH");
  CHECK(open_device() == chosen);
  CHECK(open_device("toy-low:1") == chosen);
  CHECK(contains(message_of([] { open_device("toy-none"); }),
                 "toy-none is not available: install toys"));
}

TEST_CASE("arena: aligned views that do not overlap, in few chunks") {
  Arena arena(open_device("null"), 4096);
  const View a = arena.allocate(10), b = arena.allocate(256), c = arena.allocate(1);
  CHECK(a.buffer == b.buffer);
  CHECK(a.offset_bytes == 0);
  CHECK(b.offset_bytes == 256);
  CHECK(c.offset_bytes == 512);
  CHECK(b.size_bytes == 256);
  CHECK(arena.reserved_bytes() == 4096);
  const View large = arena.allocate(10000);  // a chunk of its own
  CHECK(large.buffer != a.buffer);
  CHECK(large.buffer->size_bytes() == 10000);
  const View d = arena.allocate(3000);  // the first chunk still has room
  CHECK(d.buffer == a.buffer);
  const View e = arena.allocate(3000);
  CHECK(e.buffer != a.buffer);
  CHECK(arena.reserved_bytes() == 4096 + 10000 + 4096);
  CHECK(arena.allocate(0).buffer != nullptr);
}

TEST_CASE("arena: the device's limits hold") {
  auto device = std::make_shared<LimitedDevice>(1 << 16, 1 << 15);
  Arena arena(device, 1 << 20);
  CHECK(arena.allocate(100).buffer->size_bytes() == 1 << 16);
  CHECK(arena.allocate(1 << 15).size_bytes == 1 << 15);
  const std::string text = message_of([&] { arena.allocate((1 << 15) + 1); });
  CHECK(contains(text, "32769"));
  CHECK(contains(text, "32768"));
  CHECK_THROWS_AS(arena.allocate(~uint64_t{0}), Error);
}

TEST_CASE("arena: several threads") {
  Arena arena(open_device("null"), 1 << 16);
  std::vector<std::future<std::vector<View>>> results;
  for (int t = 0; t < 4; ++t) {
    results.push_back(std::async(std::launch::async, [&] {
      std::vector<View> views;
      for (int i = 0; i < 200; ++i) views.push_back(arena.allocate(700));
      return views;
    }));
  }
  std::set<std::pair<const Buffer*, uint64_t>> places;
  for (auto& result : results) {
    for (const View& view : result.get()) {
      CHECK(view.offset_bytes + view.size_bytes <= view.buffer->size_bytes());
      CHECK(places.emplace(view.buffer.get(), view.offset_bytes).second);
    }
  }
}

TEST_CASE("null device: transfers, copies, fills, slots, callbacks, times") {
  const auto device = open_device("null");
  auto queue = device->create_queue();
  auto a = device->allocate(64, MemoryKind::kDevice), b = device->allocate(64, MemoryKind::kUpload);
  CommandList list;
  const uint32_t slot = list.add_slot(32);
  list.fill(View{a, 0, 64}, 0x04030201);
  list.copy(View{a, 1, 8}, View{b, 3, 8});
  list.copy(View{a, 0, 4}, SlotRef{slot, 8, 4});
  const uint8_t zeros[64] = {};
  queue->write(View{b, 0, 64}, std::as_bytes(std::span(zeros)));
  const View slots[] = {View{b, 16, 32}};
  const Ticket ticket = queue->submit(device->record(list, true), slots);
  CHECK(queue->is_done(ticket));
  uint8_t bytes[64];
  queue->wait(queue->read(View{b, 0, 64}, std::as_writable_bytes(std::span(bytes))));
  CHECK(std::memcmp(bytes + 3, "\2\3\4\1\2\3\4\1", 8) == 0);
  CHECK(std::memcmp(bytes + 24, "\1\2\3\4", 4) == 0);
  CHECK(bytes[2] + bytes[11] + bytes[23] + bytes[28] == 0);
  CHECK(queue->command_times_ns(ticket) == std::vector<double>(3, 0.0));
  std::promise<bool> called;
  queue->on_complete(ticket, [&, self = std::this_thread::get_id()](std::exception_ptr error) {
    called.set_value(!error && std::this_thread::get_id() != self);
  });
  CHECK(called.get_future().get());
}

TEST_CASE("completion thread: in order, with errors, and a callback may destroy it") {
  std::vector<int> order;
  {
    CompletionThread thread;
    for (int i = 0; i < 50; ++i) {
      thread.post([] { return std::exception_ptr(); },
                  [&, i](std::exception_ptr) { order.push_back(i); });
    }
    thread.post([] { return std::make_exception_ptr(Error(ErrorCode::kDeviceLost, "lost")); },
                [&](std::exception_ptr error) { order.push_back(error ? 100 : -1); });
  }
  REQUIRE(order.size() == 51);
  for (int i = 0; i < 50; ++i) CHECK(order[i] == i);
  CHECK(order.back() == 100);

  auto self = std::make_shared<CompletionThread>();
  auto& thread = *self;
  std::promise<void> go, after;
  thread.post(
      [wait = go.get_future().share()] {
        wait.wait();
        return std::exception_ptr();
      },
      [owned = std::move(self)](std::exception_ptr) mutable { owned.reset(); });
  thread.post([] { return std::exception_ptr(); }, [&](std::exception_ptr) { after.set_value(); });
  go.set_value();
  after.get_future().wait();
}

TEST_CASE("polling sees what another thread does, and ends where it takes long") {
  std::atomic<bool> done{false};
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    done = true;
  });
  while (!poll([&] { return done.load(); })) std::this_thread::sleep_for(kPollTime);
  other.join();
  CHECK(poll([] { return true; }));
  int looks = 0;
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(poll([&] { return ++looks == 0; }));
  const auto spent = std::chrono::steady_clock::now() - begin;
  if (may_poll()) {
    CHECK(looks > 1);
    CHECK(spent >= kPollTime);
  } else {
    CHECK(looks == 1);
  }
}
