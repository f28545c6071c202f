// Pointwise programs: what an element-by-element operator, or a fused group of them, computes, and
// the one builder that turns a program into a kernel for any strides and dtypes. Operators state
// their program (elementwise.cpp), fusion joins programs, epilogues are printed from them.
#pragma once

#include <string>
#include <vector>

#include "core/ops/op.h"

namespace dlk {

struct PointwiseArg {
  enum class Kind : uint8_t { kOperand, kStep, kValue };
  Kind kind = Kind::kOperand;
  int index = 0;
};

/// One scalar operation. In `expression`, `$0 $1 ...` are the arguments, `$T` is the compute type
/// of argument 0 and `$R` that of the result.
struct PointwiseStep {
  std::string op;  // for labels
  std::string expression;
  std::vector<PointwiseArg> args;
  DType dtype = DType::kFloat32;  // of the result
};

/// Operand i is the node's input i (some may be unused). Values are float scalars that the kernel
/// gets as parameters, so that an attribute costs no pipeline. The last step is the result.
struct PointwiseProgram {
  std::vector<DType> operands;
  std::vector<double> values;
  std::vector<PointwiseStep> steps;

  PointwiseArg add_value(double value);
  PointwiseArg add_step(std::string op, std::string expression, std::vector<PointwiseArg> args,
                        DType dtype);
  DType dtype() const { return steps.back().dtype; }
  bool uses_operand(size_t operand) const;
  /// "Add_Relu": the operations in order, for kernel names and labels.
  std::string label() const;
  /// Everything that decides the kernel text.
  std::string key() const;
};

inline PointwiseArg operand_arg(size_t index) {
  return {PointwiseArg::Kind::kOperand, static_cast<int>(index)};
}

/// The dialect type in which values of this storage type are computed: "float", "int", ...
std::string compute_type(DType dtype);

/// The program of one pointwise node.
PointwiseProgram program_of(const OpSchema& schema, const Node& node, std::vector<DType> dtypes);

/// A conversion: the program of Cast, and of every copy.
PointwiseProgram cast_program(DType from, DType to);

/// `consumer` with its operand `slot` computed by `producer`. Operands of the result are the
/// consumer's, then the producer's; the slot itself is no longer used.
PointwiseProgram join_programs(const PointwiseProgram& producer, const PointwiseProgram& consumer,
                               size_t slot);

/// The program as one expression for an epilogue; `names[i]` is the text of operand i and
/// `value_names[i]` that of value i. Empty where it grows beyond `max_length`.
std::string program_expression(const PointwiseProgram& program,
                               const std::vector<std::string>& names,
                               const std::vector<std::string>& value_names, size_t max_length);

/// One line of kernel text: the step's expression with its arguments put in, narrowed to the
/// step's dtype.
std::string step_expression(const PointwiseStep& step, const std::vector<DType>& arg_dtypes,
                            const std::vector<std::string>& args);

/// Dispatches `program` over operands broadcast to `output`'s shape. `values` overrides
/// `program.values`. Unused operands may be left empty (storage -1).
void dispatch_pointwise(LowerContext& context, const PointwiseProgram& program,
                        const std::vector<TensorView>& operands, const std::vector<bool>& weights,
                        const TensorView& output);

/// `infer` and `lower` of every operator that states a program.
void infer_pointwise(InferContext& context);
void lower_pointwise(LowerContext& context);

}  // namespace dlk
