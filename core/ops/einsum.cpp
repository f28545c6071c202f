// Einsum: sums over repeated and dropped labels, then products of two operands at a time.
#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "core/ops/gradients.h"
#include "core/ops/matmul.h"
#include "core/ops/op_util.h"
#include "core/ops/reduce.h"

namespace dlk {
namespace {

/// A parsed equation: one label (a character) for each axis. Axes under an ellipsis get the
/// characters 1, 2, ..., counted from the right.
struct Equation {
  std::vector<std::string> operands;
  std::string result;
};

std::string expand_ellipsis(const NodeReader& node, const std::string& labels, size_t covered) {
  std::string text;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels.compare(i, 3, "...") == 0) {
      for (size_t axis = covered; axis > 0; --axis) text += static_cast<char>(axis);
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(labels[i])) != 0) {
      text += labels[i];
    } else {
      node.fail("equation holds '" + std::string(1, labels[i]) + "', which is no label");
    }
  }
  return text;
}

size_t letters(const std::string& labels) {
  return static_cast<size_t>(std::count_if(labels.begin(), labels.end(), [](char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0;
  }));
}

Equation parse_equation(const NodeReader& node, const std::vector<size_t>& ranks) {
  std::string text = node.attr_string("equation", "");
  text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
  const size_t arrow = text.find("->");
  const std::string left = text.substr(0, arrow);
  std::vector<std::string> terms{""};
  for (char c : left) {
    if (c == ',') {
      terms.emplace_back();
    } else {
      terms.back() += c;
    }
  }
  if (terms.size() != ranks.size()) {
    node.fail("equation '" + text + "' is for " + std::to_string(terms.size()) + " inputs");
  }
  Equation equation;
  size_t widest = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const bool dots = terms[i].find("...") != std::string::npos;
    if (letters(terms[i]) > ranks[i] || (!dots && letters(terms[i]) < ranks[i])) {
      node.fail("'" + terms[i] + "' does not fit an input of rank " + std::to_string(ranks[i]));
    }
    const size_t covered = ranks[i] - letters(terms[i]);
    widest = std::max(widest, covered);
    equation.operands.push_back(expand_ellipsis(node, terms[i], covered));
  }
  if (arrow != std::string::npos) {
    equation.result = expand_ellipsis(node, text.substr(arrow + 2), widest);
    return equation;
  }
  // Without an arrow: the ellipsis, then each label that stands once, in order.
  std::map<char, int> count;
  for (const std::string& operand : equation.operands) {
    for (char c : operand) ++count[c];
  }
  for (size_t axis = widest; axis > 0; --axis) equation.result += static_cast<char>(axis);
  for (const auto& [label, times] : count) {
    if (times == 1 && std::isalpha(static_cast<unsigned char>(label)) != 0) {
      equation.result += label;
    }
  }
  return equation;
}

template <typename ShapeOf>
std::map<char, int64_t> label_sizes(const NodeReader& node, const Equation& equation,
                                    const ShapeOf& shape_of) {
  std::map<char, int64_t> sizes;
  for (size_t i = 0; i < equation.operands.size(); ++i) {
    const Shape& shape = shape_of(i);
    for (size_t d = 0; d < shape.size(); ++d) {
      const char label = equation.operands[i][d];
      int64_t& size = sizes.emplace(label, shape[d]).first->second;
      if (size == 1) size = shape[d];
      if (shape[d] != size && shape[d] != 1) {
        node.fail("a label names axes of " + std::to_string(size) + " and " +
                  std::to_string(shape[d]));
      }
    }
  }
  return sizes;
}

void infer_einsum(InferContext& context) {
  std::vector<size_t> ranks;
  for (size_t i = 0; i < context.input_count(); ++i) ranks.push_back(context.shape(i).size());
  const Equation equation = parse_equation(context, ranks);
  const auto sizes =
      label_sizes(context, equation, [&](size_t i) -> const Shape& { return context.shape(i); });
  Shape shape;
  std::set<char> seen;
  for (char label : equation.result) {
    const auto found = sizes.find(label);
    if (found == sizes.end() || !seen.insert(label).second) {
      context.fail("the result's labels must each stand in an input, and once in the result");
    }
    shape.push_back(found->second);
  }
  context.set_output(0, context.dtype(0), shape);
}

