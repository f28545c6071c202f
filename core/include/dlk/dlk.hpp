// dlk's C++ interface: RAII and exceptions over dlk.h, header only, so that an app and the library
// may be built by different compilers. C++17.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "dlk/dlk.h"

namespace dlk::api {

class Error : public std::runtime_error {
 public:
  Error(dlk_status status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  dlk_status status() const noexcept { return status_; }

 private:
  dlk_status status_;
};

inline void check(dlk_status status) {
  if (status != DLK_OK) throw Error(status, dlk_last_error());
}

/// Kernels are taken from this file too before they are compiled; see dlk_kernel_pack_add.
inline void add_kernel_pack(const std::string& path) { check(dlk_kernel_pack_add(path.c_str())); }

/// Information on every device of every backend.
inline std::vector<dlk_device_info> devices() {
  std::vector<dlk_device_info> all(dlk_device_count());
  for (size_t i = 0; i < all.size(); i++) check(dlk_device_get_info(i, &all[i]));
  return all;
}

class Device {
 public:
  explicit Device(const std::string& spec = {}) {
    dlk_device* handle = nullptr;
    check(dlk_device_open(spec.c_str(), &handle));
    handle_.reset(handle, dlk_device_release);
  }
  /// An app's own Vulkan or OpenCL device; see dlk_device_wrap.
  static Device wrap(const std::string& backend, const dlk_native_device& native) {
    dlk_device* handle = nullptr;
    check(dlk_device_wrap(backend.c_str(), &native, &handle));
    return Device(std::shared_ptr<dlk_device>(handle, dlk_device_release));
  }
  dlk_device* get() const { return handle_.get(); }

 private:
  explicit Device(std::shared_ptr<dlk_device> handle) : handle_(std::move(handle)) {}
  std::shared_ptr<dlk_device> handle_;
};

/// A dense float32, int64, ... tensor in host memory.
struct Tensor {
  dlk_dtype dtype = DLK_FLOAT32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;

  size_t elements() const {
    return static_cast<size_t>(
        std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()));
  }
  /// The data as T, which must be the dtype's C type.
  template <typename T>
  std::vector<T> as() const {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }
};

class Model {
 public:
  Model(const std::string& path, const Device& device, const dlk_model_options& options = {}) {
    dlk_model* handle = nullptr;
    check(dlk_model_load(path.c_str(), device.get(), &options, &handle));
    handle_.reset(handle, dlk_model_release);
  }
  dlk_model* get() const { return handle_.get(); }
  dlk_tensor_info input(size_t index = 0) const {
    dlk_tensor_info info;
    check(dlk_model_input_info(get(), index, &info));
    return info;
  }
  std::string output_name(size_t index = 0) const {
    const char* name = dlk_model_output_name(get(), index);
    return name ? name : "";
  }
  std::vector<std::string> labels() const {
    std::vector<std::string> all;
    for (size_t i = 0; i < dlk_model_label_count(get()); i++)
      all.emplace_back(dlk_model_label(get(), i));
    return all;
  }
  /// A picture (width*height*3 bytes of RGB) as the model wants it.
  Tensor prepare_image(const uint8_t* rgb, uint32_t width, uint32_t height) const {
    dlk_tensor_info info;
    check(dlk_model_prepare_image(get(), rgb, width, height, nullptr, 0, &info));
    Tensor tensor;
    tensor.shape.assign(info.shape, info.shape + info.rank);
    tensor.bytes.resize(tensor.elements() * sizeof(float));
    check(dlk_model_prepare_image(get(), rgb, width, height,
                                  reinterpret_cast<float*>(tensor.bytes.data()),
                                  tensor.bytes.size(), &info));
    return tensor;
  }

 private:
  std::shared_ptr<dlk_model> handle_;
};

class Run {
 public:
  explicit Run(dlk_run* handle) : handle_(handle, dlk_run_release) {}
  void wait() const { check(dlk_run_wait(handle_.get())); }
  bool is_done() const { return dlk_run_is_done(handle_.get()) != 0; }
  /// Waits and copies an output.
  Tensor read(const std::string& output) const {
    dlk_tensor_info info;
    check(dlk_run_output_info(handle_.get(), output.c_str(), &info));
    Tensor tensor;
    tensor.dtype = info.dtype;
    tensor.shape.assign(info.shape, info.shape + info.rank);
    tensor.bytes.resize(tensor.elements() * dlk_dtype_size(info.dtype));
    check(dlk_run_read(handle_.get(), output.c_str(), tensor.bytes.data(), tensor.bytes.size()));
    return tensor;
  }

 private:
  std::shared_ptr<dlk_run> handle_;
};

class Session {
 public:
  explicit Session(const Model& model) {
    dlk_session* handle = nullptr;
    check(dlk_session_create(model.get(), &handle));
    handle_.reset(handle, dlk_session_release);
  }
  void bind(const std::string& input, const Tensor& tensor) {
    const dlk_tensor view = {tensor.dtype, tensor.shape.size(), tensor.shape.data(),
                             tensor.bytes.data()};
    check(dlk_session_bind(handle_.get(), input.c_str(), &view));
  }
  Run run_async() {
    dlk_run* run = nullptr;
    check(dlk_session_run_async(handle_.get(), &run));
    return Run(run);
  }
  Run run() {
    dlk_run* run = nullptr;
    check(dlk_session_run(handle_.get(), &run));
    return Run(run);
  }

 private:
  std::shared_ptr<dlk_session> handle_;
};

}  // namespace dlk::api
