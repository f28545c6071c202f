#include "core/graph/passes.h"
#include "core/graph/specialize.h"
#include "core/kernel/library.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

ConcreteGraph concrete(const Graph& graph, const std::map<std::string, Shape>& shapes) {
  SpecializeOptions options;
  options.input_shapes = shapes;
  return specialize(graph, options).graph;
}

std::vector<std::string> operators(const ConcreteGraph& graph) {
  std::vector<std::string> names;
  for (const ConcreteNode& node : graph.nodes) names.push_back(node.node.op);
  return names;
}

/// conv -> batch norm -> (+ shortcut) -> relu, the block of a residual network.
Graph residual_block(Shape shape, bool symbolic) {
  Graph graph;
  SymbolicShape dims = static_shape(shape);
  if (symbolic) dims[0] = Dim::named("N");
  const ValueId x = graph.add_input("x", DType::kFloat32, dims);
  const int64_t c = shape[1];
  const Attributes pad{{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  const auto conv = [&](ValueId from, uint32_t seed) {
    const ValueId w = graph.add_constant("w", noise({c, c, 3, 3}, seed));
    const ValueId y = graph.add_node("Conv", {from, w}, pad)[0];
    std::vector<ValueId> inputs{y};
    for (uint32_t i = 0; i < 3; ++i) {
      inputs.push_back(graph.add_constant("p", noise({c}, seed + 10 + i)));
    }
    std::vector<double> variance(static_cast<size_t>(c), 0.5);
    inputs.push_back(graph.add_constant("var", floats({c}, variance)));
    return graph.add_node("BatchNormalization", inputs)[0];
  };
  const ValueId first = graph.add_node("Relu", {conv(x, 1)})[0];
  const ValueId sum = graph.add_node("Add", {conv(first, 2), x})[0];
  graph.add_output(graph.add_node("Relu", {sum})[0], "y");
  return graph;
}

}  // namespace

TEST_CASE("unused nodes and identities go") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
  const ValueId same = graph.add_node("Identity", {x})[0];
  graph.add_node("Exp", {x});
  graph.add_output(graph.add_node("Neg", {same})[0], "y");
  ConcreteGraph result = concrete(graph, {{"x", {2}}});
  remove_dead_nodes(result);
  remove_identities(result);
  CHECK(operators(result) == std::vector<std::string>{"Neg"});
  CHECK(result.nodes[0].node.inputs[0] == result.inputs[0]);
}

TEST_CASE("shape arithmetic is done on the host") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(6)});
  const ValueId shape = graph.add_node("Shape", {x})[0];
  const ValueId first = graph.add_constant("i", HostTensor::from_ints(DType::kInt64, {1}, {0}));
  const ValueId n = graph.add_node("Gather", {shape, first})[0];
  const ValueId three = graph.add_constant("three", HostTensor::ints({3}));
  const ValueId minus = graph.add_constant("minus", HostTensor::ints({-1}));
  const ValueId more = graph.add_node("Mul", {n, three})[0];
  const ValueId target = graph.add_node("Concat", {more, minus}, {{"axis", int64_t{0}}})[0];
  graph.add_output(graph.add_node("Reshape", {x, target})[0], "y");
  ConcreteGraph result = concrete(graph, {{"x", {4, 6}}});
  CHECK(result.value(result.outputs[0]).shape == Shape{12, 2});
  CHECK(operators(result) == std::vector<std::string>{"Reshape"});
  CHECK(result.host_ops.size() == 4);
}

TEST_CASE("the branch that a condition chooses is inlined") {
  const auto branch = [](const std::string& op) {
    auto body = std::make_shared<Graph>();
    const ValueId x = body->add_input("inner", DType::kFloat32, static_shape({2}));
    body->add_output(body->add_node(op, {x})[0], "result");
    return body;
  };
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
  const ValueId rate = graph.add_input("rate", DType::kInt64, {});
  const ValueId limit = graph.add_constant("limit", HostTensor::from_ints(DType::kInt64, {}, {8}));
  const ValueId condition = graph.add_node("Equal", {rate, limit})[0];
  const Attributes branches{{"then_branch", branch("Exp")}, {"else_branch", branch("Neg")}};
  graph.add_output(graph.add_node("If", {condition, x}, branches)[0], "y");
  SpecializeOptions options;
  options.input_shapes = {{"x", {2}}, {"rate", {}}};
  const Specialization waiting = specialize(graph, options);  // the value of `rate` is needed
  REQUIRE(waiting.rest);
  CHECK(waiting.rest->nodes().at(0).op == "If");
  for (const int64_t value : {8, 16}) {
    options.input_value = [&](const std::string&) {
      return HostTensor::from_ints(DType::kInt64, {}, {value});
    };
    Specialization result = specialize(graph, options);
    CHECK(operators(result.graph) == std::vector<std::string>{value == 8 ? "Exp" : "Neg"});
    CHECK(result.used_values.at("rate").to_ints()[0] == value);
  }
}

TEST_CASE("unknown operators are named together") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
  const ValueId a = graph.add_node("NoSuchOperator", {x})[0];
  graph.add_output(graph.add_node("Another", {a}, {}, 1, "", "custom")[0], "y");
  CHECK_THROWS_WITH_AS(check_operators(graph),
                       "the graph uses operators that this build does not have: NoSuchOperator, "
                       "custom::Another",
                       Error);
}

