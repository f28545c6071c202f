#include <atomic>
#include <future>
#include <thread>

#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

/// relu(x + bias) with a symbolic batch.
Graph add_relu() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(3)});
  const ValueId bias = graph.add_constant("bias", floats({3}, {1, -2, 0.5}));
  const ValueId sum = graph.add_node("Add", {x, bias})[0];
  graph.add_output(graph.add_node("Relu", {sum})[0], "y");
  return graph;
}

/// A few layers of different kinds, so that runs take a moment and use the arena.
Graph small_network() {
  Graph graph;
  ValueId x =
      graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(4), Dim::of(8), Dim::of(8)});
  const Attributes pad{{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const ValueId w = graph.add_constant("w", noise({4, 4, 3, 3}, layer + 1));
    const ValueId y = graph.add_node("Conv", {x, w}, pad)[0];
    x = graph.add_node("Add", {graph.add_node("Tanh", {y})[0], x})[0];
  }
  graph.add_output(graph.add_node("Softmax", {x}, {{"axis", int64_t{1}}})[0], "y");
  return graph;
}

/// A device whose memory the engine takes for the device's own.
class Apart : public Device {
 public:
  explicit Apart(std::shared_ptr<Device> device) : device_(std::move(device)) {
    caps_ = device_->caps();
    caps_.unified_memory = false;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override {
    return device_->allocate(size_bytes, kind);
  }
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                std::shared_ptr<void> owner) override {
    return device_->adopt(data, size_bytes, std::move(owner));
  }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    return device_->compile(std::move(code));
  }
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override {
    return device_->record(commands, profile);
  }
  std::unique_ptr<Queue> create_queue() override { return device_->create_queue(); }

 private:
  std::shared_ptr<Device> device_;
  Caps caps_;
};

}  // namespace

TEST_CASE("a small graph runs on every device, for several batch sizes") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const auto model = Model::create(add_relu(), device);
    const auto session = model->create_session();
    const auto one = session->run({{"x", floats({1, 3}, {-2, 3, -0.25})}});
    CHECK(one.at("y").shape == Shape{1, 3});
    CHECK(one.at("y").to_doubles() == std::vector<double>{0, 1, 0.25});
    const auto two = session->run({{"x", floats({2, 3}, {-2, 3, -0.25, 1, 1, 1})}});
    CHECK(two.at("y").to_doubles() == std::vector<double>{0, 1, 0.25, 2, 0, 1.5});
  }
}

TEST_CASE("plans are made and replayed where nothing computes") {
  if (!find_backend("null")) return;
  const auto device = open_device("null");
  const auto model = Model::create(small_network(), device);
  const auto session = model->create_session();
  for (const int64_t n : {1, 2}) {
    const RunInputs inputs{{"x", noise({n, 4, 8, 8})}};
    CHECK(session->run(inputs).at("y").shape == Shape{n, 4, 8, 8});
    const PlanSummary plan = model->plan(inputs);
    CHECK(plan.dispatches >= 4);
    CHECK(plan.arena_bytes >= plan.peak_live_bytes);
    CHECK(plan.output_shapes.at("y") == Shape{n, 4, 8, 8});
  }
}

TEST_CASE("bad inputs are named") {
  for (const auto& device : test_devices()) {
    const auto model = Model::create(add_relu(), device);
    const auto session = model->create_session();
    const HostTensor x = floats({1, 3}, {1, 2, 3});
    CHECK_THROWS_WITH_AS(session->run({}), "input 'x' is missing; the model's inputs are 'x'",
                         Error);
    CHECK_THROWS_WITH_AS(session->run({{"x", x}, {"z", x}}),
                         "unknown input 'z'; the model's inputs are 'x'", Error);
    CHECK_THROWS_WITH_AS(session->run({{"x", floats({3}, {1, 2, 3})}}),
                         "input 'x' has shape [3], expected [N, 3]", Error);
    CHECK_THROWS_WITH_AS(
        session->run({{"x", HostTensor::from_ints(DType::kInt32, {1, 3}, {1, 2, 3})}}),
        "input 'x' is int32, expected float32", Error);
  }
}

namespace {

std::vector<double> result_of(Session& session, const HostTensor& x) {
  return session.run({{"x", x}}).at("y").to_doubles();
}

}  // namespace

TEST_CASE("two runs in flight give the right answers, a hundred times over") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const auto model = Model::create(small_network(), device);
    const HostTensor a = noise({1, 4, 8, 8}, 3), b = noise({2, 4, 8, 8}, 4);
    const auto session = model->create_session();
    const auto expected_a = result_of(*session, a), expected_b = result_of(*session, b);
    std::vector<std::pair<std::shared_ptr<Run>, bool>> open;
    int wrong = 0;
    const auto finish = [&] {
      const auto [run, is_a] = open.front();
      open.erase(open.begin());
      wrong += run->read("y").to_doubles() != (is_a ? expected_a : expected_b);
    };
    for (int i = 0; i < 100; ++i) {
      const bool is_a = i % 3 != 0;
      open.emplace_back(session->run_async({{"x", is_a ? a : b}}), is_a);
      if (open.size() > 4) finish();  // outputs stay valid while later runs are under way
    }
    while (!open.empty()) finish();
    CHECK(wrong == 0);
  }
}

