#include "backends/metal/device.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "backends/metal/buffer.h"
#include "backends/metal/caps.h"
#include "backends/metal/external.h"
#include "backends/metal/kernel.h"
#include "backends/metal/queue.h"
#include "backends/metal/recording.h"

namespace dlk::metal {

namespace {

bool is_preferred([[maybe_unused]] MTL::Device* device) {
#if TARGET_OS_OSX
  const char* text = std::getenv("DLK_METAL_PREFER");
  const std::string_view wanted = text ? text : "";
  if (wanted == "low-power") return device->isLowPower();
  if (wanted == "external") return device->isRemovable();
#endif
  return false;
}

/// The default device first, then the others. Autoreleases; the caller has a pool.
std::vector<Ref<MTL::Device>> all_devices() {
  std::vector<Ref<MTL::Device>> found;
  if (auto first = own(MTL::CreateSystemDefaultDevice())) found.push_back(std::move(first));
#if TARGET_OS_OSX
  const auto all = own(MTL::CopyAllDevices());
  for (NS::UInteger i = 0; all && i < all->count(); ++i) {
    auto* device = all->object<MTL::Device>(i);
    const bool known = std::any_of(found.begin(), found.end(), [&](const auto& other) {
      return other->registryID() == device->registryID();
    });
    if (!known) found.push_back(share(device));
  }
#endif
  std::vector<Ref<MTL::Device>> ordered;
  for (const bool preferred : {true, false}) {
    for (const auto& device : found) {
      if (is_preferred(device.get()) == preferred) ordered.push_back(device);
    }
  }
  return ordered;
}

std::shared_ptr<Device> make_device(MTL::Device* device, Caps caps, MTL::CommandQueue* queue) {
  return std::make_shared<MetalDevice>(std::make_shared<Context>(device, std::move(caps), queue));
}

}  // namespace

const Caps& MetalDevice::caps() const noexcept { return context_->caps(); }

std::shared_ptr<Buffer> MetalDevice::allocate(uint64_t size_bytes, MemoryKind kind) {
  return std::make_shared<MetalBuffer>(context_, size_bytes, kind);
}

std::shared_ptr<Buffer> MetalDevice::adopt(void* data, uint64_t size_bytes,
                                           std::shared_ptr<void> owner) {
  return std::make_shared<MetalBuffer>(context_, data, size_bytes, std::move(owner));
}

std::shared_ptr<Kernel> MetalDevice::compile(KernelCode code) {
  return std::make_shared<MetalKernel>(context_, std::move(code));
}

std::shared_ptr<Recording> MetalDevice::record(const CommandList& commands, bool profile) {
  return std::make_shared<MetalRecording>(context_, commands, profile);
}

std::unique_ptr<Queue> MetalDevice::create_queue() {
  return std::make_unique<MetalQueue>(context_);
}

std::shared_ptr<Buffer> MetalDevice::wrap(void* buffer) {
  const Pool pool;
  auto* native = static_cast<MTL::Buffer*>(buffer);
  if (native->device() != context_->device()) {
    throw_invalid("wrap_metal_buffer: the buffer is of another device");
  }
  return std::make_shared<MetalBuffer>(context_, native);
}

std::vector<Caps> MetalBackend::enumerate() {
  const Pool pool;
  std::vector<Caps> caps;
  for (const auto& device : all_devices()) {
    caps.push_back(read_caps(device.get(), name_, caps.size()));
  }
  return caps;
}

std::string MetalBackend::unavailable_reason() {
  const Pool pool;
  if (!all_devices().empty()) return {};
  return "Metal finds no GPU; on a virtual machine, switch its paravirtual graphics on";
}

std::shared_ptr<Device> MetalBackend::open(uint32_t index) {
  const Pool pool;
  const auto devices = all_devices();
  if (index >= devices.size()) {
    throw_invalid("no device " + name_ + ":" + std::to_string(index) + ": there are " +
                  std::to_string(devices.size()));
  }
  return make_device(devices[index].get(), read_caps(devices[index].get(), name_, index), nullptr);
}

std::shared_ptr<Device> MetalBackend::wrap(const NativeDevice& native) {
  const Pool pool;
  if (!native.device) throw_invalid(name_ + ": the device (an MTLDevice) must be given");
  auto* device = static_cast<MTL::Device*>(native.device);
  auto* queue = static_cast<MTL::CommandQueue*>(native.queue);
  if (queue && queue->device() != device) {
    throw_invalid(name_ + ": the queue is of another device");
  }
  const auto known = all_devices();
  const auto at = std::find_if(known.begin(), known.end(), [&](const auto& other) {
    return other->registryID() == device->registryID();
  });
  return make_device(device, read_caps(device, name_, static_cast<size_t>(at - known.begin())),
                     queue);
}

}  // namespace dlk::metal

namespace dlk {

namespace {

metal::MetalQueue& queue_of(Queue& queue, const char* who) {
  auto* ours = dynamic_cast<metal::MetalQueue*>(&queue);
  if (!ours) throw_invalid(std::string(who) + ": not a queue of an unchecked Metal device");
  return *ours;
}

}  // namespace

std::shared_ptr<Device> wrap_metal(void* device, void* queue) {
  NativeDevice native;
  native.device = device;
  native.queue = queue;
  return metal::MetalBackend().wrap(native);
}

std::shared_ptr<Buffer> wrap_metal_buffer(Device& device, void* buffer) {
  auto* ours = dynamic_cast<metal::MetalDevice*>(&device);
  if (!ours) throw_invalid("wrap_metal_buffer: not a device of wrap_metal");
  if (!buffer) throw_invalid("wrap_metal_buffer: no buffer");
  return ours->wrap(buffer);
}

void* metal_ticket_event(Queue& queue) {
  return queue_of(queue, "metal_ticket_event").ticket_event();
}

void metal_wait_for_event(Queue& queue, void* event, uint64_t value) {
  if (!event) throw_invalid("metal_wait_for_event: no event");
  queue_of(queue, "metal_wait_for_event").wait_for(static_cast<MTL::SharedEvent*>(event), value);
}

}  // namespace dlk
