// Bundles through the C++ and C interfaces: what an application does that brings no compiler.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "core/base/phases.h"
#include "core/model/model_file.h"
#include "dlk/dlk.h"
#include "tests/cpp/engine_testing.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
using namespace dlk::testing;
namespace fs = std::filesystem;

namespace {

/// x (1, 8, 10, 10) -> y = relu(conv(x)).
Graph small_graph() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({1, 8, 10, 10}));
  const ValueId w = graph.add_constant("w", noise({16, 8, 3, 3}, 3));
  const ValueId conv = graph.add_node("Conv", {x, w})[0];
  graph.add_output(graph.add_node("Relu", {conv})[0], "y");
  return graph;
}

bool nothing_was_compiled() {
  for (const auto& [name, time] : phase_times()) {
    if (name.starts_with("kernels") || name.starts_with("plan/lower")) return false;
  }
  return true;
}

/// The model's bundle for `device`, in a file.
std::string bundled_file(const std::shared_ptr<Device>& device, const RunInputs& inputs,
                         const std::string& folder) {
  Graph graph = small_graph();
  graph.add_bundle(Model::create(graph, device)->bundle(inputs));
  const std::string path = folder + "/model.dlk";
  save_model(graph, path);
  return path;
}

}  // namespace

TEST_CASE("a bundle runs without planning or compiling") {
  for (const auto& device : test_devices()) {
    if (device->caps().backend.starts_with("metal")) continue;
    CAPTURE(device->caps().id);
    const TemporaryFolder folder;
    const RunInputs inputs{{"x", noise({1, 8, 10, 10})}};
    const std::vector<double> want =
        Model::create(small_graph(), device)->create_session()->run(inputs).at("y").to_doubles();
    const std::string path = bundled_file(device, inputs, folder.path);
    reset_phase_times();
    CompileOptions options;
    options.bundle = BundleUse::kAlways;
    const auto model = Model::create(load_model(path), device, options);
    CHECK(model->create_session()->run(inputs).at("y").to_doubles() == want);
    CHECK(model->bundled());
    CHECK(nothing_was_compiled());
    CHECK_THROWS_WITH_AS(model->bundle(inputs), doctest::Contains("uses none"), Error);
  }
}

TEST_CASE("the C interface uses bundles") {
  for (const auto& device : test_devices()) {
    if (device->caps().backend.starts_with("metal")) continue;
    CAPTURE(device->caps().id);
    const TemporaryFolder folder;
    const HostTensor x = noise({1, 8, 10, 10});
    const std::string path = bundled_file(device, {{"x", x}}, folder.path);
    const std::vector<double> want = Model::create(small_graph(), device)
                                         ->create_session()
                                         ->run({{"x", x}})
                                         .at("y")
                                         .to_doubles();
    setenv("DLK_BUNDLE", "require", 1);
    reset_phase_times();
    dlk_device* c_device = nullptr;
    dlk_model* model = nullptr;
    dlk_session* session = nullptr;
    dlk_run* run = nullptr;
    REQUIRE(dlk_device_open(device->caps().id.c_str(), &c_device) == DLK_OK);
    REQUIRE_MESSAGE(dlk_model_load(path.c_str(), c_device, nullptr, &model) == DLK_OK,
                    dlk_last_error());
    REQUIRE(dlk_session_create(model, &session) == DLK_OK);
    const dlk_tensor tensor{DLK_FLOAT32, x.shape.size(), x.shape.data(), x.data.get()};
    REQUIRE(dlk_session_bind(session, "x", &tensor) == DLK_OK);
    REQUIRE_MESSAGE(dlk_session_run(session, &run) == DLK_OK, dlk_last_error());
    std::vector<float> y(want.size());
    REQUIRE(dlk_run_read(run, "y", y.data(), y.size() * sizeof(float)) == DLK_OK);
    CHECK(std::vector<double>(y.begin(), y.end()) == want);
    CHECK(nothing_was_compiled());
    dlk_run_release(run);
    dlk_session_release(session);
    dlk_model_release(model);
    save_model(small_graph(), path);  // without its bundle
    CHECK(dlk_model_load(path.c_str(), c_device, nullptr, &model) == DLK_UNSUPPORTED);
    CHECK(std::string(dlk_last_error()).find("holds none") != std::string::npos);
    dlk_device_release(c_device);
    unsetenv("DLK_BUNDLE");
  }
}
