// The Vulkan backend through the device layer: what every backend must do, with kernels in GLSL.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/cpp/vulkan_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

struct Fixture {
  std::shared_ptr<Device> device = vulkan_device();
  std::unique_ptr<Queue> queue = device ? device->create_queue() : nullptr;
  explicit operator bool() const { return device != nullptr; }
};

template <typename Function>
Error error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error was thrown");
  return Error(ErrorCode::kInvalidArgument, "");
}

}  // namespace

TEST_CASE("a Vulkan device does what every device must") {
  const auto checked = conformance::test_device("vulkan");
  if (!checked) return;
  conformance::check_conformance(checked, [](const conformance::SourceKernel& kernel) {
    KernelCode code = kernel.code;
    code.format = KernelFormat::kSpirv;
    code.code = compile_glsl(kernel.glsl, code.name);
    return code;
  });
}

TEST_CASE_FIXTURE(Fixture, "axpy with base offsets, parameters pushed and in a buffer") {
  if (!device) return;
  for (const bool buffer_params : {false, true}) {
    CAPTURE(buffer_params);
    const auto kernel = device->compile(axpy_code(buffer_params));
    const uint32_t n = 1000;
    // Offsets of one element and more: below the binding alignment and above it.
    const auto arena = device->allocate(3 * 8192, MemoryKind::kDevice);
    const View x = view_of(arena, 4, n * 4), y = view_of(arena, 8192 + 20, n * 4);
    const View z = view_of(arena, 2 * 8192 + 12, n * 4), all = view_of(arena);
    upload(*queue, all, std::vector<float>(all.size_bytes / 4, -7.0f));
    upload(*queue, x, ramp(n, 0));
    upload(*queue, y, ramp(n, 5, 2));
    CommandList list;
    list.dispatch(axpy(kernel, x, y, z, n, 3.0f));
    queue->wait(queue->submit(device->record(list)));
    const std::vector<float> got = download(*queue, all);
    for (uint32_t i = 0; i < n; i++) {
      REQUIRE(got[(2 * 8192 + 12) / 4 + i] ==
              3.0f * static_cast<float>(i) + 5.0f + 2.0f * static_cast<float>(i));
    }
    CHECK(got[(2 * 8192 + 12) / 4 - 1] == -7.0f);
    CHECK(got[(2 * 8192 + 12) / 4 + n] == -7.0f);
  }
}

TEST_CASE_FIXTURE(Fixture, "slots are rebound between replays") {
  if (!device) return;
  const auto kernel = device->compile(axpy_code());
  const uint32_t n = 256;
  const View bias = floats(*device, n);
  upload(*queue, bias, ramp(n, 100));
  CommandList list;
  const uint32_t in = list.add_slot(n * 4), out = list.add_slot(n * 4);
  list.dispatch(axpy(kernel, SlotRef{in, 0, n * 4}, bias, SlotRef{out, 0, n * 4}, n, 2.0f));
  const auto recording = device->record(list);
  // More sets than the recording keeps, twice, so that both hits and misses happen.
  std::vector<View> inputs, outputs;
  for (int i = 0; i < 7; i++) {
    inputs.push_back(floats(*device, n + 8));
    inputs.back().offset_bytes = static_cast<uint64_t>(i) * 4;
    inputs.back().size_bytes = n * 4;
    outputs.push_back(floats(*device, n));
    upload(*queue, inputs.back(), ramp(n, static_cast<float>(i * 1000)));
  }
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < inputs.size(); i++) {
      const View slots[] = {inputs[i], outputs[i]};
      queue->submit(recording, slots);
      queue->submit(recording, slots);
    }
    for (size_t i = 0; i < inputs.size(); i++) {
      const std::vector<float> got = download(*queue, outputs[i]);
      for (size_t k = 0; k < n; k++) {
        REQUIRE(got[k] == 2.0f * static_cast<float>(i * 1000 + k) + 100.0f + static_cast<float>(k));
      }
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "dependent commands are ordered by their barriers") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const uint32_t n = 4096;
  const View x = floats(*device, n), y = floats(*device, n);
  CommandList list;
  list.fill(x, 0);
  for (int i = 0; i < 10; i++) list.dispatch(step(kernel, x, n, 2.0f));
  list.copy(x, y);
  list.dispatch(step(kernel, y, n, 1.0f));
  for (size_t i = 1; i < list.commands().size(); i++) CHECK(list.commands()[i].barrier_before);
  const auto recording = device->record(list);
  for (int i = 0; i < 3; i++) queue->submit(recording);
  CHECK(download(*queue, x) == std::vector<float>(n, 1023.0f));
  CHECK(download(*queue, y) == std::vector<float>(n, 1024.0f));
}

