// Operators about shapes: what they give is a view of an input, or a number that the host knows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/pointwise.h"

namespace dlk {

namespace {

/// The row-major elements of input 0 under the output's shape, as a view where strides allow it.
std::optional<AliasResult> reshape_alias(const AliasContext& context) {
  if (context.output() != 0) return std::nullopt;
  const auto view = context.input(0).reshaped(context.output_shape(0));
  if (!view) return std::nullopt;
  return AliasResult{0, *view};
}

/// Copies in the input's shape: the output is row-major unless it is a piece of something larger.
void lower_reshape(LowerContext& context) {
  const TensorView& input = context.input(0);
  const TensorView& output = context.output(0);
  if (const auto target = output.reshaped(input.shape)) return context.copy(input, *target);
  if (const auto source = input.reshaped(output.shape)) return context.copy(*source, output);
  context.copy(*context.contiguous(input).reshaped(output.shape), output);
}

/// A shape operator whose output is a view; `infer` decides the shape.
OpSchema reshaping(const std::string& name, int since, int min_inputs, int max_inputs,
                   const std::string& doc, std::function<void(InferContext&)> infer) {
  OpSchema schema;
  schema.name = name;
  schema.since_version = since;
  schema.doc = doc;
  schema.min_inputs = min_inputs;
  schema.max_inputs = max_inputs;
  schema.layout = LayoutRule::kContiguous;
  schema.infer = std::move(infer);
  schema.host_eval = [](HostEvalContext& context) {
    HostTensor value = context.input(0);
    value.shape = context.output_shape(0);
    context.set_output(0, std::move(value));
  };
  schema.alias = reshape_alias;
  schema.lower = lower_reshape;
  schema.gradient = reshape_gradient;
  return schema;
}

void infer_reshape(InferContext& context) {
  const Shape& input = context.shape(0);
  const HostTensor wanted = context.require_constant(1, "the new shape");
  if (wanted.shape.size() != 1) context.fail("the new shape must have rank 1");
  Shape shape = wanted.to_ints();
  const bool zero_is_zero = context.attr_int("allowzero", 0) != 0;
  int64_t known = 1;
  int unknown = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0 && !zero_is_zero) {
      if (i >= input.size()) context.fail("the new shape copies an axis that does not exist");
      shape[i] = input[i];
    }
    if (shape[i] == -1) {
      if (unknown >= 0) context.fail("the new shape has two unknown sizes");
      unknown = static_cast<int>(i);
    } else if (shape[i] < 0) {
      context.fail("the new shape " + shape_string(shape) + " has a negative size");
    } else {
      if (shape[i] > std::numeric_limits<int64_t>::max() / std::max<int64_t>(known, 1)) {
        context.fail("the new shape " + shape_string(shape) + " has too many elements");
      }
      known *= shape[i];
    }
  }
  const int64_t elements = element_count(input);
  if (unknown >= 0) shape[unknown] = known == 0 ? 0 : elements / known;
  if (element_count(shape) != elements) {
    context.fail("shape " + shape_string(input) + " cannot become " +
                 shape_string(wanted.to_ints()));
  }
  context.set_output(0, context.dtype(0), std::move(shape));
}

void infer_flatten(InferContext& context) {
  const Shape& input = context.shape(0);
  const auto rank = static_cast<int64_t>(input.size());
  int64_t axis = context.attr_int("axis", 1);
  if (axis < -rank || axis > rank) {
    context.fail("axis " + std::to_string(axis) + " is out of range for rank " +
                 std::to_string(rank));
  }
  if (axis < 0) axis += rank;
  const auto cut = static_cast<size_t>(axis);
  context.set_output(0, context.dtype(0), {product(input, 0, cut), product(input, cut)});
}

