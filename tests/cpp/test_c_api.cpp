// dlk.h as a C program sees it: the checks of c_api.c on every device, and on an application's own.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/cpp/c_api.h"
#include "tests/cpp/c_api_models.h"
#include "tests/cpp/engine_testing.h"
#include "tests/cpp/temporary_folder.h"
#ifdef DLK_HAVE_OPENCL
#include "tests/cpp/opencl_app.h"
#endif
#ifdef DLK_HAVE_VULKAN
#include "tests/cpp/vulkan_app.h"
#endif

using namespace dlk;
using namespace dlk::testing;

namespace {

/// The models' files, for as long as a case runs.
struct Models : TemporaryFolder {
  Models() {
    add_relu = path + "/add_relu.dlk";
    classifier = path + "/classifier.dlk";
    save_add_relu(add_relu);
    save_color_classifier(classifier);
  }
  std::string add_relu, classifier;
};

void passes(const char* wrong) { CHECK_MESSAGE(wrong == nullptr, (wrong ? wrong : "")); }

void check_device(const dlk_device* device, const Models& models) {
  passes(c_api_check_run(device, models.add_relu.c_str()));
  passes(c_api_check_async(device, models.add_relu.c_str()));
  passes(c_api_check_errors(device, models.add_relu.c_str()));
  passes(c_api_check_wrong_run(device, models.add_relu.c_str()));
  passes(c_api_check_picture(device, models.classifier.c_str()));
}

/// As check_device, on a device that an application wrapped.
[[maybe_unused]] void check_wrapped(const char* backend, const NativeDevice& handles) {
  const Models models;
  dlk_native_device native = {};
  native.instance = handles.instance;
  native.physical_device = handles.physical_device;
  native.device = handles.device;
  native.context = handles.context;
  native.queue = handles.queue;
  native.queue_family = handles.queue_family;
  native.features = handles.features;
  dlk_device* device = nullptr;
  const dlk_status status = dlk_device_wrap(backend, &native, &device);
  REQUIRE_MESSAGE(status == DLK_OK, dlk_last_error());
  check_device(device, models);
  dlk_device_release(device);
}

}  // namespace

TEST_CASE("the C interface on every device") {
  const Models models;
  for (const auto& found : test_devices()) {
    const std::string id = found->caps().id;
    CAPTURE(id);
    dlk_device* device = nullptr;
    REQUIRE(dlk_device_open(id.c_str(), &device) == DLK_OK);
    check_device(device, models);
    dlk_device_release(device);
    passes(c_api_check_release_order(id.c_str(), models.add_relu.c_str()));
  }
}

TEST_CASE("devices are listed, wrong calls are refused, also where nothing computes") {
  setenv("DLK_ENABLE_NULL", "1", 1);
  passes(c_api_check_devices());
  dlk_device* device = nullptr;
  REQUIRE(dlk_device_open("null", &device) == DLK_OK);
  const Models models;
  passes(c_api_check_errors(device, models.add_relu.c_str()));
  dlk_device_release(device);
}

#ifdef DLK_HAVE_VULKAN
TEST_CASE("an application's own Vulkan device and queue") {
  if (find_backend("vulkan")->enumerate().empty()) return;
  VulkanApp app(true);
  check_wrapped("vulkan", app.native());
}
#endif

#ifdef DLK_HAVE_OPENCL
TEST_CASE("an application's own OpenCL context and queue") {
  if (find_backend("opencl")->enumerate().empty()) return;
  const OpenClApp app;
  NativeDevice native;
  native.device = app.device;
  native.context = app.context;
  native.queue = app.queue;
  check_wrapped("opencl", native);
  native.queue = nullptr;  // dlk makes its own
  check_wrapped("opencl", native);
}
#endif
