// dlk._core.Graph: what importers and dlk.nn build.
#include <sstream>

#include "bind.h"
#include "core/graph/autodiff.h"
#include "core/graph/recompute.h"

namespace dlk::python {

namespace {

struct ValueView {  // a snapshot; tensors are shared, not copied
  ValueId id;
  Value value;
};
struct NodeView {
  NodeId id;
  Node node;
};
struct InfoText {  // graph.info.text, a mutable mapping of str to str
  std::shared_ptr<Graph> graph;
};
struct InfoView {
  std::shared_ptr<Graph> graph;
};

const char* kind_name(ValueKind kind) {
  switch (kind) {
    case ValueKind::kInput:
      return "input";
    case ValueKind::kConstant:
      return "constant";
    case ValueKind::kVariable:
      return "variable";
    case ValueKind::kResult:
      return "result";
  }
  return "";
}

std::string python_text(const py::handle& item) {
  if (py::isinstance<py::str>(item) || py::isinstance<py::bytes>(item)) {
    return item.cast<std::string>();
  }
  throw_invalid("expected str or bytes, got " + std::string(py::str(py::type::of(item))));
}

Attribute list_attribute(const std::string& name, const std::string& kind,
                         const py::sequence& items) {
  if (kind == "ints") return items.cast<std::vector<int64_t>>();
  if (kind == "floats") return items.cast<std::vector<double>>();
  if (kind == "strings") {
    std::vector<std::string> texts;
    for (py::handle item : items) texts.push_back(python_text(item));
    return texts;
  }
  throw_invalid("attribute " + name + ": unknown list kind '" + kind +
                "'; use \"ints\", \"floats\" or \"strings\"");
}

/// "ints", "floats", "strings" of a plain list; "" when it cannot be told.
std::string list_kind(const py::sequence& items) {
  std::string kind;
  for (py::handle item : items) {
    std::string one;
    if (py::isinstance<py::str>(item) || py::isinstance<py::bytes>(item)) {
      one = "strings";
    } else if (PyIndex_Check(item.ptr())) {
      one = "ints";
    } else if (PyFloat_Check(item.ptr()) || PyNumber_Check(item.ptr())) {
      one = "floats";
    }
    if (kind.empty() || (kind == "ints" && one == "floats")) {
      kind = one;
    } else if (kind != one && !(kind == "floats" && one == "ints")) {
      return {};
    }
  }
  return kind;
}

Attribute attribute_from_python(const std::string& name, const py::handle& value) {
  if (py::isinstance<Graph>(value)) return value.cast<std::shared_ptr<Graph>>();
  if (py::isinstance<py::array>(value)) return tensor_from_array(value);
  if (py::isinstance<py::str>(value) || py::isinstance<py::bytes>(value)) {
    return python_text(value);
  }
  if (PyIndex_Check(value.ptr())) return value.cast<int64_t>();  // bool and NumPy integers too
  if (PyFloat_Check(value.ptr())) return value.cast<double>();
  if (py::isinstance<py::sequence>(value)) {
    auto items = py::reinterpret_borrow<py::sequence>(value);
    if (py::isinstance<py::tuple>(value) && items.size() == 2 &&
        py::isinstance<py::str>(items[0]) && py::isinstance<py::list>(items[1])) {
      return list_attribute(name, items[0].cast<std::string>(), items[1].cast<py::sequence>());
    }
    std::string kind = list_kind(items);
    if (!kind.empty()) return list_attribute(name, kind, items);
    throw_invalid("attribute " + name +
                  ": an empty or mixed list has no type; write (\"ints\", []), (\"floats\", []) or "
                  "(\"strings\", [])");
  }
  if (PyNumber_Check(value.ptr()))
    return py::float_(py::reinterpret_borrow<py::object>(value)).cast<double>();
  throw_invalid("attribute " + name + ": cannot use a value of type " +
                std::string(py::str(py::type::of(value))));
}

py::object attribute_to_python(const Attribute& attribute) {
  return std::visit(
      [](const auto& value) -> py::object {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, HostTensor>) {
          return array_from_tensor(value, false);
        } else {
          return py::cast(value);
        }
      },
      attribute);
}

py::dict attributes_to_python(const Attributes& attributes) {
  py::dict result;
  for (const auto& [name, value] : attributes) result[py::str(name)] = attribute_to_python(value);
  return result;
}

std::vector<ValueId> add_node(Graph& graph, const std::string& op,
                              const std::vector<std::optional<ValueId>>& inputs,
                              const py::dict& attributes, int outputs, const std::string& name,
                              const std::string& domain,
                              const std::vector<std::string>& output_names) {
  std::vector<ValueId> ids;
  for (const auto& input : inputs) ids.push_back(input.value_or(kNoValue));
  Attributes converted;
  for (auto item : attributes) {
    auto key = item.first.cast<std::string>();
    converted[key] = attribute_from_python(key, item.second);
  }
  return graph.add_node(op, std::move(ids), std::move(converted), outputs, name, domain,
                        output_names);
}

py::list optional_ids(const std::vector<ValueId>& ids);

std::vector<ValueId> plain_ids(const std::vector<std::optional<ValueId>>& ids) {
  std::vector<ValueId> plain;
  for (const auto& id : ids) plain.push_back(id.value_or(kNoValue));
  return plain;
}

py::list python_gradients(const std::shared_ptr<Graph>& graph, const std::vector<ValueId>& outputs,
                          const std::vector<ValueId>& wrt,
                          const std::vector<std::optional<ValueId>>& cotangents,
                          const py::dict& custom, const std::map<std::string, int64_t>& symbols) {
  AutodiffOptions options;
  options.symbols = symbols;
  for (auto item : custom) {
    auto function = item.second.cast<py::function>();
    options.custom[item.first.cast<std::string>()] =
        [function, graph](Graph&, NodeId node, const std::vector<ValueId>& received) {
          const py::object made =
              function(graph, NodeView{node, graph->nodes()[node]}, optional_ids(received));
          return plain_ids(made.cast<std::vector<std::optional<ValueId>>>());
        };
  }
  return optional_ids(gradients(*graph, outputs, plain_ids(cotangents), wrt, options));
}

py::list optional_ids(const std::vector<ValueId>& ids) {
  py::list result;
  for (ValueId id : ids) result.append(id == kNoValue ? py::object(py::none()) : py::cast(id));
  return result;
}

ValueView value_view(const Graph& graph, ValueId id) { return {id, graph.value(id)}; }

std::vector<ValueView> value_views(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<ValueView> views;
  for (ValueId id : ids) views.push_back(value_view(graph, id));
  return views;
}

void bind_views(py::module_& m) {
  py::class_<ValueView>(m, "Value", "A snapshot of one value of a graph.")
      .def_readonly("id", &ValueView::id)
      .def_property_readonly("name", [](const ValueView& v) { return v.value.name; })
      .def_property_readonly(
          "kind", [](const ValueView& v) { return kind_name(v.value.kind); },
          "\"input\", \"constant\", \"variable\" or \"result\"")
      .def_property_readonly(
          "dtype", [](const ValueView& v) { return std::string(dtype_name(v.value.dtype)); })
      .def_property_readonly(
          "shape",
          [](const ValueView& v) -> std::optional<py::tuple> {
            if (!v.value.shape) return std::nullopt;
            return shape_to_python(*v.value.shape);
          },
          "int, str (a symbol) or None a dimension; None before inference")
      .def_property_readonly(
          "data",
          [](const ValueView& v) -> std::optional<py::array> {
            bool has = v.value.kind == ValueKind::kConstant || v.value.kind == ValueKind::kVariable;
            if (!has) return std::nullopt;
            return array_from_tensor(v.value.data, false);
          },
          "of constants and variables: a read-only array that shares the memory")
      .def_property_readonly(
          "type", [](const ValueView& v) { return std::string(value_type_name(v.value.type)); },
          "of inputs: \"tensor\", \"sequence\", \"optional\" or \"optional_sequence\"")
      .def_property_readonly("trainable", [](const ValueView& v) { return v.value.trainable; })
      .def_property_readonly("producer",
                             [](const ValueView& v) -> std::optional<NodeId> {
                               if (v.value.producer == kNoNode) return std::nullopt;
                               return v.value.producer;
                             })
      .def("__repr__", [](const ValueView& v) {
        return "<Value " + std::to_string(v.id) + " " + v.value.name + " " +
               kind_name(v.value.kind) + " " + std::string(dtype_name(v.value.dtype)) + ">";
      });
  py::class_<NodeView>(m, "Node", "A snapshot of one node of a graph.")
      .def_readonly("id", &NodeView::id)
      .def_property_readonly("op", [](const NodeView& n) { return n.node.op; })
      .def_property_readonly("domain", [](const NodeView& n) { return n.node.domain; })
      .def_property_readonly("name", [](const NodeView& n) { return n.node.name; })
      .def_property_readonly("inputs",
                             [](const NodeView& n) { return optional_ids(n.node.inputs); })
      .def_property_readonly("outputs",
                             [](const NodeView& n) { return optional_ids(n.node.outputs); })
      .def_property_readonly(
          "attributes", [](const NodeView& n) { return attributes_to_python(n.node.attributes); })
      .def("__repr__",
           [](const NodeView& n) { return "<Node " + n.node.name + " (" + n.node.op + ")>"; });
}

void bind_info(py::module_& m) {
  using Text = std::map<std::string, std::string>;
  py::class_<InfoText>(m, "InfoText", "A mutable mapping of str to str.")
      .def("__getitem__",
           [](const InfoText& t, const std::string& key) {
             auto found = t.graph->info.text.find(key);
             if (found == t.graph->info.text.end()) throw py::key_error(key);
             return found->second;
           })
      .def("__setitem__", [](InfoText& t, const std::string& key,
                             const std::string& value) { t.graph->info.text[key] = value; })
      .def("__delitem__",
           [](InfoText& t, const std::string& key) {
             if (!t.graph->info.text.erase(key)) throw py::key_error(key);
           })
      .def("__contains__", [](const InfoText& t,
                              const std::string& key) { return t.graph->info.text.contains(key); })
      .def("__len__", [](const InfoText& t) { return t.graph->info.text.size(); })
      .def("__iter__", [](const InfoText& t) { return py::iter(py::cast(t.graph->info.text)); })
      .def(
          "get",
          [](const InfoText& t, const std::string& key, const std::string& fallback) {
            auto found = t.graph->info.text.find(key);
            return found == t.graph->info.text.end() ? fallback : found->second;
          },
          py::arg("key"), py::arg("default") = "")
      .def(
          "update",
          [](InfoText& t, const Text& more) {
            for (const auto& [key, value] : more) t.graph->info.text[key] = value;
          },
          py::arg("more"))
      .def("to_dict", [](const InfoText& t) { return t.graph->info.text; })
      .def("__repr__", [](const InfoText& t) { return py::repr(py::cast(t.graph->info.text)); });
  py::class_<InfoView>(m, "ModelInfo", "What a graph says about itself; kept in model files.")
      .def_property(
          "text", [](const InfoView& i) { return InfoText{i.graph}; },
          [](InfoView& i, const Text& text) { i.graph->info.text = text; })
      .def_property(
          "labels", [](const InfoView& i) { return py::tuple(py::cast(i.graph->info.labels)); },
          [](InfoView& i, std::vector<std::string> labels) {
            i.graph->info.labels = std::move(labels);
          },
          "a classifier's labels, a tuple; assign a list to change it")
      .def_property(
          "preprocessing", [](const InfoView& i) { return i.graph->info.preprocessing; },
          [](InfoView& i, const std::string& json) { i.graph->info.preprocessing = json; },
          "JSON as docs/model-format.md describes it; \"\" when unknown");
}

void bind_building(py::class_<Graph, std::shared_ptr<Graph>>& graph) {
  graph
      .def(
          "add_input",
          [](Graph& g, const std::string& name, const std::string& dtype, const py::sequence& shape,
             const std::string& type) {
            const auto parsed = parse_value_type(type);
            if (!parsed) throw_invalid("unknown type '" + type + "' of input '" + name + "'");
            return g.add_input(name, dtype_of_name(dtype), shape_from_python(shape), *parsed);
          },
          py::arg("name"), py::arg("dtype"), py::arg("shape"), py::arg("type") = "tensor",
          "type: \"tensor\", \"sequence\", \"optional\" or \"optional_sequence\"; dtype and shape "
          "are of the tensors.")
      .def(
          "add_constant",
          [](Graph& g, const std::string& name, const py::object& array, const std::string& dtype) {
            return g.add_constant(name, tensor_from_array(array, dtype));
          },
          py::arg("name"), py::arg("array"), py::arg("dtype") = "",
          "Shares a C-contiguous array's memory: do not write to it afterwards. dtype=\"bfloat16\" "
          "takes uint16 bits.")
      .def(
          "add_variable",
          [](Graph& g, const std::string& name, const py::object& array, bool trainable,
             const std::string& dtype) {
            return g.add_variable(name, tensor_from_array(array, dtype), trainable);
          },
          py::arg("name"), py::arg("array"), py::arg("trainable") = true, py::arg("dtype") = "")
      .def(
          "add_node", &add_node, py::arg("op"), py::arg("inputs"),
          py::arg("attributes") = py::dict(), py::arg("outputs") = 1, py::arg("name") = "",
          py::arg("domain") = "", py::arg("output_names") = std::vector<std::string>{},
          "Attributes: int, float, str, lists of those, np.ndarray, Graph. An empty list needs its "
          "type: (\"ints\", []), (\"floats\", []) or (\"strings\", []).")
      .def(
          "declare",
          [](Graph& g, ValueId value, const std::string& dtype,
             const std::optional<py::sequence>& shape, const std::string& type) {
            const auto parsed = parse_value_type(type);
            if (!parsed) throw_invalid("unknown type '" + type + "'");
            std::optional<SymbolicShape> dims;
            if (shape) dims = shape_from_python(*shape);
            g.declare(value, dtype_of_name(dtype), std::move(dims), *parsed);
          },
          py::arg("value"), py::arg("dtype"), py::arg("shape") = py::none(),
          py::arg("type") = "tensor",
          "What is known of a result beforehand, for listings and exporters.")
      .def(
          "add_output",
          [](Graph& g, ValueId value, const std::string& name) { g.add_output(value, name); },
          py::arg("value"), py::arg("name") = "")
      .def(
          "assign", [](Graph& g, ValueId variable, ValueId value) { g.assign(variable, value); },
          py::arg("variable"), py::arg("value"));
}

}  // namespace