TEST_CASE("pointwise chains become one node") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2, 3}));
  const ValueId z = graph.add_input("z", DType::kFloat32, static_shape({3}));
  const ValueId gate = graph.add_node("Sigmoid", {x})[0];
  const ValueId swish = graph.add_node("Mul", {x, gate})[0];
  graph.add_output(graph.add_node("Add", {swish, z})[0], "y");
  ConcreteGraph result = concrete(graph, {{"x", {2, 3}}, {"z", {3}}});
  fuse_pointwise(result, 8);
  REQUIRE(result.nodes.size() == 1);
  CHECK(result.nodes[0].node.inputs.size() == 2);
  CHECK(result.nodes[0].program->label() == "Sigmoid_Mul_Add");
}

TEST_CASE("a residual block is two nodes") {
  ConcreteGraph result = concrete(residual_block({1, 4, 5, 5}, false), {{"x", {1, 4, 5, 5}}});
  HostCache cache;
  fold_batch_norm(result, cache);
  CHECK(operators(result) == std::vector<std::string>{"Conv", "Relu", "Conv", "Add", "Relu"});
  fuse_pointwise(result, 8);
  fuse_epilogues(result, 8);
  REQUIRE(operators(result) == std::vector<std::string>{"Conv", "Conv"});
  REQUIRE(result.nodes[1].epilogue_inputs.size() == 1);
  CHECK(result.nodes[1].epilogue.operands[0].kind == EpilogueOperand::Kind::kFull);
  CHECK(result.nodes[1].epilogue_inputs[0] == result.inputs[0]);
}

TEST_CASE("the longer of two branches adds the other") {
  for (const bool long_first : {true, false}) {
    Graph graph;
    const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({1, 4, 5, 5}));
    const ValueId w = graph.add_constant("w", noise({4, 4, 1, 1}, 1));
    const auto conv = [&](ValueId from) { return graph.add_node("Conv", {from, w})[0]; };
    ValueId side = long_first ? kNoValue : conv(x);
    const ValueId main = conv(conv(x));
    if (long_first) side = conv(x);
    graph.add_output(graph.add_node("Add", {main, side})[0], "y");
    ConcreteGraph result = concrete(graph, {{"x", {1, 4, 5, 5}}});
    fuse_epilogues(result, 8);
    REQUIRE(operators(result) == std::vector<std::string>{"Conv", "Conv", "Conv"});
    const ConcreteNode& last = result.nodes[2];
    REQUIRE(last.epilogue_inputs.size() == 1);
    CHECK(last.node.inputs[0] != result.inputs[0]);
    CHECK(last.fused == std::vector<std::string>{"Add"});
    const NodeId other = result.value(last.epilogue_inputs[0]).producer;
    CHECK(result.nodes[other].node.inputs[0] == result.inputs[0]);
  }
}

TEST_CASE("every combination of options computes the same") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const Graph graph = residual_block({2, 6, 7, 5}, true);
    const HostTensor x = noise({2, 6, 7, 5}, 7);
    std::vector<double> expected;
    for (int bits = 0; bits < 8; ++bits) {
      CompileOptions options;
      options.fuse = bits & 1;
      options.channels_last = bits & 2;
      options.alias = bits & 4;
      CAPTURE(bits);
      const auto model = Model::create(graph, device, options);
      const auto y = model->create_session()->run({{"x", x}}).at("y").to_doubles();
      if (bits == 0) expected = y;
      CHECK(relative_error(y, expected) < 1e-5);
    }
  }
}

TEST_CASE("a new batch size needs no new kernels") {
  for (const auto& device : test_devices()) {
    const auto model = Model::create(residual_block({1, 6, 7, 5}, true), device);
    model->plan({{"x", noise({1, 6, 7, 5})}});
    const uint64_t before = KernelLibrary::of(device)->stats().pipelines;
    model->plan({{"x", noise({3, 6, 7, 5})}});
    CHECK(KernelLibrary::of(device)->stats().pipelines == before);
  }
}

TEST_CASE("fp16 storage halves the weights and keeps inputs and outputs in float32") {
  for (const auto& device : test_devices()) {
    if (!device->caps().fp16_storage) continue;
    CAPTURE(device->caps().id);
    const Graph graph = residual_block({2, 6, 7, 5}, true);
    const RunInputs inputs{{"x", noise({2, 6, 7, 5}, 7)}};
    const auto wide = Model::create(graph, device);
    CompileOptions options;
    options.dtype = DType::kFloat16;
    const auto narrow = Model::create(graph, device, options);
    const HostTensor expected = wide->create_session()->run(inputs).at("y");
    const HostTensor y = narrow->create_session()->run(inputs).at("y");
    CHECK(y.dtype == DType::kFloat32);
    CHECK(relative_error(y.to_doubles(), expected.to_doubles()) < 5e-3);
    CHECK(narrow->plan(inputs).weight_bytes * 2 == wide->plan(inputs).weight_bytes);
    CHECK(narrow->plan(inputs).dispatches == wide->plan(inputs).dispatches);  // no conversions
  }
}

TEST_CASE("constant parts of a graph are computed once, by device kernels") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    Graph graph;
    const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(3)});
    const ValueId w = graph.add_constant("w", floats({2, 3}, {1, 2, 3, 4, 5, 6}));
    const ValueId flipped = graph.add_node("Transpose", {w})[0];
    const ValueId squared = graph.add_node("Mul", {flipped, flipped})[0];
    graph.add_output(graph.add_node("MatMul", {x, squared})[0], "y");
    const auto model = Model::create(std::move(graph), device);
    const auto y = model->create_session()->run({{"x", floats({1, 3}, {1, 1, 1})}});
    CHECK(y.at("y").to_doubles() == std::vector<double>{14, 77});
    for (const PlanStep& step : model->plan({{"x", floats({1, 3}, {1, 1, 1})}}).steps) {
      CHECK(step.op.find("Mul") != 0);
    }
  }
}
