// Any text either prints in every language or gives a dlk::Error, with bounded time, memory and
// recursion. A zero byte separates the source from an epilogue's expression.
#include <cstdint>
#include <string_view>

#include "core/kernel/dialect.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dlk;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  Caps caps;
  caps.fp16_storage = caps.fp64 = caps.int64 = caps.int8_storage = caps.int16_storage = true;
  caps.subgroup_arithmetic = true;
  try {
    KernelSources sources;
    sources.add("input", input.substr(0, end));
    for (const std::string& name : sources.kernel_names()) {
      KernelRequest request;
      request.name = name;
      request.source = std::string(input.substr(0, end));
      if (end != std::string_view::npos) {
        request.epilogue.expression = std::string(input.substr(end + 1));
        request.epilogue.operands = {{EpilogueOperand::Kind::kChannel, DType::kFloat16},
                                     {EpilogueOperand::Kind::kValue, DType::kFloat32}};
      }
      for (const KernelFormat format :
           {KernelFormat::kOpenCLC, KernelFormat::kSpirv, KernelFormat::kMsl}) {
        try {
          KernelSources::embedded().print(request, format, caps);
        } catch (const Error&) {
        }
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
