#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/device/registry.h"
#include "core/kernel/disk_cache.h"
#include "core/kernel/library.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
namespace fs = std::filesystem;

namespace {

/// Counts compilations; can be told to fail.
class FakeDevice : public Device {
 public:
  explicit FakeDevice(std::string driver) {
    caps_.id = "fake:0";
    caps_.backend = "fake";
    caps_.driver = std::move(driver);
    caps_.max_group_invocations = 1024;
    caps_.local_memory_bytes = 32768;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t, MemoryKind) override { throw_unsupported("fake"); }
  std::shared_ptr<Buffer> adopt(void*, uint64_t, std::shared_ptr<void>) override {
    throw_unsupported("fake");
  }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    ++compiled;
    if (fails) throw Error(ErrorCode::kCompileFailed, "told to fail");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return std::make_shared<Kernel>(std::move(code));
  }
  std::shared_ptr<Recording> record(const CommandList&, bool) override {
    throw_unsupported("fake");
  }
  std::unique_ptr<Queue> create_queue() override { throw_unsupported("fake"); }

  std::atomic<int> compiled = 0;
  std::atomic<bool> fails = false;

 private:
  Caps caps_;
};

class FakeBackend : public Backend {
 public:
  std::string name() const override { return "fake"; }
  int priority() const override { return -100; }
  KernelFormat kernel_format() const override { return KernelFormat::kOpenCLC; }
  std::vector<Caps> enumerate() override { return {}; }
  std::string unavailable_reason() override { return "only a test"; }
  std::shared_ptr<Device> open(uint32_t) override { return nullptr; }
};

DLK_REGISTER_BACKEND(FakeBackend)

/// A cache folder of its own for each case.
struct Folder : testing::TemporaryFolder {
  Folder() {
    setenv("DLK_CACHE_DIR", path.c_str(), 1);
    setenv("DLK_CACHE", "1", 1);
    setenv("DLK_LOG", "0", 1);
  }
  std::vector<fs::path> entries() const {
    std::vector<fs::path> found;
    if (!fs::exists(path + "/kernels")) return found;
    for (const auto& entry : fs::directory_iterator(path + "/kernels")) {
      found.push_back(entry.path());
    }
    return found;
  }
};

KernelRequest request_of(int64_t group) {
  KernelRequest request;
  request.name = "twice";
  request.source =
      "kernel twice\nconst WG = 64\nin X : f32\nout Y : f32\nparam n : uint\ngroup WG\n"
      "{ uint i = WX * WG + LX; if (i < n) st(Y, i, 2.0f * ld(X, i)); }\n";
  request.constants["WG"] = group;
  return request;
}

}  // namespace

TEST_CASE("one library a device") {
  const Folder folder;
  const auto device = std::make_shared<FakeDevice>("1");
  const auto first = KernelLibrary::of(device);
  CHECK(first == KernelLibrary::of(device));
  CHECK(first != KernelLibrary::of(std::make_shared<FakeDevice>("1")));
}