/// A view with a label for each axis, each once.
struct Term {
  TensorView view;
  std::string labels;
};

bool holds(const std::string& labels, char label) {
  return labels.find(label) != std::string::npos;
}

/// The axes that `labels` name, in that order.
Term select(const Term& term, const std::string& labels) {
  Term result{term.view, labels};
  result.view.shape.clear();
  result.view.strides.clear();
  for (char label : labels) {
    const size_t axis = term.labels.find(label);
    result.view.shape.push_back(term.view.shape[axis]);
    result.view.strides.push_back(term.view.strides[axis]);
  }
  return result;
}

/// Repeated labels become diagonals; axes of size 1 are broadcast to the label's size.
Term make_term(const TensorView& view, const std::string& labels,
               const std::map<char, int64_t>& sizes) {
  Term term{view, ""};
  term.view.shape.clear();
  term.view.strides.clear();
  for (size_t d = 0; d < labels.size(); ++d) {
    const int64_t stride = view.shape[d] == 1 ? 0 : view.strides[d];
    const size_t at = term.labels.find(labels[d]);
    if (at != std::string::npos) {
      term.view.strides[at] += stride;
      continue;
    }
    term.labels += labels[d];
    term.view.shape.push_back(sizes.at(labels[d]));
    term.view.strides.push_back(stride);
  }
  return term;
}

/// Sums over the labels that nothing else needs.
Term sum_dropped(LowerContext& context, const Term& term, const std::string& needed) {
  std::vector<int64_t> axes;
  std::string kept;
  Shape kept_dims = term.view.shape;
  for (size_t d = 0; d < term.labels.size(); ++d) {
    if (holds(needed, term.labels[d])) {
      kept += term.labels[d];
    } else {
      axes.push_back(static_cast<int64_t>(d));
      kept_dims[d] = 1;
    }
  }
  if (axes.empty()) return term;
  Term result{context.workspace(accumulator_dtype(term.view.dtype), kept_dims), kept};
  dispatch_reduction(context, "ReduceSum", term.view, result.view, axes);
  for (size_t i = axes.size(); i > 0; --i) result.view = drop_axis(result.view, axes[i - 1]);
  return result;
}

/// The axes after the first `batch` as two: the next `rows` ones, and the rest.
TensorView as_matrix(LowerContext& context, const TensorView& view, size_t batch, size_t rows) {
  const auto part = [&](const Shape& values, size_t begin, size_t end) {
    return Shape(values.begin() + static_cast<std::ptrdiff_t>(begin),
                 values.begin() + static_cast<std::ptrdiff_t>(end));
  };
  const size_t rank = view.shape.size();
  TensorView from = view;
  for (int attempt = 0;; ++attempt) {
    const LoopNest r =
        collapse(part(from.shape, batch, batch + rows), {part(from.strides, batch, batch + rows)});
    const LoopNest c =
        collapse(part(from.shape, batch + rows, rank), {part(from.strides, batch + rows, rank)});
    if (r.rank() == 1 && c.rank() == 1) {
      TensorView matrix = from;
      matrix.shape.resize(batch);
      matrix.strides.resize(batch);
      matrix.shape.insert(matrix.shape.end(), {r.dims[0], c.dims[0]});
      matrix.strides.insert(matrix.strides.end(), {r.strides[0][0], c.strides[0][0]});
      return matrix;
    }
    from = context.contiguous(view);
    if (attempt > 0) context.fail("cannot flatten a contiguous tensor");
  }
}

