// A model's plan for one set of input shapes: the program, where its fixed storages are, and the
// recordings' making; and what comes after it, where shapes depend on what it computes. Immutable
// once built, shared by sessions. Internal to the engine.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/passes.h"
#include "core/graph/specialize.h"
#include "core/runtime/model.h"
#include "core/runtime/program.h"
#include "core/runtime/weights.h"

namespace dlk {

struct PlanTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  uint64_t size_bytes() const;
};

struct Bundle;
struct BundleContents;

class Plan {
 public:
  /// Specializes, optimizes, lowers, compiles, and makes the weights that are new.
  static std::shared_ptr<const Plan> build(const Graph& graph,
                                           const std::shared_ptr<Device>& device,
                                           KernelLibrary& library, const CompileOptions& options,
                                           const SpecializeOptions& inputs, WeightStore& weights,
                                           HostCache& host_cache);

  /// Input values that the plan was made for.
  const std::map<std::string, HostTensor>& used_values() const { return special_.used_values; }
  /// What follows: loops, the rest of the graph, and where its outputs are. Its `graph` is empty.
  const Specialization& special() const { return special_; }
  /// In slot order: the inputs that the plan reads, then the outputs.
  const std::vector<PlanTensor>& inputs() const { return inputs_; }
  const std::vector<PlanTensor>& outputs() const { return outputs_; }
  const MemoryPlan& memory() const { return program_.memory; }
  const Program& program() const { return program_; }
  const PlanSummary& summary() const { return summary_; }
  /// The plan's commands over these activation buffers and counters (memory().counter_bytes of
  /// zeros, which a run leaves so), with a slot for each input and output, and the best kernels of
  /// `library` where that is given.
  CommandList commands(const std::vector<std::shared_ptr<Buffer>>& chunks,
                       const std::shared_ptr<Buffer>& counters,
                       const KernelLibrary* library = nullptr) const;

 private:
  friend std::shared_ptr<const Plan> open_bundle(const Graph& graph, const Bundle& bundle,
                                                 BundleContents contents,
                                                 const std::shared_ptr<Device>& device,
                                                 bool same_driver, WeightStore& weights);
  void summarize(const ConcreteGraph& graph, uint64_t weight_bytes);

  Specialization special_;
  std::vector<PlanTensor> inputs_, outputs_;
  Program program_;
  std::map<std::string, View> fixed_;  // weights and variables by key
  PlanSummary summary_;
};

/// Multiply-adds count two; 0 for what only moves data.
double estimate_flops(const ConcreteGraph& graph, const ConcreteNode& node);

}  // namespace dlk
