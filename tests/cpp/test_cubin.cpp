// Machine code of PTX through the CUDA driver's library, with a stand-in of it (fake_cuda_driver.c)
// and of the GPU: the sequence of calls, and that every way it can be missing or refuse leaves PTX.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "core/device/registry.h"
#include "core/kernel/cubin.h"
#include "core/kernel/library.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
namespace fs = std::filesystem;

namespace {

constexpr char kPtx[] = ".version 8.0\n.target sm_90\n.visible .entry twice(){}\n";
const std::string kMachineCode = "CUBIN of " + std::to_string(sizeof kPtx - 1) + " bytes";

class PtxKernel : public Kernel {
 public:
  PtxKernel(KernelCode code, std::string binary)
      : Kernel(std::move(code)), binary_(std::move(binary)) {}
  std::string binary() const override { return binary_; }

 private:
  std::string binary_;
};

/// As NVIDIA's OpenCL: what it hands out is PTX, ended by a zero.
class PtxDevice : public Device {
 public:
  explicit PtxDevice(std::string text = kPtx) : text_(std::move(text)) {
    caps_.id = "ptx-test:0";
    caps_.backend = "ptx-test";
    caps_.name = "Fake GPU";
    caps_.inline_ptx = true;
    caps_.max_group_invocations = 1024;
    caps_.local_memory_bytes = 32768;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t, MemoryKind) override { throw_unsupported("test"); }
  std::shared_ptr<Buffer> adopt(void*, uint64_t, std::shared_ptr<void>) override {
    throw_unsupported("test");
  }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    const std::lock_guard lock(mutex_);
    const bool is_machine = code.code.starts_with("CUBIN");
    taken.push_back(code.format == KernelFormat::kOpenCLC ? "source"
                    : is_machine                          ? "machine code"
                                                          : "ptx");
    if (is_machine && refuses) throw Error(ErrorCode::kCompileFailed, "no machine code here");
    std::string binary = is_machine ? code.code : text_ + '\0';
    return std::make_shared<PtxKernel>(std::move(code), std::move(binary));
  }
  std::shared_ptr<Recording> record(const CommandList&, bool) override {
    throw_unsupported("test");
  }
  std::unique_ptr<Queue> create_queue() override { throw_unsupported("test"); }

  std::vector<std::string> taken;
  bool refuses = false;

 private:
  std::mutex mutex_;
  const std::string text_;
  Caps caps_;
};

class PtxBackend : public Backend {
 public:
  std::string name() const override { return "ptx-test"; }
  int priority() const override { return -100; }
  KernelFormat kernel_format() const override { return KernelFormat::kOpenCLC; }
  std::vector<Caps> enumerate() override { return {}; }
  std::string unavailable_reason() override { return "only a test"; }
  std::shared_ptr<Device> open(uint32_t) override { return nullptr; }
};

DLK_REGISTER_BACKEND(PtxBackend)

struct Setting : testing::TemporaryFolder {
  Setting() {
    setenv("DLK_CACHE_DIR", path.c_str(), 1);
    setenv("DLK_LOG", "0", 1);
    setenv("DLK_CUBIN_LIBRARY", DLK_FAKE_CUDA, 1);
    unsetenv("DLK_CUBIN");
  }
};

KernelRequest request() {
  KernelRequest request;
  request.name = "twice";
  request.source =
      "kernel twice\nin X : f32\nout Y : f32\ngroup 64\n{ st(Y, LX, 2.0f * ld(X, LX)); }\n";
  return request;
}

/// What the device of one process is given; each library starts as a new process would.
std::vector<std::string> start(bool refuses = false, const std::string& text = kPtx) {
  const auto device = std::make_shared<PtxDevice>(text);
  device->refuses = refuses;
  KernelLibrary::of(device)->get(request());
  return device->taken;
}

using Taken = std::vector<std::string>;

}  // namespace

