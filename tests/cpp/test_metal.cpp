// The Metal backend on whatever speaks Metal: the system's (`metal`) or the simulator
// (`metal-sim`, in builds with DLK_METAL_SIM and with DLK_ENABLE_METAL_SIM=1).
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "core/kernel/dialect.h"
#include "core/kernel/library.h"
#include "tests/cpp/device_conformance.h"
#include "tests/cpp/kernel_testing.h"

using namespace dlk;
using namespace dlk::conformance;

namespace {

constexpr char kAxpb[] = R"(#include <metal_stdlib>
using namespace metal;
struct block { uint n; float a; float b; };
kernel void axpb(device const float* X [[buffer(0)]], device float* Y [[buffer(1)]],
                 constant block& p [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < p.n) Y[i] = p.a * X[i] + p.b;
})";

constexpr char kWeigh[] = R"(#include <metal_stdlib>
using namespace metal;
struct block { uint n; int w[4]; };
kernel void weigh(device int* Y [[buffer(0)]], constant block& p [[buffer(1)]],
                  uint at [[thread_position_in_grid]]) {
  int i = int(at);
  if (at < p.n) Y[i] = p.w[0] * i + p.w[1] * (i + 1) + p.w[2] * (i + 2) + p.w[3] * (i + 3);
})";

KernelCode to_msl(const SourceKernel& source) {
  KernelCode code = source.code;
  code.format = KernelFormat::kMsl;
  code.code = code.name == "axpb" ? kAxpb : kWeigh;
  return code;
}

/// The simulator where it is built and enabled, else the system's Metal.
std::string backend_name() {
  Backend* simulated = find_backend("metal-sim");
  return simulated && !simulated->enumerate().empty() ? "metal-sim" : "metal";
}

std::shared_ptr<Device> device_under_test() {
  const std::string name = backend_name();
  if (name == "metal" && required("metal-sim")) return test_device("metal-sim");
  return test_device(name);
}

class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Setting() { unsetenv(name_); }

 private:
  const char* name_;
};

/// A device of its own, opened with what the environment says now.
std::shared_ptr<Device> fresh_device() {
  return find_backend(device_under_test()->caps().backend)->open(0);
}

