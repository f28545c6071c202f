// Plans made ahead of time: a Bundle holds one plan of a model with its compiled kernels and packed
// weights, for one kind of device, so that an application neither plans nor compiles. Made by
// `dlk convert --target`, kept in the model file, used by models on a device that fits. Internal to
// the engine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/runtime/plan.h"

namespace dlk {

/// What a bundle was made for. Everything but the driver must be equal for it to be used; with
/// another driver or device of equal capabilities its kernels are compiled from their portable
/// form, unless they hold matrix units, which are tried on each device.
struct BundleTarget {
  std::string version;       // of dlk
  std::string backend;       // "vulkan"
  std::string device;        // name, vendor, driver and its version
  std::string capabilities;  // what plans and kernels depend on
  std::string options;       // of CompileOptions
  static BundleTarget of(const Caps& caps, const CompileOptions& options);
};

/// A bundle as its bytes say.
struct BundleContents {
  BundleTarget target;
  bool portable = false;
  InputForms forms;
  std::map<std::string, HostTensor> used_values;
  std::vector<ValueSource> outputs;
  std::vector<PlanTensor> plan_inputs, plan_outputs;
  std::vector<Storage> storages;         // of weights: `key` is the name in Bundle::weights; of
  std::vector<PlannedCommand> commands;  // variables, the graph's name
  std::vector<uint32_t> kernel_of;       // one a command; of copies 0
  MemoryPlan memory;
  std::vector<KernelPackage> kernels;
  std::string driver_cache;
  PlanSummary summary;
};

std::string write_bundle(const BundleContents& contents);
/// Only what a bundle was made for: enough to choose. InvalidArgument for what is damaged; an older
/// form is for a version that none is.
BundleTarget read_bundle_target(std::string_view bytes);
/// Everything, with every index and range checked. InvalidArgument says what is wrong.
BundleContents read_bundle(std::string_view bytes);

/// The plan with its kernels and weights as a bundle. Unsupported for plans that end before the
/// graph does (shapes or control flow that depend on what a run computes).
std::shared_ptr<const Bundle> make_bundle(const Graph& graph, Device& device,
                                          KernelLibrary& library, const CompileOptions& options,
                                          const InputForms& forms, const Plan& plan,
                                          WeightStore& weights);

/// Why a bundle is not for this device, dlk and options; empty where it is.
std::string why_not(const BundleTarget& target, bool portable, const BundleTarget& here);

/// The bundle's plan on this device. Its kernels are compiled in parallel while weights are sent.
std::shared_ptr<const Plan> open_bundle(const Graph& graph, const Bundle& bundle,
                                        BundleContents contents,
                                        const std::shared_ptr<Device>& device, bool same_driver,
                                        WeightStore& weights);

}  // namespace dlk
