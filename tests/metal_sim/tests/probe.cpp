// The Metal backend on the simulator, end to end: graphs against results computed here, faults, and
// that nothing is reported and nothing is left alive. run_defect runs it on patched sources.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

extern "C" {
uint64_t metal_sim_problem_count();
void metal_sim_clear_problems();
long metal_sim_live_objects(const char* class_name);
}

namespace {

/// Sets an environment variable while it lives.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Setting() { ::unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

/// How many objects of a class are alive once the last command buffer has let go of what it used,
/// which it does shortly after its completion is known. What leaks stays: the patience is of all
/// calls together.
long left_over(const char* class_name) {
  static int patience = 1000;
  for (; patience > 0 && metal_sim_live_objects(class_name) != 0; --patience) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return metal_sim_live_objects(class_name);
}

using Outputs = std::map<std::string, HostTensor>;

/// Runs a graph on a fresh device; checks that the simulator has nothing to say and that every
/// Metal object but the device is gone afterwards.
Outputs run(Graph graph, const RunInputs& inputs, CompileOptions options = {}) {
  metal_sim_clear_problems();
  Outputs outputs;
  {
    const auto model = Model::create(std::move(graph), open_device("metal-sim"), options);
    outputs = model->create_session()->run(inputs);
  }
  CHECK(metal_sim_problem_count() == 0);
  for (const char* name : {"MTLBuffer", "MTLHeap", "MTLLibrary", "MTLFunction", "MTLSharedEvent",
                           "MTLComputePipelineState", "MTLCommandQueue", "MTLCommandBuffer",
                           "MTLComputeCommandEncoder", "MTLCompileOptions", "NSError"}) {
    CAPTURE(name);
    CHECK(left_over(name) == 0);
  }
  return outputs;
}

std::vector<double> matmul(const HostTensor& a, const HostTensor& b, size_t m, size_t k, size_t n) {
  const std::vector<double> x = a.to_doubles(), y = b.to_doubles();
  std::vector<double> z(m * n, 0.0);
  for (size_t r = 0; r < m; ++r) {
    for (size_t c = 0; c < n; ++c) {
      for (size_t i = 0; i < k; ++i) z[r * n + c] += x[r * k + i] * y[i * n + c];
    }
  }
  return z;
}

std::vector<double> softmax(std::vector<double> rows, size_t n) {
  for (size_t first = 0; first < rows.size(); first += n) {
    double sum = 0;
    for (size_t i = first; i < first + n; ++i) sum += rows[i] = std::exp(rows[i]);
    for (size_t i = first; i < first + n; ++i) rows[i] /= sum;
  }
  return rows;
}

/// 3x3, padded by 1, one image of `in` channels of h x w.
std::vector<double> conv3x3(const HostTensor& image, const HostTensor& weights, int in, int out,
                            int h, int w) {
  const std::vector<double> x = image.to_doubles(), k = weights.to_doubles();
  std::vector<double> y;
  for (int o = 0; o < out; ++o) {
    for (int r = 0; r < h; ++r) {
      for (int c = 0; c < w; ++c) {
        double sum = 0;
        for (int i = 0; i < in * 9; ++i) {
          const int at_r = r + i / 3 % 3 - 1, at_c = c + i % 3 - 1;
          if (at_r < 0 || at_r >= h || at_c < 0 || at_c >= w) continue;
          sum += x[static_cast<size_t>((i / 9 * h + at_r) * w + at_c)] *
                 k[static_cast<size_t>(o * in * 9 + i)];
        }
        y.push_back(sum);
      }
    }
  }
  return y;
}

Graph one_node(const std::string& op, const std::vector<HostTensor>& inputs, RunInputs& feed,
               const Attributes& attributes = {}) {
  Graph graph;
  std::vector<ValueId> values;
  for (const HostTensor& tensor : inputs) {
    const std::string name = "x" + std::to_string(values.size());
    values.push_back(graph.add_input(name, tensor.dtype, static_shape(tensor.shape)));
    feed.emplace(name, tensor);
  }
  graph.add_output(graph.add_node(op, values, attributes)[0], "y");
  return graph;
}

}  // namespace

