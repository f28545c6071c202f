// The native model format, `.dlk`: `dlk.json` (the graph and what people need to know about it)
// beside `weights.safetensors`, in a directory or in a stored zip archive. Read by mapping: weights
// are shared with the file. Written whole or not at all. docs/model-format.md describes it.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace dlk {

inline constexpr int kModelFormatVersion = 1;

/// Reads a directory or a file. InvalidArgument for what is damaged or hostile, Unsupported naming
/// each feature under "requires" that this version does not know, or a newer format version.
Graph load_model(const std::string& path);

/// Writes a zip archive, or a directory if `path` ends in '/' or is one. Errors leave what was
/// there before.
void save_model(const Graph& graph, const std::string& path);

}  // namespace dlk
