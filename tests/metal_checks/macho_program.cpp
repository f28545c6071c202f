// The program of the Mach-O link check: registers the backend as on a Mac, opens the default Metal
// device and runs one kernel. On a Mac it can be run; elsewhere it is only linked.
#include <cstdio>
#include <cstring>

#include "backends/metal/external.h"
#include "core/device/registry.h"

using namespace dlk;

namespace {

constexpr char kSource[] = R"(#include <metal_stdlib>
using namespace metal;
struct block { uint n; };
kernel void twice(device float* x [[buffer(0)]], constant block& p [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
  if (i < p.n) x[i] = 2.0f * x[i];
})";

KernelCode twice() {
  KernelCode code;
  code.format = KernelFormat::kMsl;
  code.name = "twice";
  code.code = kSource;
  code.bindings = {{"x", Access::kReadWrite, 4}};
  code.params = {{"n", 'u', 1, 0}};
  code.param_bytes = 4;
  code.group_size = {64, 1, 1};
  return code;
}

int run() {
  const auto device = open_device("metal");
  constexpr uint32_t kCount = 1000;
  std::vector<float> values(kCount, 21.0f);
  std::vector<std::byte> params(4);
  std::memcpy(params.data(), &kCount, 4);
  const auto buffer = device->allocate(kCount * 4, MemoryKind::kDevice);
  const View view{buffer, 0, kCount * 4};
  CommandList list;
  list.dispatch({device->compile(twice()), {view}, params, {(kCount + 63) / 64, 1, 1}});
  const auto queue = device->create_queue();
  queue->write(view, std::as_bytes(std::span(values)));
  queue->submit(device->record(list));
  queue->wait(queue->read(view, std::as_writable_bytes(std::span(values))));
  for (const float value : values) {
    if (value != 42.0f) {
      std::printf("%s: wrong result %g\n", device->caps().name.c_str(), value);
      return 1;
    }
  }
  std::printf("%s: right\n", device->caps().name.c_str());
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
