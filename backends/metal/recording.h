// Command lists made ready to be encoded: pipelines, grids and arguments are resolved once, and a
// replay walks them. Metal's command buffers are used once, so every submission encodes anew.
#pragma once

#include <memory>
#include <vector>

#include "backends/metal/buffer.h"
#include "core/device/device.h"

namespace dlk::metal {

class MetalRecording : public Recording {
 public:
  MetalRecording(std::shared_ptr<Context> context, const CommandList& list, bool profile);
  ~MetalRecording() override;

  size_t size() const noexcept { return steps_.size(); }
  bool profiled() const noexcept { return profiled_; }
  const std::string& label(size_t index) const { return commands_[index].label; }
  /// Encodes the commands from `first` to before `last`, with their barriers. Thread-safe.
  void encode(MTL::ComputeCommandEncoder* encoder, std::span<const View> slots, size_t first,
              size_t last) const;

 private:
  struct Argument {
    MTL::Buffer* buffer = nullptr;  // null: the slot
    uint32_t slot = 0;
    uint64_t offset_bytes = 0;
  };
  struct Step {
    MTL::ComputePipelineState* pipeline = nullptr;
    std::vector<Argument> arguments;
    std::vector<std::byte> params;  // up to setBytes' limit
    Ref<MTL::Buffer> params_buffer;
    std::array<uint32_t, 3> groups{1, 1, 1};
    std::array<uint32_t, 3> threads{1, 1, 1};
    uint64_t copy_bytes = 0;  // of a copy: its kernel is chosen when the offsets are known
    bool barrier_before = false;
  };
  struct Place {
    MTL::Buffer* buffer;
    uint64_t offset_bytes;
  };
  static Argument argument(const Operand& operand);
  static Place place(const Argument& argument, std::span<const View> slots);
  Step dispatch(const DispatchCommand& command) const;
  Step fill(const FillCommand& command) const;
  static void encode_step(const Step& step, MTL::ComputeCommandEncoder* encoder,
                          std::span<const View> slots);

  std::shared_ptr<Context> context_;
  std::vector<Command> commands_;  // keeps kernels and buffers alive
  std::vector<Step> steps_;
  bool profiled_;
};

/// A copy of `size_bytes` by dispatch: of words where the offsets allow it, else of bytes.
void encode_copy(Context& context, MTL::ComputeCommandEncoder* encoder, MTL::Buffer* source,
                 uint64_t source_offset, MTL::Buffer* destination, uint64_t destination_offset,
                 uint64_t size_bytes);

}  // namespace dlk::metal
