// What every backend must do, checked on a device: order, hazards, slots, transfers, limits,
// lifetimes, threads, callbacks, times. A backend's test opens its device with `test_device`, turns
// the kernels below into its own format and calls `check_conformance`. Includes doctest.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/device/device.h"
#include "core/device/registry.h"

namespace dlk::conformance {

/// True where DLK_REQUIRE, a comma-separated list, names the backend.
inline bool required(const std::string& backend) {
  const char* list = std::getenv("DLK_REQUIRE");
  return list && ("," + std::string(list) + ",").find("," + backend + ",") != std::string::npos;
}

/// Device 0 of the backend (or the one that DLK_DEVICE names, if it is the backend's), checked.
/// Without a device: fails where DLK_REQUIRE names the backend, else says so and returns nullptr.
inline std::shared_ptr<Device> test_device(const std::string& backend) {
  const char* chosen = std::getenv("DLK_DEVICE");
  const bool ours = chosen && std::string(chosen).rfind(backend + ":", 0) == 0;
  Backend* found = find_backend(backend);
  if (found && !found->enumerate().empty()) {
    return open_device(ours ? chosen : backend + ":0", true);
  }
  const std::string reason = found ? found->unavailable_reason() : "not in this build";
  if (required(backend)) FAIL("DLK_REQUIRE names ", backend, ": ", reason);
  MESSAGE("SKIPPED, no ", backend, " device: ", reason);
  return nullptr;
}

/// A kernel in each language; `code.code` is to be filled from one of them.
struct SourceKernel {
  KernelCode code;
  std::string opencl_c;
  std::string glsl;
};

/// Y[i] = a * X[i] + b.
inline SourceKernel axpb_kernel() {
  SourceKernel k;
  k.code.name = "axpb";
  k.code.bindings = {{"X", Access::kRead, 4}, {"Y", Access::kWrite, 4}};
  k.code.params = {{"n", 'u', 1, 0}, {"a", 'f', 1, 4}, {"b", 'f', 1, 8}};
  k.code.param_bytes = 12;
  k.code.group_size = {64, 1, 1};
  k.opencl_c = R"(
__kernel void axpb(__global const float* X, ulong X_base, __global float* Y, ulong Y_base,
                   uint n, float a, float b) {
  uint i = get_global_id(0);
  if (i < n) Y[Y_base + i] = a * X[X_base + i] + b;
})";
  k.glsl = R"(#version 450
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer B0 { float x[]; };
layout(set = 0, binding = 1, std430) buffer B1 { float y[]; };
layout(push_constant) uniform P { uint x_base; uint y_base; uint n; float a; float b; } p;
void main() {
  uint i = gl_GlobalInvocationID.x;
  if (i < p.n) y[p.y_base + i] = p.a * x[p.x_base + i] + p.b;
})";
  return k;
}

/// Y[i] = sum of w[k] * (i + k), with a four-element array parameter and one uint8 input.
inline SourceKernel array_kernel() {
  SourceKernel k;
  k.code.name = "weigh";
  k.code.bindings = {{"Y", Access::kWrite, 4}};
  k.code.params = {{"n", 'u', 1, 0}, {"w", 'i', 4, 4}};
  k.code.param_bytes = 20;
  k.code.group_size = {16, 1, 1};
  k.opencl_c = R"(
__kernel void weigh(__global int* Y, ulong Y_base, uint n, int w0, int w1, int w2, int w3) {
  int i = (int)get_global_id(0);
  if (i < (int)n) Y[Y_base + i] = w0 * i + w1 * (i + 1) + w2 * (i + 2) + w3 * (i + 3);
})";
  k.glsl = R"(#version 450
layout(local_size_x = 16) in;
layout(set = 0, binding = 0, std430) buffer B0 { int y[]; };
layout(push_constant) uniform P { uint y_base; uint n; int w0; int w1; int w2; int w3; } p;
void main() {
  int i = int(gl_GlobalInvocationID.x);
  if (i < int(p.n)) y[p.y_base + i] = p.w0 * i + p.w1 * (i + 1) + p.w2 * (i + 2) + p.w3 * (i + 3);
})";
  return k;
}

