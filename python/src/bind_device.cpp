// Devices and tensors in their memory.
#include "bind.h"
#include "core/device/registry.h"
#include "core/runtime/model.h"

namespace dlk::python {

namespace {

py::dict caps_dict(const Caps& caps) {
  py::dict d;
  d["id"] = caps.id;
  d["backend"] = caps.backend;
  d["name"] = caps.name;
  d["vendor"] = caps.vendor;
  d["driver"] = caps.driver;
  d["api_version"] = caps.api_version;
  d["is_cpu"] = caps.is_cpu;
  d["unified_memory"] = caps.unified_memory;
  d["native_recordings"] = caps.native_recordings;
  d["memory_bytes"] = caps.memory_bytes;
  d["max_buffer_bytes"] = caps.max_buffer_bytes;
  d["max_binding_bytes"] = caps.max_binding_bytes;
  d["max_group_size"] = py::tuple(py::cast(caps.max_group_size));
  d["max_group_count"] = py::tuple(py::cast(caps.max_group_count));
  d["max_group_invocations"] = caps.max_group_invocations;
  d["max_push_bytes"] = caps.max_push_bytes;
  d["max_bindings"] = caps.max_bindings;
  d["local_memory_bytes"] = caps.local_memory_bytes;
  d["compute_units"] = caps.compute_units;
  d["subgroup_size"] = caps.subgroup_size;
  d["vector_width"] = caps.vector_width;
  d["fp16"] = caps.fp16_storage;
  for (const auto& [name, value] : caps_flags(caps)) d[py::str(name)] = value;
  return d;
}

std::vector<py::dict> devices() {
  std::vector<Caps> all;
  {
    py::gil_scoped_release release;
    all = list_devices();
  }
  std::vector<py::dict> result;
  for (const Caps& caps : all) result.push_back(caps_dict(caps));
  return result;
}

std::map<std::string, std::string> backends_report() {
  py::gil_scoped_release release;
  std::map<std::string, std::string> report;
  for (const auto& backend : backends()) {
    backend->enumerate();
    report[backend->name()] = backend->unavailable_reason();
  }
  return report;
}

const char* kernel_format(const Device& device) {
  Backend* backend = find_backend(device.caps().backend);
  switch (backend ? backend->kernel_format() : KernelFormat::kNone) {
    case KernelFormat::kOpenCLC:
      return "opencl";
    case KernelFormat::kSpirv:
      return "glsl";
    case KernelFormat::kMsl:
      return "msl";
    case KernelFormat::kPtx:
    case KernelFormat::kBinary:
    case KernelFormat::kNone:
      return "none";
  }
  return "none";
}

void bind_device_tensor(py::module_& m) {
  py::class_<DeviceTensor>(m, "DeviceTensor", "A dense, row-major tensor in device memory.")
      .def_static(
          "empty",
          [](const std::shared_ptr<Device>& device, const std::string& dtype, Shape shape) {
            DType parsed = dtype_of_name(dtype);
            py::gil_scoped_release release;
            return DeviceTensor::empty(device, parsed, std::move(shape));
          },
          py::arg("device"), py::arg("dtype"), py::arg("shape"), "Contents are undefined.")
      .def_static(
          "upload",
          [](const std::shared_ptr<Device>& device, const py::object& array,
             const std::string& dtype) {
            HostTensor tensor = tensor_from_array(array, dtype);
            py::gil_scoped_release release;
            return DeviceTensor::upload(device, tensor);
          },
          py::arg("device"), py::arg("array"), py::arg("dtype") = "")
      .def(
          "read",
          [](const DeviceTensor& t) {
            HostTensor tensor;
            {
              py::gil_scoped_release release;
              tensor = t.read();
            }
            return array_from_tensor(tensor, true);
          },
          "A copy in host memory.")
      .def_property_readonly("dtype",
                             [](const DeviceTensor& t) { return std::string(dtype_name(t.dtype)); })
      .def_property_readonly("shape",
                             [](const DeviceTensor& t) { return shape_to_python(t.shape); })
      .def_property_readonly("device", [](const DeviceTensor& t) { return t.device; })
      .def("__repr__", [](const DeviceTensor& t) {
        return "<DeviceTensor " + std::string(dtype_name(t.dtype)) + " " + shape_string(t.shape) +
               " on " + (t.device ? t.device->caps().id : "no device") + ">";
      });
}

}  // namespace

void bind_device(py::module_& m) {
  py::class_<Device, std::shared_ptr<Device>>(m, "Device", "An open device.")
      .def_property_readonly("id", [](const Device& d) { return d.caps().id; })
      .def_property_readonly("name", [](const Device& d) { return d.caps().name; })
      .def_property_readonly("kernel_format", &kernel_format,
                             "What its kernels are printed as: opencl, glsl, msl or none.")
      .def_property_readonly("caps", [](const Device& d) { return caps_dict(d.caps()); })
      .def("__repr__",
           [](const Device& d) { return "<Device " + d.caps().id + " (" + d.caps().name + ")>"; });
  m.def("list_devices", &devices, "What each device can do, one dict a device.");
  m.def("backends_report", &backends_report,
        "Why each compiled-in backend has no device; \"\" where it has.");
  m.def(
      "open_device",
      [](const std::string& spec) {
        py::gil_scoped_release release;
        return open_device(spec);
      },
      py::arg("spec") = "",
      "\"vulkan\", \"opencl:1\", \"name:TEXT\"; \"\" is DLK_DEVICE or the default device.");
  bind_device_tensor(m);
}

}  // namespace dlk::python
