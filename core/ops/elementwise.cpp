#include "core/ops/elementwise.h"

#include <map>

#include "core/ops/gradients.h"

namespace dlk {

namespace {

/// Replaces `@name(default)` by an argument that is the attribute's value.
std::string bind_attributes(std::string text, const NodeReader& node, PointwiseProgram& program,
                            std::vector<PointwiseArg>& args) {
  std::map<std::string, std::string> bound;
  for (size_t at = 0; (at = text.find('@')) != std::string::npos;) {
    const size_t open = text.find('(', at);
    const size_t close = text.find(')', open);
    const std::string name = text.substr(at + 1, open - at - 1);
    auto found = bound.find(name);
    if (found == bound.end()) {
      const double fallback = std::stod(text.substr(open + 1, close - open - 1));
      found = bound.emplace(name, "$" + std::to_string(args.size())).first;
      args.push_back(program.add_value(node.attr_float(name, fallback)));
    }
    text.replace(at, close + 1 - at, found->second);
  }
  return text;
}

/// Float functions exist in 32 bits only: float64 arguments are narrowed, the result widened.
std::string in_float32(std::string text, size_t inputs, PointwiseResult result) {
  for (size_t i = 0; i < inputs; ++i) {
    const std::string arg = "$" + std::to_string(i);
    for (size_t at = 0; (at = text.find(arg, at)) != std::string::npos;) {
      const std::string wide = "float(" + arg + ")";
      text.replace(at, arg.size(), wide);
      at += wide.size();
    }
  }
  return result == PointwiseResult::kBool ? text : "double(" + text + ")";
}

const char* expression_for(const PointwiseRow& row, DType dtype) {
  if (is_floating(dtype)) return row.floats;
  if (dtype == DType::kString) return row.name == std::string("Equal") ? row.integers : "";
  if (is_storage_only(dtype)) return "";
  return dtype == DType::kBool ? row.bools : row.integers;
}

PointwiseProgram row_program(const PointwiseRow& row, const PointwiseContext& context) {
  PointwiseProgram program;
  std::vector<PointwiseArg> args;
  for (int i = 0; i < row.inputs; ++i) {
    args.push_back(operand_arg(static_cast<size_t>(i)));
    if (context.dtype(static_cast<size_t>(i)) != context.dtype(0) &&
        !(is_floating(context.dtype(static_cast<size_t>(i))) && is_floating(context.dtype(0)))) {
      context.fail("its inputs are " + std::string(dtype_name(context.dtype(0))) + " and " +
                   std::string(dtype_name(context.dtype(static_cast<size_t>(i)))));
    }
  }
  add_row_step(program, row, context, context.dtype(0), args);
  return program;
}

}  // namespace

const std::vector<PointwiseRow>& pointwise_rows() {
  static const std::vector<PointwiseRow> rows = {
#define DLK_POINTWISE(name, inputs, since, kind, result, floats, integers, bools, derivative, doc) \
  {#name,  inputs,   since, PointwiseKind::kind, PointwiseResult::result,                          \
   floats, integers, bools, derivative,          doc},
#include "core/ops/elementwise.def"
#undef DLK_POINTWISE
  };
  return rows;
}

const PointwiseRow* find_pointwise_row(const std::string& name) {
  for (const PointwiseRow& row : pointwise_rows()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

PointwiseArg add_row_step(PointwiseProgram& program, const PointwiseRow& row,
                          const NodeReader& node, DType dtype,
                          const std::vector<PointwiseArg>& args) {
  std::string text = expression_for(row, dtype);
  if (text.empty()) {
    node.fail(std::string(row.name) + " does not take " + std::string(dtype_name(dtype)));
  }
  if (row.kind == PointwiseKind::kMath && dtype == DType::kFloat64) {
    text = in_float32(std::move(text), args.size(), row.result);
  }
  std::vector<PointwiseArg> all = args;
  text = bind_attributes(std::move(text), node, program, all);
  const DType result = row.result == PointwiseResult::kBool ? DType::kBool : dtype;
  return program.add_step(row.name, std::move(text), std::move(all), result);
}

OpSchema pointwise_schema(const std::string& name, int since_version, int min_inputs,
                          int max_inputs, const std::string& doc) {
  OpSchema schema;
  schema.name = name;
  schema.since_version = since_version;
  schema.doc = doc;
  schema.min_inputs = min_inputs;
  schema.max_inputs = max_inputs;
  schema.layout = LayoutRule::kFollow;
  schema.in_place = true;
  schema.infer = infer_pointwise;
  schema.host_eval = pointwise_host_eval(name);
  schema.lower = lower_pointwise;
  return schema;
}

DLK_REGISTER_OPS {
  for (const PointwiseRow& row : pointwise_rows()) {
    OpSchema schema =
        pointwise_schema(row.name, row.since_version, row.inputs, row.inputs, row.doc);
    schema.pointwise = [&row](const PointwiseContext& context) {
      return row_program(row, context);
    };
    if (row.floats[0] != 0 && row.result == PointwiseResult::kSame) schema.gradient = row_gradient;
    register_op(std::move(schema));
  }
}

}  // namespace dlk
