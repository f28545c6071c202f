#include "backends/opencl/kernel.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace dlk::opencl {

OpenClKernel::OpenClKernel(std::shared_ptr<Context> context, KernelCode code)
    : Kernel(std::move(code)), context_(std::move(context)) {
  try {
    build();
  } catch (...) {
    if (program_) context_->cl->clReleaseProgram(program_);
    throw;
  }
  const Caps& caps = context_->caps;
  if (caps.is_cpu && caps.subgroup_size == 0 && code_.format == KernelFormat::kOpenCLC) {
    source_ = std::move(code_.code);
  }
  code_.code.clear();
  code_.code.shrink_to_fit();
}

OpenClKernel::~OpenClKernel() { context_->cl->clReleaseProgram(program_); }

void OpenClKernel::build() {
  const Api& cl = *context_->cl;
  const std::string who = "kernel '" + code_.name + "' on " + context_->caps.id;
  const bool is_binary = code_.format == KernelFormat::kBinary ||
                         (code_.format == KernelFormat::kPtx && context_->caps.inline_ptx);
  if (code_.format != KernelFormat::kOpenCLC && !is_binary) {
    throw_invalid(who + ": its code is not OpenCL C");
  }
  const char* text = code_.code.data();
  const size_t length = code_.code.size();
  cl_int code = CL_SUCCESS;
  if (is_binary) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text);
    cl_int status = CL_SUCCESS;
    program_ = cl.clCreateProgramWithBinary(context_->context, 1, &context_->device, &length,
                                            &bytes, &status, &code);
  } else {
    program_ = cl.clCreateProgramWithSource(context_->context, 1, &text, &length, &code);
  }
  if (code != CL_SUCCESS) {
    throw Error(ErrorCode::kCompileFailed,
                who + ": the driver does not take its code: " + error_text(code));
  }
  code = cl.clBuildProgram(program_, 1, &context_->device, code_.build_options.c_str(), nullptr,
                           nullptr);
  if (code != CL_SUCCESS) {
    throw Error(ErrorCode::kCompileFailed,
                who + " does not build: " + error_text(code) + "\n" + build_log());
  }
  check_kernel(clone().get());
}

void OpenClKernel::check_kernel(cl_kernel kernel) const {
  const Api& cl = *context_->cl;
  const std::string who = "kernel '" + code_.name + "' on " + context_->caps.id;
  size_t expected = 2 * code_.bindings.size();
  for (const ParamInfo& param : code_.params) expected += param.count;
  cl_uint arguments = 0;
  check(cl.clGetKernelInfo(kernel, CL_KERNEL_NUM_ARGS, sizeof arguments, &arguments, nullptr),
        "clGetKernelInfo");
  if (arguments != expected) {
    throw Error(ErrorCode::kCompileFailed, who + " has " + std::to_string(arguments) +
                                               " arguments, its interface needs " +
                                               std::to_string(expected));
  }
  size_t largest = 0;
  check(cl.clGetKernelWorkGroupInfo(kernel, context_->device, CL_KERNEL_WORK_GROUP_SIZE,
                                    sizeof largest, &largest, nullptr),
        "clGetKernelWorkGroupInfo");
  const size_t items = size_t{code_.group_size[0]} * code_.group_size[1] * code_.group_size[2];
  size_t compiled[3] = {0, 0, 0};  // NVIDIA counts registers there as if the size were not known
  check(cl.clGetKernelWorkGroupInfo(kernel, context_->device, CL_KERNEL_COMPILE_WORK_GROUP_SIZE,
                                    sizeof compiled, compiled, nullptr),
        "clGetKernelWorkGroupInfo");
  const bool known = context_->caps.inline_ptx && compiled[0] * compiled[1] * compiled[2] == items;
  if (items > largest && !known) {
    throw_unsupported(who + " needs " + std::to_string(items) +
                      " work-items in a group; the driver runs it with at most " +
                      std::to_string(largest));
  }
}