TEST_CASE("PTX becomes machine code through the driver's library") {
  const Setting setting;
  PtxDevice device;
  void* library = dlopen(DLK_FAKE_CUDA, RTLD_NOW);
  REQUIRE(library != nullptr);
  const auto held = reinterpret_cast<int (*)()>(dlsym(library, "fake_cuda_retained"));
  {
    const auto compiler = CubinCompiler::open(device.caps());
    CHECK(held() == 1);
    CHECK(compiler->compile(kPtx, "twice") == kMachineCode);
    CHECK(compiler->compile(kPtx, "again") == kMachineCode);
    CHECK_THROWS_WITH_AS(compiler->compile("REFUSE", "bad"), doctest::Contains("REFUSE in bad"),
                         Error);
    CHECK(compiler->compile(kPtx, "twice") == kMachineCode);
  }
  CHECK(held() == 0);
}

TEST_CASE("a library or a GPU that is not there is reported") {
  const Setting setting;
  PtxDevice device;
  setenv("DLK_CUBIN_LIBRARY", "/nowhere/libcuda.so.1", 1);
  CHECK_THROWS_WITH_AS(CubinCompiler::open(device.caps()),
                       doctest::Contains("no CUDA driver library"), Error);
  setenv("DLK_CUBIN_LIBRARY", "libm.so.6", 1);
  CHECK_THROWS_WITH_AS(CubinCompiler::open(device.caps()), doctest::Contains("has no cuInit"),
                       Error);
  setenv("DLK_CUBIN_LIBRARY", DLK_FAKE_CUDA, 1);
  Caps other = device.caps();
  other.name = "A third GPU";
  CHECK_THROWS_WITH_AS(CubinCompiler::open(other), doctest::Contains("knows no A third GPU"),
                       Error);
  setenv("DLK_CUBIN", "0", 1);
  CHECK_THROWS_WITH_AS(CubinCompiler::open(device.caps()), doctest::Contains("DLK_CUBIN=0"), Error);
}

TEST_CASE("the cache goes from source to PTX to machine code") {
  const Setting setting;
  CHECK(start() == Taken{"source"});
  CHECK(start() == Taken{"machine code"});
  setenv("DLK_CUBIN_LIBRARY", "/nowhere/libcuda.so.1", 1);  // not needed any more
  CHECK(start() == Taken{"machine code"});
}

TEST_CASE("a driver that takes no machine code is asked once") {
  const Setting setting;
  CHECK(start(true) == Taken{"source"});
  CHECK(start(true) == Taken{"machine code", "ptx"});
  CHECK(start(true) == Taken{"ptx"});
}

TEST_CASE("without the library PTX is loaded") {
  const Setting setting;
  setenv("DLK_CUBIN_LIBRARY", "/nowhere/libcuda.so.1", 1);
  CHECK(start() == Taken{"source"});
  CHECK(start() == Taken{"ptx"});
}

TEST_CASE("PTX that the library refuses is loaded as it is") {
  const Setting setting;
  const std::string text = std::string(kPtx) + "// REFUSE\n";
  CHECK(start(false, text) == Taken{"source"});
  CHECK(start(false, text) == Taken{"ptx"});
}

TEST_CASE("machine code that a new driver refuses is made again") {
  const Setting setting;
  start();
  CHECK(start() == Taken{"machine code"});
  CHECK(start(true) == Taken{"machine code", "source"});
}

TEST_CASE("packages hold the text and the machine code") {
  const Setting setting;
  const auto device = std::make_shared<PtxDevice>();
  const KernelPackage package = KernelLibrary::of(device)->package(request());
  CHECK(package.portable.format == KernelFormat::kOpenCLC);
  REQUIRE(package.binary);
  CHECK(package.binary->format == KernelFormat::kBinary);
  CHECK(package.binary->code.starts_with("CUBIN"));
  const auto refusing = std::make_shared<PtxDevice>();
  refusing->refuses = true;
  CHECK(KernelLibrary::of(refusing)->package(request()).binary->code.starts_with(".version"));
}