TEST_CASE("a variant is built once, from many threads") {
  const Folder folder;
  const auto device = std::make_shared<FakeDevice>("1");
  const auto library = KernelLibrary::of(device);
  std::vector<std::shared_ptr<Kernel>> kernels(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kernels.size(); ++i) {
    threads.emplace_back([&, i] { kernels[i] = library->get(request_of(64)); });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(device->compiled == 1);
  for (const auto& kernel : kernels) CHECK(kernel == kernels[0]);
  CHECK(library->stats().pipelines == 1);
  CHECK(library->stats().memory_hits == 7);
  CHECK(kernels[0]->info().group_size[0] == 64);
  CHECK(library->interface_of(request_of(32)).group_size[0] == 32);
  CHECK(device->compiled == 1);
}

TEST_CASE("many variants, with progress") {
  const Folder folder;
  const auto device = std::make_shared<FakeDevice>("1");
  const auto library = KernelLibrary::of(device);
  std::vector<KernelRequest> requests;
  for (int64_t group = 1; group <= 20; ++group) requests.push_back(request_of(group));
  size_t last = 0;
  const auto caller = std::this_thread::get_id();
  const auto kernels = library->get_all(requests, [&](size_t done, size_t total) {
    CHECK(std::this_thread::get_id() == caller);
    CHECK(total == 20);
    CHECK(done > last);
    last = done;
  });
  CHECK(last == 20);
  for (size_t i = 0; i < kernels.size(); ++i) {
    REQUIRE(kernels[i] != nullptr);
    CHECK(kernels[i]->info().group_size[0] == i + 1);
  }
  CHECK(library->get_all({}).empty());
  CHECK(folder.entries().size() == 20);
}

TEST_CASE("an error reaches every caller and is not kept") {
  const Folder folder;
  const auto device = std::make_shared<FakeDevice>("1");
  const auto library = KernelLibrary::of(device);
  device->fails = true;
  CHECK_THROWS_AS(library->get(request_of(64)), Error);
  CHECK_THROWS_AS(library->get_all({request_of(64), request_of(32)}), Error);
  CHECK(folder.entries().empty());
  device->fails = false;
  CHECK(library->get(request_of(64)) != nullptr);
  KernelRequest unknown = request_of(64);
  unknown.constants["NO_SUCH"] = 1;
  CHECK_THROWS_WITH_AS(library->get(unknown),
                       "the kernel 'twice' has no constant 'NO_SUCH'; it has: WG", Error);
}

TEST_CASE("the disk cache is used by the next library, and by no other driver") {
  const Folder folder;
  KernelLibrary::of(std::make_shared<FakeDevice>("1"))->get(request_of(64));
  const auto again = KernelLibrary::of(std::make_shared<FakeDevice>("1"));
  const auto kernel = again->get(request_of(64));
  CHECK(again->stats().disk_hits == 1);
  CHECK(kernel->info().name == "twice");
  CHECK(kernel->info().bindings.size() == 2);
  CHECK(kernel->info().bindings[1].access == Access::kWrite);
  CHECK(kernel->info().params.size() == 1);
  CHECK(kernel->info().params[0].kind == 'u');
  CHECK(kernel->info().code.find("reqd_work_group_size(64, 1, 1)") != std::string::npos);
  const auto other = KernelLibrary::of(std::make_shared<FakeDevice>("2"));
  other->get(request_of(64));
  CHECK(other->stats().disk_hits == 0);
  CHECK(other->stats().disk_misses == 1);
}

TEST_CASE("processes share a folder") {
  const Folder folder;
  std::vector<pid_t> children;
  for (int child = 0; child < 4; ++child) {
    const pid_t id = fork();
    REQUIRE(id >= 0);
    if (id > 0) {
      children.push_back(id);
      continue;
    }
    bool right = true;
    try {
      for (int round = 0; round < 5; ++round) {
        const auto library = KernelLibrary::of(std::make_shared<FakeDevice>("1"));
        for (int64_t group = 1; group <= 10; ++group) {
          right = right && library->get(request_of(group))->info().group_size[0] == group;
        }
      }
    } catch (const std::exception&) {
      right = false;
    }
    _exit(right ? 0 : 1);
  }
  for (const pid_t id : children) {
    int status = 1;
    CHECK(waitpid(id, &status, 0) == id);
    CHECK(status == 0);
  }
  CHECK(folder.entries().size() == 10);  // and no temporary files
  const auto library = KernelLibrary::of(std::make_shared<FakeDevice>("1"));
  for (int64_t group = 1; group <= 10; ++group) library->get(request_of(group));
  CHECK(library->stats().disk_hits == 10);
}

TEST_CASE("damaged entries are ignored and written again") {
  const Folder folder;
  KernelLibrary::of(std::make_shared<FakeDevice>("1"))->get(request_of(64));
  REQUIRE(folder.entries().size() == 1);
  const fs::path entry = folder.entries()[0];
  const auto size = fs::file_size(entry);
  const auto expect_miss = [&] {
    const auto library = KernelLibrary::of(std::make_shared<FakeDevice>("1"));
    CHECK(library->get(request_of(64))->info().group_size[0] == 64);
    CHECK(library->stats().disk_misses == 1);
    CHECK(fs::file_size(entry) == size);
  };
  SUBCASE("truncated") { fs::resize_file(entry, size / 2); }
  SUBCASE("empty") { fs::resize_file(entry, 0); }
  SUBCASE("a byte changed") {
    std::fstream file(entry, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size / 2));
    file.put('\x7f');
  }
  SUBCASE("another file") {
    std::ofstream file(entry, std::ios::binary | std::ios::trunc);
    file << std::string(500, 'x');
  }
  expect_miss();
}

TEST_CASE("a folder that cannot be written costs speed only") {
  const Folder folder;
  SUBCASE("a file is in its place") { std::ofstream(folder.path + "/kernels") << "no folder"; }
  SUBCASE("it is below a file") {
    std::ofstream(folder.path + "/file") << "no folder";
    setenv("DLK_CACHE_DIR", (folder.path + "/file/below").c_str(), 1);
  }
  SUBCASE("the device is full") { setenv("DLK_CACHE_DIR", "/dev/full", 1); }
  const auto library = KernelLibrary::of(std::make_shared<FakeDevice>("1"));
  CHECK(library->get(request_of(64)) != nullptr);
  CHECK(library->stats().disk_misses == 1);
}

TEST_CASE("DLK_CACHE=0 turns it off") {
  const Folder folder;
  setenv("DLK_CACHE", "0", 1);
  const auto library = KernelLibrary::of(std::make_shared<FakeDevice>("1"));
  library->get(request_of(64));
  CHECK(library->stats().disk_misses == 0);
  CHECK(folder.entries().empty());
}

TEST_CASE("an entry holds everything") {
  const Folder folder;
  const DiskCache cache{CacheFolder(folder.path)};
  KernelCode code;
  code.format = KernelFormat::kSpirv;
  code.name = "k";
  code.code = std::string("\0\1\2binary\0", 10);
  code.build_options = "-x";
  code.bindings = {{"A", Access::kReadWrite, 2}};
  code.params = {{"p", 'f', 3, 8}};
  code.param_bytes = 20;
  code.params_in_buffer = true;
  code.group_size = {8, 4, 2};
  code.local_bytes = 77;
  code.required_subgroup_size = 32;
  code.hash = 0xfedcba9876543210u;
  cache.store("key", code);
  CHECK_FALSE(cache.load("other key").has_value());
  const auto read = cache.load("key");
  REQUIRE(read.has_value());
  CHECK(read->format == code.format);
  CHECK(read->code == code.code);
  CHECK(read->build_options == code.build_options);
  CHECK(read->bindings[0].name == "A");
  CHECK(read->bindings[0].access == Access::kReadWrite);
  CHECK(read->bindings[0].element_bytes == 2);
  CHECK(read->params[0].kind == 'f');
  CHECK(read->params[0].count == 3);
  CHECK(read->params[0].offset_bytes == 8);
  CHECK(read->param_bytes == 20);
  CHECK(read->params_in_buffer);
  CHECK(read->group_size == code.group_size);
  CHECK(read->local_bytes == 77);
  CHECK(read->required_subgroup_size == 32);
  CHECK(read->hash == code.hash);
}