void bind_graph(py::module_& m) {
  bind_views(m);
  bind_info(m);
  py::class_<Bundle, std::shared_ptr<Bundle>>(
      m, "Bundle", "A plan with kernels and weights, made ahead of time for one kind of device.");
  py::class_<Graph, std::shared_ptr<Graph>> graph(
      m, "Graph", "Named values joined by nodes with ONNX semantics.");
  graph.def(py::init<>());
  bind_building(graph);
  graph.def("validate", [](const Graph& g) { g.validate(); })
      .def(
          "find", [](const Graph& g, const std::string& name) { return g.find(name); },
          py::arg("name"), "The value's id, or None.")
      .def("value", &value_view, py::arg("id"))
      .def_property_readonly("values",
                             [](const Graph& g) {
                               std::vector<ValueView> views;
                               for (size_t i = 0; i < g.values().size(); ++i) {
                                 views.push_back(value_view(g, static_cast<ValueId>(i)));
                               }
                               return views;
                             })
      .def_property_readonly("nodes",
                             [](const Graph& g) {
                               std::vector<NodeView> views;
                               for (size_t i = 0; i < g.nodes().size(); ++i) {
                                 views.push_back({static_cast<NodeId>(i), g.nodes()[i]});
                               }
                               return views;
                             })
      .def_property_readonly("inputs", [](const Graph& g) { return value_views(g, g.inputs()); })
      .def_property_readonly("outputs", [](const Graph& g) { return value_views(g, g.outputs()); })
      .def_property_readonly("output_names", [](const Graph& g) { return g.output_names(); })
      .def_property_readonly(
          "assignments",
          [](const Graph& g) {
            std::vector<std::pair<ValueId, ValueId>> pairs;
            for (const Assignment& a : g.assignments()) {
              pairs.emplace_back(a.variable, a.value);
            }
            return pairs;
          },
          "(variable, value) ids")
      .def("topological_order", [](const Graph& g) { return g.topological_order(); })
      .def_property_readonly("info", [](const std::shared_ptr<Graph>& g) { return InfoView{g}; })
      .def(
          "gradients", &python_gradients, py::arg("outputs"), py::arg("wrt"),
          py::arg("cotangents") = std::vector<std::optional<ValueId>>{},
          py::arg("custom") = py::dict(), py::arg("symbols") = std::map<std::string, int64_t>{},
          "Adds the gradients of the sum of `outputs`, weighted by `cotangents` (None: ones), with "
          "respect to the values `wrt`; returns an id each, None where there is no dependence. "
          "custom: by operator (\"Relu\", \"domain::Name\"), a function (graph, node, gradients of "
          "its outputs) -> one id or None an input.")
      .def("recompute", &recompute, py::arg("first_backward"), py::arg("segments"),
           "Backward nodes (from id `first_backward` on) read values of the segments of forward "
           "nodes [first, last) computed again, so that these need no memory in between. Returns "
           "how many nodes were added.")
      .def(
          "plan_recompute",
          [](const Graph& g, NodeId first_backward, uint64_t budget_bytes,
             const std::map<std::string, int64_t>& symbols) {
            const RecomputePlan plan = plan_recompute(g, first_backward, budget_bytes, symbols);
            return py::make_tuple(plan.segments, plan.saved_bytes, plan.peak_bytes);
          },
          py::arg("first_backward"), py::arg("budget_bytes") = 0,
          py::arg("symbols") = std::map<std::string, int64_t>{},
          "(segments, bytes saved for the backward pass without, and with them): the least memory, "
          "or the least repeated work within the budget.")
      .def(
          "add_bundle",
          [](Graph& g, std::shared_ptr<Bundle> bundle) { g.add_bundle(std::move(bundle)); },
          py::arg("bundle"),
          "Keeps a bundle that a model of this graph made; changing the graph drops it.")
      .def_property_readonly("bundles", [](const Graph& g) { return g.bundles().size(); })
      .def(
          "copy", [](const Graph& g) { return std::make_shared<Graph>(g); },
          "A copy that shares the tensors' memory.")
      .def("__repr__", [](const Graph& g) {
        std::ostringstream text;
        text << "<Graph of " << g.nodes().size() << " nodes, " << g.inputs().size() << " inputs, "
             << g.outputs().size() << " outputs>";
        return text.str();
      });
}

}  // namespace dlk::python
