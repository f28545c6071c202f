// Plans one after another: where shapes or control flow depend on values that the run makes, a plan
// ends there, and the rest of the graph is planned when they have been read back. A StageTree keeps
// the plans of one graph; each holds the tree of what follows it. Internal to the engine.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/plan.h"

namespace dlk {

DType tensor_dtype(const RunTensor& tensor);
const Shape& tensor_shape(const RunTensor& tensor);
/// The tensor that an input is; InvalidArgument for sequences and absent ones.
RunTensor as_tensor(const RunInput& input);
RunInput as_input(RunTensor tensor);
InputForm form_of(const RunInput& input);

/// Equal dtypes, shapes and bytes.
bool same_bytes(const HostTensor& a, const HostTensor& b);

/// The inputs of one stage, with the values that were read back from the device.
class StageInputs {
 public:
  using Reader = std::function<HostTensor(const DeviceTensor&)>;
  explicit StageInputs(const RunInputs& inputs, Reader reader = {});
  const InputForms& forms() const { return forms_; }
  /// By the name that the plan knows: elements of a sequence are inputs of their own.
  const RunTensor& tensor(const std::string& name) const { return tensors_.at(name); }
  /// The value, read back if it lies on the device.
  const HostTensor& host(const std::string& name);

 private:
  InputForms forms_;
  std::map<std::string, RunTensor> tensors_;
  std::map<std::string, HostTensor> values_;
  Reader reader_;
};

struct Stage;

class StageTree {
 public:
  explicit StageTree(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)) {}
  const Graph& graph() const { return *graph_; }
  /// The stage for these forms and the values that it was made for; nullptr if there is none.
  std::shared_ptr<Stage> find(StageInputs& inputs);
  /// The least recently used stages make room.
  std::shared_ptr<Stage> add(const InputForms& forms, std::shared_ptr<const Plan> plan);

 private:
  std::shared_ptr<const Graph> graph_;
  std::list<std::shared_ptr<Stage>> stages_;
};

struct Stage {
  InputForms forms;
  std::shared_ptr<const Plan> plan;
  std::vector<std::unique_ptr<StageTree>> bodies;  // one a loop
  std::unique_ptr<StageTree> rest;                 // null: nothing follows
  bool is_last() const { return !rest && bodies.empty(); }
};

}  // namespace dlk
