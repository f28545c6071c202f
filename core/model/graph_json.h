// Graphs as JSON: what dlk.json holds under "graph". Tensors are named in the JSON and stored
// beside it. Used by model_file.cpp alone.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/model/safetensors.h"

namespace dlk {

using Json = nlohmann::ordered_json;

/// Appends the graph's tensors (constants, variables, tensor attributes, subgraphs') to `tensors`.
Json graph_to_json(const Graph& graph, std::vector<NamedTensor>& tensors);

/// InvalidArgument for JSON that is not a graph; `name` is the file's, for messages.
Graph graph_from_json(const Json& json, const std::map<std::string, HostTensor>& tensors,
                      const std::string& name);

}  // namespace dlk
