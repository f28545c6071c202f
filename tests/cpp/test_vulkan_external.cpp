// A dlk device on an application's own Vulkan device and queue.
#include <doctest/doctest.h>

#include <atomic>
#include <future>
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

/// A driver that loses the device when told to: the app's entry points with four in front of them.
namespace losing {

std::atomic<bool> lost{false};
PFN_vkGetInstanceProcAddr real_instance_proc = nullptr;
PFN_vkGetDeviceProcAddr real_device_proc = nullptr;
PFN_vkWaitSemaphores real_wait_semaphores = nullptr;
PFN_vkGetSemaphoreCounterValue real_counter = nullptr;
PFN_vkWaitForFences real_wait_fences = nullptr;
PFN_vkGetFenceStatus real_fence_status = nullptr;

VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice device, const VkSemaphoreWaitInfo* info,
                                               uint64_t timeout) {
  return lost ? VK_ERROR_DEVICE_LOST : real_wait_semaphores(device, info, timeout);
}
VKAPI_ATTR VkResult VKAPI_CALL counter(VkDevice device, VkSemaphore semaphore, uint64_t* value) {
  return lost ? VK_ERROR_DEVICE_LOST : real_counter(device, semaphore, value);
}
VKAPI_ATTR VkResult VKAPI_CALL wait_fences(VkDevice device, uint32_t count, const VkFence* fences,
                                           VkBool32 all, uint64_t timeout) {
  return lost ? VK_ERROR_DEVICE_LOST : real_wait_fences(device, count, fences, all, timeout);
}
VKAPI_ATTR VkResult VKAPI_CALL fence_status(VkDevice device, VkFence fence) {
  return lost ? VK_ERROR_DEVICE_LOST : real_fence_status(device, fence);
}

template <typename F>
PFN_vkVoidFunction replace(PFN_vkVoidFunction found, F& real, F ours) {
  if (!found) return nullptr;
  real = reinterpret_cast<F>(found);
  return reinterpret_cast<PFN_vkVoidFunction>(ours);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char* name) {
  const std::string wanted = name;
  const PFN_vkVoidFunction found = real_device_proc(device, name);
  if (wanted == "vkWaitSemaphores") return replace(found, real_wait_semaphores, wait_semaphores);
  if (wanted == "vkGetSemaphoreCounterValue") return replace(found, real_counter, counter);
  if (wanted == "vkWaitForFences") return replace(found, real_wait_fences, wait_fences);
  if (wanted == "vkGetFenceStatus") return replace(found, real_fence_status, fence_status);
  return found;
}
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char* name) {
  const PFN_vkVoidFunction found = real_instance_proc(instance, name);
  if (std::string(name) != "vkGetDeviceProcAddr") return found;
  return replace(found, real_device_proc, device_proc);
}

}  // namespace losing

}  // namespace

TEST_CASE("a lost device is thrown by wait, handed to callbacks, and ends nothing else") {
  if (!vulkan_device()) return;
  for (const bool timeline : {true, false}) {
    CAPTURE(timeline);
    VulkanApp app(timeline);
    losing::real_instance_proc = app.global->vkGetInstanceProcAddr;
    VulkanExternal external = app.external();
    external.get_instance_proc_addr = reinterpret_cast<void*>(losing::instance_proc);
    const auto device = checked_device(wrap_vulkan(external));
    run_model(device);
    {
      const auto session = Model::create(doubled(), device)->create_session();
      const RunInputs inputs{{"x", noise({3, 64})}};
      session->run(inputs);
      const auto run = session->run_async(inputs);
      losing::lost = true;
      std::promise<ErrorCode> told;
      run->on_complete([&](std::exception_ptr error) {
        try {
          if (error) std::rethrow_exception(error);
          told.set_value(ErrorCode::kInvalidArgument);
        } catch (const Error& e) {
          told.set_value(e.code());
        }
      });
      CHECK(told.get_future().get() == ErrorCode::kDeviceLost);
      try {
        run->wait();
        FAIL("wait() has thrown nothing");
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kDeviceLost);
        CHECK(std::string(error.what()).find("VK_ERROR_DEVICE_LOST") != std::string::npos);
      }
      const auto idle = reinterpret_cast<PFN_vkDeviceWaitIdle>(
          losing::real_device_proc(app.device, "vkDeviceWaitIdle"));
      CHECK(idle(app.device) == VK_SUCCESS);  // the work that was not lost, in this case
    }
    losing::lost = false;
    run_model(device);  // with a queue of its own
  }
}

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
