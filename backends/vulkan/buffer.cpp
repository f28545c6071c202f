#include "backends/vulkan/buffer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
constexpr VkMemoryPropertyFlags kMapped =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
constexpr VkMemoryPropertyFlags kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
constexpr VkBufferUsageFlags kUsage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                      VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                      VK_BUFFER_USAGE_TRANSFER_DST_BIT;
// Drivers map large allocations by pages of this size where they can.
constexpr uint64_t kLargePage = 2 << 20;
// Bindings are rounded up to whole words, so a buffer ends on one.
constexpr uint64_t kSizeUnit = 16;
// Some devices show the host a window of 256 MB: one input takes a part of it.
constexpr uint64_t kWindowShare = 16;

struct Preference {
  VkMemoryPropertyFlags required, avoided;
};

/// Most wanted first.
std::vector<Preference> preferences(MemoryKind kind, bool unified) {
  switch (kind) {
    case MemoryKind::kUpload:
      // Cached: the host fills it several times faster than write-combined memory, and a device
      // that reads it finds it in the host's caches.
      return {{kMapped | kCached, kLocal}, {kMapped, kLocal}, {kMapped, 0}};
    case MemoryKind::kReadback:
      return {{kMapped | kCached, kLocal}, {kMapped | kCached, 0}, {kMapped, 0}};
    case MemoryKind::kInput:
      if (!unified) return {{kLocal | kMapped, 0}, {kLocal, 0}, {0, 0}};
      break;
    case MemoryKind::kDevice:
      break;
  }
  if (unified) return {{kLocal | kMapped | kCached, 0}, {kLocal | kMapped, 0}, {kLocal, 0}};
  return {{kLocal, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT}, {kLocal, 0}, {0, 0}};
}

int find_type(const VkPhysicalDeviceMemoryProperties& memory, uint32_t allowed,
              const std::vector<Preference>& wanted) {
  for (const Preference& preference : wanted) {
    for (uint32_t i = 0; i < memory.memoryTypeCount; i++) {
      const VkMemoryPropertyFlags flags = memory.memoryTypes[i].propertyFlags;
      if (!(allowed & (1u << i)) || (flags & preference.required) != preference.required ||
          (flags & preference.avoided)) {
        continue;
      }
      // Lazily allocated and protected memory cannot back a storage buffer.
      if (flags & (VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | VK_MEMORY_PROPERTY_PROTECTED_BIT)) {
        continue;
      }
      return static_cast<int>(i);
    }
  }
  return -1;
}

uint64_t next_id() {
  static std::atomic<uint64_t> counter{0};
  return ++counter;
}

[[noreturn]] void throw_out_of_memory(const Context& context, uint64_t size,
                                      const std::string& why) {
  const Caps& caps = context.caps();
  throw Error(ErrorCode::kOutOfMemory,
              "Vulkan: cannot allocate " + std::to_string(size) + " bytes on " + caps.name + " (" +
                  why + "; one allocation may have " + std::to_string(caps.max_buffer_bytes) +
                  " bytes, the device has " + std::to_string(caps.memory_bytes) + ")");
}

}  // namespace

VulkanBuffer::VulkanBuffer(std::shared_ptr<Context> context, uint64_t size_bytes, MemoryKind kind)
    : Buffer(size_bytes), context_(std::move(context)), id_(next_id()) {
  if (size_bytes > context_->caps().max_buffer_bytes) {
    throw_out_of_memory(*context_, size_bytes, "larger than the limit");
  }
  native_size_ = std::max<uint64_t>(1, (size_bytes + kSizeUnit - 1) / kSizeUnit) * kSizeUnit;
  try {
    create(nullptr);
    VkMemoryRequirements needs{};
    context_->api().vkGetBufferMemoryRequirements(context_->device(), handle_, &needs);
    const bool unified = context_->caps().unified_memory;
    const VkPhysicalDeviceMemoryProperties& memory = context_->physical().memory;
    int type = find_type(memory, needs.memoryTypeBits, preferences(kind, unified));
    if (kind == MemoryKind::kInput && type >= 0 &&
        size_bytes > memory.memoryHeaps[memory.memoryTypes[type].heapIndex].size / kWindowShare) {
      kind = MemoryKind::kDevice;
      type = find_type(memory, needs.memoryTypeBits, preferences(kind, unified));
    }
    if (type < 0) throw_out_of_memory(*context_, size_bytes, "no memory type for this use");
    allocate(static_cast<uint32_t>(type), nullptr);
    const auto flags = memory.memoryTypes[type].propertyFlags;
    const bool wants_map = kind != MemoryKind::kDevice || unified;
    if (wants_map && (flags & kMapped) == kMapped) map();
    if (kind == MemoryKind::kInput && !unified) window_ = std::exchange(mapped_, nullptr);
  } catch (...) {
    destroy();
    throw;
  }
}

