// Shapes with symbols, found by experiment: shape inference runs on several bindings of the input
// symbols, and each dimension gets the simplest formula that fits all of them.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "core/graph/specialize.h"
#include "core/runtime/model.h"

namespace dlk {

namespace {

using Binding = std::map<std::string, int64_t>;
using Shapes = std::map<std::string, Shape>;

/// Each anonymous dimension is a symbol of its own, printed as "?".
std::string symbol_of(const std::string& input, size_t axis, const Dim& dim) {
  return dim.symbol.empty() ? "?" + input + ":" + std::to_string(axis) : dim.symbol;
}

std::set<std::string> symbols_of(const Graph& graph) {
  std::set<std::string> symbols;
  for (const ValueId id : graph.inputs()) {
    const Value& input = graph.value(id);
    for (size_t i = 0; input.shape && i < input.shape->size(); ++i) {
      const Dim& dim = (*input.shape)[i];
      if (!dim.is_static()) symbols.insert(symbol_of(input.name, i, dim));
    }
  }
  return symbols;
}

/// All values under a binding; nullopt where the graph does not allow it.
std::optional<ConcreteGraph> concrete(const Graph& graph, const Binding& binding) {
  SpecializeOptions options;
  for (const ValueId id : graph.inputs()) {
    const Value& input = graph.value(id);
    Shape shape;
    for (size_t i = 0; input.shape && i < input.shape->size(); ++i) {
      const Dim& dim = (*input.shape)[i];
      shape.push_back(dim.is_static() ? dim.value : binding.at(symbol_of(input.name, i, dim)));
    }
    options.input_shapes[input.name] = shape;
  }
  try {
    return specialize(graph, options).graph;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<Shapes> infer(const Graph& graph, const Binding& binding) {
  const auto found = concrete(graph, binding);
  if (!found) return std::nullopt;
  Shapes shapes;
  for (const ConcreteValue& value : found->values) shapes.emplace(value.name, value.shape);
  return shapes;
}

/// The experiments: a base, each symbol varied alone, and all varied together.
struct Experiments {
  Binding base;
  Shapes at_base;
  std::map<std::string, std::vector<std::pair<int64_t, Shapes>>> varied;  // by symbol
  std::optional<std::pair<Binding, Shapes>> together;
};

std::optional<Experiments> experiment(const Graph& graph, const std::set<std::string>& symbols,
                                      int64_t base, const std::vector<int64_t>& steps) {
  Experiments result;
  for (const std::string& symbol : symbols) result.base[symbol] = base;
  auto shapes = infer(graph, result.base);
  if (!shapes) return std::nullopt;
  result.at_base = std::move(*shapes);
  Binding all = result.base;
  int64_t offset = 0;
  for (const std::string& symbol : symbols) {
    for (const int64_t step : steps) {
      Binding binding = result.base;
      binding[symbol] = base + step;
      if (auto found = infer(graph, binding)) {
        result.varied[symbol].emplace_back(base + step, std::move(*found));
      }
    }
    all[symbol] = base + steps.front() * ++offset;
  }
  if (auto found = infer(graph, all)) result.together = {all, std::move(*found)};
  return result;
}

std::string shown(const std::string& symbol) { return symbol.front() == '?' ? "?" : symbol; }

std::string linear_text(const std::string& symbol, int64_t factor, int64_t offset) {
  std::string text = (factor == 1 ? "" : std::to_string(factor) + "*") + shown(symbol);
  if (offset != 0) text += (offset > 0 ? "+" : "-") + std::to_string(std::abs(offset));
  return text;
}

/// "a*S+b" or "(S+b)//q" through all samples (symbol's value, dimension); "?" if neither fits.
std::string one_symbol(const std::string& symbol, int64_t base, int64_t at_base,
                       const std::vector<std::pair<int64_t, int64_t>>& samples) {
  const auto fits = [&](auto&& formula) {
    return formula(base) == at_base && std::all_of(samples.begin(), samples.end(), [&](auto& s) {
             return formula(s.first) == s.second;
           });
  };
  const auto [x, y] = samples.front();
  if ((y - at_base) % (x - base) == 0) {
    const int64_t factor = (y - at_base) / (x - base);
    const int64_t offset = at_base - factor * base;
    if (fits([&](int64_t s) { return factor * s + offset; })) {
      return linear_text(symbol, factor, offset);
    }
  }
  for (int64_t divisor = 2; divisor <= 64; ++divisor) {
    for (int64_t offset = at_base * divisor - base; offset < (at_base + 1) * divisor - base;
         ++offset) {
      if (!fits([&](int64_t s) { return (s + offset) / divisor; })) continue;
      const std::string top =
          offset == 0 ? shown(symbol) : "(" + linear_text(symbol, 1, offset) + ")";
      return top + "//" + std::to_string(divisor);
    }
  }
  return "?";
}

/// "k*A*B" or "?" for a dimension that depends on several symbols.
std::string several_symbols(const std::vector<std::string>& symbols, const Experiments& e,
                            int64_t at_base, std::optional<int64_t> together) {
  int64_t product = 1, varied = 1;
  std::string text;
  for (const std::string& symbol : symbols) {
    product *= e.base.at(symbol);
    if (e.together) varied *= e.together->first.at(symbol);
    text += (text.empty() ? "" : "*") + shown(symbol);
  }
  if (!together || at_base % product != 0 || at_base / product * varied != *together) return "?";
  const int64_t factor = at_base / product;
  return (factor == 1 ? "" : std::to_string(factor) + "*") + text;
}

std::optional<int64_t> dim_in(const Shapes& shapes, const std::string& name, size_t axis) {
  const auto found = shapes.find(name);
  if (found == shapes.end() || axis >= found->second.size()) return std::nullopt;
  return found->second[axis];
}

std::string formula(const Experiments& e, const std::string& name, size_t axis, int64_t at_base) {
  std::vector<std::string> symbols;
  std::vector<std::pair<int64_t, int64_t>> samples;  // of the last symbol that matters
  for (const auto& [symbol, runs] : e.varied) {
    std::vector<std::pair<int64_t, int64_t>> own;
    bool matters = false;
    for (const auto& [value, shapes] : runs) {
      const auto dim = dim_in(shapes, name, axis);
      if (!dim) return "?";
      matters |= *dim != at_base;
      own.emplace_back(value, *dim);
    }
    if (!matters) continue;
    symbols.push_back(symbol);
    samples = std::move(own);
  }
  if (symbols.empty()) return std::to_string(at_base);
  if (symbols.size() == 1) {
    return one_symbol(symbols[0], e.base.at(symbols[0]), at_base, samples);
  }
  const auto together = e.together ? dim_in(e.together->second, name, axis) : std::nullopt;
  return several_symbols(symbols, e, at_base, together);
}

std::vector<std::string> declared(const SymbolicShape& shape) {
  std::vector<std::string> texts;
  for (const Dim& dim : shape) {
    texts.push_back(dim.is_static() ? std::to_string(dim.value)
                                    : (dim.symbol.empty() ? "?" : dim.symbol));
  }
  return texts;
}

}  // namespace

std::map<std::string, std::vector<std::string>> symbolic_shapes(const Graph& graph) {
  std::map<std::string, std::vector<std::string>> result;
  for (const Value& value : graph.values()) {
    if (value.shape) result[value.name] = declared(*value.shape);
  }
  const std::set<std::string> symbols = symbols_of(graph);
  std::optional<Experiments> e;
  for (const int64_t base : {64, 512, 1}) {
    e = experiment(graph, symbols, base,
                   base == 1 ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{32, 64, 33, 35});
    if (e) break;
  }
  if (!e) return result;
  for (const auto& [name, shape] : e->at_base) {
    const auto id = graph.find(name);
    if (!id || graph.value(*id).kind == ValueKind::kInput) continue;
    std::vector<std::string> texts;
    for (size_t i = 0; i < shape.size(); ++i) texts.push_back(formula(*e, name, i, shape[i]));
    result[name] = std::move(texts);
  }
  return result;
}

std::map<std::string, DType> value_dtypes(const Graph& graph) {
  std::map<std::string, DType> dtypes;
  for (const int64_t size : {64, 512, 1}) {
    Binding binding;
    for (const std::string& symbol : symbols_of(graph)) binding[symbol] = size;
    const auto found = concrete(graph, binding);
    if (!found) continue;
    for (const ConcreteValue& value : found->values) dtypes.emplace(value.name, value.dtype);
    break;
  }
  return dtypes;
}

}  // namespace dlk
