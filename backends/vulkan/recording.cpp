#include "backends/vulkan/recording.h"

#include <algorithm>
#include <cstring>

#include "backends/vulkan/binding_hazards.h"
#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

constexpr size_t kRecentExecutables = 4;
constexpr VkPipelineStageFlags kStages =
    VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
constexpr VkAccessFlags kWrites = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;

View resolve_operand(const Operand& operand, std::span<const View> slots) {
  if (const View* view = std::get_if<View>(&operand)) return *view;
  const SlotRef& ref = std::get<SlotRef>(operand);
  const View& slot = slots[ref.slot];
  return {slot.buffer, slot.offset_bytes + ref.offset_bytes, ref.size_bytes};
}

/// The uses of a command in bytes of VkBuffers; of a dispatch also as its descriptors cover them.
void native_uses(const Command& command, std::span<const View> slots,
                 const std::vector<VkDescriptorBufferInfo>& descriptors,
                 std::vector<RangeUse>& views, std::vector<RangeUse>& bound) {
  const bool is_dispatch = std::holds_alternative<DispatchCommand>(command.op);
  each_use(command, [&](const Operand& operand, Access access, const Stripes& stripes) {
    const NativeRange range = native_range(resolve_operand(operand, slots));
    views.push_back({range.id, range.offset, range.offset + range.size, access, stripes});
    bound.push_back({range.id, range.offset, range.offset + range.size, access});
    if (!is_dispatch) return;
    const VkDescriptorBufferInfo& descriptor = descriptors[bound.size() - 1];
    bound.back().begin = descriptor.offset;
    bound.back().end = descriptor.offset + descriptor.range;
  });
}

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void record_barrier(const DeviceApi& api, VkCommandBuffer commands) {
  VkMemoryBarrier barrier{};
  barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  barrier.srcAccessMask = kWrites;
  barrier.dstAccessMask = kWrites | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT;
  api.vkCmdPipelineBarrier(commands, kStages, kStages, 0, 1, &barrier, 0, nullptr, 0, nullptr);
}

void record_kernel_barrier(const DeviceApi& api, VkCommandBuffer commands) {
  constexpr VkPipelineStageFlags kKernels = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
  VkMemoryBarrier barrier{};
  barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_SHADER_READ_BIT;
  api.vkCmdPipelineBarrier(commands, kKernels, kKernels, 0, 1, &barrier, 0, nullptr, 0, nullptr);
}

void record_host_barrier(const DeviceApi& api, VkCommandBuffer commands) {
  VkMemoryBarrier barrier{};
  barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  barrier.srcAccessMask = kWrites;
  barrier.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT;
  api.vkCmdPipelineBarrier(commands, kStages, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0,
                           nullptr, 0, nullptr);
}

/// One dispatch with its operands resolved to ranges of VkBuffers.
struct Executable::Dispatch {
  const VulkanKernel* kernel = nullptr;
  std::vector<VkDescriptorBufferInfo> buffers;
  std::vector<std::byte> block;     // base offsets, then parameters
  std::vector<uint64_t> addresses;  // of PTX: for each binding the buffer's, and its base
  uint64_t block_offset = 0;        // in the parameter buffer
  VkDescriptorSet set = VK_NULL_HANDLE;
};

Executable::Executable(std::shared_ptr<Context> context, const std::vector<Command>& commands,
                       std::span<const View> slots, std::vector<SlotBinding> bindings, bool profile)
    : context_(std::move(context)),
      bindings_(std::move(bindings)),
      command_count_(static_cast<uint32_t>(commands.size())),
      profile_(profile) {
  try {
    record(commands, slots);
  } catch (...) {
    destroy();
    throw;
  }
}

Executable::~Executable() { destroy(); }

void Executable::destroy() noexcept {
  const DeviceApi& api = context_->api();
  api.vkDestroyCommandPool(context_->device(), pool_, nullptr);
  api.vkDestroyDescriptorPool(context_->device(), descriptors_, nullptr);
  api.vkDestroyQueryPool(context_->device(), queries_, nullptr);
}

