// SPIR-V that asks the driver to keep NaN: still valid modules, with the mode on the entry point.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "backends/vulkan/float_controls.h"
#include "core/kernel/dialect.h"

using namespace dlk;

TEST_CASE("the mode stands after the entry points, its capability first") {
  const std::string code = compile_glsl(
      "#version 460\nlayout(local_size_x = 1) in;\n"
      "layout(std430, binding = 0) buffer B { float d[]; } b;\n"
      "void main() { b.d[0] = b.d[0] < 0.0 ? 0.0 : b.d[0]; }\n",
      "relu");
  std::vector<uint32_t> words(code.size() / 4);
  std::memcpy(words.data(), code.data(), code.size());
  const std::vector<uint32_t> out = vulkan::with_nan_preserved(words);

  std::vector<uint32_t> opcodes;
  size_t modes = 0;
  for (size_t at = 5; at < out.size(); at += out[at] >> 16) {
    REQUIRE((out[at] >> 16) > 0);
    opcodes.push_back(out[at] & 0xffff);
    if (opcodes.back() == 16 && out[at + 2] == 4461) {
      ++modes;
      CHECK(out[at + 3] == 32);
    }
  }
  CHECK(modes == 1);
  CHECK(opcodes.size() > 3);
  const auto first = [&](uint32_t op) {
    return std::find(opcodes.begin(), opcodes.end(), op) - opcodes.begin();
  };
  // Capabilities (17), extensions (10), the memory model (14), entry points (15), modes (16).
  CHECK(first(17) < first(10));
  CHECK(first(10) < first(14));
  CHECK(first(14) < first(15));
  CHECK(first(15) < first(16));
}
