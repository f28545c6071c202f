// Kernel packs: streams that are unpacked, kernels that are found by their text alone, and that all
// that can be wrong with a pack leaves compilers as they were.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "core/base/byte_stream.h"
#include "core/base/inflate.h"
#include "core/kernel/kernel_pack.h"
#include "core/kernel/ptx.h"
#include "tests/cpp/ptx_device.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
using testing::kPtx, testing::PtxBackend, testing::PtxDevice, testing::request;
namespace fs = std::filesystem;

namespace {

DLK_REGISTER_BACKEND(PtxBackend)

constexpr char kStored[] = "7801010800f7ff61732069742069730c7702ce";
constexpr char kFixed[] = "78012b4f2c2a50284721b800503e0753";
constexpr char kDynamic[] =
    "78da6dd42b0a82511080d1ee2a2c3611e7e503b76331fc08a2e2f26d6238f54b7398b977b9bf77afcaf5e6b1"
    "dfae37cfdb75f7b9ac965f0cc5542cc5561cc583e251f1a478e6f026d1144405554156d015840565415ad096"
    "b4a5f7455bd296b4256d495bd296b4256d455bd1563e46da8ab6a2ad682bda8ab6a2ad696bda9ab6f64ba3ad"
    "696bda9ab6a6ad691bda86b6a16d681b7f23b40d6d43dbd0367fb62f053a6b1c";

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

std::string instructions() {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "mov.u32 %r" + std::to_string(i) + ", %tid.x;\n";
  return text;
}

/// As zlib does without compressing; for less than 64 KB.
std::string as_stream(std::string_view bytes) {
  const auto size = static_cast<uint32_t>(bytes.size());
  std::string out = "\x78\x01\x01";
  for (const uint32_t number : {size, ~size}) {
    out += static_cast<char>(number & 255);
    out += static_cast<char>(number >> 8 & 255);
  }
  uint32_t a = 1, b = 0;
  for (const char c : bytes) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  out += bytes;
  for (const uint32_t number : {b >> 8, b, a >> 8, a}) out += static_cast<char>(number & 255);
  return out;
}

using Kernels = std::map<PackKey, std::string>;

std::string packed(const Kernels& kernels) {
  ByteWriter index;
  std::string data;
  index.number(kernels.size());
  for (const auto& [key, code] : kernels) {
    const std::string stream = as_stream(code);
    for (const uint64_t number : {key[0], key[1], data.size(), stream.size(), code.size()}) {
      index.number(number);
    }
    data += stream;
  }
  const std::string plain = index.take(), stream = as_stream(plain);
  ByteWriter sizes;
  sizes.number(stream.size());
  sizes.number(plain.size());
  return "dlk kernels 1\n" + sizes.take() + stream + data;
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return (std::ostringstream() << file.rdbuf()).str();
}

struct Setting : testing::TemporaryFolder {
  Setting() {
    setenv("DLK_CACHE", "0", 1);
    setenv("DLK_CUBIN", "0", 1);
    setenv("DLK_LOG", "0", 1);
    unsetenv("DLK_KERNEL_PACKS");
    unsetenv("DLK_KERNEL_PACK_RECORD");
  }
  ~Setting() {
    unsetenv("DLK_KERNEL_PACKS");
    unsetenv("DLK_KERNEL_PACK_RECORD");
  }
  /// Another file each time: a process reads a pack once.
  void use(const std::string& bytes) {
    const std::string name = file(std::to_string(files++) + ".pack");
    std::ofstream(name, std::ios::binary) << bytes;
    setenv("DLK_KERNEL_PACKS", (file("missing.pack") + ":" + name).c_str(), 1);
  }
  int files = 0;
};

using Taken = std::vector<std::string>;

struct Start {
  Taken taken;
  uint64_t pack_hits = 0;
};

/// The start of a process with a device, as the library sees it.
Start start(const std::shared_ptr<PtxDevice>& device, const KernelRequest& what = request()) {
  const auto library = KernelLibrary::of(device);
  library->get(what);
  return {device->taken, library->stats().pack_hits};
}

PackKey key_of(const Device& device, const KernelRequest& what = request()) {
  return pack_key(KernelSources::embedded().print(what, KernelFormat::kOpenCLC, device.caps()),
                  device.caps().name);
}

}  // namespace

TEST_CASE("streams of zlib are unpacked") {
  CHECK(inflated(from_hex(kStored), 8) == "as it is");
  CHECK(inflated(from_hex(kFixed), 20) == "warp warp warp warp\n");
  CHECK(inflated(from_hex(kDynamic), instructions().size()) == instructions());
  CHECK(inflated(as_stream(""), 0) == "");
}