std::string OpenClKernel::build_log() const {
  size_t size = 0;
  if (context_->cl->clGetProgramBuildInfo(program_, context_->device, CL_PROGRAM_BUILD_LOG, 0,
                                          nullptr, &size) != CL_SUCCESS ||
      size == 0) {
    return "(no build log)";
  }
  std::string log(size, '\0');
  context_->cl->clGetProgramBuildInfo(program_, context_->device, CL_PROGRAM_BUILD_LOG, size,
                                      log.data(), nullptr);
  log.resize(std::strlen(log.c_str()));
  return log;
}

std::string OpenClKernel::binary() const {
  const Api& cl = *context_->cl;
  size_t size = 0;  // of the one device that it was built for
  check(cl.clGetProgramInfo(program_, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, nullptr),
        "clGetProgramInfo");
  std::string bytes(size, '\0');
  unsigned char* place = reinterpret_cast<unsigned char*>(bytes.data());
  check(cl.clGetProgramInfo(program_, CL_PROGRAM_BINARIES, sizeof place, &place, nullptr),
        "clGetProgramInfo");
  return bytes;
}

std::shared_ptr<_cl_kernel> OpenClKernel::clone() const {
  cl_int code = CL_SUCCESS;
  const cl_kernel kernel = context_->cl->clCreateKernel(program_, code_.name.c_str(), &code);
  if (code != CL_SUCCESS) {
    throw_cl(code, "kernel '" + code_.name + "' on " + context_->caps.id + ": clCreateKernel");
  }
  return {kernel, [context = context_](cl_kernel k) { context->cl->clReleaseKernel(k); }};
}

OpenClRecording::OpenClRecording(std::shared_ptr<Context> context, const CommandList& list,
                                 bool profile)
    : context_(std::move(context)),
      commands_(list.commands()),
      steps_(commands_.size()),
      profiled_(profile),
      bound_(list.slot_bytes().size()) {
  for (size_t i = 0; i < commands_.size(); ++i) {
    if (const auto* dispatch = std::get_if<DispatchCommand>(&commands_[i].op)) {
      set_arguments(steps_[i], *dispatch);
    }
  }
}

void OpenClRecording::set_arguments(Step& step, const DispatchCommand& dispatch) {
  const auto& kernel = static_cast<const OpenClKernel&>(*dispatch.kernel);
  const KernelCode& info = kernel.info();
  step.kernel = kernel.clone();
  for (int axis = 0; axis < 3; ++axis) {
    step.local[axis] = info.group_size[axis];
    step.global[axis] = size_t{dispatch.groups[axis]} * info.group_size[axis];
  }
  cl_uint argument = 0;
  const auto set = [&](size_t size, const void* value) {
    const cl_int code = context_->cl->clSetKernelArg(step.kernel.get(), argument, size, value);
    if (code != CL_SUCCESS) {
      throw_cl(code, "kernel '" + info.name + "', argument " + std::to_string(argument));
    }
    ++argument;
  };
  for (size_t i = 0; i < info.bindings.size(); ++i) {
    const uint64_t element_bytes = info.bindings[i].element_bytes;
    if (const auto* slot = std::get_if<SlotRef>(&dispatch.operands[i])) {
      step.slots.push_back({slot->slot, argument, slot->offset_bytes, element_bytes});
      argument += 2;
      continue;
    }
    const auto& view = std::get<View>(dispatch.operands[i]);
    const cl_mem memory = memory_of(view);
    const cl_ulong base = view.offset_bytes / element_bytes;
    set(sizeof memory, &memory);
    set(sizeof base, &base);
  }
  for (const ParamInfo& param : info.params) {
    for (uint32_t k = 0; k < param.count; ++k) {
      set(4, dispatch.params.data() + param.offset_bytes + 4 * k);
    }
  }
}

