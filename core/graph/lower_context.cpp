#include "core/graph/lower_context.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace dlk {

namespace {

bool same_view(const TensorView& a, const TensorView& b) {
  return a.storage == b.storage && a.offset == b.offset && a.dtype == b.dtype &&
         a.shape == b.shape && a.strides == b.strides;
}

bool ranges_meet(const PlannedOperand& a, const PlannedOperand& b) {
  return a.storage == b.storage && a.offset_bytes < b.offset_bytes + b.size_bytes &&
         b.offset_bytes < a.offset_bytes + a.size_bytes;
}

/// The first axis from inside that leaves a gap gives the period, which strides further out keep.
/// Only where runs begin and end with whole vectors: kernels load and store these.
Stripes stripes_of(const TensorView& view) {
  constexpr int64_t kVectorBytes = 16;
  const auto size = static_cast<int64_t>(dtype_size(view.dtype));
  std::vector<std::pair<int64_t, int64_t>> axes;  // stride, dimension
  for (size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] == 0) return {};
    if (view.shape[i] > 1) axes.emplace_back(view.strides[i], view.shape[i]);
  }
  std::ranges::sort(axes);
  int64_t run = 1, period = 0;
  for (const auto& [stride, dimension] : axes) {
    if (stride <= 0 || (period != 0 && stride % period != 0)) return {};
    if (period == 0 && stride > run) period = stride;
    if (period == 0) run += (dimension - 1) * stride;
  }
  if (period == 0) return {};
  for (const int64_t edge : {view.offset, run, period}) {
    if (edge * size % kVectorBytes != 0) return {};
  }
  return {static_cast<uint64_t>(period * size), static_cast<uint64_t>(run * size)};
}

/// Leaves the storages that commands use, and outputs.
void drop_unused_storages(Lowered& program) {
  std::vector<int32_t> moved(program.storages.size(), -1);
  for (const PlannedCommand& command : program.commands) {
    for (const PlannedOperand& operand : command.operands) moved[operand.storage] = 0;
  }
  std::vector<Storage> kept;
  for (size_t s = 0; s < moved.size(); ++s) {
    if (moved[s] < 0 && program.storages[s].kind != StorageKind::kOutput) continue;
    moved[s] = static_cast<int32_t>(kept.size());
    kept.push_back(std::move(program.storages[s]));
  }
  program.storages = std::move(kept);
  for (PlannedCommand& command : program.commands) {
    for (PlannedOperand& operand : command.operands) operand.storage = moved[operand.storage];
  }
}

/// The 32 bits of one parameter; nullopt where the number does not fit.
template <typename T>
std::optional<uint32_t> parameter_bits(char kind, T value) {
  if (kind == 'f') {
    const auto number = static_cast<float>(value);
    uint32_t bits = 0;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
  }
  const auto integer = static_cast<int64_t>(value);
  if (static_cast<T>(integer) != value) return std::nullopt;
  const bool fits = kind == 'i' ? integer >= std::numeric_limits<int32_t>::min() &&
                                      integer <= std::numeric_limits<int32_t>::max()
                                : integer >= 0 && integer <= std::numeric_limits<uint32_t>::max();
  if (!fits) return std::nullopt;
  return static_cast<uint32_t>(integer);
}

std::vector<std::optional<uint32_t>> bits_of(char kind, const ParamValue& value) {
  std::vector<std::optional<uint32_t>> bits;
  std::visit(
      [&](const auto& v) {
        if constexpr (requires { v.begin(); }) {
          for (const auto& element : v) bits.push_back(parameter_bits(kind, element));
        } else {
          bits.push_back(parameter_bits(kind, v));
        }
      },
      value);
  return bits;
}

}  // namespace

PlannedOperand planned_operand(const TensorView& view, Access access) {
  const uint64_t size = dtype_size(view.dtype);
  return {view.storage, static_cast<uint64_t>(view.offset) * size,
          static_cast<uint64_t>(view.span()) * size, access, stripes_of(view)};
}

NodeLowering::NodeLowering(const LowerState& state, const ConcreteNode& node, NodeId id,
                           Lowered& target)
    : LowerContext(node.node), state_(state), node_of_(node), id_(id), target_(target) {}

const TensorView& NodeLowering::input(size_t i) const {
  if (!has_input(i)) fail("input " + std::to_string(i) + " is missing");
  return state_.views[node().inputs[i]];
}

const TensorView& NodeLowering::output(size_t i) const {
  if (!has_output(i)) fail("output " + std::to_string(i) + " is not wanted");
  return state_.views[node().outputs[i]];
}

std::optional<HostTensor> NodeLowering::constant(size_t input) const {
  if (!has_input(input)) return std::nullopt;
  return state_.graph.value(node().inputs[input]).known;
}

