#include "core/runtime/bundle.h"

#include <future>

#include "core/base/parallel.h"
#include "core/base/phases.h"

namespace dlk {

namespace {

template <typename... Numbers>
std::string joined(Numbers... numbers) {
  std::string text;
  ((text += "|" + std::to_string(numbers)), ...);
  return text;
}

/// A variable's key in a weight store names the graph of one process: bundles use its name.
std::map<std::string, std::string> variable_names(const Graph& graph) {
  std::map<std::string, std::string> names;
  for (size_t id = 0; id < graph.values().size(); ++id) {
    const Value& value = graph.values()[id];
    if (value.kind == ValueKind::kVariable) {
      names[leaf_key(graph, static_cast<ValueId>(id))] = value.name;
    }
  }
  return names;
}

void check_single_stage(const Plan& plan) {
  const Specialization& special = plan.special();
  bool whole = special.loops.empty() && !special.rest;
  for (const ValueSource& source : special.outputs) {
    whole = whole && source.kind == ValueSource::Kind::kPlanOutput;
  }
  if (whole) return;
  throw_unsupported(
      "the model cannot be made ahead of time: shapes or control flow depend on what a run "
      "computes, or an output is an input or no tensor");
}

HostTensor bytes_tensor(std::string_view bytes) {
  return HostTensor::copy_of(DType::kUInt8, {static_cast<int64_t>(bytes.size())},
                             std::as_bytes(std::span(bytes.data(), bytes.size())));
}

/// Names and bytes of the weights that the plan reads; storages refer to them by those names.
std::map<std::string, HostTensor> take_weights(std::vector<Storage>& storages, const Graph& graph,
                                               WeightStore& store) {
  const std::map<std::string, std::string> variables = variable_names(graph);
  std::map<std::string, HostTensor> weights;
  std::map<std::string, std::string> names;  // by key
  for (Storage& storage : storages) {
    storage.data.reset();
    if (storage.kind == StorageKind::kVariable) {
      storage.key = variables.at(storage.key);
    } else if (storage.kind == StorageKind::kWeight && store.has(storage.key)) {
      const auto [name, is_new] = names.emplace(storage.key, "w" + std::to_string(names.size()));
      storage.key = name->second;
      if (is_new) {
        const Shape shape{static_cast<int64_t>(storage.size_bytes)};
        weights[storage.key] = store.read(name->first, DType::kUInt8, shape);
      }
    }
  }
  return weights;
}

/// Weights and variables that commands read lie in the store under the storages' keys.
std::map<std::string, View> place_weights(std::vector<Storage>& storages, const Graph& graph,
                                          const Bundle& bundle, WeightStore& store) {
  const Phase phase("bundle/weights");
  std::map<std::string, View> places;
  for (Storage& storage : storages) {
    if (storage.kind == StorageKind::kVariable) {
      const std::optional<ValueId> id = graph.find(storage.key);
      if (!id || graph.value(*id).kind != ValueKind::kVariable ||
          graph.value(*id).data.size_bytes() != storage.size_bytes) {
        throw_invalid("the model's bundle is of another graph: it has no variable '" + storage.key +
                      "'");
      }
      storage.key = leaf_key(graph, *id);
    } else if (storage.kind == StorageKind::kWeight) {
      const auto found = bundle.weights.find(storage.key);
      if (found == bundle.weights.end()) continue;  // read by no command
      if (found->second.size_bytes() != storage.size_bytes) {
        throw_invalid("the model's bundle is damaged: the weight of '" + storage.name + "' has " +
                      std::to_string(found->second.size_bytes()) + " bytes, not " +
                      std::to_string(storage.size_bytes));
      }
      storage.key =
          "bundle" + std::to_string(reinterpret_cast<uintptr_t>(&bundle)) + ":" + storage.key;
      store.ensure(storage.key, found->second, found->second.dtype);
    } else {
      continue;
    }
    places.emplace(storage.key, store.get(storage.key));
  }
  return places;
}

std::shared_ptr<Kernel> load(const KernelPackage& package, Device& device, bool same_driver) {
  const Phase phase("bundle/kernels");
  if (same_driver && package.binary) {
    try {
      return device.compile(*package.binary);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCompileFailed) throw;  // refused: the portable form will do
    }
  }
  return device.compile(package.portable);
}

std::vector<std::shared_ptr<Kernel>> load_all(const std::vector<KernelPackage>& packages,
                                              Device& device, bool same_driver) {
  std::vector<std::shared_ptr<Kernel>> kernels(packages.size());
  parallel_for(packages.size(),
               [&](size_t i) { kernels[i] = load(packages[i], device, same_driver); });
  return kernels;
}

}  // namespace