/// Turns a kernel into the device's format: sets `format` and `code`.
using Compiler = std::function<KernelCode(const SourceKernel&)>;

struct Fixture {
  std::shared_ptr<Device> device;
  std::shared_ptr<Kernel> axpb, weigh;
};

inline View whole(const std::shared_ptr<Buffer>& buffer) {
  return {buffer, 0, buffer->size_bytes()};
}
inline View floats(const std::shared_ptr<Buffer>& buffer, uint64_t first, uint64_t count) {
  return {buffer, first * 4, count * 4};
}
inline std::shared_ptr<Buffer> allocate_floats(const Fixture& f, uint64_t count,
                                               MemoryKind kind = MemoryKind::kDevice) {
  return f.device->allocate(count * 4, kind);
}
inline std::vector<float> ramp(size_t count, float start = 0) {
  std::vector<float> v(count);
  std::iota(v.begin(), v.end(), start);
  return v;
}
template <typename T>
void upload(Queue& queue, const View& view, const std::vector<T>& values) {
  queue.write(view, std::as_bytes(std::span(values)));
}
template <typename T = float>
std::vector<T> download(Queue& queue, const View& view) {
  std::vector<T> values(view.size_bytes / sizeof(T));
  queue.wait(queue.read(view, std::as_writable_bytes(std::span(values))));
  return values;
}
inline DispatchCommand axpb(const Fixture& f, Operand x, Operand y, uint32_t n, float a, float b) {
  std::vector<std::byte> params(12);
  std::memcpy(params.data(), &n, 4);
  std::memcpy(params.data() + 4, &a, 4);
  std::memcpy(params.data() + 8, &b, 4);
  return {f.axpb, {std::move(x), std::move(y)}, std::move(params), {(n + 63) / 64, 1, 1}};
}

inline void check_transfers(const Fixture& f) {
  auto queue = f.device->create_queue();
  for (const MemoryKind kind :
       {MemoryKind::kDevice, MemoryKind::kUpload, MemoryKind::kReadback, MemoryKind::kInput}) {
    auto buffer = f.device->allocate(4097, kind);
    std::vector<uint8_t> bytes(4097);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
    upload(*queue, whole(buffer), bytes);
    CHECK(download<uint8_t>(*queue, whole(buffer)) == bytes);
    // One byte in the middle; its neighbours stay.
    upload(*queue, View{buffer, 1001, 1}, std::vector<uint8_t>{255});
    bytes[1001] = 255;
    CHECK(download<uint8_t>(*queue, View{buffer, 997, 11}) ==
          std::vector<uint8_t>(bytes.begin() + 997, bytes.begin() + 1008));
  }
  // The source may change at once; large enough to be in flight.
  auto buffer = allocate_floats(f, 1 << 20);
  std::vector<float> values = ramp(1 << 20);
  const auto expected = values;
  const Ticket written = queue->write(whole(buffer), std::as_bytes(std::span(values)));
  std::fill(values.begin(), values.end(), -1.0f);
  queue->wait(written);
  CHECK(download(*queue, whole(buffer)) == expected);
}

inline void check_dispatch_offsets(const Fixture& f) {
  auto queue = f.device->create_queue();
  auto in = allocate_floats(f, 1000), out = allocate_floats(f, 1000);
  upload(*queue, whole(in), ramp(1000));
  // Odd offsets and sizes, and guard words around the output.
  for (const uint32_t offset : {0u, 1u, 3u, 17u, 64u, 333u}) {
    upload(*queue, whole(out), std::vector<float>(1000, -7.0f));
    CommandList list;
    const uint32_t n = 100 + offset % 13;
    list.dispatch(axpb(f, floats(in, 2 * offset, n), floats(out, offset, n), n, 2, 1));
    queue->submit(f.device->record(list));
    const auto result = download(*queue, whole(out));
    for (uint32_t i = 0; i < 1000; ++i) {
      const bool inside = i >= offset && i < offset + n;
      const float expected = inside ? 2 * static_cast<float>(2 * offset + i - offset) + 1 : -7.0f;
      REQUIRE_MESSAGE(result[i] == expected, "offset ", offset, " element ", i);
    }
  }
}

