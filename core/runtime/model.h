// Running a graph. A Model is a graph with its weights on one device; it makes and keeps a plan for
// each set of input shapes. A Session is one user's queue and activation memory; several sessions
// (threads) share a model's weights, and one session keeps up to `in_flight` runs under way.
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

namespace dlk {

/// A dense, row-major tensor in device memory. A copyable handle that keeps the memory alive.
struct DeviceTensor {
  std::shared_ptr<Device> device;
  View view;
  DType dtype = DType::kFloat32;
  Shape shape;

  static DeviceTensor empty(const std::shared_ptr<Device>& device, DType dtype, Shape shape);
  static DeviceTensor upload(const std::shared_ptr<Device>& device, const HostTensor& tensor);
  HostTensor read() const;
};

class Model;

/// Plans that were made ahead of time (Graph::bundles): used where one fits the device and the
/// inputs, never, or always: then what no bundle covers is Unsupported.
enum class BundleUse : uint8_t { kWhereItFits, kNever, kAlways };

struct CompileOptions {
  /// kFloat32: as the graph says. kFloat16: float32 weights and activations are stored as fp16;
  /// graph inputs and outputs keep their declared dtype.
  DType dtype = DType::kFloat32;
  bool accumulate_fp16 = false;  // needs Caps::fp16_arithmetic or inline_ptx
  bool fuse = true;              // pointwise and epilogue fusion, batch-norm folding
  bool channels_last = true;     // let the layout pass choose channels-last
  bool alias = true;             // views and in-place
  /// Activation arenas a session, so many runs may be under way; 0: two, or four small ones on GPUs
  /// where runs overlap.
  int in_flight = 0;
  /// Variables of the same name, dtype and shape are those of this model, on the same device: an
  /// inference graph reads what a training graph updates, without a copy.
  std::shared_ptr<Model> share_variables = {};
  /// DLK_BUNDLE=0 and DLK_BUNDLE=require in the environment come before this.
  BundleUse bundle = BundleUse::kWhereItFits;
  /// For tests: nothing shares memory, unwritten memory is NaN, and a run that wrote outside of a
  /// tensor throws DeviceLost with its name. Runs are then waited for where they start.
  bool guards = false;
  /// For tests: runs go without the plan's barrier of this index, counted from 0.
  std::optional<size_t> drop_barrier_for_test;
  std::function<void(const std::string& stage, size_t done, size_t total)> progress;
};

/// One dispatch (or copy) of a plan, for tables, drawings and profiles.
struct PlanStep {
  std::string node, op, kernel;
  std::array<uint32_t, 3> groups{1, 1, 1};
  uint64_t bytes_read = 0, bytes_written = 0;
  double flops = 0;
  bool barrier_before = false;
  std::vector<size_t> reads_from;  // earlier steps that wrote what this one uses
};

struct PlanSummary {
  std::vector<PlanStep> steps;
  std::vector<std::string> host_ops;  // shape arithmetic and control flow done on the host
  uint64_t arena_bytes = 0;           // activations and workspaces, one run
  uint64_t peak_live_bytes = 0;       // the least that any placement of this order could use
  uint64_t weight_bytes = 0;
  size_t dispatches = 0, pipelines = 0;
  std::map<std::string, Shape> output_shapes;
  std::string table() const;     // for people
  std::string graphviz() const;  // dot text
};

/// A tensor handed to a run: host memory (uploaded) or device memory (bound without a copy).
using RunTensor = std::variant<HostTensor, DeviceTensor>;
/// A sequence of tensors, for inputs and outputs that are one.
struct TensorList {
  std::vector<RunTensor> items;
};
/// An optional that holds nothing.
struct Absent {};
using RunInput = std::variant<HostTensor, DeviceTensor, TensorList, Absent>;
using RunInputs = std::map<std::string, RunInput>;
/// An output in host memory.
using HostValue = std::variant<HostTensor, std::vector<HostTensor>, Absent>;

struct InputInfo {
  std::string name;
  DType dtype;
  SymbolicShape shape;
  ValueType type = ValueType::kTensor;
};

class Run;
class Session;

class Model {
 public:
  /// Checks every operator (Unsupported names all that are missing, at once) and uploads weights.
  static std::shared_ptr<Model> create(Graph graph, std::shared_ptr<Device> device,
                                       CompileOptions options = {});
  virtual ~Model() = default;
  virtual const Graph& graph() const = 0;
  virtual const std::shared_ptr<Device>& device() const = 0;
  virtual const CompileOptions& options() const = 0;
  virtual std::vector<InputInfo> inputs() const = 0;
  virtual std::vector<std::string> outputs() const = 0;
  /// The plan for these inputs (values matter only for the small tensors that shapes depend on).
  /// Makes it, compiles its kernels and prepacks weights if it is new. Where shapes depend on what
  /// the run computes, all of the run but its last stage takes place, to learn them.
  virtual PlanSummary plan(const RunInputs& inputs) = 0;
  /// The plan for these inputs with its kernels and packed weights, to be kept in the model file
  /// (Graph::add_bundle). Unsupported where the plan is not the whole graph.
  virtual std::shared_ptr<const Bundle> bundle(const RunInputs& inputs) = 0;
  /// True once a run or a plan used a bundle.
  virtual bool bundled() = 0;
  virtual std::unique_ptr<Session> create_session() = 0;
  /// The current value of a constant or variable, read back; a new one for a variable (same shape).
  virtual HostTensor read_variable(const std::string& name) = 0;
  virtual void write_variable(const std::string& name, const HostTensor& value) = 0;
};

/// Used by one thread at a time. Variables belong to the model, shared by its sessions; recurrent
/// state that must not be shared is an input and an output of the graph.
class Session {
 public:
  virtual ~Session() = default;
  /// Starts a run and returns at once; blocks only when `in_flight` runs are under way, until the
  /// oldest is done, and where shapes or control flow depend on what the run computes, until that
  /// is read back. InvalidArgument for unknown or missing names, wrong dtypes, ranks and shapes.
  virtual std::shared_ptr<Run> run_async(const RunInputs& inputs) = 0;
  /// run_async, wait, read all outputs. Unsupported where one is no tensor.
  virtual std::map<std::string, HostTensor> run(const RunInputs& inputs) = 0;
  /// As `run`, for graphs whose outputs may be sequences or absent.
  virtual std::map<std::string, HostValue> run_values(const RunInputs& inputs) = 0;
  /// As `run`, with device times: one {PlanStep, nanoseconds} a command.
  virtual std::vector<std::pair<PlanStep, double>> profile(const RunInputs& inputs) = 0;
  virtual void wait_all() = 0;
};

/// One run under way or done. Outputs belong to the run: they stay valid as long as a handle lives.
class Run {
 public:
  virtual ~Run() = default;
  virtual void wait() = 0;
  virtual bool is_done() = 0;
  virtual void on_complete(std::function<void(std::exception_ptr)> callback) = 0;
  virtual DeviceTensor output(const std::string& name) = 0;  // Unsupported if it is no tensor
  virtual HostTensor read(const std::string& name) = 0;      // waits
  virtual HostValue read_value(const std::string& name) = 0;
};

/// Output shapes with symbols: runs shape inference on several bindings of the input symbols and
/// returns what depends on them as text ("N", "2*N+1", "?"), name by name of all graph values.
std::map<std::string, std::vector<std::string>> symbolic_shapes(const Graph& graph);

/// The element types of the values that inference reaches without a run, by name.
std::map<std::string, DType> value_dtypes(const Graph& graph);

}  // namespace dlk
