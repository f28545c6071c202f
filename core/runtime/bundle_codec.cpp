// A bundle's plan as bytes. What is read is another program's or an enemy's: every count, index and
// range is checked before it is used.
#include <algorithm>
#include <bit>
#include <span>

#include "core/base/byte_stream.h"
#include "core/base/hash.h"
#include "core/kernel/disk_cache.h"
#include "core/runtime/bundle.h"

namespace dlk {

namespace {

constexpr std::string_view kMagic = "dlk bundle 2\n", kOlderMagic = "dlk bundle 1\n";
constexpr size_t kHeaderBytes = 13 + 16;  // magic, checksum in hexadecimal
constexpr size_t kMostAxes = 64;
constexpr uint64_t kMostCounterBytes = uint64_t{1} << 28;
constexpr uint64_t kMostElements = uint64_t{1} << 40;

[[noreturn]] void damaged(const std::string& what) {
  throw_invalid("the model's bundle is damaged: " + what +
                "; write it again with dlk convert, or set DLK_BUNDLE=0 to go without");
}

// One description of each part: `Put` writes it and `Get` reads it.
class Put {
 public:
  void number(uint64_t value) { out_.number(value); }
  void text(const std::string& value) { out_.text(value); }
  template <typename T>
  void integer(T value) {
    out_.number(static_cast<uint64_t>(value));
  }
  void real(double value) { out_.number(std::bit_cast<uint64_t>(value)); }
  template <typename T, typename Each>
  void list(const std::vector<T>& values, Each&& each) {
    out_.number(values.size());
    for (const T& value : values) each(value);
  }
  std::string take() { return out_.take(); }

 private:
  ByteWriter out_;
};

class Get {
 public:
  explicit Get(std::string_view bytes) : in_(bytes) {}
  uint64_t number() {
    const uint64_t value = in_.number();
    check();
    return value;
  }
  std::string text() {
    std::string value = in_.text();
    check();
    return value;
  }
  /// At most `largest`.
  template <typename T>
  T integer(uint64_t largest, const char* what) {
    const uint64_t value = number();
    if (value > largest) damaged(std::string(what) + " is " + std::to_string(value));
    return static_cast<T>(value);
  }
  double real() { return std::bit_cast<double>(number()); }
  template <typename Each>
  auto list(Each&& each) {
    const uint64_t count = in_.count();
    check();
    std::vector<std::decay_t<decltype(each())>> values;
    for (uint64_t i = 0; i < count; ++i) values.push_back(each());
    return values;
  }
  void end() const {
    if (!in_.done()) damaged("there are bytes after its end");
  }

