#include "core/model/graph_json.h"

#include <limits>
#include <set>
#include <utility>

#include "core/base/error.h"

namespace dlk {

namespace {

constexpr int kMaxSubgraphDepth = 32;

class Writer {
 public:
  explicit Writer(std::vector<NamedTensor>& tensors) : tensors_(tensors) {}

  Json write(const Graph& graph, const std::string& prefix) {
    Json out = Json::object();
    out["inputs"] = Json::array();
    for (ValueId id : graph.inputs()) {
      const Value& v = graph.value(id);
      Json input = {{"name", v.name}, {"dtype", dtype_name(v.dtype)}, {"shape", shape(v.shape)}};
      if (v.type != ValueType::kTensor) input["type"] = value_type_name(v.type);
      out["inputs"].push_back(std::move(input));
    }
    out["variables"] = Json::array();
    out["constants"] = Json::array();
    for (const Value& v : graph.values()) {
      if (v.kind == ValueKind::kVariable)
        out["variables"].push_back({{"name", v.name},
                                    {"tensor", tensor(prefix + v.name, v.data)},
                                    {"trainable", v.trainable}});
      if (v.kind == ValueKind::kConstant)
        out["constants"].push_back({{"name", v.name}, {"tensor", tensor(prefix + v.name, v.data)}});
    }
    out["nodes"] = Json::array();
    for (NodeId id : graph.topological_order())
      out["nodes"].push_back(node(graph, graph.nodes()[static_cast<size_t>(id)], prefix));
    for (const Value& v : graph.values()) {
      const bool said = v.shape || v.type != ValueType::kTensor || v.dtype != DType::kFloat32;
      if (v.kind == ValueKind::kResult && said) out["declared"].push_back(declared(v));
    }
    out["outputs"] = Json::array();
    for (size_t i = 0; i < graph.outputs().size(); i++)
      out["outputs"].push_back(
          {{"name", graph.output_names()[i]}, {"value", graph.value(graph.outputs()[i]).name}});
    out["assignments"] = Json::array();
    for (const Assignment& a : graph.assignments())
      out["assignments"].push_back(
          {{"variable", graph.value(a.variable).name}, {"value", graph.value(a.value).name}});
    return out;
  }

 private:
  static Json declared(const Value& v) {
    Json out = {{"name", v.name}, {"dtype", dtype_name(v.dtype)}};
    if (v.shape) out["shape"] = shape(v.shape);
    if (v.type != ValueType::kTensor) out["type"] = value_type_name(v.type);
    return out;
  }

  static Json shape(const std::optional<SymbolicShape>& dims) {
    Json out = Json::array();
    for (const Dim& d : dims.value_or(SymbolicShape{})) {
      if (d.is_static())
        out.push_back(d.value);
      else if (d.symbol.empty())
        out.push_back(nullptr);
      else
        out.push_back(d.symbol);
    }
    return out;
  }

  /// Stores the data under `wanted`, or that with a number where it is taken.
  std::string tensor(const std::string& wanted, const HostTensor& data) {
    std::string name = wanted;
    for (int i = 1; !taken_.insert(name).second; i++) name = wanted + "#" + std::to_string(i);
    tensors_.push_back({name, data});
    return name;
  }

  Json node(const Graph& graph, const Node& n, const std::string& prefix) {
    Json out = {{"op", n.op}, {"name", n.name}};
    if (!n.domain.empty()) out["domain"] = n.domain;
    for (const auto& [key, ids] : {std::pair{"inputs", &n.inputs}, {"outputs", &n.outputs}}) {
      out[key] = Json::array();
      for (ValueId id : *ids) out[key].push_back(id == kNoValue ? "" : graph.value(id).name);
    }
    for (const auto& [key, value] : n.attributes)
      out["attributes"][key] = attribute(value, prefix + n.name + "/" + key);
    return out;
  }

