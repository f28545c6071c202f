// The C interface over core/runtime: handles, argument checks, exceptions to status codes.
#include "dlk/dlk.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/base/error.h"
#include "core/device/registry.h"
#include "core/kernel/kernel_pack.h"
#include "core/model/image.h"
#include "core/model/model_file.h"
#include "core/runtime/model.h"

struct dlk_device {
  std::shared_ptr<dlk::Device> device;
};
struct dlk_model {
  std::shared_ptr<dlk::Model> model;
  std::vector<dlk::InputInfo> inputs;
  std::vector<std::string> outputs;
};
struct dlk_session {
  std::shared_ptr<dlk::Model> model;
  std::unique_ptr<dlk::Session> session;
  dlk::RunInputs inputs;
};
struct dlk_run {
  std::shared_ptr<dlk::Run> run;
};

namespace {

using dlk::throw_invalid;

thread_local std::string last_error;

dlk_status status_of(dlk::ErrorCode code) {
  switch (code) {
    case dlk::ErrorCode::kInvalidArgument:
      return DLK_INVALID_ARGUMENT;
    case dlk::ErrorCode::kUnsupported:
      return DLK_UNSUPPORTED;
    case dlk::ErrorCode::kOutOfMemory:
      return DLK_OUT_OF_MEMORY;
    case dlk::ErrorCode::kCompileFailed:
      return DLK_COMPILE_FAILED;
    case dlk::ErrorCode::kDeviceLost:
      return DLK_DEVICE_LOST;
  }
  return DLK_INTERNAL_ERROR;
}

/// Runs `body`; an exception becomes a status and dlk_last_error. No exception leaves the library.
template <typename Body>
dlk_status guarded(Body&& body) noexcept {
  try {
    body();
    return DLK_OK;
  } catch (const dlk::Error& error) {
    last_error = error.what();
    return status_of(error.code());
  } catch (const std::bad_alloc&) {
    last_error = "the host is out of memory";
    return DLK_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    last_error = error.what();
    return DLK_INTERNAL_ERROR;
  }
}

template <typename T>
T& required(T* pointer, const char* name) {
  if (!pointer) throw_invalid(std::string(name) + " is NULL");
  return *pointer;
}

dlk::DType dtype_of(dlk_dtype dtype) {
  if (dtype < DLK_FLOAT32 || dtype > DLK_BOOL)
    throw_invalid("dtype " + std::to_string(static_cast<int>(dtype)) + " does not exist");
  return static_cast<dlk::DType>(dtype);
}

template <size_t N>
void copy_text(char (&to)[N], const std::string& from) {
  const size_t count = std::min(from.size(), N - 1);
  std::memcpy(to, from.data(), count);
  to[count] = '\0';
}

dlk_tensor_info info_of(const std::string& name, dlk::DType dtype, const dlk::Shape& shape) {
  if (shape.size() > DLK_MAX_RANK)
    throw_invalid("'" + name + "' has rank " + std::to_string(shape.size()) +
                  "; the C interface handles at most " + std::to_string(DLK_MAX_RANK));
  dlk_tensor_info info = {};
  copy_text(info.name, name);
  info.dtype = static_cast<dlk_dtype>(dtype);
  info.rank = shape.size();
  std::copy(shape.begin(), shape.end(), info.shape);
  return info;
}

dlk_device_info info_of(const dlk::Caps& caps) {
  dlk_device_info info = {};
  copy_text(info.id, caps.id);
  copy_text(info.backend, caps.backend);
  copy_text(info.name, caps.name);
  copy_text(info.driver, caps.driver);
  info.memory_bytes = caps.memory_bytes;
  info.is_cpu = caps.is_cpu;
  info.fp16 = caps.fp16_storage;
  return info;
}

}  // namespace

const char* dlk_version(void) { return DLK_VERSION; }
const char* dlk_last_error(void) { return last_error.c_str(); }

size_t dlk_dtype_size(dlk_dtype dtype) {
  return dtype >= DLK_FLOAT32 && dtype <= DLK_BOOL ? dlk::dtype_size(static_cast<dlk::DType>(dtype))
                                                   : 0;
}

