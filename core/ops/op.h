// What an operator is: one OpSchema, in one place (core/ops/FAMILY.cpp), registered by itself.
//
//   infer      output dtypes and shapes from concrete input shapes
//   host_eval  optional: the value, on the host, for small integer/bool tensors and shape
//              arithmetic only (at most kMaxHostElements); decides shapes and control flow
//   alias      optional: an output as another view of an input (no kernel, no copy)
//   lower      kernels to dispatch, in terms of TensorViews; knows Caps, never a backend's name
//   gradient   optional: the gradients of the inputs as nodes of the graph
//
// Everything sees concrete shapes: a plan is made for given input shapes. Symbolic summaries are
// derived by running `infer` on several bindings.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/device/device.h"
#include "core/graph/graph.h"
#include "core/kernel/dialect.h"

namespace dlk {

inline constexpr int64_t kMaxHostElements = 1024;
/// Of a Conv in a plan: channel g * (C / n) + k of its results is stored as channel k * n + g.
inline constexpr const char* kChannelShuffle = "channel_shuffle";

/// Of a Gemm or MatMul in a plan, present: input 0 is an image (N, C, H, W), whose rows (C * H * W)
/// it multiplies.
inline constexpr const char* kFlattensImage = "flattens_image";

struct PointwiseProgram;  // core/ops/pointwise.h
class GradientContext;    // core/ops/gradient.h
class MatrixUnits;        // core/kernel/matrix_units.h

/// Typed access to a node's attributes and arity; errors name the node.
class NodeReader {
 public:
  explicit NodeReader(const Node& node) : node_(node) {}
  const Node& node() const { return node_; }
  size_t input_count() const { return node_.inputs.size(); }
  size_t output_count() const { return node_.outputs.size(); }
  bool has_input(size_t i) const { return i < node_.inputs.size() && node_.inputs[i] != kNoValue; }
  bool has_output(size_t i) const {
    return i < node_.outputs.size() && node_.outputs[i] != kNoValue;
  }
  bool has_attr(const std::string& name) const;
  int64_t attr_int(const std::string& name, int64_t fallback) const;
  double attr_float(const std::string& name, double fallback) const;
  std::string attr_string(const std::string& name, const std::string& fallback) const;
  std::vector<int64_t> attr_ints(const std::string& name, std::vector<int64_t> fallback = {}) const;
  std::vector<double> attr_floats(const std::string& name) const;
  std::vector<std::string> attr_strings(const std::string& name) const;  // empty where absent
  const HostTensor* attr_tensor(const std::string& name) const;          // nullptr where absent
  /// Adds the rank to a negative axis; error when out of range.
  int64_t normalize_axis(int64_t axis, int64_t rank) const;
  /// Throws InvalidArgument "NODE (OP): message".
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void unsupported(const std::string& message) const;