TEST_CASE("a product of matrices") {
  const HostTensor a = noise({37, 29}, 1), b = noise({29, 50}, 2);
  RunInputs feed;
  Graph graph = one_node("MatMul", {a, b}, feed);
  const auto y = run(std::move(graph), feed).at("y");
  CHECK(relative_error(y.to_doubles(), matmul(a, b, 37, 29, 50)) < 1e-5);
}

TEST_CASE("a convolution, in float32 and float16") {
  const HostTensor x = noise({1, 5, 9, 11}, 3), w = noise({7, 5, 3, 3}, 4);
  const std::vector<double> want = conv3x3(x, w, 5, 7, 9, 11);
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    Graph graph;
    const ValueId input = graph.add_input("x", DType::kFloat32, static_shape(x.shape));
    const Attributes pad{{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
    graph.add_output(graph.add_node("Conv", {input, graph.add_constant("w", w)}, pad)[0], "y");
    CompileOptions options;
    options.dtype = dtype;
    const auto y = run(std::move(graph), {{"x", x}}, options).at("y");
    CHECK(relative_error(y.to_doubles(), want) < (dtype == DType::kFloat32 ? 1e-5 : 5e-3));
  }
}

TEST_CASE("softmax over long and short rows") {
  for (const int64_t n : {7, 300}) {
    const HostTensor x = noise({5, n}, 5);
    RunInputs feed;
    Graph graph = one_node("Softmax", {x}, feed, {{"axis", int64_t{1}}});
    const auto y = run(std::move(graph), feed).at("y");
    CHECK(relative_error(y.to_doubles(), softmax(x.to_doubles(), static_cast<size_t>(n))) < 1e-5);
  }
}

TEST_CASE("independent branches that meet, and memory that is used again") {
  Graph graph;
  const HostTensor x = noise({64, 33}, 6);
  const ValueId input = graph.add_input("x", DType::kFloat32, static_shape(x.shape));
  ValueId left = input, right = input;
  for (int i = 0; i < 4; ++i) {
    left = graph.add_node("Softmax", {left}, {{"axis", int64_t{1}}})[0];
    right =
        graph.add_node("Softmax", {graph.add_node("Neg", {right})[0]}, {{"axis", int64_t{1}}})[0];
  }
  graph.add_output(graph.add_node("Add", {left, right})[0], "y");
  std::vector<double> a = x.to_doubles(), b = a;
  for (int i = 0; i < 4; ++i) {
    a = softmax(a, 33);
    for (double& value : b) value = -value;
    b = softmax(b, 33);
  }
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  const auto y = run(std::move(graph), {{"x", x}}).at("y");
  CHECK(relative_error(y.to_doubles(), a) < 1e-5);
}

TEST_CASE("sums, maxima and moved data") {
  const HostTensor x = noise({6, 130}, 7);
  const std::vector<double> values = x.to_doubles();
  std::vector<double> sums(6, 0.0);
  std::vector<double> turned(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    sums[i / 130] += values[i];
    turned[i % 130 * 6 + i / 130] = values[i];
  }
  RunInputs feed;
  const HostTensor axes = HostTensor::from_ints(DType::kInt64, {1}, {1});
  Graph graph;
  const ValueId input = graph.add_input("x", DType::kFloat32, static_shape(x.shape));
  graph.add_output(graph.add_node("ReduceSum", {input, graph.add_constant("axes", axes)})[0], "s");
  const Attributes order{{"perm", std::vector<int64_t>{1, 0}}};
  graph.add_output(graph.add_node("Tanh", {graph.add_node("Transpose", {input}, order)[0]})[0],
                   "t");
  const auto outputs = run(std::move(graph), {{"x", x}});
  CHECK(relative_error(outputs.at("s").to_doubles(), sums) < 1e-5);
  for (double& value : turned) value = std::tanh(value);
  CHECK(relative_error(outputs.at("t").to_doubles(), turned) < 1e-5);
}

TEST_CASE("several runs in flight, and an odd number of bytes") {
  metal_sim_clear_problems();
  {
    const HostTensor x = HostTensor::from_ints(DType::kInt8, {7}, {1, -2, 3, -4, 5, -6, 7});
    RunInputs feed;
    const auto model =
        Model::create(one_node("Neg", {x}, feed), open_device("metal-sim"), CompileOptions{});
    const auto session = model->create_session();
    std::vector<std::shared_ptr<Run>> runs;
    for (int i = 0; i < 5; ++i) runs.push_back(session->run_async(feed));
    for (const auto& one : runs) {
      CHECK(one->read("y").to_doubles() == std::vector<double>{-1, 2, -3, 4, -5, 6, -7});
    }
  }
  CHECK(metal_sim_problem_count() == 0);
  CHECK(left_over("MTLCommandBuffer") == 0);
}

TEST_CASE("memory that the host cannot map, and memory of which it has a copy") {
  for (const char* storage : {"private", "managed"}) {
    CAPTURE(storage);
    const Setting chosen("DLK_METAL_STORAGE", storage);
    const HostTensor x = noise({5, 9}, 8);
    RunInputs feed;
    Graph graph = one_node("Softmax", {x}, feed, {{"axis", int64_t{1}}});
    const auto y = run(std::move(graph), feed).at("y");
    CHECK(relative_error(y.to_doubles(), softmax(x.to_doubles(), 9)) < 1e-5);
  }
}

namespace {

Graph negate(RunInputs& feed) { return one_node("Neg", {noise({4}, 9)}, feed); }

ErrorCode failure(const char* fault) {
  const auto device = open_device("metal-sim");
  const Setting injected("METAL_SIM_FAULT", fault);
  try {
    RunInputs feed;
    Graph graph = negate(feed);
    Model::create(std::move(graph), device)->create_session()->run(feed);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("metal-sim:0") != std::string::npos);
    return error.code();
  }
  FAIL("the fault " << fault << " was not reported");
  return ErrorCode::kInvalidArgument;
}

}  // namespace