dlk_status dlk_kernel_pack_add(const char* path) {
  return guarded([&] { dlk::KernelPacks::shared().add(&required(path, "path")); });
}

size_t dlk_device_count(void) {
  size_t count = 0;
  guarded([&] { count = dlk::list_devices().size(); });
  return count;
}

dlk_status dlk_device_get_info(size_t index, dlk_device_info* info) {
  return guarded([&] {
    const auto devices = dlk::list_devices();
    if (index >= devices.size())
      throw_invalid("device index " + std::to_string(index) + " of " +
                    std::to_string(devices.size()));
    required(info, "info") = info_of(devices[index]);
  });
}

dlk_status dlk_device_open(const char* spec, dlk_device** device) {
  return guarded([&] {
    required(device, "device");
    *device = new dlk_device{dlk::open_device(spec ? spec : "")};
  });
}

dlk_status dlk_device_wrap(const char* backend, const dlk_native_device* native,
                           dlk_device** device) {
  return guarded([&] {
    required(device, "device");
    const dlk_native_device& n = required(native, "native");
    dlk::NativeDevice handles;
    handles.instance = n.instance;
    handles.physical_device = n.physical_device;
    handles.device = n.device;
    handles.context = n.context;
    handles.queue = n.queue;
    handles.queue_family = n.queue_family;
    handles.features = n.features;
    *device = new dlk_device{dlk::wrap_device(&required(backend, "backend"), handles)};
  });
}

void dlk_device_release(dlk_device* device) { delete device; }

dlk_status dlk_model_load(const char* path, const dlk_device* device,
                          const dlk_model_options* options, dlk_model** model) {
  return guarded([&] {
    required(model, "model");
    dlk::CompileOptions compile;
    if (options) {
      compile.dtype = dtype_of(options->dtype);
      compile.accumulate_fp16 = options->accumulate_fp16 != 0;
      if (options->in_flight != 0) compile.in_flight = options->in_flight;
    }
    auto loaded = std::make_unique<dlk_model>();
    loaded->model = dlk::Model::create(dlk::load_model(&required(path, "path")),
                                       required(device, "device").device, compile);
    loaded->inputs = loaded->model->inputs();
    loaded->outputs = loaded->model->outputs();
    *model = loaded.release();
  });
}

size_t dlk_model_input_count(const dlk_model* model) { return model ? model->inputs.size() : 0; }

dlk_status dlk_model_input_info(const dlk_model* model, size_t index, dlk_tensor_info* info) {
  return guarded([&] {
    const auto& inputs = required(model, "model").inputs;
    if (index >= inputs.size())
      throw_invalid("input index " + std::to_string(index) + " of " +
                    std::to_string(inputs.size()));
    dlk::Shape shape;
    for (const dlk::Dim& d : inputs[index].shape) shape.push_back(d.is_static() ? d.value : -1);
    required(info, "info") = info_of(inputs[index].name, inputs[index].dtype, shape);
  });
}

size_t dlk_model_output_count(const dlk_model* model) { return model ? model->outputs.size() : 0; }

const char* dlk_model_output_name(const dlk_model* model, size_t index) {
  return model && index < model->outputs.size() ? model->outputs[index].c_str() : nullptr;
}

size_t dlk_model_label_count(const dlk_model* model) {
  return model ? model->model->graph().info.labels.size() : 0;
}

const char* dlk_model_label(const dlk_model* model, size_t index) {
  return index < dlk_model_label_count(model) ? model->model->graph().info.labels[index].c_str()
                                              : nullptr;
}

