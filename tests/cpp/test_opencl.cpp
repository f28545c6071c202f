// The OpenCL backend: what every device must do, and what is OpenCL's own.
#include "backends/opencl/caps.h"
#include "backends/opencl/device.h"
#include "backends/opencl/external.h"
#include "backends/opencl/loader.h"
#include "core/device/checked.h"
#include "tests/cpp/device_conformance.h"
#include "tests/cpp/opencl_app.h"

using namespace dlk;
using dlk::testing::OpenClApp;
using namespace dlk::conformance;

namespace {

KernelCode opencl_code(const SourceKernel& kernel) {
  KernelCode code = kernel.code;
  code.format = KernelFormat::kOpenCLC;
  code.code = kernel.opencl_c;
  return code;
}

Fixture fixture(const std::shared_ptr<Device>& device) {
  return {device, device->compile(opencl_code(axpb_kernel())),
          device->compile(opencl_code(array_kernel()))};
}

/// The message of the Error that `call` throws with `code`.
std::string refused(ErrorCode code, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK_MESSAGE(error.code() == code, error.what());
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Faults that drivers do not show on request (PoCL 3.1 aborts on a failed user event): the backend
// gets the real API with these in place of two functions.
std::atomic<bool> events_fail{false};
std::atomic<int> enqueues_left{-1};  // negative: no limit

cl_int CL_API_CALL failing_event_info(cl_event event, cl_event_info what, size_t size, void* value,
                                      size_t* written) {
  const cl_int code = opencl::api()->clGetEventInfo(event, what, size, value, written);
  if (events_fail && what == CL_EVENT_COMMAND_EXECUTION_STATUS) {
    *static_cast<cl_int*>(value) = CL_OUT_OF_RESOURCES;
  }
  return code;
}

cl_int CL_API_CALL failing_enqueue(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                                   const size_t* offset, const size_t* global, const size_t* local,
                                   cl_uint count, const cl_event* list, cl_event* event) {
  if (enqueues_left >= 0 && enqueues_left-- <= 0) return CL_OUT_OF_RESOURCES;
  return opencl::api()->clEnqueueNDRangeKernel(queue, kernel, dimensions, offset, global, local,
                                               count, list, event);
}

std::shared_ptr<Device> faulty_device() {
  static opencl::Api table = *opencl::api();
  table.clGetEventInfo = failing_event_info;
  table.clEnqueueNDRangeKernel = failing_enqueue;
  auto context = std::make_shared<opencl::Context>();
  context->cl = &table;
  context->device = opencl::usable_devices(table).at(0);
  context->caps = opencl::read_caps(table, context->device, "opencl:faulty");
  context->context = table.clCreateContext(nullptr, 1, &context->device, nullptr, nullptr, nullptr);
  REQUIRE(context->context != nullptr);
  return checked_device(std::make_shared<opencl::OpenClDevice>(context));
}

/// The first device as one with memory of its own; null where there is none.
std::shared_ptr<Device> device_apart() {
  if (!test_device("opencl")) return nullptr;
  const opencl::Api& cl = *opencl::api();
  auto context = std::make_shared<opencl::Context>();
  context->cl = &cl;
  context->device = opencl::usable_devices(cl).at(0);
  context->caps = opencl::read_caps(cl, context->device, "opencl:apart");
  context->caps.is_cpu = context->caps.unified_memory = context->caps.host_import = false;
  context->context = cl.clCreateContext(nullptr, 1, &context->device, nullptr, nullptr, nullptr);
  REQUIRE(context->context != nullptr);
  return checked_device(std::make_shared<opencl::OpenClDevice>(context));
}

}  // namespace

TEST_CASE("an OpenCL device does what every device must") {
  if (const auto device = test_device("opencl")) check_conformance(device, opencl_code);
}

TEST_CASE("so does one that does not share its memory: uploads go through pinned memory") {
  const auto device = device_apart();
  if (!device) return;
  check_conformance(device, opencl_code);
  // More transfers under way than are kept for later, of sizes that fit and that do not.
  auto queue = device->create_queue();
  const uint64_t sizes[] = {1, 70'000, 3'000'000, (16 << 20) + 4, 100'000, 12'000'000};
  std::vector<std::vector<uint8_t>> sent, back;
  std::vector<std::shared_ptr<Buffer>> buffers;
  Ticket last;
  for (int i = 0; i < 24; ++i) {
    const uint64_t size = sizes[i % 6];
    sent.emplace_back(size, static_cast<uint8_t>(i + 1));
    sent.back().back() = 99;
    back.emplace_back(size);
    buffers.push_back(device->allocate(size, MemoryKind::kDevice));
    upload(*queue, whole(buffers.back()), sent.back());
    last = queue->read(whole(buffers.back()), std::as_writable_bytes(std::span(back.back())));
  }
  queue->wait(last);
  CHECK(back == sent);
}

TEST_CASE("capabilities are the driver's") {
  const auto device = test_device("opencl");
  if (!device) return;
  const Caps& caps = device->caps();
  CHECK(caps.id.rfind("opencl:", 0) == 0);
  CHECK(caps.backend == "opencl");
  CHECK_FALSE(caps.name.empty());
  CHECK(contains(caps.driver, "OpenCL"));
  CHECK(caps.memory_bytes > 0);
  CHECK(caps.max_buffer_bytes >= uint64_t{128} << 20);
  CHECK(caps.max_bindings >= 8);
  CHECK(caps.max_group_invocations >= 1);
  CHECK(caps.local_memory_bytes >= 16384);
  CHECK(caps.fp16_storage);
  CHECK(find_backend("opencl")->unavailable_reason().empty());
  refused(ErrorCode::kInvalidArgument, [] { find_backend("opencl")->open(1000); });
}

TEST_CASE("kernels that do not build") {
  const auto device = test_device("opencl");
  if (!device) return;
  const auto refuse = [&](ErrorCode code, const std::function<void(KernelCode&)>& spoil) {
    KernelCode bad = opencl_code(axpb_kernel());
    spoil(bad);
    const std::string text = refused(code, [&] { device->compile(bad); });
    CHECK(contains(text, bad.name));
    return text;
  };
  const auto failed = ErrorCode::kCompileFailed;
  const std::string log = refuse(failed, [](KernelCode& c) {
    c.code = "__kernel void axpb(__global float* x) { x[0] = no_such_name; }";
  });
  CHECK(contains(log, "no_such_name"));
  refuse(failed, [](KernelCode& c) { c.code = "this is not C"; });
  refuse(failed, [](KernelCode& c) { c.code.clear(); });
  refuse(failed, [](KernelCode& c) { c.name = "other"; });
  CHECK(contains(refuse(failed, [](KernelCode& c) { c.params.pop_back(); }), "7 arguments"));
  refuse(ErrorCode::kInvalidArgument, [](KernelCode& c) { c.format = KernelFormat::kSpirv; });
}

TEST_CASE("build options reach the compiler") {
  const auto device = test_device("opencl");
  if (!device) return;
  KernelCode code = opencl_code(axpb_kernel());
  code.code = "#ifndef ANSWER\n#error no answer\n#endif\n" + code.code;
  CHECK(contains(refused(ErrorCode::kCompileFailed, [&] { device->compile(code); }), "no answer"));
  code.build_options = "-DANSWER=42";
  device->compile(code);
}

TEST_CASE("elements of one, two and eight bytes at odd bases") {
  const auto device = test_device("opencl");
  if (!device) return;
  KernelCode code;
  code.format = KernelFormat::kOpenCLC;
  code.name = "widen";
  code.bindings = {{"H", Access::kRead, 2}, {"C", Access::kRead, 1}, {"L", Access::kWrite, 8}};
  code.params = {{"n", 'u', 1, 0}};
  code.param_bytes = 4;
  code.code = R"(
__kernel void widen(__global const half* H, ulong H_base, __global const char* C, ulong C_base,
                    __global long* L, ulong L_base, uint n) {
  uint i = get_global_id(0);
  if (i < n) L[L_base + i] = (long)vload_half(H_base + i, H) * 1000 + C[C_base + i];
})";
  auto queue = device->create_queue();
  auto h = device->allocate(64, MemoryKind::kDevice), c = device->allocate(64, MemoryKind::kDevice),
       l = device->allocate(128, MemoryKind::kDevice);
  upload(*queue, View{h, 0, 8}, std::vector<uint16_t>{0, 0x3c00, 0x4000, 0xc200});  // 0 1 2 -3
  upload(*queue, View{c, 0, 8}, std::vector<int8_t>{0, 1, 2, 3, 4, -5, 6, 7});
  CommandList list;
  std::vector<std::byte> params(4);
  params[0] = std::byte{3};
  list.dispatch(
      {device->compile(code), {View{h, 2, 6}, View{c, 3, 3}, View{l, 8, 24}}, params, {3, 1, 1}});
  queue->submit(device->record(list));
  CHECK(download<int64_t>(*queue, View{l, 8, 24}) == std::vector<int64_t>{1003, 2004, -3005});
}

