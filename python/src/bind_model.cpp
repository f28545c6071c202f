// Models, sessions and runs.
#include <pybind11/functional.h>

#include "bind.h"
#include "core/runtime/model.h"

namespace dlk::python {

namespace {

using Progress = std::function<void(const std::string&, size_t, size_t)>;

RunTensor run_tensor(const py::handle& value) {
  if (py::isinstance<DeviceTensor>(value)) return value.cast<DeviceTensor>();
  return tensor_from_array(value);
}

RunInput run_input(const py::handle& value) {
  if (value.is_none()) return Absent{};
  if (!py::isinstance<py::list>(value)) {
    return std::visit([](auto&& tensor) -> RunInput { return std::move(tensor); },
                      run_tensor(value));
  }
  TensorList list;
  for (py::handle item : value) list.items.push_back(run_tensor(item));
  return list;
}

RunInputs run_inputs(const py::dict& inputs) {
  RunInputs converted;
  for (auto item : inputs)
    converted.emplace(item.first.cast<std::string>(), run_input(item.second));
  return converted;
}

py::object python_value(const HostValue& value) {
  if (const auto* tensor = std::get_if<HostTensor>(&value)) return array_from_tensor(*tensor, true);
  if (std::holds_alternative<Absent>(value)) return py::none();
  py::list items;
  for (const HostTensor& item : std::get<std::vector<HostTensor>>(value)) {
    items.append(array_from_tensor(item, true));
  }
  return items;
}

BundleUse bundle_use(const std::string& text) {
  if (text == "auto") return BundleUse::kWhereItFits;
  if (text == "never") return BundleUse::kNever;
  if (text == "require") return BundleUse::kAlways;
  throw_invalid("bundle='" + text + "': use auto, never or require");
}

std::shared_ptr<Model> make_model(const Graph& graph, std::shared_ptr<Device> device,
                                  const std::string& dtype, bool accumulate_fp16, bool fuse,
                                  bool channels_last, bool alias, int in_flight, Progress progress,
                                  bool guards, std::optional<size_t> drop_barrier_for_test,
                                  std::shared_ptr<Model> share_variables,
                                  const std::string& bundle) {
  CompileOptions options;
  options.dtype = dtype_of_name(dtype);
  options.accumulate_fp16 = accumulate_fp16;
  options.fuse = fuse;
  options.channels_last = channels_last;
  options.alias = alias;
  options.in_flight = in_flight;
  options.progress = std::move(progress);
  options.guards = guards;
  options.drop_barrier_for_test = drop_barrier_for_test;
  options.share_variables = std::move(share_variables);
  options.bundle = bundle_use(bundle);
  py::gil_scoped_release release;
  return released_without_gil(Model::create(graph, std::move(device), std::move(options)));
}

void bind_plan(py::module_& m) {
  py::class_<PlanStep>(m, "PlanStep", "One dispatch or copy of a plan.")
      .def_readonly("node", &PlanStep::node)
      .def_readonly("op", &PlanStep::op)
      .def_readonly("kernel", &PlanStep::kernel)
      .def_property_readonly("groups",
                             [](const PlanStep& s) { return py::tuple(py::cast(s.groups)); })
      .def_readonly("bytes_read", &PlanStep::bytes_read)
      .def_readonly("bytes_written", &PlanStep::bytes_written)
      .def_readonly("flops", &PlanStep::flops)
      .def_readonly("barrier_before", &PlanStep::barrier_before)
      .def("__repr__",
           [](const PlanStep& s) { return "<PlanStep " + s.node + " " + s.kernel + ">"; });
  py::class_<PlanSummary>(m, "PlanSummary", "A model's plan for given input shapes.")
      .def_readonly("steps", &PlanSummary::steps)
      .def_readonly("host_ops", &PlanSummary::host_ops)
      .def_readonly("arena_bytes", &PlanSummary::arena_bytes)
      .def_readonly("peak_live_bytes", &PlanSummary::peak_live_bytes)
      .def_readonly("weight_bytes", &PlanSummary::weight_bytes)
      .def_readonly("dispatches", &PlanSummary::dispatches)
      .def_readonly("pipelines", &PlanSummary::pipelines)
      .def_property_readonly("output_shapes",
                             [](const PlanSummary& p) {
                               std::map<std::string, py::tuple> shapes;
                               for (const auto& [name, shape] : p.output_shapes) {
                                 shapes.emplace(name, shape_to_python(shape));
                               }
                               return shapes;
                             })
      .def("table", [](const PlanSummary& p) { return p.table(); })
      .def("graphviz", [](const PlanSummary& p) { return p.graphviz(); });
}

void bind_run(py::module_& m) {
  py::class_<Run, std::shared_ptr<Run>>(m, "Run", "One run under way or done.")
      .def(
          "wait", [](Run& r) { r.wait(); }, py::call_guard<py::gil_scoped_release>())
      .def(
          "done", [](Run& r) { return r.is_done(); }, py::call_guard<py::gil_scoped_release>())
      .def(
          "read",
          [](Run& r, const std::string& name) {
            HostValue value;
            {
              py::gil_scoped_release release;
              value = r.read_value(name);
            }
            return python_value(value);
          },
          py::arg("name"),
          "Waits and returns an output in host memory: an array, a list of arrays for a sequence, "
          "None for an absent optional.")
      .def(
          "output", [](Run& r, const std::string& name) { return r.output(name); }, py::arg("name"),
          "An output in device memory, without a wait.")
      .def(
          "on_complete",
          [](Run& r, py::function callback) {
            auto held = std::shared_ptr<py::function>(new py::function(std::move(callback)),
                                                      [](py::function* f) {
                                                        if (!Py_IsInitialized()) return;
                                                        py::gil_scoped_acquire gil;
                                                        delete f;
                                                      });
            py::gil_scoped_release release;
            r.on_complete([held](const std::exception_ptr& error) {
              py::gil_scoped_acquire gil;
              try {
                (*held)(exception_object(error));
              } catch (py::error_already_set& raised) {
                raised.discard_as_unraisable("a dlk completion callback");
              }
            });
          },
          py::arg("callback"), "Calls callback(None or the exception) once, from another thread.");
}

void bind_session(py::module_& m) {
  py::class_<Session, std::shared_ptr<Session>>(
      m, "Session", "One user's queue and activation memory; for one thread at a time.")
      .def(
          "run_async",
          [](Session& s, const py::dict& inputs) {
            RunInputs converted = run_inputs(inputs);
            py::gil_scoped_release release;
            return released_without_gil(s.run_async(converted));
          },
          py::arg("inputs"))
      .def(
          "run",
          [](Session& s, const py::dict& inputs) {
            RunInputs converted = run_inputs(inputs);
            std::map<std::string, HostValue> outputs;
            {
              py::gil_scoped_release release;
              outputs = s.run_values(converted);
            }
            std::map<std::string, py::object> arrays;
            for (const auto& [name, value] : outputs) arrays.emplace(name, python_value(value));
            return arrays;
          },
          py::arg("inputs"))
      .def(
          "profile",
          [](Session& s, const py::dict& inputs) {
            RunInputs converted = run_inputs(inputs);
            py::gil_scoped_release release;
            return s.profile(converted);
          },
          py::arg("inputs"), "(PlanStep, nanoseconds) of each command of one run.")
      .def("wait_all", [](Session& s) { s.wait_all(); }, py::call_guard<py::gil_scoped_release>());
}

}  // namespace

void bind_model(py::module_& m) {
  bind_plan(m);
  bind_run(m);
  bind_session(m);
  py::class_<InputInfo>(m, "InputInfo", "An input that a model declares.")
      .def_readonly("name", &InputInfo::name)
      .def_property_readonly("dtype",
                             [](const InputInfo& i) { return std::string(dtype_name(i.dtype)); })
      .def_property_readonly("shape", [](const InputInfo& i) { return shape_to_python(i.shape); })
      .def_property_readonly(
          "type", [](const InputInfo& i) { return std::string(value_type_name(i.type)); });
  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A graph with its weights on one device.")
      .def(py::init(&make_model), py::arg("graph"), py::arg("device"), py::arg("dtype") = "float32",
           py::arg("accumulate_fp16") = false, py::arg("fuse") = true,
           py::arg("channels_last") = true, py::arg("alias") = true, py::arg("in_flight") = 0,
           py::arg("progress") = Progress{}, py::arg("guards") = false,
           py::arg("drop_barrier_for_test") = py::none(),
           py::arg("share_variables") = std::shared_ptr<Model>{}, py::arg("bundle") = "auto",
           "progress(stage, done, total) is called while kernels compile. guards and "
           "drop_barrier_for_test serve tests (core/runtime/model.h).")
      .def_property_readonly(
          "graph", [](const Model& model) { return std::make_shared<Graph>(model.graph()); })
      .def_property_readonly("device", [](const Model& model) { return model.device(); })
      .def_property_readonly("inputs", [](const Model& model) { return model.inputs(); })
      .def_property_readonly("outputs", [](const Model& model) { return model.outputs(); })
      .def(
          "plan",
          [](Model& model, const py::dict& inputs) {
            RunInputs converted = run_inputs(inputs);
            py::gil_scoped_release release;
            return model.plan(converted);
          },
          py::arg("inputs"))
      .def(
          "bundle",
          [](Model& model, const py::dict& inputs) {
            RunInputs converted = run_inputs(inputs);
            py::gil_scoped_release release;
            return std::const_pointer_cast<Bundle>(model.bundle(converted));
          },
          py::arg("inputs"), "The plan for these inputs with its kernels and packed weights.")
      .def_property_readonly(
          "bundled",
          [](Model& model) {
            py::gil_scoped_release release;
            return model.bundled();
          },
          "True once a run or a plan used a bundle.")
      .def("create_session",
           [](Model& model) {
             py::gil_scoped_release release;
             return released_without_gil(std::shared_ptr<Session>(model.create_session()));
           })
      .def(
          "read_variable",
          [](Model& model, const std::string& name) {
            HostTensor tensor;
            {
              py::gil_scoped_release release;
              tensor = model.read_variable(name);
            }
            return array_from_tensor(tensor, true);
          },
          py::arg("name"))
      .def(
          "write_variable",
          [](Model& model, const std::string& name, const py::object& array) {
            HostTensor tensor = tensor_from_array(array);
            py::gil_scoped_release release;
            model.write_variable(name, tensor);
          },
          py::arg("name"), py::arg("array"));
}

}  // namespace dlk::python
