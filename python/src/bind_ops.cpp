// The operator registry, for listings, checks in importers and the parity suite's meta-test.
#include "bind.h"
#include "core/ops/op.h"
#include "core/runtime/model.h"

namespace dlk::python {

void bind_ops(py::module_& m) {
  py::class_<OpSchema>(m, "OpSchema", "One registered operator.")
      .def_readonly("name", &OpSchema::name)
      .def_readonly("domain", &OpSchema::domain)
      .def_readonly("since_version", &OpSchema::since_version)
      .def_readonly("doc", &OpSchema::doc)
      .def_readonly("min_inputs", &OpSchema::min_inputs)
      .def_readonly("max_inputs", &OpSchema::max_inputs, "-1: any number")
      .def_readonly("min_outputs", &OpSchema::min_outputs)
      .def_readonly("max_outputs", &OpSchema::max_outputs)
      .def_property_readonly("has_host_eval",
                             [](const OpSchema& op) { return static_cast<bool>(op.host_eval); })
      .def_property_readonly("has_alias",
                             [](const OpSchema& op) { return static_cast<bool>(op.alias); })
      .def_property_readonly("has_kernel",
                             [](const OpSchema& op) { return static_cast<bool>(op.lower); })
      .def("__repr__", [](const OpSchema& op) {
        return "<OpSchema " + (op.domain.empty() ? "" : op.domain + ".") + op.name + ">";
      });
  m.def(
      "ops",
      [] {
        py::list list;
        for (const OpSchema* op : all_ops()) {
          list.append(py::cast(op, py::return_value_policy::reference));
        }
        return list;
      },
      "Every registered operator, by domain and name.");
  m.def(
      "find_op",
      [](const std::string& name, const std::string& domain) -> py::object {
        const OpSchema* op = find_op(name, domain);
        if (!op) return py::none();
        return py::cast(op, py::return_value_policy::reference);
      },
      py::arg("name"), py::arg("domain") = "", "None when there is no such operator.");
  m.def(
      "symbolic_shapes",
      [](const Graph& graph) {
        py::gil_scoped_release release;
        return symbolic_shapes(graph);
      },
      py::arg("graph"), "Shapes of all values by name, as texts such as \"2*N+1\".");
}

}  // namespace dlk::python