TEST_CASE("bases beyond four GiB, where the device has such buffers") {
  const auto device = test_device("opencl");
  if (!device) return;
  const Fixture f = fixture(device);
  const Caps& caps = device->caps();
  // Twice 2^32 elements would be 32 GiB; past 2^32 bytes is enough to show a 32-bit offset.
  const uint64_t size = std::min(caps.max_buffer_bytes, uint64_t{5} << 30) & ~uint64_t{4095};
  if (caps.is_cpu && size > uint64_t{2} << 30) {
    MESSAGE("a CPU device: its memory is the host's, left alone");
    return;
  }
  auto big = device->allocate(size, MemoryKind::kDevice);
  auto small = allocate_floats(f, 64);
  auto queue = device->create_queue();
  upload(*queue, View{big, size - 256, 256}, ramp(64));
  CommandList list;
  list.dispatch(axpb(f, View{big, size - 256, 256}, whole(small), 64, 1, 1));
  list.dispatch(axpb(f, whole(small), View{big, size - 1024, 256}, 64, 1, 1));
  queue->submit(device->record(list));
  CHECK(download(*queue, View{big, size - 1024, 256}) == ramp(64, 2));
}

TEST_CASE("out of memory is an error with the size and the limit, also without the checks") {
  if (!test_device("opencl")) return;
  const auto device = open_device("opencl", false);
  const uint64_t size = uint64_t{1} << 46;
  const std::string text =
      refused(ErrorCode::kOutOfMemory, [&] { device->allocate(size, MemoryKind::kDevice); });
  CHECK(contains(text, std::to_string(size)));
  CHECK(contains(text, std::to_string(device->caps().max_buffer_bytes)));
  CHECK(device->allocate(64, MemoryKind::kDevice) != nullptr);
}