inline void check_array_params(const Fixture& f) {
  auto queue = f.device->create_queue();
  auto out = allocate_floats(f, 100);
  std::vector<std::byte> params(20);
  const uint32_t n = 90;
  const int32_t w[4] = {1, -10, 100, 1000};
  std::memcpy(params.data(), &n, 4);
  std::memcpy(params.data() + 4, w, 16);
  CommandList list;
  list.fill(whole(out), 0xffffffffu);
  list.dispatch({f.weigh, {floats(out, 5, 90)}, params, {6, 1, 1}});
  queue->submit(f.device->record(list));
  const auto result = download<int32_t>(*queue, whole(out));
  for (int i = 0; i < 100; ++i) {
    const int k = i - 5;
    const bool inside = k >= 0 && k < 90;
    CHECK(result[i] == (inside ? k - 10 * (k + 1) + 100 * (k + 2) + 1000 * (k + 3) : -1));
  }
}

inline void check_copies_and_fills(const Fixture& f) {
  auto queue = f.device->create_queue();
  auto a = allocate_floats(f, 256), b = f.device->allocate(1027, MemoryKind::kDevice);
  upload(*queue, whole(a), ramp(256));
  CommandList list;
  list.fill(View{b, 0, 1024}, 0x01020304u);
  list.copy(View{a, 5, 100}, View{b, 1024 - 97, 100});  // unaligned, ends at byte 1027
  list.copy(floats(a, 0, 10), floats(a, 100, 10));      // inside one buffer
  list.fill(floats(a, 40, 3), 0x40490fdbu);
  queue->submit(f.device->record(list));
  auto expected_a = ramp(256);
  std::vector<uint8_t> expected_b(1027);
  for (size_t i = 0; i < 1024; ++i) expected_b[i] = static_cast<uint8_t>(4 - i % 4);
  std::memcpy(expected_b.data() + 1024 - 97, reinterpret_cast<uint8_t*>(expected_a.data()) + 5,
              100);
  std::copy_n(ramp(10).begin(), 10, expected_a.begin() + 100);
  std::fill_n(expected_a.begin() + 40, 3, 3.14159274f);
  CHECK(download<uint8_t>(*queue, whole(b)) == expected_b);
  CHECK(download(*queue, whole(a)) == expected_a);
}

/// Long chains in which each command needs the one before: read after write, write after read and
/// write after write, between dispatches, copies and fills, on enough data to overlap.
inline void check_hazards(const Fixture& f) {
  constexpr uint32_t kCount = 1 << 17;
  auto queue = f.device->create_queue();
  auto a = allocate_floats(f, kCount), b = allocate_floats(f, kCount);
  upload(*queue, whole(a), ramp(kCount));
  CommandList list;
  for (int i = 0; i < 20; ++i) {
    list.dispatch(axpb(f, whole(a), whole(b), kCount, 1, 1), "a to b");  // b = a + 1
    list.fill(whole(a), 0);                                              // write after read
    list.copy(whole(b), whole(a));                                       // write after write
    list.dispatch(axpb(f, whole(a), whole(a), kCount, 1, 1), "in place");
  }
  queue->submit(f.device->record(list));
  auto expected = ramp(kCount, 40);
  CHECK(download(*queue, whole(a)) == expected);
  // Across submissions: the queue's order is enough.
  CommandList step;
  step.dispatch(axpb(f, whole(a), whole(b), kCount, 1, 1));
  step.dispatch(axpb(f, whole(b), whole(a), kCount, 1, -3));
  const auto recording = f.device->record(step);
  for (int i = 0; i < 20; ++i) queue->submit(recording);
  CHECK(download(*queue, whole(a)) == ramp(kCount, 0));
  // A write is ordered before what follows it and after what precedes it.
  upload(*queue, whole(a), ramp(kCount, 5));
  queue->submit(recording);
  upload(*queue, whole(a), ramp(kCount, 9));
  CHECK(download(*queue, whole(b)) == ramp(kCount, 6));
  CHECK(download(*queue, whole(a)) == ramp(kCount, 9));
}