TEST_CASE_FIXTURE(Fixture, "copies and fills of odd ranges") {
  if (!device) return;
  const auto buffer = device->allocate(256, MemoryKind::kDevice);
  std::vector<uint8_t> bytes(256);
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(i);
  queue->write(view_of(buffer), std::as_bytes(std::span(bytes)));
  CommandList list;
  list.copy(view_of(buffer, 1, 13), view_of(buffer, 101, 13));
  list.fill(view_of(buffer, 200, 8), 0x04030201);
  queue->submit(device->record(list));
  std::vector<uint8_t> got(256);
  queue->wait(queue->read(view_of(buffer), std::as_writable_bytes(std::span(got))));
  std::copy(bytes.begin() + 1, bytes.begin() + 14, bytes.begin() + 101);
  for (size_t i = 0; i < 8; i++) bytes[200 + i] = static_cast<uint8_t>(i % 4 + 1);
  CHECK(got == bytes);
}

TEST_CASE_FIXTURE(Fixture, "writes and reads are ordered with running work") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const uint32_t n = 1024;
  const View x = floats(*device, n);
  CommandList list;
  list.dispatch(step(kernel, x, n, 1.0f, 20000));
  const auto recording = device->record(list);
  std::vector<std::vector<float>> results(4, std::vector<float>(n));
  Ticket last;
  for (size_t i = 0; i < results.size(); i++) {
    // The write must not overtake the kernel that still uses the buffer, nor the read.
    upload(*queue, x, std::vector<float>(n, static_cast<float>(i)));
    queue->submit(recording);
    last = queue->read(x, std::as_writable_bytes(std::span(results[i])));
  }
  queue->wait(last);
  CHECK(queue->is_done(last));
  for (size_t i = 0; i < results.size(); i++) {
    CHECK(results[i] == std::vector<float>(n, static_cast<float>(i) + 20000.0f));
  }
}

TEST_CASE_FIXTURE(Fixture, "two queues run side by side") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const uint32_t n = 2048;
  const auto work = [&](float start) {
    const auto mine = device->create_queue();
    const View x = floats(*device, n);
    CommandList list;
    list.dispatch(step(kernel, x, n, 1.0f));
    list.dispatch(step(kernel, x, n, 1.0f));
    const auto recording = device->record(list);
    for (int i = 0; i < 20; i++) {
      upload(*mine, x, std::vector<float>(n, start));
      mine->submit(recording);
      if (download(*mine, x) != std::vector<float>(n, start + 2.0f)) return false;
    }
    return true;
  };
  bool first = false, second = false;
  std::thread a([&] { first = work(1.0f); }), b([&] { second = work(100.0f); });
  a.join();
  b.join();
  CHECK(first);
  CHECK(second);
}

TEST_CASE_FIXTURE(Fixture, "threads record in parallel and another submits") {
  if (!device) return;
  const auto kernel = device->compile(axpy_code(true));
  const uint32_t n = 512;
  const size_t count = 24;
  const View x = floats(*device, n), y = floats(*device, n);
  upload(*queue, x, ramp(n, 1));
  upload(*queue, y, ramp(n, 2));
  std::vector<View> outputs;
  for (size_t i = 0; i < count; i++) outputs.push_back(floats(*device, n));
  std::vector<std::shared_ptr<Recording>> recordings(count);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < count; i += 4) {
        CommandList list;
        list.dispatch(axpy(kernel, x, y, outputs[i], n, static_cast<float>(i)));
        recordings[i] = device->record(list);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& recording : recordings) queue->submit(recording);
  recordings.clear();  // the queue keeps them
  for (size_t i = 0; i < count; i++) {
    CHECK(download(*queue, outputs[i])[10] == static_cast<float>(i) * 11.0f + 12.0f);
  }
}

TEST_CASE_FIXTURE(Fixture, "threads compile in parallel") {
  if (!device) return;
  const KernelCode push = axpy_code(false), buffer = axpy_code(true), other = step_code();
  std::atomic<int> built{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (const KernelCode* code : {&push, &buffer, &other}) {
        if (device->compile(*code)) built++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(built == 12);
}

TEST_CASE_FIXTURE(Fixture, "callbacks come once, after the work, and may use the queue") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const uint32_t n = 256;
  const View x = floats(*device, n);
  CommandList list;
  list.fill(x, 0);
  list.dispatch(step(kernel, x, n, 1.0f, 1000));
  const auto recording = device->record(list);
  std::mutex mutex;
  std::condition_variable changed;
  int calls = 0;
  std::vector<float> result(n);
  queue->submit(recording);
  const Ticket ticket = queue->read(x, std::as_writable_bytes(std::span(result)));
  queue->on_complete(ticket, [&](std::exception_ptr error) {
    const bool done = queue->is_done(ticket) && !error && result[5] == 1000.0f;
    std::lock_guard lock(mutex);
    calls += done ? 1 : 100;
    changed.notify_all();
  });
  queue->on_complete(Ticket{0}, [&](std::exception_ptr) {
    std::lock_guard lock(mutex);
    calls++;
    changed.notify_all();
  });
  std::unique_lock lock(mutex);
  CHECK(changed.wait_for(lock, std::chrono::seconds(20), [&] { return calls >= 2; }));
  CHECK(calls == 2);
}

TEST_CASE_FIXTURE(Fixture, "a queue that goes away runs its callbacks first") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const View x = floats(*device, 256);
  CommandList list;
  list.fill(x, 0);
  list.dispatch(step(kernel, x, 256, 1.0f, 100000));
  std::atomic<int> calls{0};
  const Ticket ticket = queue->submit(device->record(list));
  queue->on_complete(ticket, [&](std::exception_ptr) { calls++; });
  queue.reset();
  CHECK(calls == 1);
}