 private:
  void check() const {
    if (!in_.ok()) damaged("it is cut off");
  }
  ByteReader in_;
};

constexpr auto kLastDType = static_cast<uint64_t>(DType::kUInt2);
constexpr uint64_t kAny32 = UINT32_MAX;

void put_shape(Put& out, const Shape& shape) {
  out.list(shape, [&](int64_t dim) { out.integer(dim); });
}

Shape get_shape(Get& in) {
  Shape shape = in.list([&] { return in.integer<int64_t>(kMostElements, "a dimension"); });
  if (shape.size() > kMostAxes) damaged("a shape has " + std::to_string(shape.size()) + " axes");
  uint64_t elements = 1;
  for (const int64_t dim : shape) {
    elements *= static_cast<uint64_t>(std::max<int64_t>(dim, 1));
    if (elements > kMostElements) damaged("a shape is too large");
  }
  return shape;
}

DType get_dtype(Get& in) { return in.integer<DType>(kLastDType, "a dtype"); }

void put_target(Put& out, const BundleTarget& target) {
  for (const std::string* text :
       {&target.version, &target.backend, &target.device, &target.capabilities, &target.options}) {
    out.text(*text);
  }
}

BundleTarget get_target(Get& in) {
  BundleTarget target;
  for (std::string* text :
       {&target.version, &target.backend, &target.device, &target.capabilities, &target.options}) {
    *text = in.text();
  }
  return target;
}

void put_forms(Put& out, const InputForms& forms) {
  out.number(forms.size());
  for (const auto& [name, form] : forms) {
    out.text(name);
    out.integer(form.kind);
    out.list(form.tensors, [&](const InputForm::Tensor& tensor) {
      out.integer(tensor.dtype);
      put_shape(out, tensor.shape);
    });
  }
}

InputForms get_forms(Get& in) {
  InputForms forms;
  for (uint64_t left = in.integer<uint64_t>(kAny32, "a count"); left > 0; --left) {
    const std::string name = in.text();
    InputForm& form = forms[name];
    form.kind = in.integer<InputForm::Kind>(2, "a kind of input");
    form.tensors = in.list([&] {
      const DType dtype = get_dtype(in);
      return InputForm::Tensor{dtype, get_shape(in)};
    });
  }
  return forms;
}

void put_plan_tensor(Put& out, const PlanTensor& tensor) {
  out.text(tensor.name);
  out.integer(tensor.dtype);
  put_shape(out, tensor.shape);
}

PlanTensor get_plan_tensor(Get& in) {
  PlanTensor tensor;
  tensor.name = in.text();
  tensor.dtype = get_dtype(in);
  tensor.shape = get_shape(in);
  return tensor;
}

void put_values(Put& out, const std::map<std::string, HostTensor>& values) {
  out.number(values.size());
  for (const auto& [name, value] : values) {
    put_plan_tensor(out, {name, value.dtype, value.shape});
    const auto bytes = value.bytes();
    out.text({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
}

std::map<std::string, HostTensor> get_values(Get& in) {
  std::map<std::string, HostTensor> values;
  for (uint64_t left = in.integer<uint64_t>(kAny32, "a count"); left > 0; --left) {
    const PlanTensor tensor = get_plan_tensor(in);
    const std::string bytes = in.text();
    if (bytes.size() != tensor.size_bytes()) damaged("'" + tensor.name + "' has the wrong size");
    values[tensor.name] = HostTensor::copy_of(tensor.dtype, tensor.shape,
                                              std::as_bytes(std::span(bytes.data(), bytes.size())));
  }
  return values;
}

void put_storage(Put& out, const Storage& storage) {
  out.integer(storage.kind);
  out.number(storage.size_bytes);
  out.number(storage.index);
  out.text(storage.key);
  out.text(storage.name);
  out.integer(storage.dtype);
  out.integer(storage.first_command);
  out.integer(storage.last_command);
  out.number(storage.chunk);
  out.number(storage.offset_bytes);
}

Storage get_storage(Get& in) {
  Storage storage;
  storage.kind = in.integer<StorageKind>(5, "a kind of storage");
  storage.size_bytes = in.number();
  storage.index = in.integer<uint32_t>(kAny32, "an index");
  storage.key = in.text();
  storage.name = in.text();
  storage.dtype = get_dtype(in);
  storage.first_command = static_cast<int32_t>(in.number());
  storage.last_command = static_cast<int32_t>(in.number());
  storage.chunk = in.integer<uint32_t>(kAny32, "a chunk");
  storage.offset_bytes = in.number();
  return storage;
}

void put_command(Put& out, const PlannedCommand& command, uint32_t kernel) {
  out.integer(command.is_copy);
  out.number(kernel);
  out.text(command.request.name);
  out.list(command.operands, [&](const PlannedOperand& operand) {
    out.integer(operand.storage);
    out.number(operand.offset_bytes);
    out.number(operand.size_bytes);
    out.integer(operand.access);
    out.number(operand.stripes.period_bytes);
    out.number(operand.stripes.run_bytes);
  });
  out.text({reinterpret_cast<const char*>(command.params.data()), command.params.size()});
  for (const uint32_t count : command.groups) out.number(count);
  out.text(command.label);
  out.text(command.op);
}

std::pair<PlannedCommand, uint32_t> get_command(Get& in) {
  PlannedCommand command;
  command.is_copy = in.integer<bool>(1, "a flag");
  const auto kernel = in.integer<uint32_t>(kAny32, "a kernel's index");
  command.request.name = in.text();
  command.operands = in.list([&] {
    PlannedOperand operand;
    operand.storage = in.integer<int32_t>(INT32_MAX, "a storage's index");
    operand.offset_bytes = in.number();
    operand.size_bytes = in.number();
    operand.access = in.integer<Access>(2, "an access");
    operand.stripes.period_bytes = in.number();
    operand.stripes.run_bytes = in.integer<uint64_t>(operand.stripes.period_bytes, "a run");
    return operand;
  });
  const std::string params = in.text();
  const auto bytes = std::as_bytes(std::span(params.data(), params.size()));
  command.params.assign(bytes.begin(), bytes.end());
  for (uint32_t& count : command.groups) count = in.integer<uint32_t>(kAny32, "a group count");
  command.label = in.text();
  command.op = in.text();
  return {std::move(command), kernel};
}

KernelCode get_kernel(Get& in) {
  std::optional<KernelCode> code = deserialize_kernel(in.text());
  if (!code) damaged("a kernel is not readable");
  if (code->format > KernelFormat::kBinary) damaged("a kernel has an unknown format");
  for (const BindingInfo& binding : code->bindings) {
    if (binding.access > Access::kReadWrite || binding.element_bytes == 0) {
      damaged("a kernel's arguments are not readable");
    }
  }
  return std::move(*code);
}

void put_summary(Put& out, const PlanSummary& summary) {
  out.list(summary.steps, [&](const PlanStep& step) {
    out.text(step.op);
    out.number(step.bytes_read);
    out.number(step.bytes_written);
    out.real(step.flops);
    out.integer(step.barrier_before);
    out.list(step.reads_from, [&](size_t index) { out.number(index); });
  });
  out.list(summary.host_ops, [&](const std::string& name) { out.text(name); });
  out.number(summary.arena_bytes);
  out.number(summary.peak_live_bytes);
  out.number(summary.weight_bytes);
  out.number(summary.pipelines);
}

PlanSummary get_summary(Get& in, const std::vector<PlannedCommand>& commands) {
  PlanSummary summary;
  summary.steps = in.list([&] {
    PlanStep step;
    step.op = in.text();
    step.bytes_read = in.number();
    step.bytes_written = in.number();
    step.flops = in.real();
    step.barrier_before = in.integer<bool>(1, "a flag");
    step.reads_from = in.list([&] { return in.integer<size_t>(commands.size(), "a step"); });
    return step;
  });
  if (summary.steps.size() != commands.size()) damaged("it has another number of steps");
  for (size_t c = 0; c < commands.size(); ++c) {
    summary.steps[c].node = commands[c].label;
    summary.steps[c].kernel = commands[c].is_copy ? "copy" : commands[c].request.name;
    summary.steps[c].groups = commands[c].groups;
    summary.dispatches += commands[c].is_copy ? 0 : 1;
  }
  summary.host_ops = in.list([&] { return in.text(); });
  summary.arena_bytes = in.number();
  summary.peak_live_bytes = in.number();
  summary.weight_bytes = in.number();
  summary.pipelines = in.number();
  return summary;
}

bool inside(uint64_t offset, uint64_t size, uint64_t whole) {
  return offset <= whole && size <= whole - offset;
}

void check_storage(const BundleContents& contents, const Storage& storage) {
  const auto bound = [&](const std::vector<PlanTensor>& tensors) {
    if (storage.index >= tensors.size()) damaged("'" + storage.name + "' has no such slot");
    return std::max<uint64_t>(tensors[storage.index].size_bytes(), 4);
  };
  bool fits = true;
  if (storage.kind == StorageKind::kInput) {
    fits = storage.size_bytes <= bound(contents.plan_inputs);
  } else if (storage.kind == StorageKind::kOutput) {
    fits = storage.size_bytes <= bound(contents.plan_outputs);
  } else if (storage.kind == StorageKind::kArena && storage.first_command >= 0) {
    fits = storage.chunk < contents.memory.chunk_bytes.size() &&
           inside(storage.offset_bytes, std::max<uint64_t>(storage.size_bytes, 8),
                  contents.memory.chunk_bytes[storage.chunk]);
  }
  if (storage.kind == StorageKind::kCounters) {
    fits = inside(storage.offset_bytes, std::max<uint64_t>(storage.size_bytes, 8),
                  contents.memory.counter_bytes);
  }
  if (!fits) damaged("'" + storage.name + "' lies outside of its memory");
}

void check_command(const BundleContents& contents, size_t c) {
  const PlannedCommand& command = contents.commands[c];
  const std::string who = "command " + std::to_string(c);
  for (const PlannedOperand& operand : command.operands) {
    if (static_cast<size_t>(operand.storage) >= contents.storages.size()) {
      damaged(who + " uses a storage that is not there");
    }
    const Storage& storage = contents.storages[static_cast<size_t>(operand.storage)];
    // An empty operand still has one element.
    const uint64_t whole = std::max<uint64_t>(storage.size_bytes, 8);
    if (!inside(operand.offset_bytes, operand.size_bytes, whole)) {
      damaged(who + " reaches outside of '" + storage.name + "'");
    }
  }
  if (command.is_copy) {
    if (command.operands.size() != 2) damaged(who + " is no copy");
    return;
  }
  if (contents.kernel_of[c] >= contents.kernels.size()) damaged(who + " has no kernel");
  const KernelCode& kernel = contents.kernels[contents.kernel_of[c]].portable;
  if (command.operands.size() != kernel.bindings.size() ||
      command.params.size() != kernel.param_bytes) {
    damaged(who + " does not fit its kernel");
  }
}

void check(const BundleContents& contents) {
  for (const Storage& storage : contents.storages) check_storage(contents, storage);
  for (size_t c = 0; c < contents.commands.size(); ++c) check_command(contents, c);
  for (const ValueSource& source : contents.outputs) {
    if (source.index >= contents.plan_outputs.size()) damaged("an output is not there");
  }
}

std::string_view body_of(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic)) damaged("it is no bundle");
  const std::string_view body = bytes.substr(kHeaderBytes);
  if (bytes.substr(kMagic.size(), 16) != hex_text(hash_text(body))) {
    damaged("its checksum is wrong");
  }
  return body;
}

}  // namespace

std::string write_bundle(const BundleContents& contents) {
  Put out;
  put_target(out, contents.target);
  out.integer(contents.portable);
  put_forms(out, contents.forms);
  put_values(out, contents.used_values);
  out.list(contents.outputs, [&](const ValueSource& source) { out.number(source.index); });
  for (const auto* tensors : {&contents.plan_inputs, &contents.plan_outputs}) {
    out.list(*tensors, [&](const PlanTensor& tensor) { put_plan_tensor(out, tensor); });
  }
  out.list(contents.memory.chunk_bytes, [&](uint64_t bytes) { out.number(bytes); });
  out.number(contents.memory.peak_live_bytes);
  out.number(contents.memory.counter_bytes);
  out.list(contents.storages, [&](const Storage& storage) { put_storage(out, storage); });
  out.list(contents.kernels, [&](const KernelPackage& kernel) {
    out.text(serialize_kernel(kernel.portable));
    out.integer(kernel.binary.has_value());
    if (kernel.binary) out.text(serialize_kernel(*kernel.binary));
  });
  out.number(contents.commands.size());
  for (size_t c = 0; c < contents.commands.size(); ++c) {
    put_command(out, contents.commands[c], contents.kernel_of[c]);
  }
  out.text(contents.driver_cache);
  put_summary(out, contents.summary);
  const std::string body = out.take();
  return std::string(kMagic) + hex_text(hash_text(body)) + body;
}

BundleTarget read_bundle_target(std::string_view bytes) {
  if (bytes.starts_with(kOlderMagic)) {
    BundleTarget target;
    target.version = "0.1.0 with an older form of bundles";
    return target;
  }
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic)) damaged("it is no bundle");
  Get in(bytes.substr(kHeaderBytes));
  return get_target(in);
}

