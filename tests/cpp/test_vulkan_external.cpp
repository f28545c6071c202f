// A dlk device on an application's own Vulkan device and queue.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <mutex>
#include <thread>

#include "core/device/checked.h"
#include "tests/cpp/engine_testing.h"
#include "tests/cpp/vulkan_app.h"
#include "tests/cpp/vulkan_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

KernelCode spirv(const conformance::SourceKernel& kernel) {
  KernelCode code = kernel.code;
  code.format = KernelFormat::kSpirv;
  code.code = compile_glsl(kernel.glsl, code.name);
  return code;
}

/// y = relu(2 x)
Graph doubled() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(64)});
  const ValueId two = graph.add_constant("two", testing::floats({}, {2}));
  graph.add_output(graph.add_node("Relu", {graph.add_node("Mul", {x, two})[0]})[0], "y");
  return graph;
}

void run_model(const std::shared_ptr<Device>& device) {
  const auto model = Model::create(doubled(), device);
  const HostTensor x = noise({3, 64});
  const auto y = model->create_session()->run({{"x", x}}).at("y").to_doubles();
  std::vector<double> expected = x.to_doubles();
  for (double& value : expected) value = std::max(0.0, 2 * value);
  CHECK(y == expected);
}

}  // namespace

TEST_CASE("a wrapped device does what every device must, and leaves the app's objects whole") {
  if (!vulkan_device()) return;
  for (const bool timeline : {true, false}) {
    CAPTURE(timeline);
    VulkanApp app(timeline);
    {
      const auto device = wrap_device("vulkan", app.native());
      CHECK(device->caps().timeline_semaphore == app.has_timeline);
      CHECK(device->caps().fp16_storage == app.has_timeline);
      conformance::check_conformance(device, spirv);
      run_model(device);
    }
    VulkanApp& same = app;
    run_model(wrap_device("vulkan", same.native()));  // the app's device still serves
  }
}

TEST_CASE("the app's lock is held around every use of its queue") {
  if (!vulkan_device()) return;
  VulkanApp app(true);
  std::mutex mutex;
  std::atomic<int> locked{0};
  VulkanExternal external = app.external();
  external.lock_queue = [&] {
    mutex.lock();
    ++locked;
  };
  external.unlock_queue = [&] { mutex.unlock(); };
  const auto device = checked_device(wrap_vulkan(external));
  std::atomic<bool> stop{false};
  std::thread app_thread([&] {
    while (!stop) {
      const std::lock_guard lock(mutex);
      VkSubmitInfo nothing{};
      nothing.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
      CHECK(app.device_api.vkQueueSubmit(app.queue, 1, &nothing, VK_NULL_HANDLE) == VK_SUCCESS);
    }
  });
  for (int i = 0; i < 5; ++i) run_model(device);
  stop = true;
  app_thread.join();
  CHECK(locked >= 5);
}

TEST_CASE("handles that are missing are named") {
  if (!vulkan_device()) return;
  VulkanApp app(true);
  for (void* NativeDevice::* member : {&NativeDevice::instance, &NativeDevice::physical_device,
                                       &NativeDevice::device, &NativeDevice::queue}) {
    NativeDevice native = app.native();
    native.*member = nullptr;
    try {
      wrap_device("vulkan", native);
      FAIL("a device was made");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kInvalidArgument);
      CHECK(std::string(error.what()).find("queue must be given") != std::string::npos);
    }
  }
  NativeDevice native = app.native();
  native.queue_family = 1000;
  CHECK_THROWS_AS(wrap_device("vulkan", native), Error);
}