std::vector<Executable::Dispatch> Executable::resolve(const std::vector<Command>& commands,
                                                      std::span<const View> slots) {
  const uint64_t alignment = context_->caps().binding_alignment;
  const uint64_t limit = context_->physical().properties.limits.maxStorageBufferRange;
  std::vector<Dispatch> dispatches;
  for (const Command& command : commands) {
    const auto* op = std::get_if<DispatchCommand>(&command.op);
    if (!op) continue;
    Dispatch dispatch;
    dispatch.kernel = static_cast<const VulkanKernel*>(op->kernel.get());
    const std::vector<BindingInfo>& infos = op->kernel->info().bindings;
    std::vector<uint32_t> bases(infos.size());
    for (size_t i = 0; i < infos.size(); i++) {
      const View view = resolve_operand(op->operands[i], slots);
      const NativeRange range = native_range(view);
      if (dispatch.kernel->function()) {
        const auto& buffer = static_cast<const VulkanBuffer&>(*view.buffer);
        dispatch.addresses.push_back(buffer.device_address());
        dispatch.addresses.push_back(view.offset_bytes / infos[i].element_bytes);
      }
      const uint64_t rest = range.offset % alignment;
      const uint64_t start = range.offset - rest;
      // Whole words, because kernels also see 8- and 16-bit elements as words.
      const uint64_t size = std::min({std::max<uint64_t>(4, round_up(range.size + rest, 4)), limit,
                                      range.buffer_size - start});
      bases[i] = static_cast<uint32_t>(rest / infos[i].element_bytes);
      dispatch.buffers.push_back({range.buffer, start, size});
    }
    const size_t base_bytes = bases.size() * sizeof(uint32_t);
    dispatch.block.resize(base_bytes + op->params.size());
    if (base_bytes) std::memcpy(dispatch.block.data(), bases.data(), base_bytes);
    if (!op->params.empty()) {
      std::memcpy(dispatch.block.data() + base_bytes, op->params.data(), op->params.size());
    }
    dispatches.push_back(std::move(dispatch));
  }
  return dispatches;
}

void Executable::make_params(std::vector<Dispatch>& dispatches) {
  const uint64_t alignment = context_->caps().binding_alignment;
  uint64_t bytes = 0;
  for (Dispatch& dispatch : dispatches) {
    if (!dispatch.kernel->info().params_in_buffer) continue;
    dispatch.block_offset = bytes;
    bytes += round_up(std::max<size_t>(dispatch.block.size(), 4), alignment);
  }
  if (!bytes) return;
  // Near the kernels that read them, where the host can write there.
  params_ = std::make_unique<VulkanBuffer>(context_, bytes, MemoryKind::kInput);
  if (!params_->upload_pointer()) {
    params_ = std::make_unique<VulkanBuffer>(context_, bytes, MemoryKind::kUpload);
  }
  auto* data = static_cast<std::byte*>(params_->upload_pointer());
  for (Dispatch& dispatch : dispatches) {
    if (!dispatch.kernel->info().params_in_buffer) continue;
    std::memcpy(data + dispatch.block_offset, dispatch.block.data(), dispatch.block.size());
    const uint64_t size = round_up(std::max<size_t>(dispatch.block.size(), 4), 4);
    dispatch.buffers.push_back({params_->handle(), dispatch.block_offset, size});
  }
}

