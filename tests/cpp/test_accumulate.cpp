// `accumulate_fp16`: sums of convolutions and matrix products are kept in float16. A sum of ones
// tells: float16 cannot count beyond 2048, float32 can.
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

constexpr int64_t kTerms = 4096;

Graph product_of_ones(bool constant) {
  Graph graph;
  const HostTensor ones = floats({kTerms, 3}, std::vector<double>(kTerms * 3, 1.0));
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2, kTerms}));
  const ValueId w = constant ? graph.add_constant("w", ones)
                             : graph.add_input("w", DType::kFloat32, static_shape({kTerms, 3}));
  graph.add_output(graph.add_node("MatMul", {x, w})[0], "y");
  return graph;
}

Graph convolution_of_ones(const char* op, int64_t groups) {
  Graph graph;
  const Shape input = groups == 1 ? Shape{1, kTerms, 1, 2} : Shape{1, 4, 64, 64};
  const Shape weight = groups == 1 ? Shape{kTerms, kTerms, 1, 1} : Shape{4, 1, 64, 64};
  Shape used = weight;
  if (groups == 1) used[std::string(op) == "Conv" ? 0 : 1] = 4;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape(input));
  const ValueId w = graph.add_constant(
      "w", floats(used, std::vector<double>(static_cast<size_t>(element_count(used)), 1.0)));
  graph.add_output(graph.add_node(op, {x, w}, {{"group", groups}})[0], "y");
  return graph;
}

/// Runs on ones and expects every result to be `sum`.
void expect_sum(const std::shared_ptr<Device>& device, const Graph& graph, bool half, double sum) {
  CompileOptions options;
  options.accumulate_fp16 = half;
  const auto model = Model::create(graph, device, options);
  RunInputs inputs;
  for (const ValueId id : graph.inputs()) {
    Shape shape;
    for (const Dim& dim : *graph.value(id).shape) shape.push_back(dim.value);
    inputs[graph.value(id).name] =
        floats(shape, std::vector<double>(static_cast<size_t>(element_count(shape)), 1.0));
  }
  const auto result = model->create_session()->run(inputs);
  for (const double value : result.at("y").to_doubles()) CHECK(value == sum);
}

}  // namespace

TEST_CASE("sums follow the option") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const Graph graphs[] = {product_of_ones(true), product_of_ones(false),
                            convolution_of_ones("Conv", 1), convolution_of_ones("ConvTranspose", 1),
                            convolution_of_ones("Conv", 4)};
    for (const Graph& graph : graphs) {
      expect_sum(device, graph, false, kTerms);
      if (device->caps().fp16_arithmetic) expect_sum(device, graph, true, 2048);
    }
    if (!device->caps().fp16_arithmetic) {
      CompileOptions options;
      options.accumulate_fp16 = true;
      CHECK_THROWS_AS(Model::create(graphs[0], device, options), Error);
    }
  }
}
