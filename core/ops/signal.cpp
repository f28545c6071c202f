// DFT, STFT and MelWeightMatrix.
#include <algorithm>
#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/fourier.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

template <typename Context>
int64_t required_int(const Context& context, size_t input, const std::string& what) {
  const std::vector<int64_t> values = required_ints(context, input, what);
  if (values.size() != 1) context.fail(what + " must be one number");
  return values[0];
}

/// A transform of `length` elements of an axis, cut or padded with zeros to n.
struct Transform {
  int64_t axis = 0, n = 0, bins = 0;
  bool inverse = false;
};

template <typename Context>
Transform read_transform(const Context& context, const Shape& x) {
  const auto rank = static_cast<int64_t>(x.size());
  if (rank < 2 || x.back() < 1 || x.back() > 2) {
    context.fail("the input " + shape_string(x) +
                 " must end in an axis of 1 (real) or 2 (complex)");
  }
  Transform t;
  int64_t axis = -2;
  if (context.has_input(2)) axis = required_int(context, 2, "axis");
  t.axis = context.normalize_axis(axis, rank);
  if (t.axis == rank - 1) context.fail("axis must not be the last one");
  t.n = x[static_cast<size_t>(t.axis)];
  if (context.has_input(1)) t.n = required_int(context, 1, "dft_length");
  if (t.n < 1) context.fail("dft_length must be at least 1");
  t.inverse = context.attr_int("inverse", 0) != 0;
  t.bins = context.attr_int("onesided", 0) != 0 ? t.n / 2 + 1 : t.n;
  return t;
}

void require_signal(const InferContext& context) {
  if (!is_floating(context.dtype(0))) context.fail("transforms floating point numbers only");
}

void infer_dft(InferContext& context) {
  require_signal(context);
  const Transform t = read_transform(context, context.shape(0));
  Shape shape = context.shape(0);
  shape[static_cast<size_t>(t.axis)] = t.bins;
  shape.back() = 2;
  context.set_output(0, context.dtype(0), shape);
}

/// The view as the type that transforms are computed in.
TensorView as_computed(LowerContext& context, const TensorView& view) {
  if (view.dtype == DType::kFloat32 || view.dtype == DType::kFloat64) return view;
  const TensorView wide = context.workspace(DType::kFloat32, view.shape);
  context.copy(view, wide);
  return wide;
}

void run_dft(LowerContext& context, DftViews v, const TensorView& output) {
  const bool narrow = output.dtype != DType::kFloat32 && output.dtype != DType::kFloat64;
  dispatch_dft(context, v);
  if (narrow) context.copy(v.y, output);
}

TensorView target_of(LowerContext& context, const TensorView& output) {
  const bool narrow = output.dtype != DType::kFloat32 && output.dtype != DType::kFloat64;
  return narrow ? context.workspace(DType::kFloat32, output.shape) : output;
}

void lower_dft(LowerContext& context) {
  const Transform t = read_transform(context, context.input(0).shape);
  const TensorView& output = context.output(0);
  if (output.elements() == 0) return;
  std::vector<int64_t> order = all_axes(output.rank());
  order.erase(order.begin() + t.axis);
  order.insert(order.end() - 1, t.axis);
  const TensorView whole = target_of(context, output);
  dispatch_dft(context, {permute_view(as_computed(context, context.input(0)), order),
                         permute_view(whole, order), std::nullopt, t.n, t.inverse});
  if (!same_view(whole, output)) context.copy(whole, output);
}

/// Frames of an STFT.
struct Frames {
  int64_t length = 0, step = 0, count = 0, bins = 0;
};

template <typename Context>
Frames read_frames(const Context& context, const Shape& x, const Shape* window) {
  if (x.size() != 3 || x[2] < 1 || x[2] > 2) {
    context.fail("the signal " + shape_string(x) + " must be (batch, length, 1 or 2)");
  }
  Frames f;
  f.step = required_int(context, 1, "frame_step");
  f.length = window ? (*window)[0] : x[1];
  if (context.has_input(3)) f.length = required_int(context, 3, "frame_length");
  if (f.step < 1 || f.length < 1 || f.length > x[1]) {
    context.fail("frames of " + std::to_string(f.length) + " with the step " +
                 std::to_string(f.step) + " do not fit the signal " + shape_string(x));
  }
  if (window && (window->size() != 1 || (*window)[0] != f.length)) {
    context.fail("the window " + shape_string(*window) + " must be " + shape_string({f.length}));
  }
  f.count = 1 + (x[1] - f.length) / f.step;
  f.bins = context.attr_int("onesided", 1) != 0 ? f.length / 2 + 1 : f.length;
  return f;
}

