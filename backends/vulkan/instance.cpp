#include "backends/vulkan/instance.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "backends/vulkan/result.h"

namespace dlk::vulkan {
namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";
constexpr const char* kPortabilityEnumeration = "VK_KHR_portability_enumeration";
constexpr VkInstanceCreateFlags kEnumeratePortabilityBit = 0x1;
constexpr size_t kMaxMessages = 16;

std::atomic<uint64_t> g_validation_errors{0};

// Reports of old layer versions that are wrong about correct programs, by message id, each with
// the reason. Anything else counts as an error of this backend.
struct FalsePositive {
  const char* id;
  const char* reason;
};
constexpr FalsePositive kFalsePositives[] = {
    {"VUID-VkShaderModuleCreateInfo-pCode-01377",
     "layers older than the SPIR-V that glslang emits do not know newer versions and extensions"},
};

bool is_false_positive(const char* id) {
  return id && std::any_of(std::begin(kFalsePositives), std::end(kFalsePositives),
                           [id](const FalsePositive& entry) { return !std::strcmp(entry.id, id); });
}

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                          VkDebugUtilsMessageTypeFlagsEXT type,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data,
                                          void* user) {
  const bool is_error = severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT &&
                        (type & VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT);
  if (is_error && !is_false_positive(data->pMessageIdName)) {
    static_cast<Instance*>(user)->report_validation_error(
        data->pMessageIdName ? data->pMessageIdName : "", data->pMessage ? data->pMessage : "");
  }
  return VK_FALSE;
}

VkDebugUtilsMessengerCreateInfoEXT messenger_info(Instance* instance) {
  VkDebugUtilsMessengerCreateInfoEXT info{};
  info.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
  info.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
  info.pfnUserCallback = on_message;
  info.pUserData = instance;
  return info;
}

bool validation_wanted() {
  const char* value = std::getenv("DLK_VULKAN_VALIDATION");
  return value && *value && std::strcmp(value, "0") != 0;
}

bool has_layer(const GlobalApi& global, const char* name) {
  uint32_t count = 0;
  global.vkEnumerateInstanceLayerProperties(&count, nullptr);
  std::vector<VkLayerProperties> layers(count);
  global.vkEnumerateInstanceLayerProperties(&count, layers.data());
  return std::any_of(layers.begin(), layers.end(), [name](const VkLayerProperties& layer) {
    return !std::strcmp(layer.layerName, name);
  });
}

bool has_extension(const GlobalApi& global, const char* layer, const char* name) {
  uint32_t count = 0;
  global.vkEnumerateInstanceExtensionProperties(layer, &count, nullptr);
  std::vector<VkExtensionProperties> extensions(count);
  global.vkEnumerateInstanceExtensionProperties(layer, &count, extensions.data());
  return std::any_of(extensions.begin(), extensions.end(), [name](const VkExtensionProperties& e) {
    return !std::strcmp(e.extensionName, name);
  });
}

}  // namespace

std::shared_ptr<Instance> Instance::shared(std::string& reason) {
  struct Holder {
    std::shared_ptr<Instance> instance;
    std::string reason;
  };
  static const Holder& holder = *[] {
    auto* made = new Holder;
    const GlobalApi* global = global_api(made->reason);
    if (!global) return made;
    try {
      std::shared_ptr<Instance> instance(new Instance);
      instance->create(*global);
      made->instance = std::move(instance);
    } catch (const std::exception& error) {
      made->reason = error.what();
    }
    return made;
  }();
  reason = holder.reason;
  return holder.instance;
}

std::shared_ptr<Instance> Instance::wrap(VkInstance handle, uint32_t api_version,
                                         PFN_vkGetInstanceProcAddr get) {
  std::shared_ptr<Instance> instance(new Instance);
  instance->handle_ = handle;
  instance->api_version_ = std::max<uint32_t>(api_version, VK_API_VERSION_1_1);
  instance->api_ = load_instance_api(get, handle);
  return instance;
}

void Instance::create(const GlobalApi& global) {
  uint32_t version = VK_API_VERSION_1_0;
  check(global.vkEnumerateInstanceVersion(&version), "vkEnumerateInstanceVersion");
  if (version < VK_API_VERSION_1_1) throw_unsupported("Vulkan 1.1 is needed, the loader has 1.0");
  api_version_ = std::min<uint32_t>(version, VK_API_VERSION_1_3);

  VkApplicationInfo app{};
  app.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  app.pApplicationName = "dlk";
  app.pEngineName = "dlk";
  app.apiVersion = api_version_;

  VkInstanceCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  info.pApplicationInfo = &app;
  std::vector<const char*> layers, extensions;
  if (has_extension(global, nullptr, kPortabilityEnumeration)) {
    extensions.push_back(kPortabilityEnumeration);
    info.flags |= kEnumeratePortabilityBit;
  }

  const VkValidationFeatureEnableEXT enable =
      VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
  VkValidationFeaturesEXT features{};
  features.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT;
  features.enabledValidationFeatureCount = 1;
  features.pEnabledValidationFeatures = &enable;
  VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(this);
  features.pNext = &messenger;
  validation_ = validation_wanted();
  if (validation_) {
    if (!has_layer(global, kValidationLayer)) {
      throw_unsupported(
          "DLK_VULKAN_VALIDATION is set but the layer VK_LAYER_KHRONOS_validation is not "
          "installed (Debian, Ubuntu: apt-get install vulkan-validationlayers)");
    }
    layers.push_back(kValidationLayer);
    extensions.push_back(VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    if (has_extension(global, kValidationLayer, VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME)) {
      extensions.push_back(VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME);
    }
    info.pNext = &features;
  }
  info.enabledLayerCount = static_cast<uint32_t>(layers.size());
  info.ppEnabledLayerNames = layers.data();
  info.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  const VkResult result = global.vkCreateInstance(&info, nullptr, &handle_);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
    throw_unsupported(
        "the Vulkan loader found no driver: install one (Debian, Ubuntu: apt-get install "
        "mesa-vulkan-drivers; for NVIDIA the driver's own package)");
  }
  check(result, "vkCreateInstance");
  api_ = load_instance_api(global.vkGetInstanceProcAddr, handle_);
  if (validation_) create_messenger();
}

void Instance::create_messenger() {
  const VkDebugUtilsMessengerCreateInfoEXT info = messenger_info(this);
  if (!api_.vkCreateDebugUtilsMessengerEXT) throw_unsupported("Vulkan: no VK_EXT_debug_utils");
  check(api_.vkCreateDebugUtilsMessengerEXT(handle_, &info, nullptr, &messenger_),
        "vkCreateDebugUtilsMessengerEXT");
}

void Instance::report_validation_error(const char* id, const char* message) {
  g_validation_errors.fetch_add(1);
  std::lock_guard lock(mutex_);
  if (errors_.size() < kMaxMessages) errors_.push_back(std::string(id) + ": " + message);
  has_errors_.store(true);
}

std::string Instance::take_validation_errors() {
  if (!has_errors_.load()) return {};
  std::lock_guard lock(mutex_);
  std::string text;
  for (const std::string& error : errors_) text += (text.empty() ? "" : "\n") + error;
  errors_.clear();
  has_errors_.store(false);
  return text;
}

uint64_t Instance::validation_error_count() { return g_validation_errors.load(); }

}  // namespace dlk::vulkan
