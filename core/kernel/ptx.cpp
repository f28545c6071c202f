#include "core/kernel/ptx.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "core/device/registry.h"

namespace dlk {

namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

void cut_at_zero(std::string& text) { text.resize(std::min(text.find('\0'), text.size())); }

// Functions, so that the compiler knows that the value does not change.
constexpr std::string_view kGrid = R"(#define DLK_GRID(name, from)                          \
  static inline uint name(void) {                        \
    uint x;                                              \
    __asm__("mov.u32 %0, %%" from ";" : "=r"(x));        \
    return x;                                            \
  }
DLK_GRID(dlk_group_0, "ctaid.x")
DLK_GRID(dlk_group_1, "ctaid.y")
DLK_GRID(dlk_group_2, "ctaid.z")
DLK_GRID(dlk_groups_0, "nctaid.x")
DLK_GRID(dlk_groups_1, "nctaid.y")
DLK_GRID(dlk_groups_2, "nctaid.z")
DLK_GRID(dlk_item_0, "tid.x")
DLK_GRID(dlk_item_1, "tid.y")
DLK_GRID(dlk_item_2, "tid.z")
)";

}  // namespace

std::shared_ptr<Device> ptx_compiler_for(const Caps& caps) {
  if (Backend* opencl = find_backend("opencl")) {
    for (const Caps& other : opencl->enumerate()) {
      if (other.inline_ptx && other.name == caps.name) return open_device(other.id, false);
    }
  }
  throw_unsupported("no OpenCL driver of " + caps.name + " is there to compile PTX");
}

std::string with_plain_grid(std::string opencl) {
  for (const char axis : {'0', '1', '2'}) {
    const std::string argument = std::string("(") + axis + ")";
    for (const auto& [from, to] : {std::pair{"get_group_id", "dlk_group_"},
                                   {"get_num_groups", "dlk_groups_"},
                                   {"get_local_id", "dlk_item_"}}) {
      replace_all(opencl, from + argument, std::string(to) + axis + "()");
    }
  }
  return std::string(kGrid) + opencl;
}

std::string portable_ptx(std::string binary, const std::string& name) {
  cut_at_zero(binary);
  if (binary.find(".version") == std::string::npos ||
      binary.find(".entry " + name) == std::string::npos) {
    throw Error(ErrorCode::kCompileFailed, "the OpenCL driver's program of '" + name +
                                               "' is no PTX: " + binary.substr(0, 200));
  }
  replace_all(binary, ", texmode_independent", "");
  replace_all(binary, ".visible .entry ", ".entry ");
  replace_all(binary, ".entry ", ".visible .entry ");
  // Registers that only OpenCL's launches fill in: offsets of the grid.
  for (size_t at = binary.find("%envreg"); at != std::string::npos;
       at = binary.find("%envreg", at)) {
    size_t after = at + std::string_view("%envreg").size();
    while (after < binary.size() && binary[after] >= '0' && binary[after] <= '9') ++after;
    binary.replace(at, after - at, "0");
  }
  return binary;
}

std::string with_wgmma(std::string ptx) {
  constexpr std::string_view kMark = "//dlk ";
  if (ptx.find(kMark) == std::string::npos) return ptx;
  constexpr std::string_view kTarget = ".target sm_90";
  const size_t at = ptx.find(kTarget);
  if (at == std::string::npos) throw_unsupported("wgmma is for GPUs of compute capability 9.0");
  const size_t after = at + kTarget.size();
  if (after < ptx.size() && ptx[after] != 'a') ptx.insert(after, "a");
  replace_all(ptx, kMark, "");
  return ptx;
}

uint32_t most_launched_local_bytes() {
  const char* setting = std::getenv("DLK_PTX_LOCAL_KB");
  const long kilobytes = setting == nullptr ? 0 : std::strtol(setting, nullptr, 10);
  if (kilobytes <= 0) return kMostPtxLocalBytes;
  return std::clamp(static_cast<uint32_t>(std::min(kilobytes, 1024L)) << 10, kMostStaticLocalBytes,
                    kMostPtxLocalBytes);
}

std::string with_launched_local(std::string ptx) {
  constexpr std::string_view kShared = ".shared .align ", kEntry = ".visible .entry ";
  const size_t begin = ptx.find(kShared), entry = ptx.find(kEntry);
  if (begin == std::string::npos || entry == std::string::npos ||
      ptx.find(kShared, begin + 1) != std::string::npos) {
    throw_unsupported("a launch gives memory for one array of local memory, not for several");
  }
  const size_t size = ptx.find('[', begin), end = ptx.find(';', begin);
  if (size == std::string::npos || end == std::string::npos || size > end) {
    throw_unsupported("the local memory of the PTX is no array");
  }
  const std::string array = ".extern " + ptx.substr(begin, size - begin) + "[];\n";
  ptx.erase(begin, end + 1 - begin);
  ptx.insert(ptx.find(kEntry), array);
  return ptx;
}

KernelCode ptx_source(KernelCode code, const std::string& backend) {
  if (backend != "opencl") code.code = with_plain_grid(std::move(code.code));
  return code;
}

std::string driver_ptx(const KernelCode& source, Device& compiler) {
  std::string binary = compiler.compile(source)->binary();
  cut_at_zero(binary);
  return binary;
}

KernelCode launchable_ptx(KernelCode source, std::string ptx, const std::string& backend) {
  const bool foreign = backend != "opencl";
  if (foreign) ptx = portable_ptx(std::move(ptx), source.name);
  if (foreign && source.local_bytes > most_launched_local_bytes()) {
    throw_unsupported("kernel '" + source.name + "' has " + std::to_string(source.local_bytes) +
                      " bytes of local memory; launches of PTX have " +
                      std::to_string(most_launched_local_bytes()));
  }
  if (foreign && source.local_bytes > kMostStaticLocalBytes) {
    ptx = with_launched_local(std::move(ptx));
  }
  source.code = with_wgmma(std::move(ptx));
  source.build_options.clear();
  source.format = KernelFormat::kPtx;
  return source;
}

}  // namespace dlk