TEST_CASE("host memory that is not aligned is not adopted") {
  const auto device = test_device("opencl");
  if (!device || !device->caps().host_import) return;
  alignas(64) static char memory[1024];
  bool released = false;
  std::shared_ptr<void> owner(memory, [&](void*) { released = true; });
  const std::string text =
      refused(ErrorCode::kUnsupported, [&] { device->adopt(memory + 4, 512, std::move(owner)); });
  CHECK(contains(text, "multiples of"));
  CHECK(released);
}

TEST_CASE("threads compile in parallel") {
  const auto device = test_device("opencl");
  if (!device) return;
  std::vector<std::future<std::string>> names;
  for (int i = 0; i < 6; ++i) {
    names.push_back(std::async(std::launch::async, [&device, i] {
      KernelCode code = opencl_code(i % 2 ? axpb_kernel() : array_kernel());
      code.build_options = "-DVARIANT=" + std::to_string(i);
      return device->compile(code)->info().name;
    }));
  }
  for (int i = 0; i < 6; ++i) CHECK(names[i].get() == (i % 2 ? "axpb" : "weigh"));
}

TEST_CASE("an application's own context and queue") {
  if (!test_device("opencl")) return;
  OpenClApp app;
  SUBCASE("conformance on the app's queue") {
    check_conformance(checked_device(wrap_opencl(app.context, app.device, app.queue)), opencl_code);
  }
  SUBCASE("conformance on the app's context alone") {
    check_conformance(checked_device(wrap_opencl(app.context, app.device)), opencl_code);
  }
  SUBCASE("the app's work and dlk's are ordered, on the app's memory") {
    const auto device = wrap_opencl(app.context, app.device, app.queue);
    const Fixture f = fixture(device);
    const auto values = ramp(1024, 3);
    cl_mem memory = app.cl.clCreateBuffer(app.context, CL_MEM_READ_WRITE, 4096, nullptr, nullptr);
    auto buffer = wrap_opencl_buffer(*device, memory);
    CHECK(buffer->size_bytes() == 4096);
    CommandList list;
    list.dispatch(axpb(f, whole(buffer), whole(buffer), 1024, 2, 0));
    const auto recording = device->record(list);
    auto queue = device->create_queue();
    app.cl.clEnqueueWriteBuffer(app.queue, memory, CL_FALSE, 0, 4096, values.data(), 0, nullptr,
                                nullptr);
    queue->submit(recording);
    queue->submit(recording);
    std::vector<float> result(1024);
    app.cl.clEnqueueReadBuffer(app.queue, memory, CL_TRUE, 0, 4096, result.data(), 0, nullptr,
                               nullptr);
    for (size_t i = 0; i < values.size(); ++i) REQUIRE(result[i] == 4 * values[i]);
    app.cl.clReleaseMemObject(memory);  // the wrapped buffer keeps it
    CHECK(download(*queue, whole(buffer)) == result);
    refused(ErrorCode::kInvalidArgument, [&] { wrap_opencl_buffer(*device, nullptr); });
  }
  SUBCASE("the device outlives the app's references") {
    auto own = std::make_unique<OpenClApp>();
    const auto device = wrap_opencl(own->context, own->device, own->queue);
    own.reset();
    const Fixture f = fixture(device);
    auto queue = device->create_queue();
    auto buffer = allocate_floats(f, 64);
    upload(*queue, whole(buffer), ramp(64));
    CHECK(download(*queue, whole(buffer)) == ramp(64));
  }
  SUBCASE("objects that do not belong together") {
    OpenClApp other, unordered(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    const auto code = ErrorCode::kInvalidArgument;
    refused(code, [&] { wrap_opencl(nullptr, app.device); });
    refused(code, [&] { wrap_opencl(app.context, nullptr); });
    refused(code, [&] { wrap_opencl(app.context, app.device, other.queue); });
    CHECK(contains(
        refused(code, [&] { wrap_opencl(unordered.context, unordered.device, unordered.queue); }),
        "out of order"));
  }
}

TEST_CASE("uploads of every size through pinned pieces, one behind the other") {
  OpenClApp app;  // on whose queue nothing is a plain copy
  const auto device = wrap_opencl(app.context, app.device, app.queue);
  const auto queue = device->create_queue();
  constexpr uint64_t kPiece = 1 << 20;
  for (const uint64_t bytes : {uint64_t{8}, kPiece / 8, kPiece, kPiece + 4, 20 * kPiece + 12}) {
    CAPTURE(bytes);
    const auto buffer = device->allocate(bytes + 64, MemoryKind::kDevice);
    std::vector<uint32_t> first(bytes / 4), second(bytes / 4);
    for (size_t i = 0; i < first.size(); ++i) {
      first[i] = static_cast<uint32_t>(i);
      second[i] = ~first[i];
    }
    std::vector<uint32_t> before(first.size()), after(first.size());
    const View view{buffer, 32, bytes};
    const auto write = [&](std::vector<uint32_t> values) {  // gone before the copy may be
      queue->write(view, std::as_bytes(std::span(values)));
    };
    write(first);
    queue->read(view, std::as_writable_bytes(std::span(before)));
    write(second);
    queue->wait(queue->read(view, std::as_writable_bytes(std::span(after))));
    CHECK(before == first);
    CHECK(after == second);
  }
}

TEST_CASE("work that fails later is thrown by wait, and handed to callbacks") {
  if (!test_device("opencl")) return;
  const Fixture f = fixture(faulty_device());
  auto queue = f.device->create_queue();
  auto buffer = allocate_floats(f, 64);
  const auto values = ramp(64);
  const Ticket before = queue->write(whole(buffer), std::as_bytes(std::span(values)));
  queue->wait(before);
  CommandList list;
  list.dispatch(axpb(f, whole(buffer), whole(buffer), 64, 1, 1));
  const auto recording = f.device->record(list);
  const Ticket failing = queue->submit(recording);
  events_fail = true;
  const auto told = [&](Ticket ticket) {
    std::promise<std::string> text;
    queue->on_complete(ticket, [&](std::exception_ptr error) {
      try {
        if (error) std::rethrow_exception(error);
        text.set_value("no error");
      } catch (const Error& e) {
        text.set_value(e.what());
      }
    });
    return text.get_future().get();
  };
  const std::string named = "ticket " + std::to_string(failing.value);
  CHECK(contains(told(failing), named));
  CHECK(contains(refused(ErrorCode::kDeviceLost, [&] { queue->wait(failing); }), named));
  events_fail = false;
  queue->wait(before);  // what was done before is unharmed
  CHECK(told(before) == "no error");
  // Later work reports the first error, whatever its own fate.
  const Ticket later = queue->submit(recording);
  CHECK(contains(refused(ErrorCode::kDeviceLost, [&] { queue->wait(later); }), named));
  CHECK(contains(told(later), named));
  CHECK(queue->is_done(later));
}

TEST_CASE("times of unfinished work are refused, of unprofiled work empty") {
  const auto device = test_device("opencl");
  if (!device) return;
  const Fixture f = fixture(device);
  auto queue = f.device->create_queue();
  auto buffer = allocate_floats(f, 1 << 22);
  CommandList list;
  for (int i = 0; i < 50; ++i) {
    list.dispatch(axpb(f, whole(buffer), whole(buffer), 1 << 22, 1, 1));
  }
  const Ticket ticket = queue->submit(f.device->record(list, true));
  CHECK(contains(refused(ErrorCode::kInvalidArgument, [&] { queue->command_times_ns(ticket); }),
                 "wait for it first"));
  queue->wait(ticket);
  CHECK(queue->command_times_ns(ticket).size() == 50);
  const Ticket plain = queue->submit(f.device->record(list));
  queue->wait(plain);
  CHECK(queue->command_times_ns(plain).empty());
}

TEST_CASE("a submission that breaks off leaves nothing behind") {
  if (!test_device("opencl")) return;
  const Fixture f = fixture(faulty_device());
  auto queue = f.device->create_queue();
  for (const bool profile : {false, true}) {
    auto buffer = allocate_floats(f, 1 << 16);
    upload(*queue, whole(buffer), ramp(1 << 16));
    CommandList list;
    for (int i = 0; i < 4; ++i) {
      list.dispatch(axpb(f, whole(buffer), whole(buffer), 1 << 16, 1, 1),
                    "layer" + std::to_string(i));
    }
    const auto recording = f.device->record(list, profile);
    enqueues_left = 2;
    const std::string text = refused(ErrorCode::kOutOfMemory, [&] { queue->submit(recording); });
    enqueues_left = -1;
    CHECK(contains(text, "'layer2'"));
    CHECK(contains(text, "CL_OUT_OF_RESOURCES"));
    CHECK(download(*queue, whole(buffer)) == ramp(1 << 16, 2));
    queue->wait(queue->submit(recording));
    CHECK(download(*queue, whole(buffer)) == ramp(1 << 16, 6));
  }
}
