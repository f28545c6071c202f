// A compute pipeline made from SPIR-V: one storage buffer for each binding and, by the calling
// convention of core/device/device.h, the parameter block as push constants or as one more buffer.
// Or, where the device imports binaries, a function made from PTX or from its machine code, whose
// arguments are addresses.
#pragma once

#include <memory>

#include "backends/vulkan/context.h"
#include "core/device/device.h"

namespace dlk::vulkan {

class VulkanKernel final : public Kernel {
 public:
  /// Throws CompileFailed for what is neither SPIR-V nor PTX and for what the driver refuses.
  /// `cache`: instead of the device's own.
  VulkanKernel(std::shared_ptr<Context> context, KernelCode code,
               VkPipelineCache cache = VK_NULL_HANDLE);
  ~VulkanKernel() override;

  VkPipeline pipeline() const { return pipeline_; }
  /// Of a kernel in PTX, which has no pipeline, layout and descriptors; null otherwise.
  VkCuFunctionNVX function() const { return function_; }
  const Layout& layout() const { return layout_; }
  /// Descriptors in its set: the bindings and, maybe, the parameter buffer.
  uint32_t descriptor_count() const;
  /// Bytes of the whole parameter block: base offsets, then parameters.
  uint32_t block_bytes() const;

 private:
  void build_spirv(VkPipelineCache cache);
  void build_module();
  VkShaderModule make_module();
  void make_pipeline(VkShaderModule module, const std::string& entry, VkPipelineCache cache);

  std::shared_ptr<Context> context_;
  Layout layout_;
  VkPipeline pipeline_ = VK_NULL_HANDLE;
  VkCuModuleNVX module_ = VK_NULL_HANDLE;
  VkCuFunctionNVX function_ = VK_NULL_HANDLE;
};

/// The name of the first compute entry point; throws CompileFailed where `code` is not a
/// well-formed stream of SPIR-V instructions with one. Drivers crash on what is not.
std::string spirv_entry_point(const std::string& code, const std::string& label);

}  // namespace dlk::vulkan
