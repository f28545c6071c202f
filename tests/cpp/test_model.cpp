#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
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