TEST_CASE_FIXTURE(Fixture, "what running work uses may be dropped") {
  if (!device) return;
  std::vector<float> result(4096);
  Ticket ticket;
  {
    auto kernel = device->compile(step_code());
    const View x = floats(*device, result.size());
    CommandList list;
    const uint32_t slot = list.add_slot(x.size_bytes);
    const auto n = static_cast<uint32_t>(result.size());
    list.fill(SlotRef{slot, 0, x.size_bytes}, 0);
    list.dispatch(step(kernel, SlotRef{slot, 0, x.size_bytes}, n, 1.0f, 20000));
    const View slots[] = {x};
    queue->submit(device->record(list), slots);
    ticket = queue->read(x, std::as_writable_bytes(std::span(result)));
  }
  device.reset();
  queue->wait(ticket);
  CHECK(result == std::vector<float>(result.size(), 20000.0f));
}

TEST_CASE_FIXTURE(Fixture, "profiled recordings give a time for each command") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const View x = floats(*device, 65536);
  CommandList list;
  list.fill(x, 0);
  list.dispatch(step(kernel, x, 65536, 1.0f, 10));
  list.dispatch(step(kernel, x, 65536, 1.0f, 2000));
  REQUIRE(device->caps().timestamps);
  const auto recording = device->record(list, true);
  const Ticket first = queue->submit(recording), second = queue->submit(recording);
  queue->wait(second);
  for (const Ticket ticket : {first, second}) {
    const std::vector<double> times = queue->command_times_ns(ticket);
    REQUIRE(times.size() == 3);
    for (const double time : times) CHECK(time >= 0.0);
    CHECK(times[2] > times[1]);
  }
  const Ticket plain = queue->submit(device->record(list));
  queue->wait(plain);
  const Error error = error_of([&] { queue->command_times_ns(plain); });
  CHECK(error.code() == ErrorCode::kInvalidArgument);
}

TEST_CASE_FIXTURE(Fixture, "code that is not SPIR-V does not compile") {
  if (!device) return;
  KernelCode text = axpy_code();
  text.code = "this is no SPIR-V";
  KernelCode cut = axpy_code();
  cut.code.resize(cut.code.size() / 8 * 4);
  KernelCode damaged = axpy_code();
  for (size_t i = 40; i < damaged.code.size(); i++) damaged.code[i] = '\xee';
  KernelCode empty = axpy_code();
  empty.code.clear();
  for (const KernelCode* code : {&text, &cut, &damaged, &empty}) {
    const Error error = error_of([&] { device->compile(*code); });
    CHECK(error.code() == ErrorCode::kCompileFailed);
    CHECK(std::string(error.what()).find("axpy") != std::string::npos);
  }
}

TEST_CASE_FIXTURE(Fixture, "an allocation beyond the limit says how large it may be") {
  if (!device) return;
  const uint64_t limit = device->caps().max_buffer_bytes;
  const Error error = error_of([&] { device->allocate(limit + 1, MemoryKind::kDevice); });
  CHECK(error.code() == ErrorCode::kOutOfMemory);
  CHECK(std::string(error.what()).find(std::to_string(limit + 1)) != std::string::npos);
  CHECK(std::string(error.what()).find(std::to_string(limit)) != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "memory kinds are mapped as promised") {
  if (!device) return;
  for (const MemoryKind kind : {MemoryKind::kUpload, MemoryKind::kReadback}) {
    CHECK(device->allocate(100, kind)->host_pointer() != nullptr);
  }
  CHECK((device->allocate(100, MemoryKind::kDevice)->host_pointer() != nullptr) ==
        device->caps().unified_memory);
  CHECK(device->allocate(0, MemoryKind::kDevice)->size_bytes() == 0);
}

TEST_CASE_FIXTURE(Fixture, "adopted host memory is used in place") {
  if (!device || !device->caps().host_import) return;
  const auto kernel = device->compile(step_code());
  auto* memory = new std::vector<float>(5000);
  std::atomic<bool> released{false};
  std::shared_ptr<void> owner(memory, [&](void* data) {
    released = true;
    delete static_cast<std::vector<float>*>(data);
  });
  // Not at a page: the backend imports the pages around it.
  float* data = memory->data();
  while (reinterpret_cast<uintptr_t>(data) % 64) data++;
  std::fill(data, data + 4096, 3.0f);
  auto buffer = device->adopt(data, 4096 * 4, std::move(owner));
  CHECK(buffer->host_pointer() == data);
  CommandList list;
  list.dispatch(step(kernel, view_of(buffer), 4096, 2.0f));
  queue->wait(queue->submit(device->record(list)));
  CHECK(data[0] == 7.0f);
  CHECK(data[4095] == 7.0f);
  list = CommandList();
  CHECK_FALSE(released);
  buffer.reset();
  CHECK(released);
}

TEST_CASE("validation found nothing to report") { CHECK(vulkan_validation_error_count() == 0); }
