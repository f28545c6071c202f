#include "core/graph/graph.h"
#include "core/graph/specialize.h"
#include "core/ops/elementwise.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

TEST_CASE("shapes: counts, strides, broadcasting") {
  CHECK(element_count({}) == 1);
  CHECK(element_count({2, 0, 3}) == 0);
  CHECK(contiguous_strides({2, 3, 4}) == Shape{12, 4, 1});
  CHECK(broadcast_shapes({2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast_shapes({0, 1}, {5}) == Shape{0, 5});
  CHECK_THROWS_AS(broadcast_shapes({2}, {3}), Error);
  CHECK_THROWS_AS(element_count({-1}), Error);
  CHECK_THROWS_AS(element_count({int64_t{1} << 40, int64_t{1} << 40}), Error);
}

TEST_CASE("host tensors convert between all element types") {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64,
                            DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64,
                            DType::kUInt8, DType::kUInt16, DType::kUInt32, DType::kUInt64}) {
    CAPTURE(dtype_name(dtype));
    const HostTensor tensor = HostTensor::from_ints(dtype, {3}, {0, 1, 100});
    CHECK(tensor.size_bytes() == 3 * dtype_size(dtype));
    CHECK(tensor.to_ints() == std::vector<int64_t>{0, 1, 100});
    CHECK(tensor.to_doubles() == std::vector<double>{0, 1, 100});
  }
  CHECK(HostTensor::from_ints(DType::kBool, {2}, {0, 7}).to_ints() == std::vector<int64_t>{0, 1});
  CHECK_THROWS_AS(HostTensor::copy_of(DType::kFloat32, {2}, {}), Error);
}

TEST_CASE("graphs name their values, and refuse what does not fit") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
  const ValueId a = graph.add_node("Relu", {x}, {}, 1, "act")[0];
  const ValueId b = graph.add_node("Relu", {a}, {}, 1, "act")[0];
  CHECK(graph.value(a).name == "act");
  CHECK(graph.value(b).name == "act_1");
  CHECK(graph.find("act_1") == b);
  CHECK_FALSE(graph.find("nothing").has_value());
  CHECK_THROWS_AS(graph.add_node("Relu", {99}), Error);
  CHECK_THROWS_AS(graph.add_input("x", DType::kFloat32, {}), Error);
  CHECK_THROWS_AS(graph.assign(x, a), Error);
  CHECK_THROWS_AS(graph.validate(), Error);  // no outputs yet
  graph.add_output(b, "y");
  CHECK_THROWS_AS(graph.add_output(a, "y"), Error);
  graph.validate();
  CHECK(graph.topological_order() == std::vector<NodeId>{0, 1});
  graph.mutable_node(0).inputs[0] = b;
  CHECK_THROWS_WITH_AS(graph.validate(), "the graph has a cycle through node 'act' (Relu)", Error);
}

TEST_CASE("views are reshaped where strides can say it") {
  TensorView view;
  view.shape = {2, 3, 4};
  view.strides = {12, 4, 1};
  REQUIRE(view.reshaped({6, 4}));
  CHECK(view.reshaped({6, 4})->strides == Shape{4, 1});
  CHECK(view.reshaped({2, 12, 1})->strides[1] == 1);
  CHECK(view.reshaped({24})->strides == Shape{1});
  TensorView transposed = view;
  transposed.shape = {4, 2, 3};
  transposed.strides = {1, 12, 4};
  CHECK_FALSE(transposed.is_contiguous());
  CHECK(transposed.is_dense());
  CHECK(transposed.reshaped({4, 6})->strides == Shape{1, 4});
  CHECK_FALSE(transposed.reshaped({24}));
  TensorView repeated;
  repeated.shape = {4, 3};
  repeated.strides = {1, 0};
  CHECK_FALSE(repeated.is_dense());
  CHECK_FALSE(repeated.reshaped({12}));
  CHECK(repeated.span() == 4);
  TensorView last;
  last.shape = {2, 3, 4, 5};
  last.strides = {60, 1, 15, 3};
  CHECK(last.is_channels_last());
  CHECK(last.is_dense());
}

TEST_CASE("inference errors name the node and what is wrong") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
  const ValueId y = graph.add_input("y", DType::kFloat32, static_shape({3}));
  graph.add_output(graph.add_node("Add", {x, y}, {}, 1, "sum")[0], "z");
  SpecializeOptions options;
  options.input_shapes = {{"x", {2}}, {"y", {3}}};
  CHECK_THROWS_WITH_AS(specialize(graph, options),
                       "sum (Add): shapes [2] and [3] cannot be broadcast", Error);
  Graph wrong;
  const ValueId i = wrong.add_input("i", DType::kInt32, static_shape({2}));
  wrong.add_output(wrong.add_node("Exp", {i}, {}, 1, "e")[0], "z");
  options.input_shapes = {{"i", {2}}};
  CHECK_THROWS_WITH_AS(specialize(wrong, options), "e (Exp): Exp does not take int32", Error);
}

TEST_CASE("every pointwise row has a program for each class of dtypes it lists") {
  for (const PointwiseRow& row : pointwise_rows()) {
    CAPTURE(row.name);
    const OpSchema* schema = find_op(row.name);
    REQUIRE(schema != nullptr);
    Node node;
    node.op = node.name = row.name;
    node.inputs.assign(static_cast<size_t>(row.inputs), 0);
    const auto works = [&](DType dtype) {
      try {
        const std::vector<DType> dtypes(node.inputs.size(), dtype);
        return program_of(*schema, node, dtypes).steps.size() == 1;
      } catch (const Error&) {
        return false;
      }
    };
    CHECK(works(DType::kFloat32) == (*row.floats != '\0'));
    CHECK(works(DType::kFloat64) == (*row.floats != '\0'));
    CHECK(works(DType::kInt32) == (*row.integers != '\0'));
    CHECK(works(DType::kBool) == (*row.bools != '\0'));
    CHECK(std::string(row.doc) != "");
  }
}

TEST_CASE("joined programs compute the consumer of the producer") {
  PointwiseProgram producer;
  producer.operands = {DType::kFloat32, DType::kFloat32};
  producer.add_step("Add", "$0 + $1", {operand_arg(0), operand_arg(1)}, DType::kFloat32);
  PointwiseProgram consumer;
  consumer.operands = {DType::kFloat32, DType::kFloat32};
  const PointwiseArg two = consumer.add_value(2);
  const PointwiseArg scaled =
      consumer.add_step("Scale", "$0 * $1", {operand_arg(1), two}, DType::kFloat32);
  consumer.add_step("Sub", "$0 - $1", {operand_arg(0), scaled}, DType::kFloat32);
  const PointwiseProgram joined = join_programs(producer, consumer, 1);
  CHECK(joined.label() == "Add_Scale_Sub");
  CHECK_FALSE(joined.uses_operand(1));
  CHECK(program_expression(joined, {"a", "?", "c", "d"}, {"v"}, 100) == "(a - ((c + d) * v))");
  CHECK(program_expression(joined, {"a", "?", "c", "d"}, {"v"}, 10).empty());
}