  Json attribute(const Attribute& value, const std::string& path) {
    struct Visitor {
      Writer& writer;
      const std::string& path;
      Json operator()(int64_t v) { return {{"int", v}}; }
      Json operator()(double v) { return {{"float", real(v)}}; }
      Json operator()(const std::string& v) { return {{"string", v}}; }
      Json operator()(const std::vector<int64_t>& v) { return {{"ints", v}}; }
      Json operator()(const std::vector<double>& v) {
        Json list = Json::array();
        for (double x : v) list.push_back(real(x));
        return {{"floats", list}};
      }
      Json operator()(const std::vector<std::string>& v) { return {{"strings", v}}; }
      Json operator()(const HostTensor& v) { return {{"tensor", writer.tensor(path, v)}}; }
      Json operator()(const std::shared_ptr<Graph>& v) {
        return {{"graph", writer.write(*v, path + "/")}};
      }
      /// JSON has no infinities and NaN: they are written as strings.
      static Json real(double v) {
        if (v != v) return "nan";
        if (v > 1.7976931348623157e308) return "inf";
        if (v < -1.7976931348623157e308) return "-inf";
        return v;
      }
    };
    return std::visit(Visitor{*this, path}, value);
  }

  std::vector<NamedTensor>& tensors_;
  std::set<std::string> taken_;
};

class Reader {
 public:
  Reader(const std::map<std::string, HostTensor>& tensors, const std::string& file)
      : tensors_(tensors), file_(file) {}

  Graph read(const Json& json, int depth) {
    if (depth > kMaxSubgraphDepth) bad("subgraphs are nested too deeply");
    if (!json.is_object()) bad("the graph is not an object");
    Graph graph;
    std::map<std::string, ValueId> values;
    const auto define = [&](const std::string& name, ValueId id) {
      if (name.empty() || !values.emplace(name, id).second || graph.value(id).name != name)
        bad("the value name '" + name + "' is empty or used twice");
    };
    for (const Json& in : list(json, "inputs"))
      define(text(in, "name"),
             graph.add_input(text(in, "name"), dtype(in), shape(in), value_type(in)));
    for (const Json& v : list(json, "variables"))
      define(text(v, "name"), graph.add_variable(text(v, "name"), tensor(v), flag(v, "trainable")));
    for (const Json& c : list(json, "constants"))
      define(text(c, "name"), graph.add_constant(text(c, "name"), tensor(c)));
    for (const Json& n : list(json, "nodes")) {
      std::vector<ValueId> inputs;
      for (const std::string& name : names(n, "inputs"))
        inputs.push_back(name.empty() ? kNoValue : find(values, name));
      const std::vector<std::string> outputs = names(n, "outputs");
      const auto ids = graph.add_node(text(n, "op"), inputs, attributes(n, depth),
                                      static_cast<int>(outputs.size()), text(n, "name"),
                                      n.contains("domain") ? text(n, "domain") : "", outputs);
      for (size_t i = 0; i < outputs.size(); i++)
        if (!outputs[i].empty()) define(outputs[i], ids[i]);
    }
    for (const Json& d : list(json, "declared")) {
      const ValueId id = find(values, text(d, "name"));
      if (graph.value(id).kind != ValueKind::kResult) bad("'declared' names what is no result");
      graph.declare(id, dtype(d), d.contains("shape") ? std::optional(shape(d)) : std::nullopt,
                    value_type(d));
    }
    for (const Json& o : list(json, "outputs"))
      graph.add_output(find(values, text(o, "value")), text(o, "name"));
    for (const Json& a : list(json, "assignments"))
      graph.assign(find(values, text(a, "variable")), find(values, text(a, "value")));
    graph.validate();
    return graph;
  }

 private:
  [[noreturn]] void bad(const std::string& why) const {
    throw_invalid("'" + file_ + "' is no valid dlk model: " + why);
  }

  static const Json& empty_list() {
    static const Json empty = Json::array();
    return empty;
  }

  const Json& list(const Json& json, const char* key) const {
    if (!json.is_object()) bad("an object was expected around '" + std::string(key) + "'");
    const auto found = json.find(key);
    if (found == json.end()) return empty_list();
    if (!found->is_array()) bad("'" + std::string(key) + "' is not a list");
    return *found;
  }