inline void check_slots(const Fixture& f) {
  auto queue = f.device->create_queue();
  auto scratch = allocate_floats(f, 64);
  std::vector<std::shared_ptr<Buffer>> in, out;
  CommandList list;
  const uint32_t x = list.add_slot(128 * 4), y = list.add_slot(130 * 4);
  list.dispatch(axpb(f, SlotRef{x, 64 * 4, 64 * 4}, whole(scratch), 64, 10, 0));
  list.dispatch(axpb(f, whole(scratch), SlotRef{y, 3 * 4, 64 * 4}, 64, 1, 1));
  list.copy(SlotRef{x, 0, 8}, SlotRef{y, 100 * 4, 8});
  list.fill(SlotRef{y, 0, 4}, 0);
  const auto recording = f.device->record(list);
  // Bound to something else each time, without waiting in between.
  for (int i = 0; i < 12; ++i) {
    in.push_back(allocate_floats(f, 256));
    out.push_back(allocate_floats(f, 256));
    upload(*queue, whole(in[i]), ramp(256, static_cast<float>(1000 * i)));
    upload(*queue, whole(out[i]), std::vector<float>(256, -1.0f));
    const View slots[] = {floats(in[i], i, 128), floats(out[i], 2 * i, 130)};
    queue->submit(recording, slots);
  }
  for (int i = 0; i < 12; ++i) {
    std::vector<float> expected(256, -1.0f);
    expected[2 * i] = 0;
    for (int k = 0; k < 64; ++k) {
      expected[2 * i + 3 + k] = 10.0f * static_cast<float>(1000 * i + i + 64 + k) + 1;
    }
    for (int k = 0; k < 2; ++k) {
      expected[2 * i + 100 + k] = static_cast<float>(1000 * i + i + k);
    }
    CHECK(download(*queue, whole(out[i])) == expected);
  }
}

/// What is held back goes together, in order, and no later than somebody asks for it.
inline void check_hold(const Fixture& f) {
  constexpr uint32_t kCount = 3000;
  auto queue = f.device->create_queue();
  auto in = allocate_floats(f, kCount, MemoryKind::kInput), out = allocate_floats(f, kCount);
  CommandList list;
  list.dispatch(axpb(f, whole(in), whole(out), kCount, 2, 1));
  const auto recording = f.device->record(list);
  const auto expected = [](int i) {
    std::vector<float> values(kCount);
    for (uint32_t k = 0; k < kCount; ++k) values[k] = 2.0f * static_cast<float>(i + k) + 1;
    return values;
  };
  std::vector<std::vector<float>> results(12, std::vector<float>(kCount, -1));
  const auto start = [&](int i) {
    std::vector<float> values = ramp(kCount, static_cast<float>(i));
    upload(*queue, whole(in), values);
    std::fill(values.begin(), values.end(), -5.0f);  // the source is free again
    queue->submit(recording);
    return queue->read(whole(out), std::as_writable_bytes(std::span(results[i])));
  };
  for (const int first : {0, 6}) {
    queue->hold(true);
    std::vector<Ticket> tickets;
    for (int i = first; i < first + 3; ++i) tickets.push_back(start(i));
    queue->wait(tickets[1]);  // hands over all so far
    CHECK(results[first] == expected(first));
    CHECK(results[first + 1] == expected(first + 1));
    tickets.push_back(start(first + 3));
    while (!queue->is_done(tickets[3])) std::this_thread::yield();
    CHECK(results[first + 3] == expected(first + 3));
    tickets.push_back(start(first + 4));
    std::promise<void> called;
    queue->on_complete(tickets[4], [&](const std::exception_ptr&) { called.set_value(); });
    called.get_future().wait();
    tickets.push_back(start(first + 5));
    queue->hold(false);
    queue->wait(tickets[5]);
    for (int i = first; i < first + 6; ++i) CHECK(results[i] == expected(i));
  }
  // A queue that goes away while it holds something back runs it.
  upload(*queue, whole(in), ramp(kCount, 77));
  queue->hold(true);
  queue->submit(recording);
  queue.reset();
  auto other = f.device->create_queue();
  CHECK(download(*other, whole(out)) == expected(77));
}

