// The backend as the registry sees it: which Vulkan devices there are, or why there are none.
#include "backends/vulkan/device.h"
#include "backends/vulkan/external.h"
#include "core/device/registry.h"

namespace dlk {
namespace {

using vulkan::Instance;

class VulkanBackend final : public Backend {
 public:
  std::string name() const override { return "vulkan"; }
  // Above OpenCL: recordings replay without host work per command.
  int priority() const override { return 20; }
  KernelFormat kernel_format() const override { return KernelFormat::kSpirv; }

  std::vector<Caps> enumerate() override {
    std::vector<Caps> list;
    std::string reason;
    const std::shared_ptr<Instance> instance = Instance::shared(reason);
    if (!instance) return list;
    try {
      for (const vulkan::PhysicalDevice& device : vulkan::physical_devices(*instance)) {
        list.push_back(device.caps);
      }
    } catch (const std::exception&) {
      list.clear();  // unavailable_reason tells
    }
    return list;
  }

  std::shared_ptr<Device> wrap(const NativeDevice& native) override {
    const auto enabled = [&](uint64_t bit) { return (native.features & bit) != 0; };
    VulkanFeatures features;
    features.storage_16bit = enabled(kFeatureStorage16);
    features.storage_8bit = enabled(kFeatureStorage8);
    features.float16 = enabled(kFeatureFloat16);
    features.int8 = enabled(kFeatureInt8);
    features.int16 = enabled(kFeatureInt16);
    features.int64 = enabled(kFeatureInt64);
    features.float64 = enabled(kFeatureFloat64);
    features.timeline_semaphore = enabled(kFeatureTimelineSemaphore);
    if (!native.instance || !native.physical_device || !native.device || !native.queue)
      throw_invalid("vulkan: instance, physical_device, device and queue must be given");
    return wrap_vulkan(native.instance, native.physical_device, native.device, native.queue,
                       native.queue_family, features);
  }

  std::string unavailable_reason() override {
    std::string reason;
    const std::shared_ptr<Instance> instance = Instance::shared(reason);
    if (!instance) return reason;
    try {
      if (!vulkan::physical_devices(*instance).empty()) return {};
    } catch (const std::exception& error) {
      return error.what();
    }
    return "the Vulkan loader found no device with Vulkan 1.1 and a compute queue: install a "
           "driver (Debian, Ubuntu: apt-get install mesa-vulkan-drivers)";
  }

  std::shared_ptr<Device> open(uint32_t index) override {
    std::string reason;
    const std::shared_ptr<Instance> instance = Instance::shared(reason);
    if (!instance) throw_unsupported("Vulkan: " + reason);
    const auto& devices = vulkan::physical_devices(*instance);
    if (index >= devices.size()) {
      throw_invalid("vulkan:" + std::to_string(index) + " is not there: " +
                    std::to_string(devices.size()) + " Vulkan devices were found");
    }
    return std::make_shared<vulkan::VulkanDevice>(
        std::make_shared<vulkan::Context>(instance, devices[index]));
  }
};

}  // namespace

std::vector<VulkanMatrixShape> vulkan_matrix_shapes(const Device& device) {
  std::string reason;
  const std::shared_ptr<Instance> instance = Instance::shared(reason);
  if (!instance) return {};
  for (const vulkan::PhysicalDevice& physical : vulkan::physical_devices(*instance)) {
    if (physical.caps.id == device.caps().id) return physical.matrix_shapes;
  }
  return {};
}

uint64_t vulkan_validation_error_count() { return Instance::validation_error_count(); }

}  // namespace dlk

DLK_REGISTER_BACKEND(dlk::VulkanBackend)