void Executable::make_descriptors(std::vector<Dispatch>& dispatches) {
  std::vector<VkDescriptorSetLayout> layouts;
  uint32_t descriptors = 0;
  for (const Dispatch& dispatch : dispatches) {
    if (dispatch.kernel->function()) continue;
    layouts.push_back(dispatch.kernel->layout().set);
    descriptors += static_cast<uint32_t>(dispatch.buffers.size());
  }
  if (layouts.empty()) return;
  const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, std::max(1u, descriptors)};
  VkDescriptorPoolCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
  info.maxSets = static_cast<uint32_t>(layouts.size());
  info.poolSizeCount = 1;
  info.pPoolSizes = &size;
  const DeviceApi& api = context_->api();
  check(api.vkCreateDescriptorPool(context_->device(), &info, nullptr, &descriptors_),
        "vkCreateDescriptorPool");

  std::vector<VkDescriptorSet> sets(layouts.size());
  VkDescriptorSetAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
  allocate.descriptorPool = descriptors_;
  allocate.descriptorSetCount = static_cast<uint32_t>(sets.size());
  allocate.pSetLayouts = layouts.data();
  check(api.vkAllocateDescriptorSets(context_->device(), &allocate, sets.data()),
        "vkAllocateDescriptorSets");
  auto next = sets.begin();
  for (Dispatch& dispatch : dispatches) {
    if (!dispatch.kernel->function()) dispatch.set = *next++;
  }
  write_descriptors(dispatches);
}

void Executable::write_descriptors(const std::vector<Dispatch>& dispatches) {
  std::vector<VkWriteDescriptorSet> writes;
  for (const Dispatch& dispatch : dispatches) {
    if (!dispatch.set || dispatch.buffers.empty()) continue;
    VkWriteDescriptorSet write{};
    write.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
    write.dstSet = dispatch.set;
    // Consecutive bindings of one type: the update runs on from binding 0.
    write.descriptorCount = static_cast<uint32_t>(dispatch.buffers.size());
    write.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    write.pBufferInfo = dispatch.buffers.data();
    writes.push_back(write);
  }
  context_->api().vkUpdateDescriptorSets(context_->device(), static_cast<uint32_t>(writes.size()),
                                         writes.data(), 0, nullptr);
}

void Executable::make_pools() {
  const DeviceApi& api = context_->api();
  VkCommandPoolCreateInfo pool{};
  pool.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
  pool.queueFamilyIndex = context_->physical().queue_family;
  check(api.vkCreateCommandPool(context_->device(), &pool, nullptr, &pool_), "vkCreateCommandPool");
  VkCommandBufferAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
  allocate.commandPool = pool_;
  allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  allocate.commandBufferCount = 1;
  check(api.vkAllocateCommandBuffers(context_->device(), &allocate, &commands_),
        "vkAllocateCommandBuffers");
  if (!profile_) return;
  VkQueryPoolCreateInfo queries{};
  queries.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO;
  queries.queryType = VK_QUERY_TYPE_TIMESTAMP;
  queries.queryCount = command_count_ + 1;
  check(api.vkCreateQueryPool(context_->device(), &queries, nullptr, &queries_),
        "vkCreateQueryPool");
}

void Executable::record(const std::vector<Command>& commands, std::span<const View> slots) {
  std::vector<Dispatch> dispatches = resolve(commands, slots);
  make_params(dispatches);
  make_descriptors(dispatches);
  make_pools();
  note_touched(commands, slots);

  const DeviceApi& api = context_->api();
  VkCommandBufferBeginInfo begin{};
  begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
  // Queries of two overlapping runs would mix, so profiled ones never overlap.
  begin.flags = queries_ ? 0 : VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
  check(api.vkBeginCommandBuffer(commands_, &begin), "vkBeginCommandBuffer");
  record_barrier(api, commands_);
  if (queries_) {
    api.vkCmdResetQueryPool(commands_, queries_, 0, command_count_ + 1);
    api.vkCmdWriteTimestamp(commands_, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries_, 0);
  }
  record_commands(commands, slots, dispatches);
  if (writes_mapped_memory(commands, slots)) record_host_barrier(api, commands_);
  check(api.vkEndCommandBuffer(commands_), "vkEndCommandBuffer");
}

void Executable::note_touched(const std::vector<Command>& commands, std::span<const View> slots) {
  auto touched = std::make_shared<Touched>();
  for (const Command& command : commands) {
    each_use(command, [&](const Operand& operand, Access access, const Stripes&) {
      touched->add(native_range(resolve_operand(operand, slots)), access);
    });
  }
  // Times of overlapping commands mean nothing.
  touched->alone = profile_ || touched->is_large();
  touched_ = std::move(touched);
}