TEST_CASE("faults reach the caller") {
  metal_sim_clear_problems();
  CHECK(failure("compile-error=1") == ErrorCode::kCompileFailed);
  {
    // An archive that holds the pipeline would hide that it cannot be made.
    const Setting no_archive("DLK_METAL_ARCHIVE", "0");
    CHECK(failure("pipeline-error=1") == ErrorCode::kCompileFailed);
  }
  CHECK(failure("command-buffer-timeout=1") == ErrorCode::kDeviceLost);
  CHECK(failure("command-buffer-fault=1") == ErrorCode::kDeviceLost);
  CHECK(failure("command-buffer-memory=1") == ErrorCode::kOutOfMemory);
  CHECK(metal_sim_problem_count() == 0);
}

TEST_CASE("no memory") {
  metal_sim_clear_problems();
  const auto device = open_device("metal-sim");
  const Setting injected("METAL_SIM_FAULT", "out-of-memory=1");
  try {
    device->allocate(uint64_t{1} << 20, MemoryKind::kDevice);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kOutOfMemory);
  }
  CHECK(metal_sim_problem_count() == 0);
}

TEST_CASE("a machine without a GPU") {
  metal_sim_clear_problems();
  const Setting injected("METAL_SIM_FAULT", "no-device");
  Backend* backend = find_backend("metal-sim");
  REQUIRE(backend);
  CHECK(backend->enumerate().empty());
  CHECK(backend->unavailable_reason().find("Metal finds no GPU") != std::string::npos);
  CHECK(metal_sim_problem_count() == 0);
}

TEST_CASE("a pipeline that takes fewer threads than the kernel has") {
  metal_sim_clear_problems();
  const auto device = open_device("metal-sim");
  const Setting injected("METAL_SIM_FAULT", "max-threads=8");
  RunInputs feed;
  Graph graph = negate(feed);
  try {
    Model::create(std::move(graph), device)->create_session()->run(feed);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kUnsupported);
  }
  CHECK(metal_sim_problem_count() == 0);
}

TEST_CASE("the simulator is nobody's default, and is not there for those who do not ask") {
  const auto is_simulated = [](const Caps& caps) { return caps.backend == "metal-sim"; };
  {
    const Setting off("DLK_ENABLE_METAL_SIM", "0");
    const auto devices = list_devices();
    CHECK(std::none_of(devices.begin(), devices.end(), is_simulated));
    CHECK_THROWS_AS(open_device("metal-sim"), Error);
  }
  ::setenv("DLK_ENABLE_METAL_SIM", "1", 1);
}