VulkanBuffer::VulkanBuffer(std::shared_ptr<Context> context, void* data, uint64_t size_bytes,
                           std::shared_ptr<void> owner)
    : Buffer(size_bytes), context_(std::move(context)), owner_(std::move(owner)), id_(next_id()) {
  const uint64_t page = context_->physical().host_pointer_alignment;
  const auto query = context_->api().vkGetMemoryHostPointerPropertiesEXT;
  if (!context_->caps().host_import || !query || !page) {
    throw_unsupported("Vulkan: " + context_->caps().name + " cannot import host memory");
  }
  // Whole pages are imported; what lies before and after the range is not touched.
  const auto address = reinterpret_cast<uintptr_t>(data);
  native_offset_ = address % page;
  native_size_ = (native_offset_ + std::max<uint64_t>(size_bytes, 1) + page - 1) / page * page;
  void* start = reinterpret_cast<void*>(address - native_offset_);
  if (native_offset_ % 16 != 0) {
    throw_unsupported("Vulkan: imported host memory must be aligned to 16 bytes");
  }
  constexpr auto kHandle = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
  VkMemoryHostPointerPropertiesEXT properties{};
  properties.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT;
  const VkResult result = query(context_->device(), kHandle, start, &properties);
  if (result < 0) {
    throw_unsupported("Vulkan: the driver cannot import this memory (" + result_name(result) + ")");
  }
  try {
    VkExternalMemoryBufferCreateInfo external{};
    external.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO;
    external.handleTypes = kHandle;
    create(&external);
    VkMemoryRequirements needs{};
    context_->api().vkGetBufferMemoryRequirements(context_->device(), handle_, &needs);
    const int type = find_type(context_->physical().memory,
                               needs.memoryTypeBits & properties.memoryTypeBits, {{kMapped, 0}});
    if (type < 0 || needs.size > native_size_) {
      throw_unsupported("Vulkan: the driver has no coherent memory type for imported memory");
    }
    VkImportMemoryHostPointerInfoEXT import{};
    import.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT;
    import.handleType = kHandle;
    import.pHostPointer = start;
    allocate(static_cast<uint32_t>(type), &import);
    mapped_ = data;
  } catch (const Error& error) {
    destroy();
    throw_unsupported(error.what());
  }
}

VulkanBuffer::~VulkanBuffer() { destroy(); }

void VulkanBuffer::create(const void* next) {
  VkBufferCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  info.pNext = next;
  info.size = native_size_;
  info.usage = kUsage;
  if (context_->caps().binary_import) info.usage |= VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  const VkResult result =
      context_->api().vkCreateBuffer(context_->device(), &info, nullptr, &handle_);
  if (result < 0) throw_out_of_memory(*context_, size_bytes(), result_name(result));
}

void VulkanBuffer::allocate(uint32_t type, const void* next) {
  VkMemoryRequirements needs{};
  context_->api().vkGetBufferMemoryRequirements(context_->device(), handle_, &needs);
  const bool addressed = context_->caps().binary_import;
  VkMemoryAllocateFlagsInfo flags{};
  flags.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO;
  flags.pNext = next;
  flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT;
  VkMemoryAllocateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
  info.pNext = addressed ? &flags : next;
  info.allocationSize = next ? native_size_ : needs.size;
  if (addressed && !next && needs.size >= kLargePage) {
    info.allocationSize = (needs.size + kLargePage - 1) / kLargePage * kLargePage;
  }
  info.memoryTypeIndex = type;
  const VkResult result =
      context_->api().vkAllocateMemory(context_->device(), &info, nullptr, &memory_);
  if (result < 0) throw_out_of_memory(*context_, size_bytes(), result_name(result));
  check(context_->api().vkBindBufferMemory(context_->device(), handle_, memory_, 0),
        "vkBindBufferMemory");
  if (!addressed) return;
  VkBufferDeviceAddressInfo of{};
  of.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO;
  of.buffer = handle_;
  device_address_ =
      context_->api().vkGetBufferDeviceAddress(context_->device(), &of) + native_offset_;
}

void VulkanBuffer::map() {
  check(context_->api().vkMapMemory(context_->device(), memory_, 0, VK_WHOLE_SIZE, 0, &mapped_),
        "vkMapMemory");
}

void VulkanBuffer::destroy() noexcept {
  context_->api().vkDestroyBuffer(context_->device(), handle_, nullptr);
  context_->api().vkFreeMemory(context_->device(), memory_, nullptr);
}

NativeRange native_range(const View& view) {
  const auto& buffer = static_cast<const VulkanBuffer&>(*view.buffer);
  return {buffer.handle(), buffer.id(), buffer.native_offset() + view.offset_bytes, view.size_bytes,
          buffer.native_size()};
}

}  // namespace dlk::vulkan
