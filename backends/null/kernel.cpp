#include "backends/null/kernel.h"

#include <cstring>

#include "backends/null/buffer.h"

namespace dlk::null_backend {

namespace {

View resolve(const Operand& operand, std::span<const View> slots) {
  if (const auto* view = std::get_if<View>(&operand)) return *view;
  const auto& ref = std::get<SlotRef>(operand);
  const View& slot = slots[ref.slot];
  return {slot.buffer, slot.offset_bytes + ref.offset_bytes, ref.size_bytes};
}

}  // namespace

NullRecording::NullRecording(const CommandList& list, bool profile)
    : commands_(list.commands()), profiled_(profile) {}

void NullRecording::run(std::span<const View> slots) const {
  for (const Command& command : commands_) {
    if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
      const View from = resolve(copy->source, slots);
      std::memcpy(bytes_of(resolve(copy->destination, slots)), bytes_of(from), from.size_bytes);
    } else if (const auto* fill = std::get_if<FillCommand>(&command.op)) {
      const View to = resolve(fill->destination, slots);
      for (uint64_t i = 0; i + 4 <= to.size_bytes; i += 4) {
        std::memcpy(bytes_of(to) + i, &fill->pattern, 4);
      }
    }
  }
}

}  // namespace dlk::null_backend
