// The arithmetic operators beyond single cases: kernels for GPUs and for CPU drivers agree, a new
// batch size needs no new pipeline, and what cannot be computed is refused with its numbers.
#include <stdlib.h>

#include "core/device/checked.h"
#include "core/kernel/library.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

struct GpuShapes {
  GpuShapes() { setenv("DLK_KERNEL_SHAPES", "gpu", 1); }
  ~GpuShapes() { unsetenv("DLK_KERNEL_SHAPES"); }
};

Attributes ints(std::initializer_list<std::pair<const char*, std::vector<int64_t>>> values) {
  Attributes result;
  for (const auto& [name, value] : values) result[name] = value;
  return result;
}

/// A classifier with every kind of convolution, pooling, normalization and matrix product.
Graph classifier() {
  Graph graph;
  const auto weight = [&](const Shape& shape, uint32_t seed) {
    return graph.add_constant("w", noise(shape, seed));
  };
  const auto node = [&](const std::string& op, std::vector<ValueId> inputs,
                        const Attributes& attributes = {}) {
    return graph.add_node(op, std::move(inputs), attributes)[0];
  };
  const Attributes same = ints({{"pads", {1, 1, 1, 1}}});
  Attributes depthwise = same;
  depthwise["group"] = int64_t{32};
  ValueId x = graph.add_input("x", DType::kFloat32,
                              {Dim::named("N"), Dim::of(3), Dim::of(17), Dim::of(17)});
  x = node("Relu", {node("Conv", {x, weight({32, 3, 3, 3}, 1), weight({32}, 2)}, same)});
  x = node("MaxPool", {x}, ints({{"kernel_shape", {3, 3}}, {"strides", {2, 2}}}));
  const ValueId skip = x;
  x = node("Relu", {node("Conv", {x, weight({32, 1, 3, 3}, 3), weight({32}, 4)}, depthwise)});
  x = node("Add", {node("Conv", {x, weight({32, 32, 1, 1}, 5), weight({32}, 6)}), skip});
  x = node("Relu", {node("Conv", {x, weight({48, 32, 3, 3}, 7)}, same)});
  x = node("InstanceNormalization", {x, weight({48}, 8), weight({48}, 9)});
  x = node("ConvTranspose", {x, weight({48, 16, 2, 2}, 10)}, ints({{"strides", {2, 2}}}));
  x = node("Flatten", {node("GlobalAveragePool", {x})});
  x = node("Gemm", {x, weight({16, 300}, 11), weight({300}, 12)});
  x = node("LayerNormalization", {x, weight({300}, 13)});
  graph.add_output(node("Softmax", {node("MatMul", {x, weight({300, 40}, 14)})}), "y");
  return graph;
}

HostTensor images(int64_t count) { return noise({count, 3, 17, 17}, 99); }

std::vector<double> classify(const std::shared_ptr<Device>& device, const HostTensor& x) {
  return Model::create(classifier(), device)
      ->create_session()
      ->run({{"x", x}})
      .at("y")
      .to_doubles();
}

}  // namespace

TEST_CASE("kernels for GPUs and for CPU drivers agree") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const std::vector<double> as_it_is = classify(checked_device(device), images(2));
    const GpuShapes gpu;
    const auto other = checked_device(device);
    REQUIRE_FALSE(other->caps().is_cpu);
    CHECK(relative_error(classify(other, images(2)), as_it_is) < 1e-5);
  }
}

