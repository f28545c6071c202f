// Kernel sources, their printed forms, and the compiled kernels' cache.
#include "bind.h"
#include "core/base/cache_folder.h"
#include "core/base/phases.h"
#include "core/kernel/dialect.h"
#include "core/kernel/kernel_pack.h"
#include "core/kernel/library.h"
#include "core/kernel/peaks.h"

namespace dlk::python {

namespace {

KernelFormat parse_format(const std::string& name) {
  if (name == "opencl") return KernelFormat::kOpenCLC;
  if (name == "glsl") return KernelFormat::kSpirv;
  if (name == "msl") return KernelFormat::kMsl;
  throw_invalid("unknown kernel format '" + name + "'; use opencl, glsl or msl");
}

EpilogueOperand parse_operand(const std::string& kind, const std::string& dtype) {
  using Kind = EpilogueOperand::Kind;
  static const std::map<std::string, Kind> kinds = {{"full", Kind::kFull},
                                                    {"channel", Kind::kChannel},
                                                    {"scalar", Kind::kScalar},
                                                    {"value", Kind::kValue}};
  auto found = kinds.find(kind);
  if (found == kinds.end()) {
    throw_invalid("unknown epilogue operand '" + kind + "'; use full, channel, scalar or value");
  }
  return {found->second, dtype_of_name(dtype)};
}

KernelRequest make_request(const std::string& name, const std::string& source,
                           const std::map<std::string, int64_t>& constants,
                           const std::map<std::string, std::string>& types,
                           const std::string& epilogue,
                           const std::vector<std::pair<std::string, std::string>>& operands,
                           const std::string& lowering) {
  KernelRequest request;
  request.name = name;
  request.source = source;
  request.constants = constants;
  for (const auto& [type, dtype] : types) request.types[type] = dtype_of_name(dtype);
  request.epilogue.expression = epilogue;
  for (const auto& [kind, dtype] : operands) {
    request.epilogue.operands.push_back(parse_operand(kind, dtype));
  }
  request.lowering = lowering;
  return request;
}

const char* access_name(Access access) {
  switch (access) {
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
    case Access::kReadWrite:
      return "readwrite";
  }
  return "";
}

py::list binding_list(const std::vector<BindingInfo>& bindings) {
  py::list list;
  for (const BindingInfo& b : bindings) {
    py::dict d;
    d["name"] = b.name;
    d["access"] = access_name(b.access);
    d["element_bytes"] = b.element_bytes;
    list.append(d);
  }
  return list;
}

py::list param_list(const std::vector<ParamInfo>& params) {
  py::list list;
  for (const ParamInfo& p : params) {
    py::dict d;
    d["name"] = p.name;
    d["kind"] = std::string(1, p.kind);
    d["count"] = p.count;
    d["offset_bytes"] = p.offset_bytes;
    list.append(d);
  }
  return list;
}

py::dict code_dict(const KernelCode& code) {
  py::dict d;
  d["name"] = code.name;
  d["code"] = code.code;
  d["build_options"] = code.build_options;
  d["bindings"] = binding_list(code.bindings);
  d["params"] = param_list(code.params);
  d["param_bytes"] = code.param_bytes;
  d["params_in_buffer"] = code.params_in_buffer;
  d["group_size"] = py::tuple(py::cast(code.group_size));
  d["local_bytes"] = code.local_bytes;
  d["required_subgroup_size"] = code.required_subgroup_size;
  return d;
}

/// What printing needs to know when no device is named: generous limits, every feature.
Caps generic_caps() {
  Caps caps;
  caps.id = "any";
  caps.max_group_size = {1024, 1024, 64};
  caps.max_group_invocations = 1024;
  caps.local_memory_bytes = 49152;
  caps.fp16_storage = caps.fp64 = caps.int64 = caps.int8_storage = caps.int16_storage = true;
  caps.subgroup_arithmetic = true;
  caps.subgroup_size = 32;
  return caps;
}

}  // namespace

void bind_kernels(py::module_& m) {
  py::class_<KernelRequest>(m, "KernelRequest", "Names one variant of one kernel.")
      .def(py::init(&make_request), py::arg("name"), py::arg("source") = "",
           py::arg("constants") = std::map<std::string, int64_t>{},
           py::arg("types") = std::map<std::string, std::string>{}, py::arg("epilogue") = "",
           py::arg("epilogue_operands") = std::vector<std::pair<std::string, std::string>>{},
           py::arg("lowering") = "plain",
           "epilogue_operands: (kind, dtype) pairs, kind one of full, channel, scalar, value.")
      .def_readonly("name", &KernelRequest::name)
      .def_property_readonly("key", [](const KernelRequest& r) { return r.key(); });
  m.def(
      "kernel_names", [] { return KernelSources::embedded().kernel_names(); },
      "The kernels of this build.");
  m.def(
      "print_kernel",
      [](const KernelRequest& request, const std::string& format,
         const std::shared_ptr<Device>& device) {
        const Caps caps = device ? device->caps() : generic_caps();
        return code_dict(KernelSources::embedded().print(request, parse_format(format), caps));
      },
      py::arg("request"), py::arg("format"), py::arg("device").none(true) = py::none(),
      "The text of a variant (format: opencl, glsl, msl) and its calling convention.");
  m.def(
      "phase_times",
      [] {
        std::map<std::string, std::pair<uint64_t, double>> times;
        for (const auto& [name, time] : phase_times()) {
          times.emplace(name, std::pair(time.count, time.milliseconds));
        }
        return times;
      },
      "Where this process's time went on the way to first answers: (count, milliseconds, added "
      "over threads) of each phase.");
  m.def("reset_phase_times", &reset_phase_times);
  m.def(
      "compile_glsl",
      [](const std::string& glsl, const std::string& label) {
        std::string spirv;
        {
          py::gil_scoped_release release;
          spirv = compile_glsl(glsl, label);
        }
        return py::bytes(spirv);
      },
      py::arg("glsl"), py::arg("label") = "kernel", "SPIR-V of a GLSL compute shader.");
  m.def("glslang_version", [] { return glslang_version(); }, "\"\" in a build without glslang.");
  m.def("cache_directory", [] { return cache_directory(); });
  m.def(
      "kernel_stats",
      [](const std::shared_ptr<Device>& device) {
        KernelLibraryStats stats = KernelLibrary::of(device)->stats();
        return std::map<std::string, uint64_t>{{"pipelines", stats.pipelines},
                                               {"disk_hits", stats.disk_hits},
                                               {"disk_misses", stats.disk_misses},
                                               {"pack_hits", stats.pack_hits},
                                               {"memory_hits", stats.memory_hits}};
      },
      py::arg("device"),
      "Compiled variants of a device: pipelines, disk_hits, disk_misses, pack_hits, memory_hits.");
  m.def(
      "finish_background_compiles",
      [](const std::shared_ptr<Device>& device) { KernelLibrary::of(device)->finish_background(); },
      py::arg("device"), py::call_guard<py::gil_scoped_release>(),
      "Waits until kernels that started from machine code have their final form (DLK_CUBIN); "
      "sessions take it with their next run.");
  m.def(
      "add_kernel_pack", [](const std::string& path) { KernelPacks::shared().add(path); },
      py::arg("path"), "Kernels are taken from this file too before they are compiled.");
  m.def(
      "built_kernels",
      [](const std::shared_ptr<Device>& device) { return KernelLibrary::of(device)->built(); },
      py::arg("device"), "The variants that were built or loaded on a device, in order.");
  m.def(
      "measure_peaks",
      [](const std::shared_ptr<Device>& device) {
        DevicePeaks peaks;
        {
          py::gil_scoped_release release;
          peaks = measure_peaks(device);
        }
        return std::map<std::string, double>{{"copy_bytes", peaks.copy_bytes},
                                             {"fp32_flops", peaks.fp32_flops},
                                             {"fp16_flops", peaks.fp16_flops}};
      },
      py::arg("device"),
      "What a device does at most, a second: copy_bytes, fp32_flops, fp16_flops (0: it cannot).");
}

}  // namespace dlk::python
