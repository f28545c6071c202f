#include "backends/opencl/chain.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include "backends/opencl/kernel.h"
#include "core/base/log.h"

namespace dlk::opencl {

namespace {

constexpr size_t kFewest = 8;           // dispatches that are worth a chain
constexpr size_t kMostKernels = 32;     // of a recording, which are compiled again
constexpr size_t kMostSlots = 16;       // each takes two arguments
constexpr uint32_t kLine = 16;          // counters lie in cache lines of their own
constexpr cl_uint kPatience = 1 << 20;  // reads, a millisecond: then the processor serves others
constexpr long kRuns = 32;              // before a recording is worth compiling

// Words of a row of the table, before two for each buffer (slot + 1 or 0, address) and one for each
// parameter.
enum Word : uint32_t { kKind, kGroups, kNeeded, kWidth, kHeight, kFirstOperand };

const OpenClKernel& kernel_of(const DispatchCommand& dispatch) {
  return static_cast<const OpenClKernel&>(*dispatch.kernel);
}

uint64_t groups_of(const DispatchCommand& dispatch) {
  return uint64_t{dispatch.groups[0]} * dispatch.groups[1] * dispatch.groups[2];
}

/// What dlk prints before the arguments.
std::string head_of(const KernelCode& info) {
  std::string sizes;
  for (const uint32_t size : info.group_size) {
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  }
  return "__kernel __attribute__((reqd_work_group_size(" + sizes + ")))\nvoid " + info.name + "(";
}

/// Work-items of a group run one after another, and buffers are addresses.
bool fits(const DispatchCommand& dispatch) {
  const OpenClKernel& kernel = kernel_of(dispatch);
  const std::string& text = kernel.source();
  if (groups_of(dispatch) == 0 || text.find(head_of(kernel.info())) == std::string::npos) {
    return false;
  }
  for (const char* word : {"barrier(", "__local", "sub_group", "#define", "get_global_"}) {
    if (text.find(word) != std::string::npos) return false;
  }
  return std::ranges::all_of(dispatch.operands, [](const Operand& operand) {
    const auto* slot = std::get_if<SlotRef>(&operand);
    return slot ? slot->slot < kMostSlots
                : std::get<View>(operand).buffer->host_pointer() != nullptr;
  });
}

bool few_kernels(std::span<const Command> commands) {
  std::set<const Kernel*> kernels;
  for (const Command& command : commands) {
    const auto* dispatch = std::get_if<DispatchCommand>(&command.op);
    if (dispatch) kernels.insert(dispatch->kernel.get());
  }
  return kernels.size() <= kMostKernels;
}

size_t row_words(const KernelCode& info) {
  size_t words = kFirstOperand + 2 * info.bindings.size();
  for (const ParamInfo& param : info.params) words += param.count;
  return words;
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

/// The names of a kernel's own functions and macros, which others may have too.
std::set<std::string> own_names(const std::string& text) {
  std::set<std::string> names;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (line.starts_with("static ")) {
      const size_t bracket = line.find('('), space = line.rfind(' ', bracket);
      if (bracket != std::string::npos) names.insert(line.substr(space + 1, bracket - space - 1));
    }
    at = end + 1;
  }
  return names;
}

/// A kernel's text as the function dlk_step_N of the group's index and the arguments.
std::string as_function(const OpenClKernel& kernel, const std::string& number) {
  const KernelCode& info = kernel.info();
  std::string text = kernel.source();
  const std::string head = head_of(info);
  text.replace(text.find(head), head.size(),
               "static void dlk_step_" + number +
                   "(const uint3 dlk_group, const uint3 dlk_groups, const uint3 dlk_item,");
  for (const char* axis : {"0", "1", "2"}) {
    const std::string lane = std::string(".s") + axis, index = std::string("(") + axis + ")";
    replace(text, "get_group_id" + index, "dlk_group" + lane);
    replace(text, "get_num_groups" + index, "dlk_groups" + lane);
    replace(text, "get_local_id" + index, "dlk_item" + lane);
  }
  std::string before, after;
  for (const std::string& name : own_names(text)) {
    if (name == "dlk_step_" + number) continue;
    before += "#define " + name + " " + name + "_" + number + "\n";
    after += "#undef " + name + "\n";
  }
  return before + text + after;
}

/// One group of step N: a case of the switch.
std::string as_case(const KernelCode& info, const std::string& number) {
  std::string call = "dlk_step_" + number + "(group, groups, (uint3)(x, y, z)";
  size_t word = kFirstOperand;
  for (size_t i = 0; i < info.bindings.size(); ++i, word += 2) {
    call += ", (__global void*)(slots[row[" + std::to_string(word) + "]] + row[" +
            std::to_string(word + 1) + "]), 0ul";
  }
  for (const ParamInfo& param : info.params) {
    for (uint32_t k = 0; k < param.count; ++k, ++word) {
      const std::string bits = "(uint)row[" + std::to_string(word) + "]";
      call += param.kind == 'u'   ? ", " + bits
              : param.kind == 'i' ? ", as_int(" + bits + ")"
                                  : ", as_float(" + bits + ")";
    }
  }
  std::string loops;
  constexpr const char* kAxes[] = {"x", "y", "z"};
  for (int axis = 2; axis >= 0; --axis) {
    const std::string name = kAxes[axis];
    loops += "for (uint " + name + " = 0u; " + name + " < " +
             std::to_string(info.group_size[axis]) + "u; ++" + name + ") ";
  }
  return "          case " + number + "u: " + loops + call + "); break;\n";
}

/// The kernel that walks the table's rows, one for each dispatch. PoCL's mem_fence does nothing, so
/// that the compiler's own fence stands in for it.
constexpr char kWalk[] = R"() {
  const ulong slots[] = {$addresses};
  const uint me = (uint)get_group_id(0), all = (uint)get_num_groups(0);
  volatile __global uint* done = state;
  volatile __global uint* left = state + $line;
  volatile __global uint* taken = state + 2u * $line;
  __global const ulong* row = table;
  bool stays = true;
  for (uint step = 0u; step < steps && stays; ++step, row += $stride, taken += all * $line) {
    const ulong count = row[1];
    bool is_open = false;
    for (uint i = 0u; i < all; ++i) {
      is_open = is_open || taken[i * $line] < (uint)(count * (i + 1u) / all - count * i / all);
    }
    if (!is_open) continue;
    const uint needed = (uint)row[2];
    uint waits = 0u;
    while (*done < needed && waits < patience) ++waits;
    stays = *done >= needed;
    if (!stays) continue;
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
    const uint wide = (uint)row[3], high = (uint)row[4];
    const uint3 groups = (uint3)(wide, high, (uint)count / (wide * high));
    uint mine = 0u;
    // Its own part first, which is near in memory to its part of the dispatch before.
    for (uint i = 0u; i < all; ++i) {
      const uint part = (me + i) % all;
      const uint first = (uint)(count * part / all), last = (uint)(count * (part + 1u) / all);
      volatile __global uint* next = taken + part * $line;
      if (*next >= last - first) continue;
      for (uint g = first + atomic_inc(next); g < last; g = first + atomic_inc(next)) {
        const uint line = g / wide;
        const uint3 group = (uint3)(g - line * wide, line % high, line / high);
        switch ((uint)row[0]) {
$cases        }
        ++mine;
      }
    }
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
    if (mine != 0u) atomic_add(done, mine);
  }
  // The last to leave clears the counters for the next run.
  if (atomic_inc(left) + 1u == all) {
    for (uint i = 0u; i < steps * all + 2u; ++i) state[i * $line] = 0u;
  }
}
)";

