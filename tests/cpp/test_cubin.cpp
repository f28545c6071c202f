// Machine code of PTX through the CUDA driver's library, with a stand-in of it (fake_cuda_driver.c)
// and of the GPU: the sequence of calls, and that every way it can be missing or refuse leaves PTX.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "core/base/phases.h"
#include "core/device/registry.h"
#include "core/kernel/cubin.h"
#include "core/kernel/cubin_local.h"
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

template <typename T>
void put(std::string& bytes, size_t at, T value) {
  if (bytes.size() < at + sizeof value) bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <typename T>
T get(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

constexpr size_t kSections = 64, kSegments = 64 + 3 * 64, kNames = kSegments + 2 * 56;
constexpr size_t kSizeInSection = kSections + 2 * 64 + 32, kSizeInSegment = kSegments + 56 + 40;

/// An ELF file with two sections, names and local memory, and two segments, code and local memory.
std::string elf(uint64_t local_bytes, const std::string& name = ".nv.shared.twice") {
  std::string bytes = "\177ELF\2\1";
  put<uint64_t>(bytes, 32, kSegments);
  put<uint64_t>(bytes, 40, kSections);
  put<uint16_t>(bytes, 56, 2);
  put<uint16_t>(bytes, 60, 3);
  put<uint16_t>(bytes, 62, 1);
  put<uint64_t>(bytes, kSections + 64 + 24, kNames);
  put<uint32_t>(bytes, kSections + 2 * 64, 1);
  put<uint32_t>(bytes, kSections + 2 * 64 + 4, 8);
  put<uint64_t>(bytes, kSizeInSection, local_bytes);
  put<uint64_t>(bytes, kSegments + 32, 4096);
  put<uint64_t>(bytes, kSegments + 40, local_bytes);
  put<uint64_t>(bytes, kSizeInSegment, local_bytes);
  bytes.resize(kNames);
  return bytes + '\0' + name + '\0';
}

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

TEST_CASE("arrays beyond the linker's limit are compiled smaller and made larger again") {
  const auto module = [](const std::string& size) {
    return std::string(kPtx) + "\t.shared .align 1024 .b8 twice_local[" + size + "];\n";
  };
  std::string text = module("196608");
  CHECK(shrink_local(text) == 196608 - 32768);
  CHECK(text == module("32768"));
  std::string two = module("65536") + "\t.shared .align 4 .b8 other[4];\n";
  for (std::string same : {module("49152"), module(""), module("x"), std::string(kPtx), two}) {
    const std::string before = same;
    CHECK(shrink_local(same) == 0);
    CHECK(same == before);
  }
  std::string code = elf(33792);
  grow_local(code, 0);
  CHECK(code == elf(33792));
  grow_local(code, 1000);
  CHECK(get<uint64_t>(code, kSizeInSection) == 34792);
  CHECK(get<uint64_t>(code, kSizeInSegment) == 34792);
  CHECK(get<uint64_t>(code, kSegments + 40) == 33792);  // of code, by chance as large
  for (std::string bad : {std::string("CUBIN"), elf(1024), elf(33792, ".text"),
                          elf(33792).substr(0, 100), elf(33792).substr(0, kSections + 150)}) {
    CHECK_THROWS_AS(grow_local(bad, 1000), Error);
  }
}
