#include <algorithm>

#include "core/ops/pointwise.h"

namespace dlk {

namespace {

/// Literals of the expressions are written as `$T(0)`, so that one text serves several types.
std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// Narrow integers are computed in 32 bits: wrap as the storage type would.
std::string narrowed(DType dtype, const std::string& text) {
  switch (dtype) {
    case DType::kInt8:
      return "(((" + text + ") << 24) >> 24)";
    case DType::kInt16:
      return "(((" + text + ") << 16) >> 16)";
    case DType::kUInt8:
      return "((" + text + ") & 255u)";
    case DType::kUInt16:
      return "((" + text + ") & 65535u)";
    case DType::kFloat32:
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kFloat64:
    case DType::kInt32:
    case DType::kUInt32:
    case DType::kInt64:
    case DType::kUInt64:
    case DType::kBool:
      return text;
    default: {
      const std::string name(dtype_short_name(dtype));
      return "from_" + name + "(to_" + name + "(" + text + "))";
    }
  }
}

PointwiseArg shifted(PointwiseArg arg, int operands, int steps, int values) {
  if (arg.kind == PointwiseArg::Kind::kOperand) arg.index += operands;
  if (arg.kind == PointwiseArg::Kind::kStep) arg.index += steps;
  if (arg.kind == PointwiseArg::Kind::kValue) arg.index += values;
  return arg;
}

}  // namespace

PointwiseArg PointwiseProgram::add_value(double value) {
  values.push_back(value);
  return {PointwiseArg::Kind::kValue, static_cast<int>(values.size()) - 1};
}

PointwiseArg PointwiseProgram::add_step(std::string op, std::string expression,
                                        std::vector<PointwiseArg> args, DType dtype) {
  steps.push_back({std::move(op), std::move(expression), std::move(args), dtype});
  return {PointwiseArg::Kind::kStep, static_cast<int>(steps.size()) - 1};
}

bool PointwiseProgram::uses_operand(size_t operand) const {
  for (const PointwiseStep& step : steps) {
    for (const PointwiseArg& arg : step.args) {
      if (arg.kind == PointwiseArg::Kind::kOperand && arg.index == static_cast<int>(operand)) {
        return true;
      }
    }
  }
  return false;
}

std::string PointwiseProgram::label() const {
  std::string text;
  for (const PointwiseStep& step : steps) {
    if (step.op.empty()) continue;
    if (!text.empty()) text += "_";
    text += step.op;
    if (text.size() > 48) return text + "_etc";
  }
  return text.empty() ? "copy" : text;
}

std::string PointwiseProgram::key() const {
  std::string text;
  for (const DType dtype : operands) text += std::string(dtype_name(dtype)) + ",";
  for (const double value : values) text += std::to_string(value) + ",";
  for (const PointwiseStep& step : steps) {
    text += ";" + std::string(dtype_name(step.dtype)) + "=" + step.expression;
    for (const PointwiseArg& arg : step.args) {
      text += "|" + std::to_string(static_cast<int>(arg.kind)) + ":" + std::to_string(arg.index);
    }
  }
  return text;
}

std::string compute_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kFloat16:
    case DType::kBFloat16:
      return "float";
    case DType::kFloat64:
      return "double";
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return "int";
    case DType::kInt64:
      return "long";
    case DType::kUInt8:
    case DType::kUInt16:
    case DType::kUInt32:
      return "uint";
    case DType::kUInt64:
      return "ulong";
    case DType::kBool:
      return "bool";
    case DType::kInt4:
    case DType::kInt2:
      return "int";
    case DType::kUInt4:
    case DType::kUInt2:
      return "uint";
    default:
      return "float";
  }
}

PointwiseProgram program_of(const OpSchema& schema, const Node& node, std::vector<DType> dtypes) {
  PointwiseProgram program = schema.pointwise(PointwiseContext(node, dtypes));
  program.operands = std::move(dtypes);
  return program;
}

PointwiseProgram cast_program(DType from, DType to) {
  PointwiseProgram program;
  program.operands = {from};
  const bool same = compute_type(from) == compute_type(to);
  // Negative numbers keep their low bits, which a conversion to unsigned need not do.
  const bool wraps = is_floating(from) && (to == DType::kUInt4 || to == DType::kUInt2);
  const char* const text = same ? "$0" : wraps ? "uint(int($0))" : "$R($0)";
  program.add_step(from == to ? "" : "Cast", text, {operand_arg(0)}, to);
  return program;
}

PointwiseProgram join_programs(const PointwiseProgram& producer, const PointwiseProgram& consumer,
                               size_t slot) {
  PointwiseProgram joined;
  joined.operands = consumer.operands;
  joined.operands.insert(joined.operands.end(), producer.operands.begin(), producer.operands.end());
  joined.values = producer.values;
  joined.values.insert(joined.values.end(), consumer.values.begin(), consumer.values.end());
  const int operands = static_cast<int>(consumer.operands.size());
  const int steps = static_cast<int>(producer.steps.size());
  const int values = static_cast<int>(producer.values.size());
  for (PointwiseStep step : producer.steps) {
    for (PointwiseArg& arg : step.args) arg = shifted(arg, operands, 0, 0);
    joined.steps.push_back(std::move(step));
  }
  for (PointwiseStep step : consumer.steps) {
    for (PointwiseArg& arg : step.args) {
      const bool fed =
          arg.kind == PointwiseArg::Kind::kOperand && arg.index == static_cast<int>(slot);
      arg =
          fed ? PointwiseArg{PointwiseArg::Kind::kStep, steps - 1} : shifted(arg, 0, steps, values);
    }
    joined.steps.push_back(std::move(step));
  }
  return joined;
}

std::string step_expression(const PointwiseStep& step, const std::vector<DType>& arg_dtypes,
                            const std::vector<std::string>& args) {
  std::string text = step.expression;
  if (!arg_dtypes.empty()) text = replace_all(text, "$T", compute_type(arg_dtypes[0]));
  text = replace_all(text, "$R", compute_type(step.dtype));
  for (size_t i = 0; i < args.size(); ++i) {
    text = replace_all(text, "$" + std::to_string(i), args[i]);
  }
  return narrowed(step.dtype, text);
}

std::string program_expression(const PointwiseProgram& program,
                               const std::vector<std::string>& names,
                               const std::vector<std::string>& value_names, size_t max_length) {
  std::vector<std::string> texts;
  for (const PointwiseStep& step : program.steps) {
    std::vector<std::string> args;
    std::vector<DType> dtypes;
    for (const PointwiseArg& arg : step.args) {
      switch (arg.kind) {
        case PointwiseArg::Kind::kOperand:
          args.push_back(names[arg.index]);
          dtypes.push_back(program.operands[arg.index]);
          break;
        case PointwiseArg::Kind::kStep:
          args.push_back(texts[arg.index]);
          dtypes.push_back(program.steps[arg.index].dtype);
          break;
        case PointwiseArg::Kind::kValue:
          args.push_back(value_names[arg.index]);
          dtypes.push_back(DType::kFloat32);
          break;
      }
    }
    texts.push_back("(" + step_expression(step, dtypes, args) + ")");
    if (texts.back().size() > max_length) return {};
  }
  return texts.back();
}

}  // namespace dlk
