// The driver's pipeline cache on disk: written when the device is closed, given back to the driver
// by the next one, and harmless when it is wrong.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/cache_folder.h"
#include "tests/cpp/temporary_folder.h"
#include "tests/cpp/vulkan_testing.h"

using namespace dlk;
using namespace dlk::testing;
namespace fs = std::filesystem;

namespace {

struct Folder : TemporaryFolder {
  Folder() {
    setenv("DLK_CACHE_DIR", path.c_str(), 1);
    setenv("DLK_CACHE", "1", 1);
  }
  /// The files' names; Vulkan's only, no kernel library is used here.
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    std::error_code none;
    for (const auto& file : fs::directory_iterator(path + "/kernels", none)) {
      names.push_back(file.path().filename().string());
    }
    return names;
  }
};

/// Opens the device, compiles and runs a kernel, closes the device.
void use_device() {
  const auto device = vulkan_device();
  const auto kernel = device->compile(step_code());
  const auto queue = device->create_queue();
  const View x = floats(*device, 64);
  upload(*queue, x, ramp(64, 0));
  CommandList list;
  list.dispatch(step(kernel, x, 64, 2.0f));
  queue->wait(queue->submit(device->record(list)));
  CHECK(download(*queue, x) == ramp(64, 1, 2));
}

}  // namespace

TEST_CASE("closing the device writes the cache, the next one reads it") {
  if (!vulkan_device()) return;
  const Folder folder;
  use_device();
  REQUIRE(folder.files().size() == 1);
  const std::string name = folder.files()[0];
  CHECK(name.starts_with("vulkan-pipelines-"));
  const CacheFolder cache = CacheFolder::kernels();
  const auto data = cache.read(name);
  REQUIRE(data.has_value());
  REQUIRE(data->size() >= 32);
  uint32_t header[2];
  std::memcpy(header, data->data(), sizeof(header));
  CHECK(header[0] >= 32);
  CHECK(header[1] == 1);  // VK_PIPELINE_CACHE_HEADER_VERSION_ONE
  use_device();
  CHECK(folder.files().size() == 1);
  CHECK(cache.read(name).has_value());
}

TEST_CASE("a file that is not the driver's costs nothing but time") {
  if (!vulkan_device()) return;
  const Folder folder;
  use_device();
  REQUIRE(folder.files().size() == 1);
  const std::string name = folder.files()[0], file = folder.path + "/kernels/" + name;
  const CacheFolder cache = CacheFolder::kernels();
  SUBCASE("truncated") { fs::resize_file(file, fs::file_size(file) - 5); }
  SUBCASE("empty") { fs::resize_file(file, 0); }
  SUBCASE("something else") { std::ofstream(file, std::ios::binary) << std::string(300, 'x'); }
  SUBCASE("whole, but of another device") {
    std::string other = cache.read(name).value();
    for (size_t i = 8; i < 32; ++i) other[i] = static_cast<char>(~other[i]);
    cache.write(name, other);
  }
  use_device();
  CHECK(cache.read(name).has_value());
}

TEST_CASE("DLK_CACHE=0 writes nothing") {
  if (!vulkan_device()) return;
  const Folder folder;
  setenv("DLK_CACHE", "0", 1);
  use_device();
  CHECK(folder.files().empty());
}
