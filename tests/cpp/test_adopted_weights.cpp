// Weights of a mapped `.dlk` are used where they lie, on devices that can, and only where it is
// safe.
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "core/model/model_file.h"
#include "core/runtime/weights.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

constexpr int64_t kRows = 96, kColumns = 256;

/// Softmax(x W + offset), and x * scale: a weight that is packed, and one that is used as it lies.
Graph network() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(kRows)});
  const ValueId w = graph.add_constant("w", noise({kRows, kColumns}, 5));
  const ValueId table = graph.add_constant("table", noise({kColumns, kRows}, 6));
  const ValueId rows = graph.add_input("rows", DType::kInt64, {Dim::named("R")});
  graph.add_output(
      graph.add_node("Softmax", {graph.add_node("MatMul", {x, w})[0]}, {{"axis", int64_t{1}}})[0],
      "y");
  graph.add_output(graph.add_node("Gather", {table, rows}, {{"axis", int64_t{0}}})[0], "picked");
  return graph;
}

/// A tensor as a mapped file gives it: aligned, and nobody changes it.
HostTensor mapped(size_t floats, size_t misaligned_by = 0) {
  const size_t bytes = floats * 4;
  std::shared_ptr<std::byte> memory(
      static_cast<std::byte*>(std::aligned_alloc(65536, (bytes + 131071) / 65536 * 65536)),
      [](std::byte* p) { std::free(p); });
  std::byte* start = memory.get() + misaligned_by;
  for (size_t i = 0; i < floats; ++i) {
    const float value = static_cast<float>(i % 1000);
    std::memcpy(start + 4 * i, &value, 4);
  }
  HostTensor tensor{DType::kFloat32, {static_cast<int64_t>(floats)}, {}, true};
  tensor.data = std::shared_ptr<const std::byte>(memory, start);
  return tensor;
}

bool can_adopt(const Device& device) {
  return device.caps().host_import && device.caps().unified_memory;
}

struct TemporaryFile {
  TemporaryFile() { close(mkstemp(path)); }
  ~TemporaryFile() { std::filesystem::remove(path); }
  char path[32] = "/tmp/dlk-adopted-XXXXXX";
};

}  // namespace

TEST_CASE("a weight that nobody changes is used in place, others are copied") {
  std::vector<std::shared_ptr<Device>> devices = test_devices();
  devices.push_back(open_device("null"));
  for (const auto& device : devices) {
    CAPTURE(device->caps().id);
    const HostTensor tensor = mapped(50000);
    const uint64_t bytes = tensor.size_bytes();
    WeightStore store(device);
    store.ensure("in place", tensor, DType::kFloat32);
    CHECK(store.adopted_bytes() == (can_adopt(*device) ? bytes : 0));
    CHECK(store.bytes() == bytes);
    const uint64_t before = store.adopted_bytes();

    HostTensor changing = tensor;
    changing.immutable = false;
    store.ensure("may change", changing, DType::kFloat32);
    store.ensure("variable", tensor, DType::kFloat32, true);
    store.ensure("small", mapped(100), DType::kFloat32);
    if (device->caps().fp16_storage) store.ensure("converted", tensor, DType::kFloat16);
    CHECK(store.adopted_bytes() == before);
    store.ensure("odd place", mapped(50000, 4), DType::kFloat32);  // copied where it must be
    store.flush();

    for (const char* key : {"in place", "may change", "variable", "odd place"}) {
      CAPTURE(key);
      const HostTensor back = store.read(key, DType::kFloat32, tensor.shape);
      CHECK(std::memcmp(back.data.get(), tensor.data.get(), bytes) == 0);
    }
    // A variable's new value must not reach the file.
    const HostTensor zeros = floats({50000}, std::vector<double>(50000));
    store.overwrite("variable", zeros);
    CHECK(store.read("variable", DType::kFloat32, {50000}).to_doubles() == zeros.to_doubles());
    CHECK(reinterpret_cast<const float*>(tensor.data.get())[999] == 999.0f);
  }
}

TEST_CASE("the memory lives as long as the store, and no longer") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    HostTensor tensor = mapped(50000);
    const std::weak_ptr<const std::byte> watch = tensor.data;
    {
      WeightStore store(device);
      store.ensure("w", tensor, DType::kFloat32);
      store.flush();
      tensor = {};
      CHECK(watch.expired() == !can_adopt(*device));
    }
    CHECK(watch.expired());
  }
}

TEST_CASE("a model from a mapped file computes what the model in memory does") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const RunInputs inputs{{"x", noise({3, kRows}, 8)}, {"rows", HostTensor::ints({0, 255, 17})}};
    const auto expected = Model::create(network(), device)->create_session()->run(inputs);
    std::shared_ptr<Model> model;
    {
      const TemporaryFile file;
      save_model(network(), file.path);
      model = Model::create(load_model(file.path), device);
    }  // the file is gone, its mapping is not
    const auto session = model->create_session();
    for (int i = 0; i < 2; ++i) {
      const auto result = session->run(inputs);
      CHECK(result.at("y").to_doubles() == expected.at("y").to_doubles());
      CHECK(result.at("picked").to_doubles() == expected.at("picked").to_doubles());
    }
  }
}