dlk_status dlk_model_prepare_image(const dlk_model* model, const uint8_t* rgb, uint32_t width,
                                   uint32_t height, float* tensor, size_t tensor_bytes,
                                   dlk_tensor_info* info) {
  return guarded([&] {
    const auto preparation =
        dlk::ImagePreparation::parse(required(model, "model").model->graph().info.preprocessing);
    const dlk::Shape shape = preparation.output_shape(width, height);
    const dlk_tensor_info filled =
        info_of(model->inputs.empty() ? "" : model->inputs[0].name, dlk::DType::kFloat32, shape);
    if (tensor) {
      const auto needed = static_cast<size_t>(dlk::element_count(shape)) * sizeof(float);
      if (tensor_bytes != needed)
        throw_invalid("the tensor has " + std::to_string(tensor_bytes) + " bytes, " +
                      std::to_string(needed) + " are needed");
      preparation.run(&required(rgb, "rgb"), width, height, tensor);
    }
    if (info) *info = filled;
  });
}

void dlk_model_release(dlk_model* model) { delete model; }

dlk_status dlk_session_create(const dlk_model* model, dlk_session** session) {
  return guarded([&] {
    required(session, "session");
    const auto& shared = required(model, "model").model;
    *session = new dlk_session{shared, shared->create_session(), {}};
  });
}

dlk_status dlk_session_bind(dlk_session* session, const char* input, const dlk_tensor* tensor) {
  return guarded([&] {
    dlk_session& s = required(session, "session");
    const dlk_tensor& t = required(tensor, "tensor");
    const std::string name = &required(input, "input");
    if (t.rank > 0) required(t.shape, "tensor->shape");
    const dlk::Shape shape(t.shape, t.shape + t.rank);
    const dlk::DType dtype = dtype_of(t.dtype);
    const auto bytes = static_cast<size_t>(dlk::element_count(shape)) * dlk::dtype_size(dtype);
    if (bytes > 0) required(static_cast<const char*>(t.data), "tensor->data");
    s.inputs[name] =
        dlk::HostTensor::copy_of(dtype, shape, {static_cast<const std::byte*>(t.data), bytes});
  });
}

dlk_status dlk_session_run_async(dlk_session* session, dlk_run** run) {
  return guarded([&] {
    dlk_session& s = required(session, "session");
    required(run, "run");
    *run = new dlk_run{s.session->run_async(s.inputs)};
  });
}

dlk_status dlk_session_run(dlk_session* session, dlk_run** run) {
  return guarded([&] {
    dlk_session& s = required(session, "session");
    required(run, "run");
    auto started = s.session->run_async(s.inputs);
    started->wait();
    *run = new dlk_run{std::move(started)};
  });
}

void dlk_session_release(dlk_session* session) { delete session; }

dlk_status dlk_run_wait(dlk_run* run) {
  return guarded([&] { required(run, "run").run->wait(); });
}

int dlk_run_is_done(dlk_run* run) {
  bool done = false;
  guarded([&] { done = required(run, "run").run->is_done(); });
  return done;
}

dlk_status dlk_run_on_complete(dlk_run* run, void (*callback)(dlk_status, void*), void* user) {
  return guarded([&] {
    if (!callback) throw_invalid("callback is NULL");
    required(run, "run").run->on_complete([callback, user](std::exception_ptr error) {
      callback(guarded([&] {
                 if (error) std::rethrow_exception(error);
               }),
               user);
    });
  });
}

dlk_status dlk_run_output_info(dlk_run* run, const char* output, dlk_tensor_info* info) {
  return guarded([&] {
    const std::string name = &required(output, "output");
    const dlk::DeviceTensor tensor = required(run, "run").run->output(name);
    required(info, "info") = info_of(name, tensor.dtype, tensor.shape);
  });
}

dlk_status dlk_run_read(dlk_run* run, const char* output, void* data, size_t bytes) {
  return guarded([&] {
    const dlk::HostTensor tensor = required(run, "run").run->read(&required(output, "output"));
    if (tensor.size_bytes() != bytes)
      throw_invalid("output '" + std::string(output) + "' has " +
                    std::to_string(tensor.size_bytes()) + " bytes, the buffer " +
                    std::to_string(bytes));
    if (bytes > 0)
      std::memcpy(&required(static_cast<char*>(data), "data"), tensor.data.get(), bytes);
  });
}

void dlk_run_release(dlk_run* run) { delete run; }