bool Executable::writes_mapped_memory(const std::vector<Command>& commands,
                                      std::span<const View> slots) const {
  const auto mapped = [&](const Operand& operand) {
    return resolve_operand(operand, slots).buffer->host_pointer() != nullptr;
  };
  for (const Command& command : commands) {
    if (const auto* op = std::get_if<DispatchCommand>(&command.op)) {
      const std::vector<BindingInfo>& bindings = op->kernel->info().bindings;
      for (size_t i = 0; i < bindings.size(); i++) {
        if (bindings[i].access != Access::kRead && mapped(op->operands[i])) return true;
      }
    } else if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
      if (mapped(copy->destination)) return true;
    } else if (mapped(std::get<FillCommand>(command.op).destination)) {
      return true;
    }
  }
  return false;
}

void Executable::record_commands(const std::vector<Command>& commands, std::span<const View> slots,
                                 const std::vector<Dispatch>& dispatches) {
  const DeviceApi& api = context_->api();
  const bool validation = context_->instance().validation();
  VkPipeline bound = VK_NULL_HANDLE;
  BindingHazards hazards;
  auto next = dispatches.begin();
  // Since the last barrier for all: copies or fills; barriers between kernels alone, behind which a
  // copy may not yet touch what kernels used.
  bool transfers = false, narrow = false;
  for (uint32_t i = 0; i < command_count_; i++) {
    const Command& command = commands[i];
    const auto* op = std::get_if<DispatchCommand>(&command.op);
    // Times of overlapping commands mean nothing, so a profiled run goes one by one.
    bool barrier = command.barrier_before || queries_;
    if (validation) {
      std::vector<RangeUse> views, descriptors;
      native_uses(command, slots, op ? next->buffers : std::vector<VkDescriptorBufferInfo>{}, views,
                  descriptors);
      barrier |= hazards.add(views, descriptors);
    }
    if (op && barrier && !transfers) {
      if (i > 0) record_kernel_barrier(api, commands_);
      narrow = true;
    } else if (i > 0 && (barrier || (!op && narrow))) {
      record_barrier(api, commands_);
      transfers = narrow = false;
    }
    if (!op) transfers = true;
    if (op) {
      record_dispatch(*op, *next++, bound);
    } else {
      record_transfer(command, slots);
    }
    if (queries_) {
      api.vkCmdWriteTimestamp(commands_, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries_, i + 1);
    }
  }
}

void Executable::record_dispatch(const DispatchCommand& command, const Dispatch& dispatch,
                                 VkPipeline& bound) {
  const DeviceApi& api = context_->api();
  const VulkanKernel& kernel = *dispatch.kernel;
  if (kernel.function()) {
    record_launch(command, dispatch);
    bound = VK_NULL_HANDLE;  // what a launch leaves bound is nowhere said
    return;
  }
  if (bound != kernel.pipeline()) {
    bound = kernel.pipeline();
    api.vkCmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, bound);
  }
  const VkPipelineLayout layout = kernel.layout().pipeline;
  api.vkCmdBindDescriptorSets(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1,
                              &dispatch.set, 0, nullptr);
  if (!kernel.info().params_in_buffer && !dispatch.block.empty()) {
    api.vkCmdPushConstants(commands_, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                           static_cast<uint32_t>(dispatch.block.size()), dispatch.block.data());
  }
  api.vkCmdDispatch(commands_, command.groups[0], command.groups[1], command.groups[2]);
}