BundleTarget BundleTarget::of(const Caps& caps, const CompileOptions& options) {
  BundleTarget target;
  target.version = DLK_VERSION;
  target.backend = caps.backend;
  target.device = caps.name + "|" + caps.vendor + "|" + caps.driver + "|" + caps.api_version;
  for (const auto& [name, value] : caps_flags(caps)) {
    if (value) target.capabilities += "|" + name;
  }
  target.capabilities +=
      joined(caps.is_cpu, caps.max_buffer_bytes, caps.max_binding_bytes, caps.binding_alignment,
             caps.max_push_bytes, caps.max_bindings, caps.max_group_size[0], caps.max_group_size[1],
             caps.max_group_size[2], caps.max_group_count[0], caps.max_group_count[1],
             caps.max_group_count[2], caps.max_group_invocations, caps.local_memory_bytes,
             caps.compute_units, caps.subgroup_size, caps.vector_width);
  target.options = joined(static_cast<int>(options.dtype), options.accumulate_fp16, options.fuse,
                          options.channels_last, options.alias);
  return target;
}

std::string why_not(const BundleTarget& target, bool portable, const BundleTarget& here) {
  if (target.version != here.version) {
    return "it was made by dlk " + target.version + ", this is dlk " + here.version;
  }
  if (target.backend != here.backend) return "it is for " + target.backend;
  if (target.options != here.options) {
    return "it was made with other options (dtype, accumulate, fuse, channels_last, alias)";
  }
  if (target.capabilities != here.capabilities) {
    return "it is for '" + target.device + "', which can do other things than this device";
  }
  if (target.device != here.device && !portable) {
    return "it holds matrix units for '" + target.device + "', this is '" + here.device + "'";
  }
  return {};
}

std::shared_ptr<const Bundle> make_bundle(const Graph& graph, Device& device,
                                          KernelLibrary& library, const CompileOptions& options,
                                          const InputForms& forms, const Plan& plan,
                                          WeightStore& weights) {
  check_single_stage(plan);
  auto bundle = std::make_shared<Bundle>();
  BundleContents contents;
  contents.target = BundleTarget::of(device.caps(), options);
  contents.portable = true;
  contents.forms = forms;
  contents.used_values = plan.used_values();
  contents.outputs = plan.special().outputs;
  contents.plan_inputs = plan.inputs();
  contents.plan_outputs = plan.outputs();
  contents.memory = plan.memory();
  contents.summary = plan.summary();
  const Program& program = plan.program();
  contents.commands = program.lowered.commands;
  contents.storages = program.lowered.storages;
  bundle->weights = take_weights(contents.storages, graph, weights);
  std::map<std::string, uint32_t> index_of;
  std::vector<KernelCode> codes;
  for (const PlannedCommand& command : contents.commands) {
    if (command.is_copy) {
      contents.kernel_of.push_back(0);
      continue;
    }
    const auto next = static_cast<uint32_t>(contents.kernels.size());
    const auto [index, is_new] = index_of.emplace(command.request.key(), next);
    contents.kernel_of.push_back(index->second);
    if (!is_new) continue;
    contents.portable = contents.portable && command.request.lowering == "plain";
    contents.kernels.push_back(library.package(command.request));
    codes.push_back(contents.kernels.back().portable);
  }
  contents.driver_cache = device.driver_cache_of(codes);
  bundle->plan = bytes_tensor(write_bundle(contents));
  return bundle;
}

std::shared_ptr<const Plan> open_bundle(const Graph& graph, const Bundle& bundle,
                                        BundleContents contents,
                                        const std::shared_ptr<Device>& device, bool same_driver,
                                        WeightStore& weights) {
  if (same_driver) device->add_driver_cache(contents.driver_cache);
  std::future<std::vector<std::shared_ptr<Kernel>>> loading = std::async(
      std::launch::async, [&] { return load_all(contents.kernels, *device, same_driver); });
  auto plan = std::make_shared<Plan>();
  plan->fixed_ = place_weights(contents.storages, graph, bundle, weights);
  plan->special_.used_values = std::move(contents.used_values);
  plan->special_.outputs = std::move(contents.outputs);
  plan->inputs_ = std::move(contents.plan_inputs);
  plan->outputs_ = std::move(contents.plan_outputs);
  plan->summary_ = std::move(contents.summary);
  for (const PlanTensor& output : plan->outputs_) {
    plan->summary_.output_shapes[output.name] = output.shape;
  }
  plan->program_.lowered.storages = std::move(contents.storages);
  plan->program_.lowered.commands = std::move(contents.commands);
  plan->program_.memory = std::move(contents.memory);
  plan->program_.pipelines = contents.kernels.size();
  {
    const Phase phase("bundle/wait for kernels");
    const std::vector<std::shared_ptr<Kernel>> kernels = loading.get();
    for (size_t c = 0; c < contents.kernel_of.size(); ++c) {
      const bool is_copy = plan->program_.lowered.commands[c].is_copy;
      plan->program_.kernels.push_back(is_copy ? nullptr : kernels[contents.kernel_of[c]]);
    }
  }
  const Phase phase("bundle/wait for weights");
  weights.flush();
  return plan;
}

}  // namespace dlk