TEST_CASE("a stream that is damaged, cut or of another size is refused") {
  for (const char* hex : {kStored, kFixed, kDynamic}) {
    const std::string good = from_hex(hex);
    const size_t size = hex == kStored ? 8 : hex == kFixed ? 20 : instructions().size();
    CHECK_FALSE(inflated(good, size - 1));
    CHECK_FALSE(inflated(good, size + 1));
    CHECK_FALSE(inflated(good, SIZE_MAX));
    CHECK_FALSE(inflated(good + "x", size));
    for (size_t i = 0; i < good.size(); ++i) {
      CHECK_FALSE(inflated(good.substr(0, i), size));
      for (int bit = 0; bit < 8; ++bit) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ 1 << bit);
        const std::optional<std::string> got = inflated(bad, size);
        // Bits that no code uses, and the level of compression, say nothing about the content.
        CHECK((!got || got == inflated(good, size)));
      }
    }
  }
}

TEST_CASE("what a compiler makes is recorded, and taken from a pack") {
  Setting setting;
  const auto first = std::make_shared<PtxDevice>();
  const std::string folder = setting.file("recorded");
  setenv("DLK_KERNEL_PACK_RECORD", folder.c_str(), 1);
  CHECK(start(first).taken == Taken{"source"});
  unsetenv("DLK_KERNEL_PACK_RECORD");
  Kernels kernels;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string();
    const PackKey key{std::stoull(name.substr(0, 16), nullptr, 16),
                      std::stoull(name.substr(16), nullptr, 16)};
    kernels[key] = content(entry.path().string());
  }
  REQUIRE(kernels.size() == 1);
  CHECK(kernels.contains(key_of(*first)));
  setting.use(packed(kernels));
  const Start second = start(std::make_shared<PtxDevice>());
  CHECK(second.taken == Taken{"ptx"});
  CHECK(second.pack_hits == 1);
  setenv("DLK_KERNEL_PACKS", "0", 1);
  CHECK(start(std::make_shared<PtxDevice>()).taken == Taken{"source"});
}

TEST_CASE("PTX of a pack becomes machine code at once") {
  Setting setting;
  setting.use(packed({{key_of(PtxDevice()), kPtx}}));
  setenv("DLK_CUBIN_LIBRARY", DLK_FAKE_CUDA, 1);
  unsetenv("DLK_CUBIN");
  const Start first = start(std::make_shared<PtxDevice>());
  CHECK(first.taken == Taken{"machine code"});
  CHECK(first.pack_hits == 1);
  unsetenv("DLK_CUBIN_LIBRARY");
}

TEST_CASE("kernels of another text or GPU are not used") {
  Setting setting;
  setting.use(packed({{key_of(PtxDevice()), kPtx}}));
  CHECK(start(std::make_shared<PtxDevice>()).pack_hits == 1);
  KernelRequest other = request();
  other.source.replace(other.source.find("2.0f"), 4, "3.0f");
  CHECK(start(std::make_shared<PtxDevice>(), other).taken == Taken{"source"});
  CHECK(start(std::make_shared<PtxDevice>(kPtx, "Another GPU")).taken == Taken{"source"});
}

TEST_CASE("Vulkan's PTX comes from a pack without a compiler") {
  Setting setting;
  KernelRequest what = request();
  what.lowering = "ptx";
  const auto device = std::make_shared<PtxDevice>();
  const PackKey key = pack_key(
      ptx_source(KernelSources::embedded().print(what, KernelFormat::kOpenCLC, device->caps()),
                 "ptx-test"),
      "Fake GPU");
  device->take_ptx_only();
  setting.use(packed({{key, kPtx}}));
  CHECK(start(device, what).taken == Taken{"ptx"});
  const auto alone = std::make_shared<PtxDevice>();
  alone->take_ptx_only();
  setenv("DLK_KERNEL_PACKS", "0", 1);
  CHECK(start(alone, what).taken == Taken{"source"});  // the plain form of this backend
}

TEST_CASE("PTX of a pack that a driver refuses is compiled") {
  Setting setting;
  setting.use(packed({{key_of(PtxDevice()), kPtx}}));
  const auto device = std::make_shared<PtxDevice>();
  device->refuses_ptx = true;
  const Start got = start(device);
  CHECK(got.taken == Taken{"ptx", "source"});
  CHECK(got.pack_hits == 0);
}

TEST_CASE("a damaged pack is left out") {
  Setting setting;
  const std::string good = packed({{key_of(PtxDevice()), kPtx}});
  std::string late = good;
  late[good.size() - 10] ^= 1;  // in the kernel
  std::string early = good;
  early[60] ^= 1;  // in the index
  for (const std::string& bad : {late, early, good.substr(0, good.size() - 1), good.substr(0, 20),
                                 std::string("other"), std::string()}) {
    setting.use(bad);
    CHECK(start(std::make_shared<PtxDevice>()).taken == Taken{"source"});
  }
  setting.use(good);
  CHECK(start(std::make_shared<PtxDevice>()).taken == Taken{"ptx"});
}

TEST_CASE("packs are named by files that are there") {
  Setting setting;
  CHECK_THROWS_WITH_AS(KernelPacks::shared().add(setting.file("none.pack")),
                       doctest::Contains("there is no kernel pack"), Error);
  CHECK_FALSE(KernelPacks::shared().any());
}
