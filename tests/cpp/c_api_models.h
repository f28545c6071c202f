// The small models that the C tests and the examples' tests load, as `.dlk` files.
#pragma once

#include <string>

#include "core/graph/graph.h"
#include "core/model/model_file.h"

namespace dlk::testing {

/// y = relu(x + {1, -2, 0.5}), x of shape (N, 3).
inline void save_add_relu(const std::string& path) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(3)});
  const ValueId bias =
      graph.add_constant("bias", HostTensor::of<float>(DType::kFloat32, {3}, {1.0f, -2.0f, 0.5f}));
  graph.add_output(graph.add_node("Relu", {graph.add_node("Add", {x, bias})[0]})[0], "y");
  save_model(graph, path);
}

/// Says which of red, green and blue a picture has most of.
inline void save_color_classifier(const std::string& path) {
  Graph graph;
  const ValueId x =
      graph.add_input("picture", DType::kFloat32, {Dim::of(1), Dim::of(3), Dim::of(8), Dim::of(8)});
  const ValueId sharpness =
      graph.add_constant("sharpness", HostTensor::of<float>(DType::kFloat32, {}, {10.0f}));
  const ValueId mean = graph.add_node("GlobalAveragePool", {x})[0];
  const ValueId flat = graph.add_node("Flatten", {mean}, {{"axis", int64_t{1}}})[0];
  const ValueId scaled = graph.add_node("Mul", {flat, sharpness})[0];
  graph.add_output(graph.add_node("Softmax", {scaled}, {{"axis", int64_t{1}}})[0], "scores");
  graph.info.labels = {"red", "green", "blue"};
  graph.info.preprocessing = R"({"resize": [8, 8]})";
  save_model(graph, path);
}

}  // namespace dlk::testing