inline void check_limits(const Fixture& f) {
  const Caps& caps = f.device->caps();
  try {
    f.device->allocate(caps.max_buffer_bytes + 4096, MemoryKind::kDevice);
    FAIL("a buffer beyond the limit was allocated");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kOutOfMemory);
    const std::string text = error.what();
    CHECK(text.find(std::to_string(caps.max_buffer_bytes + 4096)) != std::string::npos);
    CHECK(text.find(std::to_string(caps.max_buffer_bytes)) != std::string::npos);
  }
  // A view as large as one argument may be (up to 192 MiB), at the end of a larger buffer.
  const uint64_t room = std::min<uint64_t>(caps.max_buffer_bytes, uint64_t{256} << 20) & ~255ull;
  const uint64_t reach = std::min<uint64_t>(caps.max_binding_bytes, room) & ~255ull;
  auto queue = f.device->create_queue();
  auto buffer = f.device->allocate(room, MemoryKind::kDevice);
  auto small = allocate_floats(f, 64);
  const View view{buffer, room - reach, reach};
  CommandList list;
  list.fill(View{buffer, 0, room}, 0x3f800000u);
  // Reads at the far end of the view: its last 64 floats, addressed from a base that large.
  list.dispatch(axpb(f, View{buffer, room - 256, 256}, whole(small), 64, 3, 4));
  list.dispatch(axpb(f, whole(small), View{buffer, room - 512, 256}, 64, 2, 0));
  queue->submit(f.device->record(list));
  CHECK(download(*queue, whole(small)) == std::vector<float>(64, 7.0f));
  CHECK(download(*queue, View{buffer, room - 512, 256}) == std::vector<float>(64, 14.0f));
  CHECK(download(*queue, View{buffer, room - 256, 256}) == std::vector<float>(64, 1.0f));
  CommandList wide;
  wide.dispatch(axpb(f, view, whole(small), 64, 1, 1));
  queue->submit(f.device->record(wide));
  CHECK(download(*queue, floats(small, 0, 1))[0] == 2);
}

inline void check_queues_and_threads(const Fixture& f) {
  constexpr uint32_t kCount = 5000;
  const auto work = [&](int seed) {
    auto queue = f.device->create_queue();
    auto a = allocate_floats(f, kCount), b = allocate_floats(f, kCount);
    bool ok = true;
    for (int round = 0; round < 10; ++round) {
      const float start = static_cast<float>(seed * 100 + round);
      upload(*queue, whole(a), ramp(kCount, start));
      CommandList list;
      for (int i = 0; i < 4; ++i) {
        list.dispatch(axpb(f, whole(a), whole(b), kCount, 1, 1));
        list.dispatch(axpb(f, whole(b), whole(a), kCount, 1, 1));
      }
      queue->submit(f.device->record(list));
      ok &= download(*queue, whole(a)) == ramp(kCount, start + 8);
    }
    return ok;
  };
  std::vector<std::future<bool>> results;
  for (int i = 0; i < 3; ++i) results.push_back(std::async(std::launch::async, work, i));
  for (auto& result : results) CHECK(result.get());

  // Threads record, this one submits.
  auto queue = f.device->create_queue();
  auto a = allocate_floats(f, kCount);
  upload(*queue, whole(a), ramp(kCount));
  std::vector<std::future<std::shared_ptr<Recording>>> recordings;
  for (int i = 0; i < 8; ++i) {
    recordings.push_back(std::async(std::launch::async, [&f, a] {
      CommandList list;
      for (int k = 0; k < 5; ++k) list.dispatch(axpb(f, whole(a), whole(a), kCount, 1, 1));
      return f.device->record(list);
    }));
  }
  for (auto& recording : recordings) queue->submit(recording.get());
  CHECK(download(*queue, whole(a)) == ramp(kCount, 40));
}