TEST_CASE("outputs are read with the run where the host does not share the device's memory") {
  for (const auto& shared : test_devices()) {
    CAPTURE(shared->caps().id);
    const auto device = std::make_shared<Apart>(shared);
    const auto reference = Model::create(small_network(), shared);
    const auto model = Model::create(small_network(), device);
    const auto expected = reference->create_session();
    const auto session = model->create_session();
    for (uint32_t i = 0; i < 20; ++i) {
      const HostTensor x = noise({1 + i % 3, 4, 8, 8}, i);
      const auto other = session->run_async({{"x", noise({2, 4, 8, 8}, 100 + i)}});
      CHECK(result_of(*session, x) == result_of(*expected, x));
      if (i % 2) other->wait();
    }
    CHECK_THROWS_AS(session->run({{"x", noise({1, 4, 8})}}), Error);
    const HostTensor x = noise({1, 4, 8, 8}, 7);
    CHECK(result_of(*session, x) == result_of(*expected, x));
  }
}

TEST_CASE("two models run on one device from two threads, a hundred times over") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    std::vector<std::shared_ptr<Model>> models{Model::create(small_network(), device),
                                               Model::create(add_relu(), device)};
    const std::vector<HostTensor> inputs{noise({1, 4, 8, 8}, 3), noise({5, 3}, 4)};
    std::vector<std::vector<double>> expected;
    for (size_t i = 0; i < 2; ++i) {
      expected.push_back(result_of(*models[i]->create_session(), inputs[i]));
    }
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 3; ++t) {  // the third shares the first one's model
      threads.emplace_back([&, t] {
        const size_t i = t % 2;
        const auto session = models[i]->create_session();
        for (int n = 0; n < 100; ++n) wrong += result_of(*session, inputs[i]) != expected[i];
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("device tensors are bound without a copy, and outputs feed the next run") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const auto model = Model::create(small_network(), device);
    const auto session = model->create_session();
    const HostTensor x = noise({1, 4, 8, 8}, 3);
    const HostTensor once = session->run({{"x", x}}).at("y");
    const HostTensor twice = session->run({{"x", once}}).at("y");
    const auto first = session->run_async({{"x", DeviceTensor::upload(device, x)}});
    const auto second = session->run_async({{"x", first->output("y")}});
    CHECK(second->read("y").to_doubles() == twice.to_doubles());
    CHECK(first->read("y").to_doubles() == once.to_doubles());
  }
}

TEST_CASE("device tensors at odd places are taken too") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const auto model = Model::create(small_network(), device);
    const auto session = model->create_session();
    const HostTensor x = noise({1, 4, 8, 8}, 3);
    const HostTensor expected = session->run({{"x", x}}).at("y");
    DeviceTensor odd = DeviceTensor::empty(device, DType::kFloat32, {1, 4, 8, 9});
    odd.shape = x.shape;
    odd.view = {odd.view.buffer, 12, x.size_bytes()};
    const auto queue = device->create_queue();
    queue->wait(queue->write(odd.view, x.bytes()));
    CHECK(session->run({{"x", odd}}).at("y").to_doubles() == expected.to_doubles());
  }
}

TEST_CASE("pointwise kernels take any length and place") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    for (const int64_t n : {1, 3, 4, 63, 64, 257, 1023}) {
      Graph graph;
      const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({n + 3}));
      const ValueId from = graph.add_constant("from", HostTensor::ints({3}));
      const ValueId to = graph.add_constant("to", HostTensor::ints({n + 3}));
      const ValueId part = graph.add_node("Slice", {x, from, to})[0];
      const ValueId two = graph.add_constant("two", floats({}, {2}));
      graph.add_output(graph.add_node("Mul", {x, two})[0], "whole");
      graph.add_output(graph.add_node("Mul", {part, two})[0], "part");
      const HostTensor input = noise({n + 3}, 9);
      const auto y = Model::create(std::move(graph), device)->create_session()->run({{"x", input}});
      std::vector<double> expected = input.to_doubles();
      for (double& value : expected) value *= 2;
      CHECK(y.at("whole").to_doubles() == expected);
      expected.erase(expected.begin(), expected.begin() + 3);
      CHECK(y.at("part").to_doubles() == expected);
    }
  }
}

TEST_CASE("completion is reported, and a profile has a time for every step") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const auto model = Model::create(small_network(), device);
    const auto session = model->create_session();
    const RunInputs inputs{{"x", noise({1, 4, 8, 8}, 3)}};
    std::promise<bool> done;
    const auto run = session->run_async(inputs);
    run->on_complete([&](std::exception_ptr error) { done.set_value(error == nullptr); });
    CHECK(done.get_future().get());
    CHECK(run->is_done());
    if (!device->caps().timestamps) continue;
    const auto profile = session->profile(inputs);
    CHECK(profile.size() == model->plan(inputs).steps.size());
    for (const auto& [step, nanoseconds] : profile) CHECK(nanoseconds >= 0);
  }
}

TEST_CASE("one model serves many shapes, and small inputs that decide shapes") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    Graph graph;
    const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(4)});
    const ValueId shape = graph.add_input("shape", DType::kInt64, {Dim::of(2)});
    const ValueId y = graph.add_node("Reshape", {x, shape})[0];
    graph.add_output(graph.add_node("Neg", {y})[0], "y");
    const auto model = Model::create(std::move(graph), device);
    const auto session = model->create_session();
    for (const int64_t n : {2, 3, 2}) {
      for (const int64_t columns : {1, 2, 4}) {
        const auto result =
            session->run({{"x", noise({n, 4})}, {"shape", HostTensor::ints({-1, columns})}});
        CHECK(result.at("y").shape == Shape{4 * n / columns, columns});
      }
    }
  }
}

TEST_CASE("empty tensors run") {
  for (const auto& device : test_devices()) {
    const auto model = Model::create(add_relu(), device);
    const auto y = model->create_session()->run({{"x", floats({0, 3}, {})}}).at("y");
    CHECK(y.shape == Shape{0, 3});
  }
}