 private:
  const Node& node_;
};

class InferContext : public NodeReader {
 public:
  using NodeReader::NodeReader;
  virtual ~InferContext() = default;
  virtual DType dtype(size_t input) const = 0;
  virtual const Shape& shape(size_t input) const = 0;
  int64_t rank(size_t input) const { return static_cast<int64_t>(shape(input).size()); }
  /// The input's value if it is known before the run (a constant, shape arithmetic, or a small
  /// input that the run was specialized on). Asking makes a small graph input part of the plan's
  /// key.
  virtual std::optional<HostTensor> constant(size_t input) const = 0;
  /// As `constant`, or an error that says that `what` must be known before the run.
  HostTensor require_constant(size_t input, const std::string& what) const;
  virtual void set_output(size_t output, DType dtype, Shape shape) = 0;
};

class HostEvalContext : public NodeReader {
 public:
  using NodeReader::NodeReader;
  virtual ~HostEvalContext() = default;
  /// Only the dtype and shape are set where the value is not known (`Shape` needs no more).
  virtual const HostTensor& input(size_t i) const = 0;
  virtual bool is_known(size_t i) const = 0;
  virtual const Shape& output_shape(size_t i) const = 0;
  virtual DType output_dtype(size_t i) const = 0;
  virtual void set_output(size_t i, HostTensor value) = 0;
};

/// A tensor in a plan: a strided view of a storage that the memory planner places later. Strides
/// and offset are in elements; a stride may be 0 (broadcast). `offset` is the first element's.
struct TensorView {
  int32_t storage = -1;
  DType dtype = DType::kFloat32;
  Shape shape;
  Shape strides;
  int64_t offset = 0;

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t elements() const { return element_count(shape); }
  bool is_contiguous() const;
  /// 3-D, 4-D or 5-D and dense with the channel axis (1) innermost, the others in order.
  bool is_channels_last() const;
  /// Every element is stored once and together, in some order of the axes.
  bool is_dense() const;
  /// Elements from the first to the last that the strides reach, both included; 0 if empty.
  int64_t span() const;
  /// The same elements under another shape of as many elements, where strides can say it.
  std::optional<TensorView> reshaped(const Shape& new_shape) const;
};

/// Parameter values by name; arrays as vectors. Every parameter of the kernel must be given, and no
/// other. Integers are range-checked to 32 bits.
using ParamValue = std::variant<int64_t, double, std::vector<int64_t>, std::vector<double>>;
using Params = std::map<std::string, ParamValue>;

class LowerContext : public NodeReader {
 public:
  using NodeReader::NodeReader;
  virtual ~LowerContext() = default;
  virtual const Caps& caps() const = 0;
  virtual const TensorView& input(size_t i) const = 0;
  virtual const TensorView& output(size_t i) const = 0;
  virtual std::optional<HostTensor> constant(size_t input) const = 0;
  /// The input is the same in every run (a constant): prepacking it pays.
  virtual bool is_weight(size_t input) const = 0;
  /// fp16 accumulation was asked for; kernels for matrix units follow by `set_half_sums`.
  virtual bool accumulate_fp16() const = 0;
  /// The device's matrix units; nullptr where it has none.
  virtual MatrixUnits* matrix_units() const = 0;
  /// The epilogue that fusion gave this node, and its operands, already broadcast-checked: put it
  /// in the KernelRequest of the kernel that writes output 0 and append `epilogue_views` to that
  /// dispatch's operands. Operands of kind kValue have no view; `dispatch` fills in their params.
  virtual const Epilogue& epilogue() const = 0;
  virtual const std::vector<TensorView>& epilogue_views() const = 0;
  /// What a fused pointwise node computes; nullptr for any other node.
  virtual const PointwiseProgram* program() const = 0;

  /// Scratch that lives until the node's last dispatch.
  virtual TensorView workspace(DType dtype, const Shape& shape) = 0;
  /// `count` uint32 that are 0 when the node's commands start, and that these leave at 0. None
  /// where the program has no such memory, or the device no fences between work-groups.
  virtual std::optional<TensorView> counters(int64_t count) = 0;
  /// The view itself if it is contiguous, else a contiguous copy in a workspace.
  virtual TensorView contiguous(const TensorView& view) = 0;
  /// Copies `from` to `to` (same shape, any strides, converts the dtype). Nothing is done where
  /// both are the same view, as when a concat's input was written in its place of the output.
  virtual void copy(const TensorView& from, const TensorView& to) = 0;
  /// A transformed weight, made once when the model is prepared and shared by all plans of a model:
  /// `make(context, destination)` dispatches what fills `destination`. For an input that is not a
  /// weight it is made in every run, in a workspace. `key` names the transformation.
  virtual TensorView prepacked(
      size_t input, const std::string& key, DType dtype, const Shape& shape,
      const std::function<void(LowerContext&, const TensorView& destination)>& make) = 0;

  /// Adds a dispatch. Operands in the kernel's binding order (bindings whose `when` is 0 left out),
  /// epilogue views last. A view is bound from its first element (so kernel indices start at 0) to
  /// the last that its strides reach. Empty grids are dropped.
  virtual void dispatch(const KernelRequest& request, const std::vector<TensorView>& operands,
                        Params params, std::array<int64_t, 3> groups) = 0;
  /// {x, y, 1} with x*y >= n within the device's group counts: use `WL` and a bounds test.
  std::array<int64_t, 3> linear_groups(int64_t n) const;
};

struct AliasResult {
  size_t input = 0;  // which input it is a view of
  TensorView view;   // of that input's storage, dtype and the output's shape
};
class AliasContext : public NodeReader {
 public:
  using NodeReader::NodeReader;
  virtual ~AliasContext() = default;
  /// Which output is asked for: `alias` is called for each (Split's outputs are views each).
  virtual size_t output() const { return 0; }
  virtual const TensorView& input(size_t i) const = 0;
  virtual const Shape& output_shape(size_t i) const = 0;
  virtual std::optional<HostTensor> constant(size_t input) const = 0;
};

/// What a pointwise operator needs to state its program: attributes and the dtypes of its inputs.
class PointwiseContext : public NodeReader {
 public:
  PointwiseContext(const Node& node, std::vector<DType> dtypes)
      : NodeReader(node), dtypes_(std::move(dtypes)) {}
  /// Of an input that is there.
  DType dtype(size_t input) const { return dtypes_.at(input); }