/// One recording on two queues at once, each with its own slots.
inline void check_shared_recording(const Fixture& f) {
  CommandList list;
  const uint32_t x = list.add_slot(4096), y = list.add_slot(4096);
  list.dispatch(axpb(f, SlotRef{x, 0, 4096}, SlotRef{y, 0, 4096}, 1024, 1, 1));
  const auto recording = f.device->record(list);
  const auto work = [&](float start) {
    auto queue = f.device->create_queue();
    auto a = allocate_floats(f, 1024), b = allocate_floats(f, 1024);
    upload(*queue, whole(a), ramp(1024, start));
    for (int i = 0; i < 20; ++i) {
      const View forth[] = {whole(a), whole(b)}, back[] = {whole(b), whole(a)};
      queue->submit(recording, forth);
      queue->submit(recording, back);
    }
    return download(*queue, whole(a)) == ramp(1024, start + 40);
  };
  auto other = std::async(std::launch::async, work, 100.0f);
  CHECK(work(0.0f));
  CHECK(other.get());
}

inline void check_lifetime(const Fixture& f) {
  constexpr uint32_t kCount = 1 << 16;
  auto result = allocate_floats(f, kCount);
  auto queue = f.device->create_queue();
  {
    auto a = allocate_floats(f, kCount), b = allocate_floats(f, kCount);
    upload(*queue, whole(a), ramp(kCount));
    CommandList list;
    const uint32_t slot = list.add_slot(kCount * 4);
    for (int i = 0; i < 10; ++i) {
      list.dispatch(axpb(f, SlotRef{slot, 0, kCount * 4}, whole(b), kCount, 1, 1));
    }
    list.copy(whole(b), whole(result));
    const View slots[] = {whole(a)};
    queue->submit(f.device->record(list), slots);
  }  // buffers and recording are let go while in flight
  CHECK(download(*queue, whole(result)) == ramp(kCount, 1));
  CommandList list;
  for (int i = 0; i < 10; ++i) list.dispatch(axpb(f, whole(result), whole(result), kCount, 1, 1));
  queue->submit(f.device->record(list));
  queue.reset();  // a queue with unfinished work
  queue = f.device->create_queue();
  CHECK(download(*queue, whole(result)) == ramp(kCount, 11));
}