std::string chain_text(const std::vector<const OpenClKernel*>& kernels, size_t slots,
                       size_t stride) {
  std::string text, cases, arguments, addresses = "0ul";
  for (size_t i = 0; i < kernels.size(); ++i) {
    text += as_function(*kernels[i], std::to_string(i));
    cases += as_case(kernels[i]->info(), std::to_string(i));
  }
  for (size_t i = 0; i < slots; ++i) {
    const std::string name = std::to_string(i);
    arguments += ", __global uchar* slot_" + name + ", ulong base_" + name;
    addresses += ", (ulong)slot_" + name + " + base_" + name;
  }
  std::string walk = kWalk;
  replace(walk, "$addresses", addresses);
  replace(walk, "$line", std::to_string(kLine) + "u");
  replace(walk, "$stride", std::to_string(stride) + "u");
  replace(walk, "$cases", cases);
  return text +
         "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
         "void dlk_chain(__global const ulong* table, volatile __global uint* state, uint steps, "
         "uint patience" +
         arguments + walk;
}

/// A dispatch as a row; `kind`: of its kernel, `needed`: groups to be done before it.
void fill_row(uint64_t* row, const DispatchCommand& dispatch, uint64_t kind, uint64_t needed) {
  row[kKind] = kind;
  row[kGroups] = groups_of(dispatch);
  row[kNeeded] = needed;
  row[kWidth] = dispatch.groups[0];
  row[kHeight] = dispatch.groups[1];
  size_t word = kFirstOperand;
  for (const Operand& operand : dispatch.operands) {
    if (const auto* slot = std::get_if<SlotRef>(&operand)) {
      row[word++] = slot->slot + 1;
      row[word++] = slot->offset_bytes;
      continue;
    }
    const auto& view = std::get<View>(operand);
    row[word++] = 0;
    row[word++] = reinterpret_cast<uintptr_t>(view.buffer->host_pointer()) + view.offset_bytes;
  }
  for (const ParamInfo& param : dispatch.kernel->info().params) {
    for (uint32_t k = 0; k < param.count; ++k) {
      uint32_t bits = 0;
      std::memcpy(&bits, dispatch.params.data() + param.offset_bytes + 4 * k, 4);
      row[word++] = bits;
    }
  }
}

}  // namespace

