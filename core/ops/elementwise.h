// The table of pointwise operators (elementwise.def) and what operators outside the table share.
// Used by the operator files, host evaluation and, through `derivatives`, by gradients.
#pragma once

#include <string>
#include <vector>

#include "core/ops/pointwise.h"

namespace dlk {

enum class PointwiseKind : uint8_t { kPlain, kMath };
enum class PointwiseResult : uint8_t { kSame, kBool };

struct PointwiseRow {
  const char* name;
  int inputs;
  int since_version;
  PointwiseKind kind;
  PointwiseResult result;
  const char* floats;
  const char* integers;
  const char* bools;
  const char* derivative;
  const char* doc;
};

const std::vector<PointwiseRow>& pointwise_rows();
const PointwiseRow* find_pointwise_row(const std::string& name);

/// Adds one step of the row over `args` (of dtype `dtype`); attributes are read from `node`.
PointwiseArg add_row_step(PointwiseProgram& program, const PointwiseRow& row,
                          const NodeReader& node, DType dtype,
                          const std::vector<PointwiseArg>& args);

/// The schema of a pointwise operator but for its program.
OpSchema pointwise_schema(const std::string& name, int since_version, int min_inputs,
                          int max_inputs, const std::string& doc);

/// host_eval of the arithmetic that shapes are computed with; empty for other operators.
std::function<void(HostEvalContext&)> pointwise_host_eval(const std::string& name);

/// ONNX's number of an element type, or a dtype's name, as Cast's `to` gives it.
DType cast_target(const NodeReader& node, const std::string& attribute);

}  // namespace dlk
