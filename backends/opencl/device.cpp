#include "backends/opencl/device.h"

#include <algorithm>

#include "backends/opencl/caps.h"
#include "backends/opencl/external.h"
#include "backends/opencl/kernel.h"
#include "backends/opencl/queue.h"
#include "core/device/registry.h"

namespace dlk::opencl {

namespace {

std::string id_of(size_t index) { return "opencl:" + std::to_string(index); }

/// All but the native context.
std::shared_ptr<Context> describe(const Api& cl, cl_device_id device, const std::string& id) {
  auto context = std::make_shared<Context>();
  context->cl = &cl;
  context->device = device;
  context->caps = read_caps(cl, device, id);
  context->fine_grain = context->caps.unified_memory;
  context->fine_grain_system =
      (svm_capabilities(cl, device) & CL_DEVICE_SVM_FINE_GRAIN_SYSTEM) != 0;
  return context;
}

void check_queue(const Api& cl, cl_context context, cl_device_id device, cl_command_queue queue) {
  cl_context queue_context = nullptr;
  cl_device_id queue_device = nullptr;
  cl_command_queue_properties properties = 0;
  check(cl.clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof queue_context, &queue_context,
                                 nullptr),
        "clGetCommandQueueInfo");
  check(
      cl.clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof queue_device, &queue_device, nullptr),
      "clGetCommandQueueInfo");
  check(
      cl.clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, nullptr),
      "clGetCommandQueueInfo");
  if (queue_context != context || queue_device != device) {
    throw_invalid("wrap_opencl: the queue is not of this context and device");
  }
  if (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) {
    throw_invalid("wrap_opencl: the queue is out of order; dlk needs an in-order queue");
  }
}

void check_device(const Api& cl, cl_context context, cl_device_id device) {
  size_t bytes = 0;
  check(cl.clGetContextInfo(context, CL_CONTEXT_DEVICES, 0, nullptr, &bytes), "clGetContextInfo");
  std::vector<cl_device_id> devices(bytes / sizeof(cl_device_id));
  check(cl.clGetContextInfo(context, CL_CONTEXT_DEVICES, bytes, devices.data(), nullptr),
        "clGetContextInfo");
  if (std::find(devices.begin(), devices.end(), device) == devices.end()) {
    throw_invalid("wrap_opencl: the device is not of this context");
  }
}

}  // namespace

std::shared_ptr<Buffer> OpenClDevice::allocate(uint64_t size_bytes, MemoryKind kind) {
  return std::make_shared<OpenClBuffer>(context_, size_bytes, kind);
}

std::shared_ptr<Buffer> OpenClDevice::adopt(void* data, uint64_t size_bytes,
                                            std::shared_ptr<void> owner) {
  return std::make_shared<OpenClBuffer>(context_, data, size_bytes, std::move(owner));
}

std::shared_ptr<Kernel> OpenClDevice::compile(KernelCode code) {
  return std::make_shared<OpenClKernel>(context_, std::move(code));
}

std::shared_ptr<Recording> OpenClDevice::record(const CommandList& commands, bool profile) {
  return std::make_shared<OpenClRecording>(context_, commands, profile);
}

std::unique_ptr<Queue> OpenClDevice::create_queue() {
  return std::make_unique<OpenClQueue>(context_);
}

std::shared_ptr<Buffer> OpenClDevice::wrap(cl_mem memory) {
  const Api& cl = *context_->cl;
  cl_context owner = nullptr;
  size_t size_bytes = 0;
  check(cl.clGetMemObjectInfo(memory, CL_MEM_CONTEXT, sizeof owner, &owner, nullptr),
        "clGetMemObjectInfo");
  if (owner != context_->context) {
    throw_invalid("wrap_opencl_buffer: the buffer is of another context");
  }
  check(cl.clGetMemObjectInfo(memory, CL_MEM_SIZE, sizeof size_bytes, &size_bytes, nullptr),
        "clGetMemObjectInfo");
  return std::make_shared<OpenClBuffer>(context_, memory, size_bytes);
}

std::vector<Caps> OpenClBackend::enumerate() {
  std::vector<Caps> all;
  const Api* cl = api();
  if (!cl) return all;
  for (const cl_device_id device : usable_devices(*cl)) {
    all.push_back(read_caps(*cl, device, id_of(all.size())));
  }
  return all;
}

std::string OpenClBackend::unavailable_reason() {
  if (!api()) return loader_error();
  if (!usable_devices(*api()).empty()) return {};
  return "the OpenCL loader finds no driver with a device of OpenCL 1.2 or later; install one "
         "(Debian: pocl-opencl-icd runs on any CPU; GPUs: the vendor's), or set OCL_ICD_VENDORS to "
         "the folder of its .icd file";
}

std::shared_ptr<Device> OpenClBackend::wrap(const NativeDevice& native) {
  if (!native.context || !native.device) throw_invalid("opencl: context and device must be given");
  return wrap_opencl(native.context, native.device, native.queue);
}

std::shared_ptr<Device> OpenClBackend::open(uint32_t index) {
  const Api* cl = api();
  if (!cl) throw_unsupported("no OpenCL: " + loader_error());
  const auto devices = usable_devices(*cl);
  if (index >= devices.size()) {
    throw_invalid("no device " + id_of(index) + ": there are " + std::to_string(devices.size()));
  }
  auto context = describe(*cl, devices[index], id_of(index));
  cl_int code = CL_SUCCESS;
  context->context = cl->clCreateContext(nullptr, 1, &context->device, nullptr, nullptr, &code);
  if (code != CL_SUCCESS) throw_cl(code, "clCreateContext on " + context->caps.id);
  return std::make_shared<OpenClDevice>(std::move(context));
}

}  // namespace dlk::opencl

namespace dlk {

std::shared_ptr<Device> wrap_opencl(void* native_context, void* native_device, void* native_queue) {
  using namespace opencl;
  const Api* cl = api();
  if (!cl) throw_unsupported("no OpenCL: " + loader_error());
  if (!native_context || !native_device) throw_invalid("wrap_opencl: no context or no device");
  const auto device = static_cast<cl_device_id>(native_device);
  const auto given = static_cast<cl_context>(native_context);
  check_device(*cl, given, device);
  const auto known = usable_devices(*cl);
  const auto at = std::find(known.begin(), known.end(), device);
  auto context =
      describe(*cl, device, at == known.end() ? "opencl:external" : id_of(at - known.begin()));
  check(cl->clRetainContext(given), "clRetainContext");
  context->context = given;
  if (const auto queue = static_cast<cl_command_queue>(native_queue)) {
    check_queue(*cl, given, device, queue);
    check(cl->clRetainCommandQueue(queue), "clRetainCommandQueue");
    context->app_queue = queue;
  }
  return std::make_shared<OpenClDevice>(std::move(context));
}

std::shared_ptr<Buffer> wrap_opencl_buffer(Device& device, void* memory) {
  auto* ours = dynamic_cast<opencl::OpenClDevice*>(&device);
  if (!ours) throw_invalid("wrap_opencl_buffer: not a device of wrap_opencl");
  if (!memory) throw_invalid("wrap_opencl_buffer: no buffer");
  return ours->wrap(static_cast<cl_mem>(memory));
}

}  // namespace dlk

DLK_REGISTER_BACKEND(dlk::opencl::OpenClBackend)
