// What the validation layer must catch: a barrier that is missing. Runs with
// DLK_VULKAN_VALIDATION=1, which it sets itself before the process makes its one instance.
#include "tests/cpp/vulkan_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

struct Fixture {
  Fixture() {
    setenv("DLK_VULKAN_VALIDATION", "1", 1);
    device = vulkan_device();
    if (device) queue = device->create_queue();
  }
  std::shared_ptr<Device> device;
  std::unique_ptr<Queue> queue;
};

/// Records and submits the list; the text of the validation error that wait throws, or "".
std::string validate(Device& device, Queue& queue, const CommandList& list) {
  try {
    queue.wait(queue.submit(device.record(list)));
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "each kind of missing barrier is reported") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const auto sum = device->compile(axpy_code());
  const uint32_t n = 256;
  const View x = floats(*device, n), y = floats(*device, n), z = floats(*device, n);
  struct Case {
    const char* name;
    const char* hazard;
    void (*build)(CommandList&, const std::shared_ptr<Kernel>&, const std::shared_ptr<Kernel>&,
                  const View&, const View&, const View&);
  };
  const Case cases[] = {
      {"read after in-place update", "READ_AFTER_WRITE",
       [](CommandList& list, const auto& step_kernel, const auto& sum_kernel, const View& a,
          const View& b, const View& c) {
         list.dispatch(step(step_kernel, a, 256, 1.0f));
         list.dispatch(axpy(sum_kernel, a, b, c, 256, 1.0f));
       }},
      {"in-place update after read", "WRITE_AFTER_READ",
       [](CommandList& list, const auto& step_kernel, const auto& sum_kernel, const View& a,
          const View& b, const View& c) {
         list.dispatch(axpy(sum_kernel, a, b, c, 256, 1.0f));
         list.dispatch(step(step_kernel, a, 256, 1.0f));
       }},
      {"write after write", "WRITE_AFTER_WRITE",
       [](CommandList& list, const auto& step_kernel, const auto&, const View& a, const View&,
          const View&) {
         list.dispatch(step(step_kernel, a, 256, 1.0f));
         list.fill(a, 0);
       }},
      {"read after write", "READ_AFTER_WRITE",
       [](CommandList& list, const auto&, const auto& sum_kernel, const View& a, const View& b,
          const View& c) {
         list.dispatch(axpy(sum_kernel, a, b, c, 256, 1.0f));
         list.dispatch(axpy(sum_kernel, c, b, a, 256, 1.0f));
       }},
      {"write after read", "WRITE_AFTER_READ",
       [](CommandList& list, const auto&, const auto& sum_kernel, const View& a, const View& b,
          const View& c) {
         list.dispatch(axpy(sum_kernel, a, b, c, 256, 1.0f));
         list.fill(a, 0);
       }},
      {"copy after fill", "READ_AFTER_WRITE",
       [](CommandList& list, const auto&, const auto&, const View& a, const View& b, const View&) {
         list.fill(a, 0);
         list.copy(a, b);
       }},
  };
  for (const Case& test : cases) {
    CAPTURE(std::string(test.name));
    CommandList right, wrong;
    test.build(right, kernel, sum, x, y, z);
    test.build(wrong, kernel, sum, x, y, z);
    CHECK(validate(*device, *queue, right) == "");
    wrong.drop_barrier_for_test(0);
    const uint64_t before = vulkan_validation_error_count();
    const std::string report = validate(*device, *queue, wrong);
    CAPTURE(report);
    CHECK(contains(report, "SYNC-HAZARD"));
    CHECK(contains(report, test.hazard));
    CHECK(vulkan_validation_error_count() > before);
  }
}

TEST_CASE_FIXTURE(Fixture, "independent commands need no barrier") {
  if (!device) return;
  const auto kernel = device->compile(step_code());
  const View arena = floats(*device, 512);
  CommandList list;
  list.dispatch(step(kernel, view_of(arena.buffer, 0, 1024), 256, 1.0f));
  list.dispatch(step(kernel, view_of(arena.buffer, 1024, 1024), 256, 1.0f));
  CHECK_FALSE(list.commands()[1].barrier_before);
  CHECK(validate(*device, *queue, list) == "");
}

TEST_CASE_FIXTURE(Fixture, "neighbours below the binding alignment need no barrier") {
  if (!device) return;
  const auto kernel = device->compile(step_code()), sum = device->compile(axpy_code());
  const View arena = floats(*device, 512), y = floats(*device, 64), z = floats(*device, 64);
  const View left = view_of(arena.buffer, 0, 66 * 4), right = view_of(arena.buffer, 66 * 4, 256);
  CommandList list;
  list.dispatch(step(kernel, left, 66, 1.0f));
  list.dispatch(axpy(sum, right, y, z, 64, 1.0f));  // its descriptor starts inside `left`
  list.fill(view_of(arena.buffer, 65 * 4, 4), 0);
  CHECK_FALSE(list.commands()[1].barrier_before);
  CHECK(validate(*device, *queue, list) == "");
}

TEST_CASE_FIXTURE(Fixture, "a copy waits for kernels that had waited for each other alone") {
  if (!device) return;
  const auto kernel = device->compile(step_code()), sum = device->compile(axpy_code());
  const uint32_t n = 256;
  const View x = floats(*device, n), y = floats(*device, n), z = floats(*device, n);
  CommandList list;
  list.dispatch(step(kernel, x, n, 1.0f));
  list.dispatch(axpy(sum, x, y, z, n, 1.0f));  // waits for the step
  list.copy(x, y);  // x has been waited for already, by kernels; y is still being read
  list.dispatch(step(kernel, z, n, 1.0f));
  list.copy(x, y);
  CHECK(validate(*device, *queue, list) == "");
}

TEST_CASE_FIXTURE(Fixture, "an error of the API use is reported too") {
  if (!device) return;
  const uint64_t before = vulkan_validation_error_count();
  CommandList list;
  const View x = floats(*device, 16);
  list.fill(view_of(x.buffer, 2, 6), 0);  // neither offset nor size is a multiple of 4
  CHECK(contains(validate(*device, *queue, list), "VUID-vkCmdFillBuffer"));
  CHECK(vulkan_validation_error_count() > before);
  CHECK(validate(*device, *queue, CommandList()) == "");  // told once
}
