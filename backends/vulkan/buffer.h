// One VkBuffer with memory of its own, mapped for as long as it lives where the host can. The
// engine allocates few large arenas, so there is no sub-allocation here.
#pragma once

#include <atomic>
#include <memory>

#include "backends/vulkan/context.h"
#include "core/device/device.h"

namespace dlk::vulkan {

class VulkanBuffer final : public Buffer {
 public:
  VulkanBuffer(std::shared_ptr<Context> context, uint64_t size_bytes, MemoryKind kind);
  /// Imports host memory; Unsupported where the device or the address does not allow it.
  VulkanBuffer(std::shared_ptr<Context> context, void* data, uint64_t size_bytes,
               std::shared_ptr<void> owner);
  ~VulkanBuffer() override;

  void* host_pointer() noexcept override { return mapped_; }
  /// Where the host may write and should not read: memory of the device behind a window (a
  /// resizable BAR), or the same as host_pointer.
  void* upload_pointer() const noexcept { return mapped_ ? mapped_ : window_; }
  VkBuffer handle() const noexcept { return handle_; }
  /// Never reused, unlike the handle.
  uint64_t id() const noexcept { return id_; }
  /// Byte of the VkBuffer where byte 0 of this buffer lies: imports start at a page.
  uint64_t native_offset() const noexcept { return native_offset_; }
  uint64_t native_size() const noexcept { return native_size_; }
  /// The address of byte 0 of this buffer on the device; 0 without Caps::binary_import.
  uint64_t device_address() const noexcept { return device_address_; }

 private:
  void create(const void* next);
  void allocate(uint32_t type, const void* next);
  void map();
  void destroy() noexcept;

  std::shared_ptr<Context> context_;
  std::shared_ptr<void> owner_;
  uint64_t id_;
  VkBuffer handle_ = VK_NULL_HANDLE;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
  uint64_t native_offset_ = 0;
  uint64_t native_size_ = 0;
  uint64_t device_address_ = 0;
  void* mapped_ = nullptr;
  void* window_ = nullptr;
};

/// A range of a VkBuffer, in its own bytes.
struct NativeRange {
  VkBuffer buffer = VK_NULL_HANDLE;
  uint64_t id = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t buffer_size = 0;
  bool operator==(const NativeRange&) const = default;
};

NativeRange native_range(const View& view);

}  // namespace dlk::vulkan
