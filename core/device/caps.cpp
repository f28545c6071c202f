#include "core/device/device.h"

namespace dlk {

std::vector<std::pair<std::string, bool>> caps_flags(const Caps& caps) {
#define DLK_FLAG(name) {#name, caps.name}
  return {DLK_FLAG(is_cpu),
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
          DLK_FLAG(timeline_semaphore),
          DLK_FLAG(host_import),
          DLK_FLAG(timestamps)};
#undef DLK_FLAG
}

}  // namespace dlk