inline void check_completion(const Fixture& f) {
  constexpr uint32_t kCount = 1 << 16;
  auto queue = f.device->create_queue();
  auto a = allocate_floats(f, kCount);
  CommandList list;
  list.fill(whole(a), 0);
  for (int i = 0; i < 5; ++i) list.dispatch(axpb(f, whole(a), whole(a), kCount, 1, 1));
  const auto recording = f.device->record(list);
  std::atomic<int> calls{0}, errors{0}, same_thread{0};
  std::vector<Ticket> tickets;
  const auto self = std::this_thread::get_id();
  for (int i = 0; i < 5; ++i) {
    tickets.push_back(queue->submit(recording));
    if (i > 0) CHECK(tickets[i].value > tickets[i - 1].value);
    queue->on_complete(tickets.back(), [&](std::exception_ptr error) {
      if (error) ++errors;
      if (std::this_thread::get_id() == self) ++same_thread;
      ++calls;
    });
  }
  queue->wait(tickets.back());
  for (const Ticket ticket : tickets) CHECK(queue->is_done(ticket));
  queue->wait(tickets.front());
  queue->wait(Ticket{});
  std::promise<void> late;
  queue->on_complete(tickets.front(), [&](std::exception_ptr) { late.set_value(); });
  CHECK(late.get_future().wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  queue.reset();  // runs what is left of the callbacks
  CHECK(calls == 5);
  CHECK(errors == 0);
  CHECK(same_thread == 0);
}

inline void check_profile(const Fixture& f) {
  if (!f.device->caps().timestamps) {
    CommandList list;
    CHECK_THROWS_AS(f.device->record(list, true), Error);
    return;
  }
  auto queue = f.device->create_queue();
  auto a = allocate_floats(f, 1 << 18), b = allocate_floats(f, 1 << 18);
  upload(*queue, whole(a), ramp(1 << 18));
  CommandList list;
  list.dispatch(axpb(f, whole(a), whole(b), 1 << 18, 1, 1));
  list.copy(whole(b), whole(a));
  list.dispatch(axpb(f, whole(a), whole(b), 1 << 18, 1, 1));
  list.fill(floats(a, 0, 4), 0);
  const auto recording = f.device->record(list, true);
  const Ticket first = queue->submit(recording), second = queue->submit(recording);
  queue->wait(second);
  for (const Ticket ticket : {first, second}) {
    const auto times = queue->command_times_ns(ticket);
    CHECK(times.size() == 4);
    for (const double ns : times) CHECK((ns >= 0 && ns < 60e9));
    CHECK(std::accumulate(times.begin(), times.end(), 0.0) > 0);
  }
  const auto values = download(*queue, floats(b, 4, 2));
  CHECK(values[0] == 7);
  CHECK(values[1] == 8);
}

inline void check_host_memory(const Fixture& f) {
  auto queue = f.device->create_queue();
  const Caps& caps = f.device->caps();
  auto buffer = allocate_floats(f, 4096);
  if (caps.unified_memory) REQUIRE(buffer->host_pointer() != nullptr);
  if (auto* host = static_cast<float*>(buffer->host_pointer())) {
    std::iota(host, host + 4096, 1.0f);
    CommandList list;
    list.dispatch(axpb(f, whole(buffer), whole(buffer), 4096, 2, 0));
    queue->wait(queue->submit(f.device->record(list)));
    CHECK(host[0] == 2);
    CHECK(host[4095] == 8192);
  }
  constexpr size_t kBytes = 1 << 16;
  auto* memory = static_cast<float*>(std::aligned_alloc(65536, kBytes));
  std::iota(memory, memory + kBytes / 4, 0.0f);
  bool released = false;
  std::shared_ptr<void> owner(memory, [&](void* p) {
    std::free(p);
    released = true;
  });
  if (!caps.host_import) {
    CHECK_THROWS_AS(f.device->adopt(memory, kBytes, owner), Error);
    return;
  }
  auto adopted = f.device->adopt(memory, kBytes, std::move(owner));
  CommandList list;
  list.dispatch(axpb(f, whole(adopted), whole(buffer), 4096, 1, 1));
  queue->wait(queue->submit(f.device->record(list)));
  CHECK(download(*queue, whole(buffer)) == ramp(4096, 1));
  CHECK_FALSE(released);
  adopted.reset();
  list = CommandList();
  queue.reset();
  CHECK(released);
}

inline void check_conformance(const std::shared_ptr<Device>& device, const Compiler& compiler) {
  const Fixture f{device, device->compile(compiler(axpb_kernel())),
                  device->compile(compiler(array_kernel()))};
  const std::pair<const char*, void (*)(const Fixture&)> checks[] = {
      {"transfers", check_transfers},
      {"dispatch with offsets", check_dispatch_offsets},
      {"array parameters", check_array_params},
      {"copies and fills", check_copies_and_fills},
      {"hazards", check_hazards},
      {"slots", check_slots},
      {"what is held back", check_hold},
      {"limits", check_limits},
      {"queues and threads", check_queues_and_threads},
      {"one recording on two queues", check_shared_recording},
      {"lifetime", check_lifetime},
      {"completion", check_completion},
      {"profile", check_profile},
      {"host memory", check_host_memory},
  };
  for (const auto& check : checks) {
    INFO("conformance: ", std::string(check.first), " on ", device->caps().id);
    check.second(f);
  }
}

}  // namespace dlk::conformance
