#include "backends/opencl/caps.h"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace dlk::opencl {

namespace {

// Of vendor extensions; not in every version of the headers.
constexpr cl_device_info kSubgroupSizesIntel = 0x4108;
constexpr cl_device_info kComputeCapabilityNvidia = 0x4000;
constexpr cl_device_info kWarpSizeNvidia = 0x4003;
constexpr cl_device_info kWavefrontWidthAmd = 0x4043;

template <typename T>
T value(const Api& cl, cl_device_id device, cl_device_info what) {
  T result{};
  cl.clGetDeviceInfo(device, what, sizeof result, &result, nullptr);
  return result;
}

std::string trimmed(std::string text) {
  text.resize(std::strlen(text.c_str()));
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

std::string device_text(const Api& cl, cl_device_id device, cl_device_info what) {
  size_t size = 0;
  if (cl.clGetDeviceInfo(device, what, 0, nullptr, &size) != CL_SUCCESS) return {};
  std::string text(size, '\0');
  cl.clGetDeviceInfo(device, what, size, text.data(), nullptr);
  return trimmed(std::move(text));
}

std::string platform_text(const Api& cl, cl_device_id device, cl_platform_info what) {
  const auto platform = value<cl_platform_id>(cl, device, CL_DEVICE_PLATFORM);
  size_t size = 0;
  if (cl.clGetPlatformInfo(platform, what, 0, nullptr, &size) != CL_SUCCESS) return {};
  std::string text(size, '\0');
  cl.clGetPlatformInfo(platform, what, size, text.data(), nullptr);
  return trimmed(std::move(text));
}

/// 102 for "OpenCL 1.2 ...".
int version_number(const std::string& version) {
  int major = 0, minor = 0;
  char dot = 0;
  std::istringstream stream(
      version.substr(std::min<size_t>(version.size(), std::strlen("OpenCL "))));
  stream >> major >> dot >> minor;
  return stream ? major * 100 + minor : 0;
}

bool usable(const Api& cl, cl_device_id device) {
  return version_number(device_text(cl, device, CL_DEVICE_VERSION)) >= 102 &&
         value<cl_bool>(cl, device, CL_DEVICE_COMPILER_AVAILABLE) == CL_TRUE &&
         value<cl_bool>(cl, device, CL_DEVICE_AVAILABLE) == CL_TRUE &&
         value<cl_bool>(cl, device, CL_DEVICE_ENDIAN_LITTLE) == CL_TRUE;
}

/// Subgroups count only where their size is known.
uint32_t subgroup_size(const Api& cl, cl_device_id device) {
  size_t sizes[16] = {};
  size_t bytes = 0;
  if (cl.clGetDeviceInfo(device, kSubgroupSizesIntel, sizeof sizes, sizes, &bytes) == CL_SUCCESS &&
      bytes >= sizeof(size_t)) {
    const size_t count = std::min<size_t>(bytes / sizeof(size_t), 16);
    return static_cast<uint32_t>(*std::max_element(sizes, sizes + count));
  }
  for (const cl_device_info what : {kWarpSizeNvidia, kWavefrontWidthAmd}) {
    cl_uint size = 0;
    if (cl.clGetDeviceInfo(device, what, sizeof size, &size, nullptr) == CL_SUCCESS) return size;
  }
  return 0;
}

void read_limits(const Api& cl, cl_device_id device, Caps& caps) {
  caps.memory_bytes = value<cl_ulong>(cl, device, CL_DEVICE_GLOBAL_MEM_SIZE);
  caps.max_buffer_bytes = value<cl_ulong>(cl, device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  caps.max_binding_bytes = caps.max_buffer_bytes;
  caps.binding_alignment = 1;  // kernels get the whole buffer and a base
  const auto argument_bytes = value<size_t>(cl, device, CL_DEVICE_MAX_PARAMETER_SIZE);
  // A buffer takes 16 bytes of arguments; half of the space is for buffers.
  caps.max_push_bytes = static_cast<uint32_t>(argument_bytes / 2);
  caps.max_bindings = static_cast<uint32_t>(argument_bytes / 2 / 16);
  size_t sizes[3] = {1, 1, 1};
  cl.clGetDeviceInfo(device, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof sizes, sizes, nullptr);
  for (int axis = 0; axis < 3; ++axis)
    caps.max_group_size[axis] = static_cast<uint32_t>(sizes[axis]);
  // OpenCL states no limit; the hardware below has these.
  caps.max_group_count = {0x7fffffff, 65535, 65535};
  caps.max_group_invocations =
      static_cast<uint32_t>(value<size_t>(cl, device, CL_DEVICE_MAX_WORK_GROUP_SIZE));
  caps.local_memory_bytes =
      static_cast<uint32_t>(value<cl_ulong>(cl, device, CL_DEVICE_LOCAL_MEM_SIZE));
  caps.compute_units = value<cl_uint>(cl, device, CL_DEVICE_MAX_COMPUTE_UNITS);
}

}  // namespace

std::vector<cl_device_id> usable_devices(const Api& cl) {
  std::vector<cl_device_id> found;
  cl_uint platform_count = 0;
  if (cl.clGetPlatformIDs(0, nullptr, &platform_count) != CL_SUCCESS) return found;
  std::vector<cl_platform_id> platforms(platform_count);
  cl.clGetPlatformIDs(platform_count, platforms.data(), nullptr);
  for (const cl_platform_id platform : platforms) {
    cl_uint count = 0;
    if (cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS) continue;
    std::vector<cl_device_id> devices(count);
    cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, count, devices.data(), nullptr);
    std::copy_if(devices.begin(), devices.end(), std::back_inserter(found),
                 [&](cl_device_id device) { return usable(cl, device); });
  }
  return found;
}

cl_bitfield svm_capabilities(const Api& cl, cl_device_id device) {
  if (version_number(device_text(cl, device, CL_DEVICE_VERSION)) < 200) return 0;
  return value<cl_bitfield>(cl, device, CL_DEVICE_SVM_CAPABILITIES);
}

Caps read_caps(const Api& cl, cl_device_id device, const std::string& id) {
  Caps caps;
  caps.id = id;
  caps.backend = "opencl";
  caps.name = device_text(cl, device, CL_DEVICE_NAME);
  caps.vendor = device_text(cl, device, CL_DEVICE_VENDOR);
  caps.driver = platform_text(cl, device, CL_PLATFORM_NAME) + ", " +
                platform_text(cl, device, CL_PLATFORM_VERSION) + ", driver " +
                device_text(cl, device, CL_DRIVER_VERSION);
  const int version = version_number(device_text(cl, device, CL_DEVICE_VERSION));
  caps.api_version = std::to_string(version / 100) + "." + std::to_string(version % 100);
  read_limits(cl, device, caps);

  const std::string extensions = " " + device_text(cl, device, CL_DEVICE_EXTENSIONS) + " ";
  const auto has = [&](const char* name) {
    return extensions.find(" " + std::string(name) + " ") != std::string::npos;
  };
  const bool shares_memory = value<cl_bool>(cl, device, CL_DEVICE_HOST_UNIFIED_MEMORY) == CL_TRUE;
  caps.is_cpu = (value<cl_device_type>(cl, device, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
  caps.unified_memory = shares_memory && cl.clSVMAlloc && cl.clSVMFree &&
                        (svm_capabilities(cl, device) & CL_DEVICE_SVM_FINE_GRAIN_BUFFER) != 0;
  caps.host_import = shares_memory;
  caps.vector_width = caps.is_cpu ? 16 : 4;
  caps.fp16_storage = true;  // vload_half and vstore_half need no extension
  caps.fp16_arithmetic = has("cl_khr_fp16");
  caps.fp64 = value<cl_device_fp_config>(cl, device, CL_DEVICE_DOUBLE_FP_CONFIG) != 0;
  caps.int64 = caps.int8_storage = caps.int16_storage = true;
  caps.timestamps = true;
  caps.inline_ptx = has("cl_nv_device_attribute_query") &&
                    value<cl_uint>(cl, device, kComputeCapabilityNvidia) >= 8;
  caps.device_fences = caps.inline_ptx || caps.is_cpu;  // others may fence a group alone
  if (has("cl_khr_subgroups") || has("cl_intel_subgroups")) {
    caps.subgroup_size = subgroup_size(cl, device);
    caps.subgroup_arithmetic = caps.subgroup_size > 0;
  }
  return caps;
}

}  // namespace dlk::opencl