TEST_CASE("a new batch size needs no new pipeline") {
  for (const auto& device : test_devices()) {
    for (const bool as_gpu : {false, true}) {
      CAPTURE(device->caps().id);
      CAPTURE(as_gpu);
      if (as_gpu) {
        setenv("DLK_KERNEL_SHAPES", "gpu", 1);
        setenv("DLK_CONV_ALGO", "gemm", 1);  // a larger batch may choose another algorithm
      }
      const auto checked = checked_device(device);
      unsetenv("DLK_KERNEL_SHAPES");
      const auto model = Model::create(classifier(), checked);
      const auto session = model->create_session();
      const auto run = [&](int64_t batch) {
        session->run({{"x", images(batch)}});
        return KernelLibrary::of(checked)->stats().pipelines;
      };
      if (as_gpu) {  // matrix-vector kernels of up to 8 rows, in powers of 2
        const uint64_t few = run(3);
        CHECK(run(4) == few);
      }
      const int64_t batch = as_gpu ? 9 : 2;
      const uint64_t pipelines = run(batch);
      CHECK(run(batch + 1) == pipelines);
      CHECK(run(2 * batch) == pipelines);
      unsetenv("DLK_CONV_ALGO");
    }
  }
}

namespace {

/// A device whose kernel arguments reach less than they do.
class ShortDevice : public Device {
 public:
  ShortDevice(std::shared_ptr<Device> inner, uint64_t reach)
      : inner_(std::move(inner)), caps_(inner_->caps()) {
    caps_.max_binding_bytes = reach;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) override {
    return inner_->allocate(size_bytes, kind);
  }
  std::shared_ptr<Buffer> adopt(void* data, uint64_t size, std::shared_ptr<void> owner) override {
    return inner_->adopt(data, size, std::move(owner));
  }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    return inner_->compile(std::move(code));
  }
  std::shared_ptr<Recording> record(const CommandList& commands, bool profile) override {
    return inner_->record(commands, profile);
  }
  std::unique_ptr<Queue> create_queue() override { return inner_->create_queue(); }

 private:
  std::shared_ptr<Device> inner_;
  Caps caps_;
};

/// relu(conv(x) + skip), pooled, and a matrix product with more weights than an argument reaches.
std::vector<double> run_large(const std::shared_ptr<Device>& device) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({5, 8, 16, 16}));
  const ValueId skip = graph.add_input("skip", DType::kFloat32, static_shape({5, 8, 16, 16}));
  const ValueId w = graph.add_constant("w", noise({8, 8, 1, 1}, 1));
  const ValueId sum = graph.add_node("Add", {graph.add_node("Conv", {x, w})[0], skip})[0];
  const ValueId pooled = graph.add_node("AveragePool", {graph.add_node("Relu", {sum})[0]},
                                        ints({{"kernel_shape", {4, 4}}, {"strides", {4, 4}}}))[0];
  const ValueId rows = graph.add_node("Flatten", {pooled})[0];
  const ValueId dense = graph.add_constant("d", noise({200, 128}, 2));
  graph.add_output(graph.add_node("Gemm", {rows, dense}, {{"transB", int64_t{1}}})[0], "y");
  const auto session = Model::create(std::move(graph), device)->create_session();
  const RunInputs feeds{{"x", noise({5, 8, 16, 16}, 3)}, {"skip", noise({5, 8, 16, 16}, 4)}};
  return session->run(feeds).at("y").to_doubles();
}

}  // namespace

TEST_CASE("tensors beyond the reach of a kernel argument are computed in pieces") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const std::vector<double> whole = run_large(checked_device(device));
    const auto limited = std::make_shared<ShortDevice>(device, 20000);
    CHECK(relative_error(run_large(checked_device(limited)), whole) < 1e-6);
    const auto tiny = std::make_shared<ShortDevice>(device, 4096);
    CHECK_THROWS_WITH_AS(run_large(checked_device(tiny)),
                         doctest::Contains("one image of [5, 8, 16, 16] takes 8192 bytes"), Error);
  }
}

