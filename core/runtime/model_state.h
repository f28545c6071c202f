// What a model and its sessions share. Internal to the engine.
#pragma once

#include <memory>
#include <mutex>

#include "core/runtime/bundle.h"
#include "core/runtime/stages.h"

namespace dlk {

class ModelState : public Model, public std::enable_shared_from_this<ModelState> {
 public:
  ModelState(Graph graph, std::shared_ptr<Device> device, CompileOptions options);

  const Graph& graph() const override { return graph_; }
  const std::shared_ptr<Device>& device() const override { return device_; }
  const CompileOptions& options() const override { return options_; }
  std::vector<InputInfo> inputs() const override;
  std::vector<std::string> outputs() const override { return graph_.output_names(); }
  PlanSummary plan(const RunInputs& inputs) override;
  std::shared_ptr<const Bundle> bundle(const RunInputs& inputs) override;
  bool bundled() override;
  std::unique_ptr<Session> create_session() override;
  HostTensor read_variable(const std::string& name) override;
  void write_variable(const std::string& name, const HostTensor& value) override;

  /// The whole graph as stages.
  StageTree& stages() { return stages_; }
  /// The stage of `tree` for these inputs, made if it is new. Thread-safe.
  std::shared_ptr<Stage> stage_for(StageTree& tree, StageInputs& inputs);
  /// Whose kernels the plans have; null while all of them come from bundles.
  std::shared_ptr<KernelLibrary> kernels();
  /// Names, dtypes and shapes.
  void check_inputs(const RunInputs& inputs) const;

 private:
  KernelLibrary& library();
  /// Finds the bundles that fit the device and the options.
  void find_bundles();
  /// A plan for these inputs out of the bundles; null where none fits.
  std::shared_ptr<const Plan> bundled_plan(StageInputs& inputs);
  /// The variable's memory is that of the model it is shared with; false where that has none.
  bool adopt_variable(ValueId id);
  const Value& stored_value(const std::string& name, ValueId& id) const;

  Graph graph_;
  std::shared_ptr<Device> device_;
  CompileOptions options_;
  std::mutex mutex_;                        // of what follows
  std::shared_ptr<KernelLibrary> library_;  // null until something is planned
  WeightStore weights_;
  HostCache host_cache_;
  struct FittingBundle {
    std::shared_ptr<const Bundle> bundle;
    BundleContents contents;
    bool same_driver = false;
  };
  std::vector<FittingBundle> bundles_;
  bool bundled_ = false;
  StageTree stages_;
};

/// Key in the weight store of a constant or variable of the graph.
std::string stored_key(const Graph& graph, ValueId id);

/// The plan of a graph in several stages: runs all but the last.
PlanSummary summarize_stages(std::shared_ptr<ModelState> model, const RunInputs& inputs);

std::unique_ptr<Session> make_session(std::shared_ptr<ModelState> model);

}  // namespace dlk