bool NodeLowering::is_weight(size_t input) const {
  return has_input(input) && state_.graph.value(node().inputs[input]).is_constant();
}

TensorView NodeLowering::new_tensor(StorageKind kind, DType dtype, const Shape& shape,
                                    const std::string& name) {
  Storage storage;
  storage.kind = kind;
  storage.name = name;
  storage.dtype = dtype;
  TensorView view;
  view.storage = static_cast<int32_t>(target_.storages.size());
  view.dtype = dtype;
  view.shape = shape;
  view.strides = contiguous_strides(shape);
  storage.size_bytes = static_cast<uint64_t>(view.elements()) * dtype_size(dtype);
  target_.storages.push_back(std::move(storage));
  return view;
}

TensorView NodeLowering::workspace(DType dtype, const Shape& shape) {
  return new_tensor(StorageKind::kArena, dtype, shape, node().name + " workspace");
}

std::optional<TensorView> NodeLowering::counters(int64_t count) {
  if (!state_.options.counters || !caps().device_fences) return std::nullopt;
  return new_tensor(StorageKind::kCounters, DType::kUInt32, {count}, node().name + " counters");
}

TensorView NodeLowering::contiguous(const TensorView& view) {
  if (view.is_contiguous()) return view;
  TensorView copied = workspace(view.dtype, view.shape);
  copy(view, copied);
  return copied;
}

void NodeLowering::copy(const TensorView& from, const TensorView& to) {
  if (from.shape != to.shape) {
    fail("copies " + shape_string(from.shape) + " to " + shape_string(to.shape));
  }
  if (same_view(from, to) || from.elements() == 0) return;
  if (ranges_meet(planned_operand(from, Access::kRead), planned_operand(to, Access::kWrite))) {
    // Pieces of one concat interleave: no kernel may read the bytes between those it writes.
    const TensorView apart = workspace(from.dtype, from.shape);
    copy(from, apart);
    copy(apart, to);
    return;
  }
  if (from.dtype == to.dtype && from.strides == to.strides && from.is_dense() &&
      from.storage != to.storage) {
    PlannedCommand command;
    command.is_copy = true;
    command.operands = {planned_operand(from, Access::kRead), planned_operand(to, Access::kWrite)};
    command.node = id_;
    command.label = node().name;
    command.op = node().op;
    target_.commands.push_back(std::move(command));
    return;
  }
  dispatch_pointwise(*this, cast_program(from.dtype, to.dtype), {from}, {false}, to);
}

TensorView NodeLowering::prepacked(
    size_t input_index, const std::string& key, DType dtype, const Shape& shape,
    const std::function<void(LowerContext&, const TensorView&)>& make) {
  if (!is_weight(input_index)) {
    const TensorView destination = workspace(dtype, shape);
    make(*this, destination);
    return destination;
  }
  const std::string full_key = state_.graph.value(node().inputs[input_index]).key + "|" +
                               node().op + "|" + key + "|" + std::string(dtype_name(dtype)) +
                               shape_string(shape);
  for (size_t s = 0; s < target_.storages.size(); ++s) {
    if (target_.storages[s].kind != StorageKind::kWeight || target_.storages[s].key != full_key) {
      continue;
    }
    TensorView view{static_cast<int32_t>(s), dtype, shape, contiguous_strides(shape), 0};
    return view;
  }
  const TensorView destination =
      new_tensor(StorageKind::kWeight, dtype, shape, node().name + " " + key);
  Storage& packed = target_.storages[destination.storage];
  packed.key = full_key;
  if (state_.options.has_weight && state_.options.has_weight(full_key)) return destination;
  // The program that packs has the same storages, so that views that `make` captured stay valid.
  Preparation preparation;
  preparation.keys = {full_key};
  preparation.program.storages = target_.storages;
  preparation.program.storages[destination.storage].kind = StorageKind::kOutput;
  NodeLowering packing(state_, node_of_, id_, preparation.program);
  make(packing, destination);
  for (Preparation& inner : preparation.program.preparations) {
    target_.preparations.push_back(std::move(inner));
  }
  preparation.program.preparations.clear();
  drop_unused_storages(preparation.program);
  target_.preparations.push_back(std::move(preparation));
  return destination;
}