void infer_squeeze(InferContext& context) {
  const Shape& input = context.shape(0);
  std::vector<int64_t> ones;
  for (size_t i = 0; i < input.size(); ++i) {
    if (input[i] == 1) ones.push_back(static_cast<int64_t>(i));
  }
  const auto axes = read_axes(context, 1, "axes", context.rank(0), ones);
  Shape shape;
  for (size_t i = 0; i < input.size(); ++i) {
    if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) == axes.end()) {
      shape.push_back(input[i]);
    } else if (input[i] != 1) {
      context.fail("axis " + std::to_string(i) + " of " + shape_string(input) +
                   " has more than one element");
    }
  }
  context.set_output(0, context.dtype(0), std::move(shape));
}

void infer_unsqueeze(InferContext& context) {
  const Shape& input = context.shape(0);
  const auto count = context.has_input(1) ? required_ints(context, 1, "axes").size()
                                          : context.attr_ints("axes").size();
  const auto rank = static_cast<int64_t>(input.size() + count);
  const auto axes = read_axes(context, 1, "axes", rank, {});
  Shape shape(static_cast<size_t>(rank), 0);
  for (const int64_t axis : axes) shape[static_cast<size_t>(axis)] = 1;
  size_t next = 0;
  for (int64_t& dim : shape) {
    if (dim == 0) dim = -1;
  }
  for (int64_t& dim : shape) {
    if (dim < 0) dim = input[next++];
  }
  context.set_output(0, context.dtype(0), std::move(shape));
}

std::vector<int64_t> permutation(const NodeReader& node, size_t rank) {
  std::vector<int64_t> perm = node.attr_ints("perm");
  if (!node.has_attr("perm")) {
    perm = all_axes(static_cast<int64_t>(rank));
    std::reverse(perm.begin(), perm.end());
  }
  std::vector<int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != all_axes(static_cast<int64_t>(rank))) {
    node.fail("perm " + shape_string(perm) + " is no permutation of rank " + std::to_string(rank));
  }
  return perm;
}

OpSchema transpose() {
  OpSchema schema;
  schema.name = "Transpose";
  schema.since_version = 24;
  schema.doc = "axes in another order; perm (default: reversed)";
  schema.layout = LayoutRule::kContiguous;
  schema.infer = [](InferContext& context) {
    const Shape& input = context.shape(0);
    Shape shape;
    for (const int64_t axis : permutation(context, input.size())) {
      shape.push_back(input[static_cast<size_t>(axis)]);
    }
    context.set_output(0, context.dtype(0), std::move(shape));
  };
  schema.host_eval = [](HostEvalContext& context) {
    TensorView view;
    view.shape = context.input(0).shape;
    view.strides = contiguous_strides(view.shape);
    const TensorView turned = permute_view(view, permutation(context, view.shape.size()));
    context.set_output(0, gather_host(context.input(0), turned.shape,
                                      strided_indices(turned.shape, 0, turned.strides)));
  };
  schema.alias = [](const AliasContext& context) -> std::optional<AliasResult> {
    const TensorView& input = context.input(0);
    return AliasResult{0, permute_view(input, permutation(context, input.shape.size()))};
  };
  schema.lower = [](LowerContext& context) {
    const TensorView& input = context.input(0);
    const auto perm = permutation(context, input.shape.size());
    context.copy(permute_view(input, perm), context.output(0));
  };
  schema.gradient = transpose_gradient;
  return schema;
}

