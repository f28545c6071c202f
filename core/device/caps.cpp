#include <string_view>

#include "core/device/checked.h"

namespace dlk {

namespace {

struct Flag {
  const char* name;
  bool Caps::* field;
};

#define DLK_FLAG(name) {#name, &Caps::name}
constexpr Flag kFlags[] = {DLK_FLAG(is_cpu),
                           DLK_FLAG(unified_memory),
                           DLK_FLAG(native_recordings),
                           DLK_FLAG(fp16_storage),
                           DLK_FLAG(fp16_arithmetic),
                           DLK_FLAG(fp64),
                           DLK_FLAG(int64),
                           DLK_FLAG(int8_storage),
                           DLK_FLAG(int16_storage),
                           DLK_FLAG(subgroup_arithmetic),
                           DLK_FLAG(cooperative_matrix),
                           DLK_FLAG(cooperative_matrix_fp16_sums),
                           DLK_FLAG(cooperative_matrix_int8),
                           DLK_FLAG(inline_ptx),
                           DLK_FLAG(binary_import),
                           DLK_FLAG(device_fences),
                           DLK_FLAG(timeline_semaphore),
                           DLK_FLAG(host_import),
                           DLK_FLAG(timestamps),
                           DLK_FLAG(simdgroup_matrix)};
#undef DLK_FLAG

}  // namespace

std::vector<std::pair<std::string, bool>> caps_flags(const Caps& caps) {
  std::vector<std::pair<std::string, bool>> flags;
  for (const Flag& flag : kFlags) flags.emplace_back(flag.name, caps.*flag.field);
  return flags;
}

bool clear_flag(Caps& caps, std::string_view name) {
  for (const Flag& flag : kFlags) {
    if (name != flag.name) continue;
    caps.*flag.field = false;
    return true;
  }
  return false;
}

}  // namespace dlk
