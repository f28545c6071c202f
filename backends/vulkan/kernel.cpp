#include "backends/vulkan/kernel.h"

#include <cstring>

#include "backends/vulkan/float_controls.h"
#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

constexpr uint32_t kMagic = 0x07230203;
constexpr uint32_t kHeaderWords = 5;
constexpr uint32_t kOpEntryPoint = 15;
constexpr uint32_t kModelGlCompute = 5;

[[noreturn]] void throw_compile(const std::string& label, const std::string& why) {
  throw Error(ErrorCode::kCompileFailed, "Vulkan: kernel '" + label + "': " + why);
}

}  // namespace

std::string spirv_entry_point(const std::string& code, const std::string& label) {
  const size_t count = code.size() / 4;
  const auto word = [&code](size_t index) {
    uint32_t value;
    std::memcpy(&value, code.data() + index * 4, 4);
    return value;
  };
  if (code.size() % 4 != 0 || count <= kHeaderWords || word(0) != kMagic) {
    throw_compile(label, "the code is not SPIR-V (" + std::to_string(code.size()) + " bytes)");
  }
  std::string entry;
  for (size_t at = kHeaderWords; at < count;) {
    const uint32_t length = word(at) >> 16;
    const uint32_t opcode = word(at) & 0xffff;
    if (length == 0 || at + length > count) {
      throw_compile(label, "the SPIR-V is cut off or damaged at word " + std::to_string(at));
    }
    if (opcode == kOpEntryPoint && length > 3 && word(at + 1) == kModelGlCompute && entry.empty()) {
      const char* text = code.data() + (at + 3) * 4;
      const size_t limit = (length - 3) * 4;
      const void* end = std::memchr(text, 0, limit);
      if (end) entry.assign(text, static_cast<const char*>(end));
    }
    at += length;
  }
  if (entry.empty()) throw_compile(label, "the SPIR-V has no compute entry point");
  return entry;
}

VulkanKernel::VulkanKernel(std::shared_ptr<Context> context, KernelCode code, VkPipelineCache cache)
    : Kernel(std::move(code)), context_(std::move(context)) {
  if (code_.format == KernelFormat::kPtx || code_.format == KernelFormat::kBinary) {
    build_module();
  } else {
    build_spirv(cache);
  }
  code_.code.clear();
  code_.code.shrink_to_fit();
}

void VulkanKernel::build_module() {
  const DeviceApi& api = context_->api();
  if (!context_->caps().binary_import || !api.vkCreateCuModuleNVX || !api.vkCmdCuLaunchKernelNVX) {
    throw_compile(code_.name, context_->caps().name + " runs no PTX (VK_NVX_binary_import)");
  }
  VkCuModuleCreateInfoNVX info{};
  info.sType = VK_STRUCTURE_TYPE_CU_MODULE_CREATE_INFO_NVX;
  // A text with the zero that ends it, machine code as it is.
  info.dataSize = code_.code.size() + (code_.format == KernelFormat::kPtx ? 1 : 0);
  info.pData = code_.code.c_str();
  VkResult result = api.vkCreateCuModuleNVX(context_->device(), &info, nullptr, &module_);
  if (result != VK_SUCCESS || !module_) {
    throw_compile(code_.name, "vkCreateCuModuleNVX: " + result_name(result));
  }
  VkCuFunctionCreateInfoNVX of{};
  of.sType = VK_STRUCTURE_TYPE_CU_FUNCTION_CREATE_INFO_NVX;
  of.module = module_;
  of.pName = code_.name.c_str();
  result = api.vkCreateCuFunctionNVX(context_->device(), &of, nullptr, &function_);
  if (result == VK_SUCCESS && function_) return;
  api.vkDestroyCuModuleNVX(context_->device(), module_, nullptr);
  throw_compile(code_.name, "vkCreateCuFunctionNVX: " + result_name(result));
}

void VulkanKernel::build_spirv(VkPipelineCache cache) {
  if (code_.format != KernelFormat::kSpirv) throw_compile(code_.name, "the code is not SPIR-V");
  const std::string entry = spirv_entry_point(code_.code, code_.name);
  if (!code_.params_in_buffer && block_bytes() > context_->caps().max_push_bytes) {
    throw_compile(code_.name, std::to_string(block_bytes()) + " bytes of parameters exceed the " +
                                  std::to_string(context_->caps().max_push_bytes) +
                                  " of push constants; print it with params_in_buffer");
  }
  layout_ = context_->layout(descriptor_count(), code_.params_in_buffer ? 0 : block_bytes());
  const VkShaderModule module = make_module();
  try {
    make_pipeline(module, entry, cache);
  } catch (...) {
    context_->api().vkDestroyShaderModule(context_->device(), module, nullptr);
    throw;
  }
  context_->api().vkDestroyShaderModule(context_->device(), module, nullptr);
  context_->pipelines().pipeline_built();
}

VulkanKernel::~VulkanKernel() {
  const DeviceApi& api = context_->api();
  api.vkDestroyPipeline(context_->device(), pipeline_, nullptr);
  if (function_) api.vkDestroyCuFunctionNVX(context_->device(), function_, nullptr);
  if (module_) api.vkDestroyCuModuleNVX(context_->device(), module_, nullptr);
}

uint32_t VulkanKernel::descriptor_count() const {
  return static_cast<uint32_t>(code_.bindings.size()) + (code_.params_in_buffer ? 1 : 0);
}

uint32_t VulkanKernel::block_bytes() const {
  return static_cast<uint32_t>(code_.bindings.size() * sizeof(uint32_t)) + code_.param_bytes;
}

VkShaderModule VulkanKernel::make_module() {
  std::vector<uint32_t> words(code_.code.size() / 4);
  std::memcpy(words.data(), code_.code.data(), code_.code.size());
  if (context_->physical().preserves_nan) words = with_nan_preserved(words);
  VkShaderModuleCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
  info.codeSize = words.size() * sizeof(uint32_t);
  info.pCode = words.data();
  VkShaderModule module = VK_NULL_HANDLE;
  const VkResult result =
      context_->api().vkCreateShaderModule(context_->device(), &info, nullptr, &module);
  if (result < 0) throw_compile(code_.name, "vkCreateShaderModule: " + result_name(result));
  return module;
}

void VulkanKernel::make_pipeline(VkShaderModule module, const std::string& entry,
                                 VkPipelineCache cache) {
  VkComputePipelineCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
  info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.module = module;
  info.stage.pName = entry.c_str();
  info.layout = layout_.pipeline;

  VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup{};
  subgroup.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO;
  subgroup.requiredSubgroupSize = code_.required_subgroup_size;
  const PhysicalDevice& physical = context_->physical();
  const uint32_t size = code_.required_subgroup_size;
  if (size && physical.features.subgroup_size_control && size >= physical.min_subgroup_size &&
      size <= physical.max_subgroup_size) {
    info.stage.pNext = &subgroup;
  } else if (size && size != context_->caps().subgroup_size) {
    throw_compile(code_.name, "a subgroup size of " + std::to_string(size) +
                                  " is not available on " + context_->caps().name);
  }
  const auto lock = context_->pipelines().use();
  const VkResult result = context_->api().vkCreateComputePipelines(
      context_->device(), cache ? cache : context_->pipelines().handle(), 1, &info, nullptr,
      &pipeline_);
  if (result == VK_SUCCESS && pipeline_) return;
  throw_compile(code_.name, "vkCreateComputePipelines: " + result_name(result));
}

}  // namespace dlk::vulkan