void infer_stft(InferContext& context) {
  require_signal(context);
  const Shape* window = context.has_input(2) ? &context.shape(2) : nullptr;
  const Frames f = read_frames(context, context.shape(0), window);
  context.set_output(0, context.dtype(0), {context.shape(0)[0], f.count, f.bins, 2});
}

void lower_stft(LowerContext& context) {
  const Shape* shape = context.has_input(2) ? &context.input(2).shape : nullptr;
  const Frames f = read_frames(context, context.input(0).shape, shape);
  const TensorView& output = context.output(0);
  if (output.elements() == 0) return;
  TensorView x = as_computed(context, context.input(0));
  // (batch, frames, length, parts), frames overlapping.
  x = insert_axis(slice_view(x, 1, 0, f.length), 1, f.count, f.step * x.strides[1]);
  DftViews v{x, target_of(context, output), std::nullopt, f.length, false};
  if (shape) v.window = context.contiguous(as_computed(context, context.input(2)));
  run_dft(context, v, output);
}

/// Where the bands meet, as bins of the spectrum (HTK's mel scale).
template <typename Context>
std::vector<int64_t> mel_edges(const Context& context) {
  const auto number = [&](size_t input, const char* what) {
    const auto value = context.constant(input);
    if (!value || value->elements() != 1)
      context.fail(std::string(what) + " must be one number, known before the run");
    return value->to_doubles()[0];
  };
  const double bands = number(0, "num_mel_bins"), length = number(1, "dft_length");
  const double rate = number(2, "sample_rate");
  const double low = number(3, "lower_edge_hertz"), high = number(4, "upper_edge_hertz");
  if (bands < 1 || bands > 8192 || length < 1 || rate < 1 || low < 0 || high < low) {
    context.fail("needs at least one band, a length, a sample rate and rising edges");
  }
  const auto mel = [](double hertz) { return 2595.0 * std::log10(1.0 + hertz / 700.0); };
  const double step = (mel(high) - mel(low)) / (bands + 2);
  std::vector<int64_t> edges;
  for (int64_t i = 0; i < static_cast<int64_t>(bands) + 2; ++i) {
    const double hertz =
        700.0 * (std::pow(10.0, (static_cast<double>(i) * step + mel(low)) / 2595.0) - 1.0);
    const double edge = std::floor((length + 1) * hertz / rate);
    check_size(context, edge, "a band's edge");
    edges.push_back(static_cast<int64_t>(edge));
  }
  return edges;
}

void infer_mel(InferContext& context) {
  const DType dtype = context.has_attr("output_datatype") ? cast_target(context, "output_datatype")
                                                          : DType::kFloat32;
  const std::vector<int64_t> edges = mel_edges(context);
  const int64_t spectrum = required_int(context, 1, "dft_length") / 2 + 1;
  context.set_output(0, dtype, {spectrum, static_cast<int64_t>(edges.size()) - 2});
}

void lower_mel(LowerContext& context) {
  const TensorView& y = context.output(0);
  require_compute(context, y.dtype);
  const std::vector<int64_t> edges = mel_edges(context);
  KernelRequest request;
  request.name = "mel_weights";
  request.types = {{"T", y.dtype}};
  request.constants = {{"EDGES", static_cast<int64_t>(edges.size())}};
  dispatch_linear(context, request, {y},
                  {{"bands", y.shape[1]},
                   {"y_row", y.strides[0]},
                   {"y_column", y.strides[1]},
                   {"edges", edges}},
                  y.elements());
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "DFT",
               .since_version = 20,
               .doc = "Discrete Fourier transform along an axis; inverse, onesided.",
               .min_inputs = 1,
               .max_inputs = 3,
               .layout = LayoutRule::kContiguous,
               .infer = infer_dft,
               .lower = lower_dft});
  register_op({.name = "STFT",
               .since_version = 17,
               .doc = "Fourier transforms of overlapping, weighted frames; onesided.",
               .min_inputs = 2,
               .max_inputs = 4,
               .layout = LayoutRule::kContiguous,
               .infer = infer_stft,
               .lower = lower_stft});
  register_op({.name = "MelWeightMatrix",
               .since_version = 17,
               .doc = "Triangular bands of the mel scale over a spectrum's bins.",
               .min_inputs = 5,
               .max_inputs = 5,
               .layout = LayoutRule::kContiguous,
               .infer = infer_mel,
               .lower = lower_mel});
}

}  // namespace dlk