size_t Chain::reach(const Context& context, std::span<const Command> commands) {
  const Caps& caps = context.caps;
  if (!caps.is_cpu || caps.subgroup_size != 0 || !context.fine_grain) return 0;
  const auto* first = std::get_if<DispatchCommand>(&commands[0].op);
  uint64_t groups = 0;
  size_t count = 0;
  for (const Command& command : commands) {
    const auto* dispatch = std::get_if<DispatchCommand>(&command.op);
    if (dispatch == nullptr || !fits(*dispatch)) break;
    groups += groups_of(*dispatch);
    if (groups > INT32_MAX ||
        dispatch->kernel->info().build_options != first->kernel->info().build_options) {
      break;
    }
    ++count;
  }
  return count < kFewest ? 0 : count;
}

Chain::Chain(std::shared_ptr<Context> context, std::span<const Command> commands, size_t slots)
    : context_(std::move(context)) {
  std::vector<const OpenClKernel*> kernels;
  std::map<const OpenClKernel*, uint64_t> kinds;
  size_t stride = 0;
  for (const Command& command : commands) {
    const OpenClKernel* kernel = &kernel_of(std::get<DispatchCommand>(command.op));
    if (kinds.emplace(kernel, kernels.size()).second) kernels.push_back(kernel);
    stride = std::max(stride, row_words(kernel->info()));
  }
  std::vector<uint64_t> table(stride * commands.size());
  uint64_t before = 0, needed = 0;
  for (size_t i = 0; i < commands.size(); ++i) {
    const auto& dispatch = std::get<DispatchCommand>(commands[i].op);
    if (commands[i].barrier_before) needed = before;
    fill_row(table.data() + i * stride, dispatch, kinds.at(&kernel_of(dispatch)), needed);
    before += groups_of(dispatch);
  }
  table_ = filled(std::as_bytes(std::span(table)));
  const size_t counters = commands.size() * context_->caps.compute_units + 2;
  state_ = filled(std::vector<std::byte>(counters * kLine * sizeof(uint32_t)));
  build(chain_text(kernels, std::min(slots, kMostSlots), stride), kernels[0]->info().build_options);
  const cl_mem table_memory = table_->memory(), state_memory = state_->memory();
  const auto steps = static_cast<cl_uint>(commands.size());
  set(0, sizeof table_memory, &table_memory);
  set(1, sizeof state_memory, &state_memory);
  set(2, sizeof steps, &steps);
  set(3, sizeof kPatience, &kPatience);
  announce(commands);
}

std::shared_ptr<OpenClBuffer> Chain::filled(std::span<const std::byte> bytes) const {
  auto buffer = std::make_shared<OpenClBuffer>(context_, bytes.size(), MemoryKind::kDevice);
  std::memcpy(buffer->host_pointer(), bytes.data(), bytes.size());
  return buffer;
}