namespace {

struct Refusal {
  std::string op;
  std::vector<Shape> inputs;
  Attributes attributes;
  std::string message;  // a part of it
};

void check_refusal(const std::shared_ptr<Device>& device, const Refusal& refusal) {
  CAPTURE(refusal.op);
  CAPTURE(refusal.message);
  Graph graph;
  std::vector<ValueId> inputs;
  RunInputs feeds;
  for (size_t i = 0; i < refusal.inputs.size(); ++i) {
    const std::string name = "x" + std::to_string(i);
    inputs.push_back(graph.add_input(name, DType::kFloat32, static_shape(refusal.inputs[i])));
    feeds[name] = noise(refusal.inputs[i]);
  }
  graph.add_output(graph.add_node(refusal.op, inputs, refusal.attributes, 1, "the_node")[0], "y");
  try {
    Model::create(std::move(graph), device)->create_session()->run(feeds);
    FAIL_CHECK("not refused");
  } catch (const Error& error) {
    const std::string text = error.what();
    CAPTURE(text);
    CHECK(error.code() == ErrorCode::kInvalidArgument);
    CHECK(text.find(refusal.message) != std::string::npos);
    CHECK(text.find("the_node (" + refusal.op + ")") != std::string::npos);
  }
}

}  // namespace

TEST_CASE("what does not fit is refused with its numbers") {
  const std::vector<Refusal> refusals = {
      {"Conv", {{1, 3, 8, 8}, {4, 5, 3, 3}}, {}, "has 3 channels"},
      {"Conv", {{1, 3, 8, 8}, {4, 3, 3}}, {}, "must have the rank of the input [1, 3, 8, 8]"},
      {"Conv", {{1, 3, 2, 8}, {4, 3, 3, 3}}, {}, "a window of 3 does not fit the extent 2"},
      {"Conv", {{1, 4, 8, 8}, {4, 2, 3, 3}}, {{"group", int64_t{3}}}, "group 3 want 6"},
      {"Conv", {{1, 4, 8, 8}, {5, 2, 3, 3}}, {{"group", int64_t{2}}}, "not divisible by group 2"},
      {"Conv", {{1, 3, 8, 8}, {4, 3, 3, 3}, {5}}, {}, "the bias [5] must be [4]"},
      {"Conv", {{1, 3, 8, 8}, {4, 3, 3, 3}}, ints({{"pads", {1, 1}}}), "pads has 2 values"},
      {"Conv", {{1, 3, 8, 8}, {4, 3, 3, 3}}, ints({{"pads", {-1, 0, 0, 0}}}), "must be >= 0"},
      {"Conv", {{1, 3, 8, 8}, {4, 3, 3, 3}}, ints({{"strides", {0, 1}}}), "strides [0, 1]"},
      {"Conv", {{1, 3, 8, 8}, {4, 3, 3, 3}}, {{"auto_pad", std::string("same")}}, "'same'"},
      {"ConvTranspose", {{1, 3, 8, 8}, {4, 3, 3, 3}}, {}, "want 4"},
      {"ConvTranspose",
       {{1, 3, 2, 2}, {3, 3, 1, 1}},
       ints({{"pads", {1, 1, 1, 1}}}),
       "the output extent would be 0"},
      {"MaxPool", {{1, 3, 8, 8}}, {}, "kernel_shape is missing"},
      {"AveragePool", {{1, 3, 8, 8}}, ints({{"kernel_shape", {3}}}), "has 1 axes"},
      {"MatMul", {{2, 3}, {4, 5}}, {}, "the inner extents are 3 and 4"},
      {"Gemm", {{2, 3}, {3, 5}, {4}}, {}, "cannot be broadcast"},
      {"BatchNormalization", {{1, 3, 4}, {3}, {3}, {3}, {2}}, {}, "the variance [2] must be [3]"},
      {"GroupNormalization",
       {{1, 3, 4}, {3}, {3}},
       {{"num_groups", int64_t{2}}},
       "num_groups is 2"},
      {"LayerNormalization", {{2, 3}, {4}}, {}, "cannot be broadcast"},
      {"LRN", {{1, 3, 4}}, {}, "size must be at least 1"},
  };
  for (const auto& device : test_devices()) {
    for (const Refusal& refusal : refusals) check_refusal(device, refusal);
    break;  // shapes are checked before any device sees the graph
  }
}
