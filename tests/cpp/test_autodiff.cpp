#include "core/base/error.h"
#include "core/graph/autodiff.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

size_t count(const Graph& graph, const std::string& op) {
  size_t found = 0;
  for (const Node& node : graph.nodes()) found += node.op == op ? 1 : 0;
  return found;
}

}  // namespace

TEST_CASE("the gradient of a value that two nodes read is added up") {
  for (const auto& device : test_devices()) {
    Graph graph;
    const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N")});
    const ValueId square = graph.add_node("Mul", {x, x}).at(0);
    const ValueId y = graph.add_node("Add", {square, x}).at(0);
    const auto found = gradients(graph, {y}, {}, {x});
    graph.add_output(found.at(0), "dx");
    const auto session = Model::create(graph, device)->create_session();
    const auto result = session->run({{"x", floats({3}, {1, -2, 3})}});
    CHECK(result.at("dx").to_doubles() == std::vector<double>{3, -3, 7});
  }
}

TEST_CASE("only what lies between the output and what is asked for gets nodes") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2, 3}));
  const ValueId w = graph.add_variable("w", noise({3, 4}), true);
  const ValueId frozen = graph.add_variable("frozen", noise({4, 5}), false);
  const ValueId h = graph.add_node("MatMul", {x, w}).at(0);
  const ValueId y = graph.add_node("MatMul", {h, frozen}).at(0);
  const auto found = gradients(graph, {y}, {}, {w});
  CHECK(found.at(0) != kNoValue);
  // Forward, dh and dw: none for x, none for the frozen weights.
  CHECK(count(graph, "MatMul") == 4);
}

TEST_CASE("values that the outputs do not depend on have no gradient") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
  const ValueId other = graph.add_input("other", DType::kFloat32, static_shape({2}));
  const ValueId y = graph.add_node("Exp", {x}).at(0);
  CHECK(gradients(graph, {y}, {}, {other, x}).at(0) == kNoValue);
}

TEST_CASE("what cannot be differentiated is refused by name") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({1, 1, 4, 4}));
  const Attributes window{{"kernel_shape", std::vector<int64_t>{2, 2}}};
  const ValueId y = graph.add_node("LpPool", {x}, window, 1, "pooling").at(0);
  CHECK_THROWS_WITH_AS(gradients(graph, {y}, {}, {x}), doctest::Contains("pooling"), Error);
  const ValueId i = graph.add_input("i", DType::kInt64, static_shape({2}));
  CHECK_THROWS_AS(gradients(graph, {y}, {}, {i}), Error);
  CHECK_THROWS_AS(gradients(graph, {}, {}, {x}), Error);
}

TEST_CASE("a variable's next value is made in its memory") {
  for (const auto& device : test_devices()) {
    Graph graph;
    const ValueId w = graph.add_variable("w", floats({4}, {1, 2, 3, 4}), true);
    const ValueId g = graph.add_input("g", DType::kFloat32, static_shape({4}));
    const ValueId next = graph.add_node("Sub", {w, g}).at(0);
    graph.assign(w, next);
    const auto model = Model::create(graph, device);
    const RunInputs inputs{{"g", floats({4}, {1, 1, 1, 1})}};
    CHECK(model->plan(inputs).steps.size() == 1);
    const auto session = model->create_session();
    session->run(inputs);
    session->run(inputs);
    CHECK(model->read_variable("w").to_doubles() == std::vector<double>{-1, 0, 1, 2});
  }
}

TEST_CASE("a variable that is read after its next value is made keeps its old one until then") {
  for (const auto& device : test_devices()) {
    Graph graph;
    const ValueId w = graph.add_variable("w", floats({2}, {1, 2}), true);
    const ValueId next = graph.add_node("Add", {w, w}).at(0);
    const ValueId both = graph.add_node("Mul", {next, w}).at(0);
    graph.assign(w, next);
    graph.add_output(both, "both");
    const auto model = Model::create(graph, device);
    const auto result = model->create_session()->run({});
    CHECK(result.at("both").to_doubles() == std::vector<double>{2, 8});
    CHECK(model->read_variable("w").to_doubles() == std::vector<double>{2, 4});
  }
}

TEST_CASE("models share variables of the same name, dtype and shape") {
  for (const auto& device : test_devices()) {
    Graph training, inference;
    const ValueId w = training.add_variable("w", floats({2}, {1, 2}), true);
    training.assign(w, training.add_node("Add", {w, w}).at(0));
    const ValueId seen = inference.add_variable("w", floats({2}, {0, 0}), true);
    inference.add_output(inference.add_node("Neg", {seen}).at(0), "y");
    const auto trained = Model::create(training, device);
    CompileOptions options;
    options.share_variables = trained;
    const auto reading = Model::create(inference, device, options);
    const auto session = trained->create_session();
    session->run({});
    CHECK(reading->create_session()->run({}).at("y").to_doubles() == std::vector<double>{-2, -4});
  }
}
