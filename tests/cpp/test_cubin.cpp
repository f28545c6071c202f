// Machine code of PTX through the CUDA driver's library, with a stand-in of it (fake_cuda_driver.c)
// and of the GPU: the sequence of calls, and that every way it can be missing or refuse leaves PTX.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "core/base/phases.h"
#include "core/device/registry.h"
#include "core/kernel/cubin.h"
#include "core/kernel/library.h"
#include "tests/cpp/ptx_device.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
using testing::kPtx, testing::PtxBackend, testing::PtxDevice, testing::request;
namespace fs = std::filesystem;

namespace {

const std::string kMachineCode = "CUBIN of " + std::to_string(sizeof kPtx - 1) + " bytes";

DLK_REGISTER_BACKEND(PtxBackend)

struct Setting : testing::TemporaryFolder {
  Setting() {
    setenv("DLK_CACHE_DIR", path.c_str(), 1);
    setenv("DLK_LOG", "0", 1);
    setenv("DLK_CUBIN_LIBRARY", DLK_FAKE_CUDA, 1);
    unsetenv("DLK_CUBIN");
  }
};

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
  const auto asked = [] { return phase_times()["kernels/machine code"].count; };
  const uint64_t before = asked();
  CHECK(start(false, text) == Taken{"ptx"});
  CHECK(asked() == before + 1);
  CHECK(start(false, text) == Taken{"ptx"});
  CHECK(asked() == before + 1);  // not tried again
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