void Executable::record_launch(const DispatchCommand& command, const Dispatch& dispatch) {
  const KernelCode& code = dispatch.kernel->info();
  std::vector<const void*> arguments;
  for (const uint64_t& value : dispatch.addresses) arguments.push_back(&value);
  for (const ParamInfo& param : code.params) {
    for (uint32_t k = 0; k < param.count; k++) {
      arguments.push_back(command.params.data() + param.offset_bytes + 4 * k);
    }
  }
  VkCuLaunchInfoNVX info{};
  info.sType = VK_STRUCTURE_TYPE_CU_LAUNCH_INFO_NVX;
  info.function = dispatch.kernel->function();
  info.gridDimX = command.groups[0];
  info.gridDimY = command.groups[1];
  info.gridDimZ = command.groups[2];
  info.blockDimX = code.group_size[0];
  info.blockDimY = code.group_size[1];
  info.blockDimZ = code.group_size[2];
  if (code.local_bytes > kMostStaticLocalBytes) info.sharedMemBytes = code.local_bytes;
  info.paramCount = arguments.size();
  info.pParams = arguments.data();
  context_->api().vkCmdCuLaunchKernelNVX(commands_, &info);
}

void Executable::record_transfer(const Command& command, std::span<const View> slots) {
  const DeviceApi& api = context_->api();
  if (const auto* copy = std::get_if<CopyCommand>(&command.op)) {
    const NativeRange source = native_range(resolve_operand(copy->source, slots));
    const NativeRange target = native_range(resolve_operand(copy->destination, slots));
    const VkBufferCopy region{source.offset, target.offset, source.size};
    if (region.size) api.vkCmdCopyBuffer(commands_, source.buffer, target.buffer, 1, &region);
    return;
  }
  const auto& fill = std::get<FillCommand>(command.op);
  const NativeRange range = native_range(resolve_operand(fill.destination, slots));
  if (!range.size) return;
  api.vkCmdFillBuffer(commands_, range.buffer, range.offset, range.size, fill.pattern);
}

std::vector<double> Executable::command_times_ns() const {
  std::vector<uint64_t> ticks(command_count_ + 1);
  check(context_->api().vkGetQueryPoolResults(
            context_->device(), queries_, 0, command_count_ + 1, ticks.size() * sizeof(uint64_t),
            ticks.data(), sizeof(uint64_t), VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
        "vkGetQueryPoolResults");
  const PhysicalDevice& physical = context_->physical();
  const uint64_t mask =
      physical.timestamp_bits >= 64 ? ~0ull : (1ull << physical.timestamp_bits) - 1;
  std::vector<double> times(command_count_);
  for (uint32_t i = 0; i < command_count_; i++) {
    times[i] = static_cast<double>((ticks[i + 1] - ticks[i]) & mask) *
               static_cast<double>(physical.properties.limits.timestampPeriod);
  }
  return times;
}

VulkanRecording::VulkanRecording(std::shared_ptr<Context> context, const CommandList& list,
                                 bool profile)
    : context_(std::move(context)), commands_(list.commands()), profile_(profile) {
  if (profile && !context_->caps().timestamps) {
    throw_unsupported("Vulkan: " + context_->caps().name + " has no timestamps (Caps::timestamps)");
  }
  if (list.slot_bytes().empty()) find_or_make({});
}

std::shared_ptr<Executable> VulkanRecording::prepare(std::span<const View> slots) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<Executable> executable = find_or_make(slots);
  executable->in_flight.fetch_add(1);
  return executable;
}

const std::shared_ptr<Executable>& VulkanRecording::find_or_make(std::span<const View> slots) {
  std::vector<SlotBinding> key;
  key.reserve(slots.size());
  for (const View& slot : slots) {
    key.push_back({native_range(slot).id, slot.offset_bytes, slot.size_bytes});
  }
  auto found = std::find_if(recent_.begin(), recent_.end(), [&](const auto& executable) {
    // A profiled command buffer owns its queries: it is not submitted again before it is done.
    return executable->bindings() == key &&
           !(executable->profiled() && executable->in_flight.load() > 0);
  });
  if (found == recent_.end()) {
    auto made = std::make_shared<Executable>(context_, commands_, slots, std::move(key), profile_);
    if (recent_.size() >= kRecentExecutables) recent_.pop_back();
    found = recent_.insert(recent_.end(), std::move(made));
  }
  std::rotate(recent_.begin(), found, found + 1);
  return recent_.front();
}

}  // namespace dlk::vulkan
