#include "core/device/device.h"
#include "core/device/hazards.h"

namespace dlk {

struct CommandList::Hazards {
  HazardTracker tracker;
};

CommandList::CommandList() : hazards_(std::make_unique<Hazards>()) {}
CommandList::~CommandList() = default;
CommandList::CommandList(CommandList&&) noexcept = default;
CommandList& CommandList::operator=(CommandList&&) noexcept = default;

uint32_t CommandList::add_slot(uint64_t size_bytes) {
  slot_bytes_.push_back(size_bytes);
  return static_cast<uint32_t>(slot_bytes_.size() - 1);
}

void CommandList::add(Command command) {
  command.barrier_before = hazards_->tracker.add(command_uses(command));
  commands_.push_back(std::move(command));
}

void CommandList::dispatch(DispatchCommand command, std::string label) {
  if (!command.kernel) throw_invalid("dispatch '" + label + "' has no kernel");
  if (label.empty()) label = command.kernel->info().name;
  add({std::move(command), std::move(label), false});
}

void CommandList::copy(Operand source, Operand destination, std::string label) {
  if (label.empty()) label = "copy";
  add({CopyCommand{std::move(source), std::move(destination)}, std::move(label), false});
}

void CommandList::fill(Operand destination, uint32_t pattern, std::string label) {
  if (label.empty()) label = "fill";
  add({FillCommand{std::move(destination), pattern}, std::move(label), false});
}

void CommandList::drop_barrier_for_test(size_t index) {
  size_t seen = 0;
  for (Command& command : commands_) {
    if (!command.barrier_before) continue;
    if (seen++ == index) {
      command.barrier_before = false;
      return;
    }
  }
  throw_invalid("no barrier " + std::to_string(index) + ": the command list has " +
                std::to_string(seen));
}

}  // namespace dlk