void Chain::build(const std::string& text, const std::string& options) {
  const std::shared_ptr<Context> context = context_;
  const Api& cl = *context->cl;
  const char* data = text.data();
  const size_t length = text.size();
  cl_int code = CL_SUCCESS;
  const cl_program program =
      cl.clCreateProgramWithSource(context->context, 1, &data, &length, &code);
  check(code, "clCreateProgramWithSource");
  program_ = {program, [context](cl_program p) { context->cl->clReleaseProgram(p); }};
  code = cl.clBuildProgram(program, 1, &context->device, options.c_str(), nullptr, nullptr);
  if (code != CL_SUCCESS) {
    throw Error(ErrorCode::kCompileFailed, "dispatches as one kernel do not build on " +
                                               context->caps.id + ": " + error_text(code) + "\n" +
                                               build_log());
  }
  const cl_kernel kernel = cl.clCreateKernel(program, "dlk_chain", &code);
  check(code, "clCreateKernel");
  kernel_ = {kernel, [context](cl_kernel k) { context->cl->clReleaseKernel(k); }};
}

std::string Chain::build_log() const {
  const Api& cl = *context_->cl;
  size_t size = 0;
  cl.clGetProgramBuildInfo(program_.get(), context_->device, CL_PROGRAM_BUILD_LOG, 0, nullptr,
                           &size);
  std::string log(size, '\0');
  cl.clGetProgramBuildInfo(program_.get(), context_->device, CL_PROGRAM_BUILD_LOG, size, log.data(),
                           nullptr);
  return log.c_str();
}

void Chain::announce(std::span<const Command> commands) const {
  if (!context_->cl->clSetKernelExecInfo) return;
  std::vector<void*> memory;
  for (const Command& command : commands) {
    for (const Operand& operand : std::get<DispatchCommand>(command.op).operands) {
      const auto* view = std::get_if<View>(&operand);
      if (view) memory.push_back(view->buffer->host_pointer());
    }
  }
  std::ranges::sort(memory);
  memory.erase(std::unique(memory.begin(), memory.end()), memory.end());
  check(context_->cl->clSetKernelExecInfo(kernel_.get(), CL_KERNEL_EXEC_INFO_SVM_PTRS,
                                          memory.size() * sizeof(void*), memory.data()),
        "clSetKernelExecInfo");
}

void Chain::set(cl_uint argument, size_t size, const void* value) const {
  check(context_->cl->clSetKernelArg(kernel_.get(), argument, size, value),
        "clSetKernelArg of a chain");
}

void Chain::bind(std::span<const View> slots) {
  cl_uint argument = 4;
  for (const View& slot : slots.first(std::min(slots.size(), kMostSlots))) {
    const cl_mem memory = memory_of(slot);
    const cl_ulong base = slot.offset_bytes;
    set(argument++, sizeof memory, &memory);
    set(argument++, sizeof base, &base);
  }
}

void Chain::enqueue(cl_command_queue queue, cl_event* event) const {
  const size_t global = context_->caps.compute_units, local = 1;
  check(context_->cl->clEnqueueNDRangeKernel(queue, kernel_.get(), 1, nullptr, &global, &local, 0,
                                             nullptr, event),
        "enqueue of a chain");
}

bool Chains::count_run(const std::shared_ptr<Context>& context, cl_command_queue queue,
                       std::span<const Command> commands, size_t slots) {
  const char* setting = std::getenv("DLK_CHAIN");
  const long due = setting ? std::strtol(setting, nullptr, 10) : kRuns;
  if (due <= 0 || queue_ != nullptr || ++runs_ < static_cast<size_t>(due)) return false;
  queue_ = queue;
  if (!few_kernels(commands)) return false;
  try {
    for (size_t first = 0; first < commands.size();) {
      const auto rest = commands.subspan(first);
      const size_t count = Chain::reach(*context, rest);
      if (count != 0) {
        parts_[first] = {count, std::make_unique<Chain>(context, rest.first(count), slots)};
      }
      first += std::max<size_t>(count, 1);
    }
  } catch (const Error& error) {
    log_once(std::string("dispatches stay single: ") + error.what());
    parts_.clear();
  }
  return !parts_.empty();
}

void Chains::bind(std::span<const View> slots) {
  for (const auto& [first, part] : parts_) part.chain->bind(slots);
}

size_t Chains::length(size_t index, cl_command_queue queue) const {
  const auto found = parts_.find(index);
  return found == parts_.end() || queue != queue_ ? 0 : found->second.length;
}

void Chains::enqueue(size_t index, cl_command_queue queue, cl_event* event) const {
  parts_.at(index).chain->enqueue(queue, event);
}

}  // namespace dlk::opencl