OpSchema expand() {
  OpSchema schema;
  schema.name = "Expand";
  schema.since_version = 13;
  schema.doc = "broadcast to a shape";
  schema.min_inputs = schema.max_inputs = 2;
  schema.layout = LayoutRule::kContiguous;
  schema.infer = [](InferContext& context) {
    const Shape wanted = context.require_constant(1, "the shape").to_ints();
    try {
      context.set_output(0, context.dtype(0), broadcast_shapes(context.shape(0), wanted));
    } catch (const Error& error) {
      context.fail(error.what());
    }
  };
  schema.host_eval = [](HostEvalContext& context) {
    TensorView view;
    view.shape = context.input(0).shape;
    view.strides = contiguous_strides(view.shape);
    const TensorView wide = broadcast_view(view, context.output_shape(0));
    context.set_output(
        0, gather_host(context.input(0), wide.shape, strided_indices(wide.shape, 0, wide.strides)));
  };
  schema.alias = [](const AliasContext& context) -> std::optional<AliasResult> {
    return AliasResult{0, broadcast_view(context.input(0), context.output_shape(0))};
  };
  schema.lower = [](LowerContext& context) {
    const TensorView& output = context.output(0);
    context.copy(broadcast_view(context.input(0), output.shape), output);
  };
  schema.gradient = expand_gradient;
  return schema;
}

OpSchema shape_of() {
  OpSchema schema;
  schema.name = "Shape";
  schema.since_version = 24;
  schema.doc = "the shape as a tensor; start, end";
  schema.host_eval_by_shape = true;
  const auto slice = [](const NodeReader& node, const Shape& shape) {
    const auto rank = static_cast<int64_t>(shape.size());
    const auto clamped = [&](int64_t at) {
      return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank);
    };
    const int64_t start = clamped(node.attr_int("start", 0));
    const int64_t end = std::max(start, clamped(node.attr_int("end", rank)));
    return Shape(shape.begin() + start, shape.begin() + end);
  };
  schema.infer = [slice](InferContext& context) {
    const auto count = static_cast<int64_t>(slice(context, context.shape(0)).size());
    context.set_output(0, DType::kInt64, {count});
  };
  schema.host_eval = [slice](HostEvalContext& context) {
    context.set_output(0, HostTensor::ints(slice(context, context.input(0).shape)));
  };
  return schema;
}

OpSchema size_of() {
  OpSchema schema;
  schema.name = "Size";
  schema.since_version = 24;
  schema.doc = "the number of elements as a scalar";
  schema.host_eval_by_shape = true;
  schema.infer = [](InferContext& context) { context.set_output(0, DType::kInt64, {}); };
  schema.host_eval = [](HostEvalContext& context) {
    const int64_t count = element_count(context.input(0).shape);
    context.set_output(0, HostTensor::from_ints(DType::kInt64, {}, {count}));
  };
  return schema;
}

void infer_identity(InferContext& context) {
  context.set_output(0, context.dtype(0), context.shape(0));
}

/// As fill_view, in pieces that one kernel argument can reach.
void fill_in_pieces(LowerContext& context, const TensorView& view, double value) {
  const auto bytes = static_cast<uint64_t>(view.span()) * dtype_size(view.dtype);
  size_t axis = 0;
  while (axis < view.shape.size() && view.shape[axis] == 1) ++axis;
  if (bytes <= context.caps().max_binding_bytes || axis == view.shape.size()) {
    return fill_view(context, view, value);
  }
  const int64_t half = view.shape[axis] / 2;
  const auto dim = static_cast<int64_t>(axis);
  fill_in_pieces(context, slice_view(view, dim, 0, half), value);
  fill_in_pieces(context, slice_view(view, dim, half, view.shape[axis] - half), value);
}

OpSchema constant_of_shape() {
  OpSchema schema;
  schema.name = "ConstantOfShape";
  schema.since_version = 24;
  schema.doc = "a tensor of one value; value";
  schema.layout = LayoutRule::kContiguous;
  const auto fill = [](const NodeReader& node) {
    const HostTensor* value = node.attr_tensor("value");
    if (value && value->elements() != 1) node.fail("its value must have one element");
    return value ? *value : HostTensor::scalar(DType::kFloat32, 0);
  };
  schema.infer = [fill](InferContext& context) {
    const Shape shape = context.require_constant(0, "the shape").to_ints();
    context.set_output(0, fill(context).dtype, shape);
  };
  schema.host_eval = [fill](HostEvalContext& context) {
    const std::vector<int64_t> indices(static_cast<size_t>(element_count(context.output_shape(0))),
                                       0);
    context.set_output(0, gather_host(fill(context), context.output_shape(0), indices));
  };
  schema.lower = [fill](LowerContext& context) {
    fill_in_pieces(context, context.output(0), fill(context).to_doubles()[0]);
  };
  return schema;
}

