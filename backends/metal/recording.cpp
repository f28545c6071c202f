#include "backends/metal/recording.h"

#include <algorithm>
#include <cstring>

#include "backends/metal/heap.h"
#include "backends/metal/kernel.h"

namespace dlk::metal {

namespace {

constexpr size_t kMostInlineBytes = 4096;  // setBytes' limit

uint64_t size_of(const Operand& operand) {
  if (const auto* view = std::get_if<View>(&operand)) return view->size_bytes;
  return std::get<SlotRef>(operand).size_bytes;
}

std::vector<std::byte> bytes_of(std::initializer_list<uint32_t> words) {
  std::vector<std::byte> bytes(words.size() * 4);
  std::memcpy(bytes.data(), words.begin(), bytes.size());
  return bytes;
}

uint32_t groups_for(uint64_t items) {
  constexpr uint64_t kEach = uint64_t{kUtilityThreads} * kUtilityItems;
  return static_cast<uint32_t>(std::clamp<uint64_t>((items + kEach - 1) / kEach, 1, 65535));
}

}  // namespace

MetalRecording::MetalRecording(std::shared_ptr<Context> context, const CommandList& list,
                               bool profile)
    : context_(std::move(context)), commands_(list.commands()), profiled_(profile) {
  const Pool pool;
  for (const Command& command : commands_) {
    if (const auto* run = std::get_if<DispatchCommand>(&command.op)) {
      steps_.push_back(dispatch(*run));
    } else if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
      steps_.emplace_back().copy_bytes = size_of(copy->source);
      steps_.back().arguments = {argument(copy->source), argument(copy->destination)};
      // Built here: nothing may fail while an encoder is open.
      context_->utility(Utility::kCopyWords);
    } else {
      steps_.push_back(fill(std::get<FillCommand>(command.op)));
    }
    steps_.back().barrier_before = command.barrier_before;
  }
}

MetalRecording::~MetalRecording() {
  const Pool pool;
  steps_.clear();
}

MetalRecording::Argument MetalRecording::argument(const Operand& operand) {
  if (const auto* view = std::get_if<View>(&operand)) {
    return {native_of(*view->buffer), 0, view->offset_bytes};
  }
  const auto& slot = std::get<SlotRef>(operand);
  return {nullptr, slot.slot, slot.offset_bytes};
}

MetalRecording::Step MetalRecording::dispatch(const DispatchCommand& command) const {
  const auto& kernel = static_cast<const MetalKernel&>(*command.kernel);
  Step step;
  step.pipeline = kernel.pipeline();
  for (const Operand& operand : command.operands) step.arguments.push_back(argument(operand));
  step.groups = command.groups;
  step.threads = kernel.info().group_size;
  if (command.params.size() <= kMostInlineBytes) {
    step.params = command.params;
    return step;
  }
  step.params_buffer = own(context_->device()->newBuffer(command.params.size(),
                                                         tracked_options(MTL::StorageModeShared)));
  if (!step.params_buffer) {
    throw Error(ErrorCode::kOutOfMemory, "cannot allocate " +
                                             std::to_string(command.params.size()) +
                                             " bytes of parameters on " + context_->caps().id);
  }
  std::memcpy(step.params_buffer->contents(), command.params.data(), command.params.size());
  return step;
}

MetalRecording::Step MetalRecording::fill(const FillCommand& command) const {
  Step step;
  step.arguments = {argument(command.destination)};
  const uint64_t words = size_of(command.destination) / 4;
  step.pipeline = context_->utility(Utility::kFillWords);
  step.params = bytes_of({static_cast<uint32_t>(words), command.pattern});
  step.threads = {kUtilityThreads, 1, 1};
  step.groups = {groups_for(words), 1, 1};
  return step;
}

MetalRecording::Place MetalRecording::place(const Argument& argument, std::span<const View> slots) {
  if (argument.buffer) return {argument.buffer, argument.offset_bytes};
  const View& slot = slots[argument.slot];
  return {native_of(*slot.buffer), slot.offset_bytes + argument.offset_bytes};
}

void MetalRecording::encode_step(const Step& step, MTL::ComputeCommandEncoder* encoder,
                                 std::span<const View> slots) {
  // A grid without groups is an error of the API's.
  if (step.groups[0] == 0 || step.groups[1] == 0 || step.groups[2] == 0) return;
  encoder->setComputePipelineState(step.pipeline);
  NS::UInteger at = 0;
  for (const Argument& argument : step.arguments) {
    const Place bound = place(argument, slots);
    encoder->setBuffer(bound.buffer, bound.offset_bytes, at++);
  }
  if (step.params_buffer) {
    encoder->setBuffer(step.params_buffer.get(), 0, at);
  } else if (!step.params.empty()) {
    encoder->setBytes(step.params.data(), step.params.size(), at);
  }
  encoder->dispatchThreadgroups(MTL::Size(step.groups[0], step.groups[1], step.groups[2]),
                                MTL::Size(step.threads[0], step.threads[1], step.threads[2]));
}

void MetalRecording::encode(MTL::ComputeCommandEncoder* encoder, std::span<const View> slots,
                            size_t first, size_t last) const {
  for (size_t index = first; index < last; ++index) {
    const Step& step = steps_[index];
    // A serial encoder orders its dispatches by itself.
    if (step.barrier_before && index != first && context_->concurrent()) {
      encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    }
    if (step.pipeline) {
      encode_step(step, encoder, slots);
    } else {
      const Place from = place(step.arguments[0], slots), to = place(step.arguments[1], slots);
      encode_copy(*context_, encoder, from.buffer, from.offset_bytes, to.buffer, to.offset_bytes,
                  step.copy_bytes);
    }
  }
}

void encode_copy(Context& context, MTL::ComputeCommandEncoder* encoder, MTL::Buffer* source,
                 uint64_t source_offset, MTL::Buffer* destination, uint64_t destination_offset,
                 uint64_t size_bytes) {
  const bool words = (source_offset | destination_offset | size_bytes) % 4 == 0;
  const uint64_t item_bytes = words ? 4 : 1;
  encoder->setComputePipelineState(
      context.utility(words ? Utility::kCopyWords : Utility::kCopyBytes));
  constexpr uint64_t kMostItems = uint64_t{1} << 30;  // the kernels count in 32 bits
  for (uint64_t done = 0; done < size_bytes;) {
    const uint64_t items = std::min((size_bytes - done) / item_bytes, kMostItems);
    const auto count = static_cast<uint32_t>(items);
    encoder->setBuffer(source, source_offset + done, 0);
    encoder->setBuffer(destination, destination_offset + done, 1);
    encoder->setBytes(&count, sizeof count, 2);
    encoder->dispatchThreadgroups(MTL::Size(groups_for(items), 1, 1),
                                  MTL::Size(kUtilityThreads, 1, 1));
    done += items * item_bytes;
  }
}

}  // namespace dlk::metal
