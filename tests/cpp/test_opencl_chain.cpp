// The OpenCL backend's chains (backends/opencl/chain.h): recordings whose dispatches run as one
// kernel on PoCL: the same results as one by one.
#include <random>

#include "backends/opencl/caps.h"
#include "backends/opencl/device.h"
#include "core/device/checked.h"
#include "tests/cpp/device_conformance.h"

using namespace dlk;
using namespace dlk::conformance;

namespace {

/// Sets DLK_CHAIN for a test.
class Setting {
 public:
  explicit Setting(const char* value) { setenv("DLK_CHAIN", value, 1); }
  ~Setting() { unsetenv("DLK_CHAIN"); }
};

std::atomic<int> enqueues{0};

cl_int CL_API_CALL counted_enqueue(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                                   const size_t* offset, const size_t* global, const size_t* local,
                                   cl_uint count, const cl_event* list, cl_event* event) {
  ++enqueues;
  return opencl::api()->clEnqueueNDRangeKernel(queue, kernel, dimensions, offset, global, local,
                                               count, list, event);
}

/// A device whose dispatches are counted; null where there is none that runs chains.
std::shared_ptr<Device> counting_device() {
  const auto device = test_device("opencl");
  if (!device) return nullptr;
  const Caps& caps = device->caps();
  if (!caps.is_cpu || caps.subgroup_size != 0 || !caps.unified_memory) return nullptr;
  static opencl::Api table = *opencl::api();
  table.clEnqueueNDRangeKernel = counted_enqueue;
  auto context = std::make_shared<opencl::Context>();
  context->cl = &table;
  context->device = opencl::usable_devices(table).at(0);
  context->caps = opencl::read_caps(table, context->device, "opencl:counting");
  context->fine_grain = true;
  context->context = table.clCreateContext(nullptr, 1, &context->device, nullptr, nullptr, nullptr);
  REQUIRE(context->context != nullptr);
  return checked_device(std::make_shared<opencl::OpenClDevice>(context));
}

/// Y[i] = a * X[i] + b as dlk prints it, in groups of 4 with a helper that others have too.
KernelCode printed_axpb(const std::string& factor) {
  KernelCode code = axpb_kernel().code;
  code.format = KernelFormat::kOpenCLC;
  code.group_size = {4, 1, 1};
  code.code = "static float dlk_helper(float a, float x, float b) {\n  return " + factor +
              R"( * (a * x + b);
}
__kernel __attribute__((reqd_work_group_size(4, 1, 1)))
void axpb(
    __global const float* X, ulong dlk_base_X,
    __global float* Y, ulong dlk_base_Y,
    uint n,
    float a,
    float b) {
  X += dlk_base_X;
  Y += dlk_base_Y;
  uint i = ((uint)get_group_id(1) * (uint)get_num_groups(0) + (uint)get_group_id(0)) * 4u +
           (uint)get_local_id(0);
  if (i < n) Y[i] = dlk_helper(a, X[i], b);
}
)";
  return code;
}

struct Bench {
  std::shared_ptr<Device> device;
  std::vector<std::shared_ptr<Kernel>> kernels;
};

Bench bench(const std::shared_ptr<Device>& device) {
  return {device,
          {device->compile(printed_axpb("1.0f")), device->compile(printed_axpb("2.0f")),
           device->compile(printed_axpb("0.5f"))}};
}

constexpr uint32_t kCount = 999;
constexpr size_t kPlaces = 6;  // of kCount floats, in one buffer

struct Step {
  size_t kernel, from, to;
  float a, b;
};

std::vector<Step> random_steps(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Step> steps;
  while (steps.size() < count) {
    const Step step{random() % 3, random() % kPlaces, random() % kPlaces,
                    static_cast<float>(random() % 3) - 1.0f, static_cast<float>(random() % 5)};
    if (step.from != step.to) steps.push_back(step);
  }
  return steps;
}

/// The places after the steps; the first one is `input`.
std::vector<float> expected(const std::vector<Step>& steps, const std::vector<float>& input) {
  constexpr float kFactors[] = {1.0f, 2.0f, 0.5f};
  std::vector<float> all(kCount * kPlaces);
  std::ranges::copy(input, all.begin());
  for (const Step& step : steps) {
    for (size_t i = 0; i < kCount; ++i) {
      all[step.to * kCount + i] =
          kFactors[step.kernel] * (step.a * all[step.from * kCount + i] + step.b);
    }
  }
  return all;
}

/// Slot 0 has the input and slot 1 gets the last place; what is between is a buffer of the list.
CommandList listed(const Bench& b, const std::shared_ptr<Buffer>& memory,
                   const std::vector<Step>& steps) {
  CommandList list;
  const uint32_t input = list.add_slot(kCount * 4), output = list.add_slot(kCount * 4);
  const auto place = [&](size_t index) { return floats(memory, index * kCount, kCount); };
  const auto add = [&](const std::shared_ptr<Kernel>& kernel, Operand x, Operand y, float a,
                       float c) {
    DispatchCommand dispatch =
        axpb({b.device, kernel, nullptr}, std::move(x), std::move(y), kCount, a, c);
    dispatch.groups = {10, 25, 1};
    list.dispatch(std::move(dispatch), "axpb");
  };
  add(b.kernels[0], SlotRef{input, 0, kCount * 4}, place(0), 1, 0);
  for (size_t i = 1; i < kPlaces; ++i) add(b.kernels[0], place(0), place(i), 0, 0);
  for (const Step& step : steps) {
    add(b.kernels[step.kernel], place(step.from), place(step.to), step.a, step.b);
  }
  add(b.kernels[0], place(kPlaces - 1), SlotRef{output, 0, kCount * 4}, 1, 0);
  return list;
}