std::string message_of(const std::function<void()>& body, ErrorCode code) {
  try {
    body();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace

TEST_CASE("conformance") {
  const auto device = device_under_test();
  if (!device) return;
  check_conformance(device, to_msl);
}

TEST_CASE("conformance with private, managed and shared memory, with and without overlap") {
  if (!device_under_test()) return;
  for (const char* storage : {"private", "managed", "shared"}) {
    const Setting mode("DLK_METAL_STORAGE", storage);
    const Setting serial("DLK_METAL_CONCURRENT", std::string(storage) == "private" ? "0" : "1");
    const Setting heaps("DLK_METAL_HEAPS", std::string(storage) == "shared" ? "0" : "1");
    const auto device = fresh_device();
    const Fixture f{device, device->compile(to_msl(axpb_kernel())),
                    device->compile(to_msl(array_kernel()))};
    INFO("storage: ", std::string(storage));
    check_transfers(f);
    check_dispatch_offsets(f);
    check_copies_and_fills(f);
    check_hazards(f);
    check_slots(f);
    CHECK((device->allocate(4096, MemoryKind::kDevice)->host_pointer() != nullptr) ==
          (std::string(storage) == "shared"));
  }
}

TEST_CASE("a storage mode that does not exist") {
  if (!device_under_test()) return;
  const Setting mode("DLK_METAL_STORAGE", "memoryless");
  const std::string text = message_of([] { fresh_device(); }, ErrorCode::kInvalidArgument);
  CHECK(text.find("memoryless") != std::string::npos);
}

TEST_CASE("errors carry the compiler's words") {
  const auto device = device_under_test();
  if (!device) return;
  KernelCode code = to_msl(axpb_kernel());
  code.code = "kernel void axpb(device float* x [[buffer(0)]]) { x[0] = no_such_name; }";
  const std::string text = message_of([&] { device->compile(code); }, ErrorCode::kCompileFailed);
  CHECK(text.find("no_such_name") != std::string::npos);
  CHECK(text.find("axpb") != std::string::npos);
  code = to_msl(axpb_kernel());
  code.name = "other";
  CHECK(message_of([&] { device->compile(code); }, ErrorCode::kCompileFailed).find("other") !=
        std::string::npos);
  code.format = KernelFormat::kSpirv;
  message_of([&] { device->compile(code); }, ErrorCode::kInvalidArgument);
}

TEST_CASE("parameters beyond setBytes' limit travel in a buffer") {
  const auto device = device_under_test();
  if (!device) return;
  KernelCode code;
  code.format = KernelFormat::kMsl;
  code.name = "pick";
  code.bindings = {{"Y", Access::kWrite, 4}};
  code.params = {{"w", 'u', 1500, 0}};
  code.param_bytes = 6000;
  code.group_size = {64, 1, 1};
  code.code = R"(#include <metal_stdlib>
using namespace metal;
struct block { uint w[1500]; };
kernel void pick(device uint* Y [[buffer(0)]], constant block& p [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
  if (i < 1500u) Y[i] = p.w[1499u - i];
})";
  const auto kernel = device->compile(code);
  std::vector<std::byte> params(6000);
  for (uint32_t i = 0; i < 1500; ++i) std::memcpy(params.data() + 4 * i, &i, 4);
  auto out = device->allocate(6000, MemoryKind::kDevice);
  CommandList list;
  list.dispatch({kernel, {whole(out)}, params, {24, 1, 1}});
  auto queue = device->create_queue();
  queue->submit(device->record(list));
  const auto values = download<uint32_t>(*queue, whole(out));
  for (uint32_t i = 0; i < 1500; ++i) REQUIRE(values[i] == 1499 - i);
}

TEST_CASE("adopted memory starts at a page") {
  const auto device = device_under_test();
  if (!device) return;
  std::vector<float> odd(64);
  const std::string text = message_of([&] { fresh_device()->adopt(odd.data() + 1, 100, nullptr); },
                                      ErrorCode::kUnsupported);
  CHECK(text.find("page") != std::string::npos);
}

TEST_CASE("large uploads, and reads while work is under way") {
  const auto device = device_under_test();
  if (!device) return;
  const Fixture f{device, device->compile(to_msl(axpb_kernel())), nullptr};
  auto queue = device->create_queue();
  constexpr uint32_t kCount = 5u << 20;  // 20 MB: beyond what is staged
  auto big = device->allocate(uint64_t{kCount} * 4, MemoryKind::kUpload);
  auto small = allocate_floats(f, 1024);
  CommandList list;
  list.fill(whole(small), 0);
  for (int i = 0; i < 20; ++i) list.dispatch(axpb(f, whole(small), whole(small), 1024, 1, 1));
  const auto recording = device->record(list);
  queue->submit(recording);
  upload(*queue, whole(big), ramp(kCount));
  queue->submit(recording);
  // Byte-wise, in flight: neither offset nor size is a multiple of four.
  std::vector<uint8_t> bytes(7);
  const Ticket read = queue->read(View{small, 1, 7}, std::as_writable_bytes(std::span(bytes)));
  queue->submit(recording);
  queue->wait(read);
  const float twenty = 20;
  uint8_t expected[8];
  std::memcpy(expected, &twenty, 4);
  std::memcpy(expected + 4, &twenty, 4);
  CHECK(std::equal(bytes.begin(), bytes.end(), expected + 1));
  CHECK(download(*queue, floats(big, kCount - 2, 2)) ==
        std::vector<float>{static_cast<float>(kCount - 2), static_cast<float>(kCount - 1)});
}

TEST_CASE("what the device says it can do") {
  const auto device = device_under_test();
  if (!device) return;
  const Caps& caps = device->caps();
  CHECK(caps.fp16_storage);
  CHECK_FALSE(caps.fp64);
  CHECK(caps.api_version.rfind("MSL ", 0) == 0);
  CHECK(caps.max_bindings == 30);
  CHECK(caps.subgroup_arithmetic == (caps.subgroup_size != 0));
  const Setting no_matrix("DLK_METAL_SIMDGROUP_MATRIX", "0");
  CHECK(caps.max_group_invocations >= 256);
}
