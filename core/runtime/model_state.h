// What a model and its sessions share. Internal to the engine.
#pragma once

#include <list>
#include <memory>
#include <mutex>

#include "core/runtime/plan.h"

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
  std::unique_ptr<Session> create_session() override;
  HostTensor read_variable(const std::string& name) override;
  void write_variable(const std::string& name, const HostTensor& value) override;

  /// The plan for these inputs; checks names, dtypes and shapes first. Thread-safe.
  std::shared_ptr<const Plan> plan_for(const RunInputs& inputs);

 private:
  void check_inputs(const RunInputs& inputs) const;
  const Value& stored_value(const std::string& name, ValueId& id) const;

  Graph graph_;
  std::shared_ptr<Device> device_;
  CompileOptions options_;
  std::shared_ptr<KernelLibrary> library_;
  std::mutex mutex_;  // of what follows
  WeightStore weights_;
  HostCache host_cache_;
  std::list<std::shared_ptr<const Plan>> plans_;
};

/// Dtype and shape of a run's input.
DType input_dtype(const RunInput& input);
const Shape& input_shape(const RunInput& input);

/// Key in the weight store of a constant or variable of the graph.
std::string stored_key(const Graph& graph, ValueId id);

std::unique_ptr<Session> make_session(std::shared_ptr<ModelState> model);

}  // namespace dlk