BundleContents read_bundle(std::string_view bytes) {
  Get in(body_of(bytes));
  BundleContents contents;
  contents.target = get_target(in);
  contents.portable = in.integer<bool>(1, "a flag");
  contents.forms = get_forms(in);
  contents.used_values = get_values(in);
  contents.outputs = in.list([&] {
    ValueSource source;
    source.kind = ValueSource::Kind::kPlanOutput;
    source.index = in.number();
    return source;
  });
  contents.plan_inputs = in.list([&] { return get_plan_tensor(in); });
  contents.plan_outputs = in.list([&] { return get_plan_tensor(in); });
  contents.memory.chunk_bytes = in.list([&] { return in.number(); });
  contents.memory.peak_live_bytes = in.number();
  contents.memory.counter_bytes = in.integer<uint64_t>(kMostCounterBytes, "memory of counters");
  contents.storages = in.list([&] { return get_storage(in); });
  contents.kernels = in.list([&] {
    KernelPackage kernel{get_kernel(in), std::nullopt};
    if (in.integer<bool>(1, "a flag")) kernel.binary = get_kernel(in);
    return kernel;
  });
  for (auto& [command, kernel] : in.list([&] { return get_command(in); })) {
    contents.commands.push_back(std::move(command));
    contents.kernel_of.push_back(kernel);
  }
  contents.driver_cache = in.text();
  contents.summary = get_summary(in, contents.commands);
  in.end();
  check(contents);
  return contents;
}

}  // namespace dlk