  std::string text(const Json& json, const char* key) const {
    if (!json.is_object() || !json.contains(key) || !json[key].is_string())
      bad("the string '" + std::string(key) + "' is missing");
    return json[key].get<std::string>();
  }

  bool flag(const Json& json, const char* key) const {
    return json.contains(key) && json[key].is_boolean() && json[key].get<bool>();
  }

  std::vector<std::string> names(const Json& json, const char* key) const {
    std::vector<std::string> out;
    for (const Json& item : list(json, key)) {
      if (!item.is_string()) bad("'" + std::string(key) + "' holds something else than names");
      out.push_back(item.get<std::string>());
    }
    return out;
  }

  ValueId find(const std::map<std::string, ValueId>& values, const std::string& name) const {
    const auto found = values.find(name);
    if (found == values.end()) bad("the value '" + name + "' is used before it is defined");
    return found->second;
  }

  DType dtype(const Json& json) const {
    const std::string name = text(json, "dtype");
    const auto parsed = parse_dtype(name);
    if (!parsed) bad("unknown dtype '" + name + "'");
    return *parsed;
  }

  ValueType value_type(const Json& json) const {
    if (!json.contains("type")) return ValueType::kTensor;
    const std::string name = text(json, "type");
    const auto parsed = parse_value_type(name);
    if (!parsed) bad("unknown type '" + name + "' of a value");
    return *parsed;
  }

  SymbolicShape shape(const Json& json) const {
    SymbolicShape out;
    for (const Json& d : list(json, "shape")) {
      if (d.is_null())
        out.push_back(Dim{});
      else if (d.is_string())
        out.push_back(Dim::named(d.get<std::string>()));
      else if (d.is_number_unsigned() && d.get<uint64_t>() < (uint64_t{1} << 40))
        out.push_back(Dim::of(d.get<int64_t>()));
      else
        bad("a dimension is neither a size nor a symbol");
    }
    return out;
  }

  const HostTensor& tensor(const Json& json) const {
    const std::string name = text(json, "tensor");
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) bad("the weights have no tensor '" + name + "'");
    return found->second;
  }

  Attributes attributes(const Json& node, int depth) {
    Attributes out;
    if (!node.contains("attributes")) return out;
    if (!node["attributes"].is_object()) bad("'attributes' is not an object");
    for (const auto& [key, value] : node["attributes"].items()) {
      if (!value.is_object() || value.size() != 1) bad("the attribute '" + key + "' is malformed");
      out.emplace(key, attribute(value.begin().key(), value.begin().value(), value, depth));
    }
    return out;
  }

  Attribute attribute(const std::string& kind, const Json& value, const Json& whole, int depth) {
    if (kind == "int" && value.is_number_integer()) return value.get<int64_t>();
    if (kind == "float") return real(value);
    if (kind == "string") return text(whole, "string");
    if (kind == "tensor") return tensor(whole);
    if (kind == "graph") return std::make_shared<Graph>(read(value, depth + 1));
    if (kind == "strings") return names(whole, "strings");
    if (kind == "ints") {
      std::vector<int64_t> out;
      for (const Json& item : list(whole, "ints")) {
        if (!item.is_number_integer()) bad("an integer list holds something else");
        out.push_back(item.get<int64_t>());
      }
      return out;
    }
    if (kind == "floats") {
      std::vector<double> out;
      for (const Json& item : list(whole, "floats")) out.push_back(real(item));
      return out;
    }
    bad("an attribute has the unknown kind '" + kind + "'");
  }

  double real(const Json& value) const {
    if (value.is_number()) return value.get<double>();
    if (value == "inf") return std::numeric_limits<double>::infinity();
    if (value == "-inf") return -std::numeric_limits<double>::infinity();
    if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
    bad("a number was expected");
  }

  const std::map<std::string, HostTensor>& tensors_;
  const std::string& file_;
};

}  // namespace

Json graph_to_json(const Graph& graph, std::vector<NamedTensor>& tensors) {
  return Writer(tensors).write(graph, "");
}

Graph graph_from_json(const Json& json, const std::map<std::string, HostTensor>& tensors,
                      const std::string& name) {
  return Reader(tensors, name).read(json, 0);
}

}  // namespace dlk