OpenClRecording::Range OpenClRecording::range_of(const Operand& operand,
                                                 std::span<const View> slots) {
  if (const auto* view = std::get_if<View>(&operand)) {
    return {memory_of(*view), view->offset_bytes, view->size_bytes};
  }
  const auto& ref = std::get<SlotRef>(operand);
  const View& slot = slots[ref.slot];
  return {memory_of(slot), slot.offset_bytes + ref.offset_bytes, ref.size_bytes};
}

void OpenClRecording::bind_slots(std::span<const View> slots) const {
  std::vector<std::pair<uint64_t, uint64_t>> wanted;
  for (const View& slot : slots) {
    wanted.emplace_back(static_cast<const OpenClBuffer&>(*slot.buffer).number(), slot.offset_bytes);
  }
  if (wanted == bound_) return;
  const auto before = std::exchange(bound_, decltype(bound_)(slots.size()));
  for (const Step& step : steps_) {
    for (const SlotArgument& argument : step.slots) {
      if (wanted[argument.slot] == before[argument.slot]) continue;
      const View& slot = slots[argument.slot];
      const cl_mem memory = memory_of(slot);
      const cl_ulong base = (slot.offset_bytes + argument.offset_bytes) / argument.element_bytes;
      check(context_->cl->clSetKernelArg(step.kernel.get(), argument.argument, sizeof memory,
                                         &memory),
            "clSetKernelArg");
      check(context_->cl->clSetKernelArg(step.kernel.get(), argument.argument + 1, sizeof base,
                                         &base),
            "clSetKernelArg");
    }
  }
  chains_.bind(slots);
  bound_ = std::move(wanted);
}

void OpenClRecording::enqueue_step(size_t index, cl_command_queue queue,
                                   std::span<const View> slots, cl_event* event) const {
  const Api& cl = *context_->cl;
  const Step& step = steps_[index];
  const auto& op = commands_[index].op;
  cl_int code = CL_SUCCESS;
  if (step.kernel) {
    code = cl.clEnqueueNDRangeKernel(queue, step.kernel.get(), 3, nullptr, step.global, step.local,
                                     0, nullptr, event);
  } else if (const auto* copy = std::get_if<CopyCommand>(&op)) {
    const Range from = range_of(copy->source, slots), to = range_of(copy->destination, slots);
    code = cl.clEnqueueCopyBuffer(queue, from.memory, to.memory, from.offset_bytes, to.offset_bytes,
                                  from.size_bytes, 0, nullptr, event);
  } else {
    const auto& fill = std::get<FillCommand>(op);
    const Range to = range_of(fill.destination, slots);
    code = cl.clEnqueueFillBuffer(queue, to.memory, &fill.pattern, sizeof fill.pattern,
                                  to.offset_bytes, to.size_bytes, 0, nullptr, event);
  }
  if (code != CL_SUCCESS) throw_cl(code, "enqueue of '" + commands_[index].label + "'");
}

Event OpenClRecording::enqueue(cl_command_queue queue, std::span<const View> slots,
                               std::vector<Event>* each) const {
  const std::lock_guard lock(mutex_);
  // All arguments are set again: the chains have theirs of their own.
  if (!each && chains_.count_run(context_, queue, commands_, slots.size())) {
    bound_.assign(bound_.size(), {});
  }
  bind_slots(slots);
  Event last;
  for (size_t i = 0, count = 1; i < steps_.size(); i += count) {
    const size_t chained = each ? 0 : chains_.length(i, queue);
    count = std::max<size_t>(chained, 1);
    cl_event event = nullptr;
    cl_event* wanted = each || i + count == steps_.size() ? &event : nullptr;
    chained != 0 ? chains_.enqueue(i, queue, wanted) : enqueue_step(i, queue, slots, wanted);
    if (event) last = own_event(context_, event);
    if (each) each->push_back(last);
  }
  return last;
}

}  // namespace dlk::opencl