void check_runs(const Bench& b, size_t count, uint32_t seed, int runs) {
  const std::vector<Step> steps = random_steps(count, seed);
  const auto memory = b.device->allocate(kCount * kPlaces * 4, MemoryKind::kDevice);
  const auto recording = b.device->record(listed(b, memory, steps));
  const auto queue = b.device->create_queue();
  for (int run = 0; run < runs; ++run) {
    // Other buffers and places in them from run to run.
    const auto input = b.device->allocate((kCount + 64) * 4, MemoryKind::kDevice);
    const auto output = b.device->allocate((kCount + 64) * 4, MemoryKind::kDevice);
    const View x = floats(input, 16 * (run % 4), kCount),
               y = floats(output, 16 * (run % 3), kCount);
    const std::vector<float> values = ramp(kCount, static_cast<float>(run));
    upload(*queue, x, values);
    queue->wait(queue->submit(recording, std::vector<View>{x, y}));
    const std::vector<float> all = expected(steps, values);
    CHECK(download(*queue, whole(memory)) == all);
    CHECK(download(*queue, y) == std::vector<float>(all.end() - kCount, all.end()));
  }
}

}  // namespace

TEST_CASE("dispatches as one kernel give what they give one by one") {
  const auto device = test_device("opencl");
  if (!device) return;
  const Bench b = bench(device);
  for (const char* setting : {"1", "3", "0"}) {
    const Setting set(setting);
    for (uint32_t seed = 0; seed < 4; ++seed) check_runs(b, 40, seed, 12);
    check_runs(b, 300, 7, 20);
  }
}

TEST_CASE("a chain is one dispatch, from the run on that is asked for") {
  const auto device = counting_device();
  if (!device) return;
  const Setting set("3");
  const Bench b = bench(device);
  const auto memory = device->allocate(kCount * kPlaces * 4, MemoryKind::kDevice);
  const auto recording = device->record(listed(b, memory, random_steps(20, 1)));
  const auto io = device->allocate(kCount * 2 * 4, MemoryKind::kDevice);
  const auto queue = device->create_queue(), other = device->create_queue();
  const auto dispatches = [&](Queue& to) {
    const int before = enqueues;
    to.wait(
        to.submit(recording, std::vector<View>{floats(io, 0, kCount), floats(io, kCount, kCount)}));
    return enqueues - before;
  };
  const int single = static_cast<int>(20 + kPlaces + 1);
  CHECK(dispatches(*queue) == single);
  CHECK(dispatches(*queue) == single);
  CHECK(dispatches(*queue) == 1);
  CHECK(dispatches(*other) == single);  // its counters are the first queue's
  CHECK(dispatches(*queue) == 1);
}

TEST_CASE("copies between chains, and lists that are too short for one") {
  const auto device = test_device("opencl");
  if (!device) return;
  const Setting set("1");
  const Bench b = bench(device);
  const auto memory = device->allocate(kCount * kPlaces * 4, MemoryKind::kDevice);
  for (const size_t length : {3, 7, 9, 21}) {
    CommandList list;
    float value = 0;
    const auto grow = [&] {
      for (size_t i = 0; i < length; ++i) {
        DispatchCommand dispatch =
            axpb({device, b.kernels[0], nullptr}, floats(memory, i % 2 * kCount, kCount),
                 floats(memory, (i + 1) % 2 * kCount, kCount), kCount, 1, 1);
        dispatch.groups = {250, 1, 1};
        list.dispatch(std::move(dispatch), "axpb");
        value += 1;
      }
      list.copy(floats(memory, length % 2 * kCount, kCount), floats(memory, 0, kCount));
    };
    list.fill(floats(memory, 0, kCount), 0);
    grow();
    grow();
    const auto recording = device->record(list);
    const auto queue = device->create_queue();
    for (int run = 0; run < 4; ++run) queue->submit(recording, {});
    CHECK(download(*queue, floats(memory, 0, kCount)) == std::vector<float>(kCount, value));
  }
}

TEST_CASE("one recording on several queues, and many queues at once") {
  const auto device = test_device("opencl");
  if (!device) return;
  const Setting set("2");
  const Bench b = bench(device);
  const std::vector<Step> steps = random_steps(30, 3);
  const auto memory = device->allocate(kCount * kPlaces * 4, MemoryKind::kDevice);
  const auto recording = device->record(listed(b, memory, steps));
  const auto io = device->allocate(kCount * 2 * 4, MemoryKind::kDevice);
  const std::vector<View> slots{floats(io, 0, kCount), floats(io, kCount, kCount)};
  const auto first = device->create_queue(), second = device->create_queue();
  for (int run = 0; run < 6; ++run) {
    const auto& queue = run % 2 == 0 ? first : second;
    const std::vector<float> values = ramp(kCount, static_cast<float>(run));
    upload(*queue, slots[0], values);
    queue->wait(queue->submit(recording, slots));
    CHECK(download(*queue, whole(memory)) == expected(steps, values));
  }
  std::vector<std::thread> threads;
  for (uint32_t seed = 10; seed < 14; ++seed) {
    threads.emplace_back([&b, seed] { check_runs(b, 60, seed, 30); });
  }
  for (std::thread& thread : threads) thread.join();
}