Shape joined(Shape a, const Shape& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// float64 and integers: `rows` (batch and m), `columns` (n) and `inner` (k) one element at a time.
void contract(LowerContext& context, const Term& a, const Term& b, const Term& result,
              const std::string& rows, const std::string& columns, const std::string& inner) {
  const auto strides_of = [](const Term& term, const std::string& labels) {
    Shape strides;
    for (char label : labels) {
      const size_t axis = term.labels.find(label);
      strides.push_back(axis == std::string::npos ? 0 : term.view.strides[axis]);
    }
    return strides;
  };
  const std::string outer = rows + columns;
  const LoopNest nest = collapse(result.view.shape,
                                 {result.view.strides, strides_of(a, outer), strides_of(b, outer)});
  const LoopNest sum =
      collapse(select(a, inner).view.shape, {strides_of(a, inner), strides_of(b, inner)});
  KernelRequest request;
  request.name = "contract";
  request.constants = {{"ND", nest.rank()}, {"NK", sum.rank()}};
  request.types = {{"TA", a.view.dtype}, {"TB", b.view.dtype}, {"TY", result.view.dtype}};
  dispatch_linear(context, request, {a.view, b.view, result.view},
                  {{"length", sum.size()},
                   {"dims", nest.dims},
                   {"ys", nest.strides[0]},
                   {"as", nest.strides[1]},
                   {"bs", nest.strides[2]},
                   {"kdims", sum.dims},
                   {"kas", sum.strides[0]},
                   {"kbs", sum.strides[1]}},
                  nest.size());
}

Term multiply(LowerContext& context, const Term& a, const Term& b, const std::string& needed) {
  std::string batch, m, n, k;
  for (char label : a.labels) {
    if (!holds(b.labels, label)) {
      m += label;
    } else {
      (holds(needed, label) ? batch : k) += label;
    }
  }
  for (char label : b.labels) {
    if (!holds(a.labels, label)) n += label;
  }
  const Term left = select(a, batch + m + k), right = select(b, batch + k + n);
  const Shape dims = joined(select(a, batch + m).view.shape, select(b, n).view.shape);
  const DType type = accumulator_dtype(context.input(0).dtype);
  Term result{context.workspace(type, dims), batch + m + n};
  if (a.view.elements() == 0 || b.view.elements() == 0) {
    fill_view(context, result.view, 0);
    return result;
  }
  if (type != DType::kFloat32) {
    contract(context, a, b, result, batch + m, n, k);
    return result;
  }
  MatrixProblem problem;
  problem.a = as_matrix(context, left.view, batch.size(), m.size());
  problem.b = as_matrix(context, right.view, batch.size(), k.size());
  problem.y = as_matrix(context, result.view, batch.size(), m.size());
  problem.b_input = context.input_count();  // b is no plain view of an input
  lower_matrix_product(context, problem);
  return result;
}

void lower_einsum(LowerContext& context) {
  std::vector<size_t> ranks;
  for (size_t i = 0; i < context.input_count(); ++i) {
    ranks.push_back(context.input(i).shape.size());
  }
  require_compute(context, context.input(0).dtype);
  const Equation equation = parse_equation(context, ranks);
  const auto sizes = label_sizes(context, equation,
                                 [&](size_t i) -> const Shape& { return context.input(i).shape; });
  const auto needed_after = [&](size_t operand) {
    std::string needed = equation.result;
    for (size_t i = operand + 1; i < equation.operands.size(); ++i) {
      needed += equation.operands[i];
    }
    return needed;
  };
  Term total = make_term(context.input(0), equation.operands[0], sizes);
  total = sum_dropped(context, total, needed_after(0));
  for (size_t i = 1; i < equation.operands.size(); ++i) {
    Term next = make_term(context.input(i), equation.operands[i], sizes);
    const std::string needed = needed_after(i);
    next = sum_dropped(context, next, needed + total.labels);
    total = multiply(context, total, next, needed);
  }
  context.copy(select(total, equation.result).view, context.output(0));
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Einsum",
               .since_version = 12,
               .doc = "Einstein summation; `equation` may repeat labels and hold an ellipsis.",
               .min_inputs = 1,
               .max_inputs = -1,
               .layout = LayoutRule::kContiguous,
               .infer = infer_einsum,
               .lower = lower_einsum,
               .gradient = einsum_gradient});
}

}  // namespace dlk
