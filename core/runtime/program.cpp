#include "core/runtime/program.h"

#include <algorithm>
#include <map>

namespace dlk {

namespace {

/// `operand` of the storage that starts at `base`.
Operand at(const Operand& base, const PlannedOperand& operand) {
  if (const auto* view = std::get_if<View>(&base)) {
    return View{view->buffer, view->offset_bytes + operand.offset_bytes, operand.size_bytes};
  }
  const auto& slot = std::get<SlotRef>(base);
  return SlotRef{slot.slot, slot.offset_bytes + operand.offset_bytes, operand.size_bytes};
}

}  // namespace

Program compile_program(Lowered lowered, const Caps& caps, KernelLibrary& library,
                        const Progress& progress, bool guards,
                        const std::vector<Preparation>& preparations) {
  Program program;
  program.lowered = std::move(lowered);
  program.memory = plan_memory(program.lowered, caps.max_buffer_bytes, guards);
  std::map<std::string, size_t> index_of;
  std::vector<KernelRequest> requests;
  const auto index = [&](const KernelRequest& request) {
    const auto [found, is_new] = index_of.emplace(request.key(), requests.size());
    if (is_new) requests.push_back(request);
    return found->second;
  };
  std::vector<size_t> request_of(program.lowered.commands.size(), 0);
  for (size_t c = 0; c < request_of.size(); ++c) {
    const PlannedCommand& command = program.lowered.commands[c];
    if (!command.is_copy) request_of[c] = index(command.request);
  }
  program.pipelines = requests.size();
  for (const Preparation& preparation : preparations) {
    for (const PlannedCommand& command : preparation.program.commands) {
      if (!command.is_copy) index(command.request);
    }
  }
  std::function<void(size_t, size_t)> report;
  if (progress) report = [&](size_t done, size_t total) { progress("kernels", done, total); };
  const auto kernels = library.get_all(requests, report);
  program.kernels.resize(request_of.size());
  for (size_t c = 0; c < request_of.size(); ++c) {
    if (!program.lowered.commands[c].is_copy) program.kernels[c] = kernels[request_of[c]];
  }
  return program;
}

void add_commands(CommandList& list, const Program& program, const StoragePlace& place,
                  std::span<const std::shared_ptr<Kernel>> kernels) {
  if (kernels.empty()) kernels = program.kernels;
  for (size_t c = 0; c < program.lowered.commands.size(); ++c) {
    const PlannedCommand& command = program.lowered.commands[c];
    std::vector<Operand> operands;
    std::vector<Stripes> stripes;
    for (const PlannedOperand& operand : command.operands) {
      operands.push_back(at(place(program.lowered.storages[operand.storage]), operand));
      stripes.push_back(operand.stripes);
    }
    if (command.is_copy) {
      list.copy(operands[0], operands[1], command.label);
    } else {
      list.dispatch(
          {kernels[c], std::move(operands), command.params, command.groups, std::move(stripes)},
          command.label);
    }
  }
}

std::vector<std::shared_ptr<Buffer>> allocate_chunks(Device& device, const MemoryPlan& memory) {
  std::vector<std::shared_ptr<Buffer>> chunks;
  for (const uint64_t bytes : memory.chunk_bytes) {
    chunks.push_back(device.allocate(bytes, MemoryKind::kDevice));
  }
  return chunks;
}

View arena_view(const Storage& storage, const std::vector<std::shared_ptr<Buffer>>& chunks) {
  return {chunks.at(storage.chunk), storage.offset_bytes, storage.size_bytes};
}

}  // namespace dlk
