// The operator registry, for listings, checks in importers and the parity suite's meta-test.
#include "bind.h"
#include "core/graph/fold.h"
#include "core/ops/op.h"
#include "core/runtime/model.h"

namespace dlk::python {

namespace {

py::dict schema_dict(const OpSchema& op) {
  py::dict d;
  d["name"] = op.name;
  d["domain"] = op.domain;
  d["since_version"] = op.since_version;
  d["doc"] = op.doc;
  d["min_inputs"] = op.min_inputs;
  d["max_inputs"] = op.max_inputs;
  d["min_outputs"] = op.min_outputs;
  d["max_outputs"] = op.max_outputs;
  d["host_eval"] = static_cast<bool>(op.host_eval);
  d["alias"] = static_cast<bool>(op.alias);
  d["gradient"] = static_cast<bool>(op.gradient);
  d["lower"] = static_cast<bool>(op.lower);
  d["dynamic"] = static_cast<bool>(op.dynamic);
  return d;
}

}  // namespace

void bind_ops(py::module_& m) {
  m.def(
      "operators",
      [] {
        std::vector<py::dict> list;
        for (const OpSchema* op : all_ops()) list.push_back(schema_dict(*op));
        return list;
      },
      "Every registered operator, by domain and name: name, domain, since_version, doc, "
      "min_inputs, max_inputs (-1: any number), min_outputs, max_outputs, and whether it has "
      "host_eval, alias, gradient and lower, and whether its output sizes depend on data "
      "(dynamic).");
  m.def(
      "has_operator",
      [](const std::string& name, const std::string& domain) {
        return find_op(name, domain) != nullptr;
      },
      py::arg("name"), py::arg("domain") = "");
  m.def(
      "fold_constants",
      [](const Graph& graph) {
        py::gil_scoped_release release;
        return std::make_shared<Graph>(fold_graph(graph));
      },
      py::arg("graph"),
      "The graph without the shape arithmetic and the texts that constants alone decide.");
  m.def(
      "symbolic_shapes",
      [](const Graph& graph) {
        py::gil_scoped_release release;
        return symbolic_shapes(graph);
      },
      py::arg("graph"), "Shapes of all values by name, as texts such as \"2*N+1\".");
  m.def(
      "value_dtypes",
      [](const Graph& graph) {
        std::map<std::string, std::string> names;
        for (const auto& [name, dtype] : value_dtypes(graph)) names[name] = dtype_name(dtype);
        return names;
      },
      py::arg("graph"), "Dtypes by name of the values that inference reaches without a run.");
}

}  // namespace dlk::python