 private:
  std::vector<DType> dtypes_;
};

/// What strides a result gets. kFollow: those of the first input of the same rank that is dense
/// (channels-last stays channels-last); kContiguous: row-major; kChannelsLast: channel innermost
/// when the layout pass is on, else row-major.
enum class LayoutRule : uint8_t { kFollow, kContiguous, kChannelsLast };

/// An axis of an output whose length only the run knows: `infer` declares the longest that it can
/// be, `lower` fills the leading part and leaves the rest undefined.
struct DynamicAxis {
  size_t output = 0;
  int64_t axis = 0;  // may be negative: counted from the last
  size_t count = 0;  // which element of the counts is its length
};

struct OpSchema {
  std::string name;
  std::string domain = {};
  int since_version = 1;               // of the form that `infer` and `lower` implement
  std::string doc = {};                // one line, then attributes where they need a word
  int min_inputs = 1, max_inputs = 1;  // max -1: any number
  int min_outputs = 1, max_outputs = 1;
  LayoutRule layout = LayoutRule::kFollow;
  bool in_place = false;        // output 0 may overwrite a dying input of the same size and strides
  bool fuses_epilogue = false;  // `lower` passes the context's epilogue on to its kernels
  int64_t epilogue_channel_axis = 1;  // of the output: what `channel` counts
  std::function<void(InferContext&)> infer = {};
  std::function<void(HostEvalContext&)> host_eval = {};
  std::function<std::optional<AliasResult>(const AliasContext&)> alias = {};
  std::function<void(LowerContext&)> lower = {};
  /// What the operator computes element by element; such nodes are fused with their neighbours.
  std::function<PointwiseProgram(const PointwiseContext&)> pointwise = {};
  /// host_eval needs the inputs' shapes only (Shape, Size).
  bool host_eval_by_shape = false;
  /// `lower` takes inputs, output 0 and epilogue in any mix of float32 and float16.
  bool mixed_floats = false;
  /// Of operators whose output sizes depend on data. In a plan their nodes have one more output, at
  /// index `max_outputs`: int32 counts, which `infer` declares and `lower` writes. The plan ends
  /// there; what follows sees the outputs cut to the counts. host_eval, where there is one, may
  /// give such an output its exact shape.
  std::function<std::vector<DynamicAxis>(const NodeReader&)> dynamic = {};
  /// Adds the gradients of the inputs to the graph (core/ops/gradient.h). None: no derivative.
  std::function<void(GradientContext&)> gradient = {};
  /// Each output may overwrite an input of the same shape that is read element by element: what
  /// updates variables works on their memory.
  bool updates_in_place = false;
  /// Where float32 is stored as float16, outputs from this one on stay float32 (statistics).
  size_t float32_outputs = SIZE_MAX;
};

void register_op(OpSchema schema);
/// nullptr when there is none.
const OpSchema* find_op(const std::string& name, const std::string& domain = {});
/// Sorted by domain and name.
std::vector<const OpSchema*> all_ops();

}  // namespace dlk

#define DLK_CONCAT_INNER(a, b) a##b
#define DLK_CONCAT(a, b) DLK_CONCAT_INNER(a, b)
/// DLK_REGISTER_OPS { register_op({...}); ... }: runs once, before main.
#define DLK_REGISTER_OPS                                                                         \
  static void DLK_CONCAT(dlk_register_ops_, __LINE__)();                                         \
  namespace {                                                                                    \
  [[maybe_unused]] const bool DLK_CONCAT(dlk_ops_registered_,                                    \
                                         __LINE__) = (DLK_CONCAT(dlk_register_ops_, __LINE__)(), \
                                                      true);                                     \
  }                                                                                              \
  static void DLK_CONCAT(dlk_register_ops_, __LINE__)()