void NodeLowering::check_operands(const KernelRequest& request, const KernelInterface& interface,
                                  const std::vector<TensorView>& operands) const {
  if (operands.size() != interface.bindings.size()) {
    fail("kernel '" + request.name + "' takes " + std::to_string(interface.bindings.size()) +
         " buffers, " + std::to_string(operands.size()) + " were given");
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    const BindingInfo& binding = interface.bindings[i];
    if (operands[i].storage < 0) {
      fail("kernel '" + request.name + "': operand '" + binding.name + "' is not bound");
    }
    if (binding.element_bytes != dtype_size(operands[i].dtype)) {
      fail("kernel '" + request.name + "': operand '" + binding.name + "' has elements of " +
           std::to_string(binding.element_bytes) + " bytes, the tensor is " +
           std::string(dtype_name(operands[i].dtype)));
    }
  }
}

std::vector<std::byte> NodeLowering::packed_params(const KernelRequest& request,
                                                   const KernelInterface& interface,
                                                   Params params) const {
  for (size_t i = 0; i < request.epilogue.operands.size(); ++i) {
    if (request.epilogue.operands[i].kind == EpilogueOperand::Kind::kValue) {
      params["e" + std::to_string(i)] = node_of_.epilogue_values.at(i);
    }
  }
  std::vector<std::byte> bytes(interface.param_bytes);
  const std::string who = "kernel '" + request.name + "': parameter '";
  for (const ParamInfo& info : interface.params) {
    const auto found = params.find(info.name);
    if (found == params.end()) fail(who + info.name + "' is not given");
    const auto bits = bits_of(info.kind, found->second);
    if (bits.size() != info.count) {
      fail(who + info.name + "' has " + std::to_string(bits.size()) + " elements, not " +
           std::to_string(info.count));
    }
    for (size_t i = 0; i < bits.size(); ++i) {
      if (!bits[i]) fail(who + info.name + "' does not fit into 32 bits");
      std::memcpy(bytes.data() + info.offset_bytes + 4 * i, &*bits[i], 4);
    }
    params.erase(found);
  }
  if (!params.empty()) fail(who + params.begin()->first + "' does not exist");
  return bytes;
}

void NodeLowering::dispatch(const KernelRequest& asked, const std::vector<TensorView>& operands,
                            Params params, std::array<int64_t, 3> groups) {
  for (const int64_t count : groups) {
    if (count <= 0) return;
  }
  KernelRequest request = asked;
  // Kernels keep their sums in `afloat` and `avec`, which follow this constant; those for matrix
  // units have chosen (set_half_sums).
  if (accumulate_fp16() && caps().fp16_arithmetic) request.constants.try_emplace("ACC16", 1);
  const KernelInterface& interface = state_.options.library->interface_of(request);
  check_operands(request, interface, operands);
  PlannedCommand command;
  command.request = request;
  command.params = packed_params(request, interface, std::move(params));
  command.node = id_;
  command.label = node().name;
  command.op = node().op;
  for (size_t i = 0; i < operands.size(); ++i) {
    PlannedOperand operand = planned_operand(operands[i], interface.bindings[i].access);
    if (operand.size_bytes > caps().max_binding_bytes) {
      fail("kernel '" + request.name + "' would use " + std::to_string(operand.size_bytes) +
           " bytes of '" + target_.storages[operand.storage].name + "' at once; " + caps().id +
           " reaches at most " + std::to_string(caps().max_binding_bytes) +
           ": use a smaller batch or fp16");
    }
    // An empty operand of a kernel that has work (an optional bias) still needs a place.
    operand.size_bytes = std::max<uint64_t>(operand.size_bytes, dtype_size(operands[i].dtype));
    command.operands.push_back(operand);
  }
  for (size_t i = 0; i < 3; ++i) {
    if (groups[i] > caps().max_group_count[i]) {
      fail("kernel '" + request.name + "' needs " + std::to_string(groups[i]) +
           " work-groups on axis " + std::to_string(i) + "; the device takes " +
           std::to_string(caps().max_group_count[i]));
    }
    command.groups[i] = static_cast<uint32_t>(groups[i]);
  }
  target_.commands.push_back(std::move(command));
}

void NodeLowering::prepare_epilogue() {
  for (size_t i = 0; i < node_of_.epilogue.operands.size(); ++i) {
    const EpilogueOperand::Kind kind = node_of_.epilogue.operands[i].kind;
    if (kind == EpilogueOperand::Kind::kValue) continue;
    TensorView view = state_.views[node_of_.epilogue_inputs[i]];
    if (kind == EpilogueOperand::Kind::kFull && view.strides != output(0).strides) {
      TensorView same = workspace(view.dtype, view.shape);
      same.strides = output(0).strides;
      Storage& storage = target_.storages[same.storage];
      storage.size_bytes = static_cast<uint64_t>(same.span()) * dtype_size(same.dtype);
      copy(view, same);
      view = same;
    }
    if (kind == EpilogueOperand::Kind::kChannel) view = contiguous(view);
    epilogue_views_.push_back(std::move(view));
  }
}

}  // namespace dlk