/// Start and step of a Range, and how many numbers it has.
int64_t range_count(const NodeReader& node, double start, double limit, double step) {
  if (step == 0) node.fail("its step must not be 0");
  const double count = std::ceil((limit - start) / step);
  if (!(count < 2147483648.0)) node.fail("has too many elements");
  return static_cast<int64_t>(std::max(0.0, count));
}

OpSchema range() {
  OpSchema schema;
  schema.name = "Range";
  schema.since_version = 11;
  schema.doc = "start, start + step, ... below limit; known before the run";
  schema.min_inputs = schema.max_inputs = 3;
  schema.layout = LayoutRule::kContiguous;
  schema.infer = [](InferContext& context) {
    double bounds[3];
    for (size_t i = 0; i < 3; ++i) {
      bounds[i] = context.require_constant(i, "start, limit and step").to_doubles().at(0);
    }
    context.set_output(0, context.dtype(0),
                       {range_count(context, bounds[0], bounds[1], bounds[2])});
  };
  schema.host_eval = [](HostEvalContext& context) {
    const auto count = static_cast<size_t>(element_count(context.output_shape(0)));
    const DType dtype = context.output_dtype(0);
    if (is_floating(dtype)) {
      const double start = context.input(0).to_doubles()[0],
                   step = context.input(2).to_doubles()[0];
      std::vector<double> values(count);
      for (size_t i = 0; i < count; ++i) values[i] = start + static_cast<double>(i) * step;
      context.set_output(0, HostTensor::from_doubles(dtype, context.output_shape(0), values));
      return;
    }
    const int64_t start = context.input(0).to_ints()[0], step = context.input(2).to_ints()[0];
    std::vector<int64_t> values(count);
    for (size_t i = 0; i < count; ++i) {  // wraps, as on devices
      values[i] =
          static_cast<int64_t>(static_cast<uint64_t>(start) + i * static_cast<uint64_t>(step));
    }
    context.set_output(0, HostTensor::from_ints(dtype, context.output_shape(0), values));
  };
  schema.lower = [](LowerContext& context) {
    // start + index * step, with the index from an int32 iota of the kernel.
    const auto value = [&](size_t i) { return context.constant(i)->to_doubles().at(0); };
    const TensorView& output = context.output(0);
    KernelRequest request;
    request.name = "range";
    request.types["T"] = output.dtype;
    const bool floats = is_floating(output.dtype);
    Params params{{"total", output.elements()}};
    if (floats) {
      params["start"] = value(0);
      params["step"] = value(2);
    } else {
      request.name = "range_int";
      params["start"] = context.constant(0)->to_ints().at(0);
      params["step"] = context.constant(2)->to_ints().at(0);
    }
    dispatch_linear(context, request, {output}, std::move(params), output.elements());
  };
  return schema;
}

}  // namespace

DLK_REGISTER_OPS {
  register_op(reshaping("Identity", 24, 1, 1, "the input", infer_identity));
  register_op(
      reshaping("Reshape", 24, 2, 2, "the elements in another shape; allowzero", infer_reshape));
  register_op(reshaping("Flatten", 24, 1, 1, "a matrix, cut before axis; axis=1", infer_flatten));
  register_op(reshaping("Squeeze", 24, 1, 2, "axes of size 1 removed", infer_squeeze));
  register_op(reshaping("Unsqueeze", 24, 1, 2, "axes of size 1 added", infer_unsqueeze));
  register_op(transpose());
  register_op(expand());
  register_op(shape_of());
  register_op(size_of());
  register_op(constant_of_shape());
  register_op(range());
}

}  // namespace dlk
