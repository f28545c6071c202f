// The abstract device layer: what dlk asks of a GPU API, and nothing more. Backends implement it,
// the runtime and the tests use it; it knows no GPU API, no operator and no graph.
//
// Promises
// - Order: a queue is in order and used by one thread at a time. Different queues are unordered.
//   Inside a Recording, commands may overlap except where CommandList placed a barrier.
// - Lifetime: a queue keeps alive whatever its unfinished work uses (recordings, buffers, staging).
// - Errors: calls throw dlk::Error at once for what the API reports at once. What fails later is
//   thrown by the first wait() on that ticket or a later one, and handed to completion callbacks.
// - Checks: backends do not validate their arguments; `checked.h` wraps a device and does.
// - Threads: Device methods may be called from any thread. Command lists are plain data: threads
//   may build and `Device::record` them in parallel and another thread may submit them.
// Includes the standard library and core/base only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/error.h"

namespace dlk {

/// What a device can do. Read once when it is opened; every field is the driver's own figure.
struct Caps {
  std::string id;                  // "vulkan:0"
  std::string backend;             // "vulkan"
  std::string name;                // "NVIDIA H200"
  std::string vendor;              // "NVIDIA"
  std::string driver;              // name and version: part of every cache key
  std::string api_version;         // "1.3.230"
  bool is_cpu = false;             // a CPU driver: prefers one work-item per group and long vectors
  bool unified_memory = false;     // every buffer can be mapped by the host without a copy
  bool native_recordings = false;  // replay costs no host work per command
  uint64_t memory_bytes = 0;       // of the largest device-local heap
  uint64_t max_buffer_bytes = 0;   // one allocation
  uint64_t max_binding_bytes = 0;  // what one kernel argument can reach
  uint32_t binding_alignment = 16;  // of a binding's byte offset, handled inside the backend
  uint32_t max_push_bytes = 128;    // larger parameter blocks travel in a buffer (KernelCode)
  uint32_t max_bindings = 8;
  std::array<uint32_t, 3> max_group_size{1, 1, 1};
  std::array<uint32_t, 3> max_group_count{65535, 65535, 65535};
  uint32_t max_group_invocations = 1;
  uint32_t local_memory_bytes = 0;
  uint32_t compute_units = 1;
  uint32_t subgroup_size = 0;  // 0: no subgroup operations
  uint32_t vector_width = 4;   // widest `VW` that kernels may use (OpenCL: 16)
  // One line a feature: tests' `unsupported` entries name these.
  bool fp16_storage = false;  // fp16 buffers can be loaded and stored
  bool fp16_arithmetic = false;
  bool fp64 = false;
  bool int64 = false;
  bool int8_storage = false;  // 8-bit buffers (bool included)
  bool int16_storage = false;
  bool subgroup_arithmetic = false;
  bool cooperative_matrix = false;            // 16 x 16 x 16, float16 to float, over a subgroup
  bool cooperative_matrix_fp16_sums = false;  // the same with float16 results
  bool cooperative_matrix_int8 = false;       // 16 x 16 x 32, int8 to int32
  bool inline_ptx = false;     // OpenCL C takes PTX, with mma.sync (NVIDIA, 8.0 and later)
  bool binary_import = false;  // Vulkan runs PTX (VK_NVX_binary_import)
  bool device_fences = false;  // groups may hand each other results (device_fence)
  bool timeline_semaphore = false;
  bool host_import = false;       // Device::adopt works
  bool timestamps = false;        // per-command times (Device::record with profile)
  bool simdgroup_matrix = false;  // Metal's 8 x 8 matrices, shown to work by a probe
};

/// The names and values of the boolean fields of Caps, in order.
std::vector<std::pair<std::string, bool>> caps_flags(const Caps& caps);

enum class MemoryKind {
  kDevice,    // fastest for kernels; mapped too where memory is unified
  kUpload,    // host writes, device reads: mapped
  kReadback,  // device writes, host reads: mapped, cached where the API offers it
  kInput,     // as kDevice; a Queue::write on an idle queue stores into it where the API can
};

class Buffer {
 public:
  explicit Buffer(uint64_t size_bytes) : size_bytes_(size_bytes) {}
  virtual ~Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint64_t size_bytes() const noexcept { return size_bytes_; }
  /// Host address of byte 0, or nullptr where the host cannot map it. Coherent; reading or writing
  /// it while queued work uses the same bytes is the caller's race.
  virtual void* host_pointer() noexcept { return nullptr; }

 private:
  uint64_t size_bytes_;
};

/// A range of a buffer. Aliases are views: a concat's inputs are views of its output.
struct View {
  std::shared_ptr<Buffer> buffer;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

enum class Access : uint8_t { kRead, kWrite, kReadWrite };
enum class KernelFormat : uint8_t { kOpenCLC, kSpirv, kMsl, kNone, kPtx, kBinary };

/// One buffer argument of a kernel.
struct BindingInfo {
  std::string name;
  Access access = Access::kRead;
  uint32_t element_bytes = 4;
};

/// One scalar or array of the parameter block: 4-byte elements at `offset_bytes`, little endian.
struct ParamInfo {
  std::string name;
  char kind = 'u';     // 'u' uint32, 'i' int32, 'f' float32
  uint32_t count = 1;  // of an array parameter: `count` consecutive elements
  uint32_t offset_bytes = 0;
};

/// Local memory of PTX: launches under Vulkan with more than the first never start (seen on an
/// H200); the second is what Hopper has for a group of OpenCL.
inline constexpr uint32_t kMostStaticLocalBytes = 48 << 10, kMostPtxLocalBytes = 227 << 10;

/// A compiled or compilable kernel, as core/kernel prints it for one device.
///
/// Calling convention, which printers and backends share:
/// - OpenCL C: for each binding `__global T* NAME, ulong NAME_base` (base in elements from byte 0
///   of the buffer), then each parameter as a scalar argument, in order; an array parameter is
///   `count` scalar arguments.
/// - SPIR-V: set 0, binding i for buffer i (bound at the view's offset rounded down to
///   Caps::binding_alignment). The parameter block starts with one uint32 a binding, the rest of
///   that offset in elements, filled in by the backend, then `params`. It is a push constant
///   block, or, with `params_in_buffer`, a read-only storage buffer at binding = bindings.size().
/// - PTX (Caps::binary_import): the arguments of OpenCL C, which it was compiled from.
/// - kBinary: what Kernel::binary() gave, or the machine code of a PTX module, for the same device
///   and driver; the arguments of what it was made from.
/// - MSL: buffer(i) bound at the view's byte offset; `constant Params&` at buffer(bindings.size()).
struct KernelCode {
  KernelFormat format = KernelFormat::kNone;
  std::string name;           // entry point and label
  std::string code;           // text, or SPIR-V words as bytes
  std::string build_options;  // OpenCL only
  std::vector<BindingInfo> bindings;
  std::vector<ParamInfo> params;
  uint32_t param_bytes = 0;  // of `params` alone, without the backend's base offsets
  bool params_in_buffer = false;
  std::array<uint32_t, 3> group_size{1, 1, 1};
  uint32_t local_bytes = 0;  // static local memory
  uint32_t required_subgroup_size = 0;
  uint64_t hash = 0;  // of everything above
};

class Kernel {
 public:
  explicit Kernel(KernelCode code) : code_(std::move(code)) {}
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  /// `code` may have been dropped by the backend after the build; the interface stays.
  const KernelCode& info() const noexcept { return code_; }
  /// The driver's own form of it (KernelFormat::kBinary): PTX from NVIDIA's OpenCL. Empty where
  /// there is none to be had.
  virtual std::string binary() const { return {}; }

 protected:
  KernelCode code_;
};

/// A place in a recording that is bound at submit: the index into submit's `slots`, and a range
/// inside the view given there.
struct SlotRef {
  uint32_t slot = 0;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

using Operand = std::variant<View, SlotRef>;

/// Which bytes of an operand's range a command touches: `run_bytes` at its start and again after
/// each `period_bytes`, as pieces of a concat lie whose channels are innermost. The default is all.
struct Stripes {
  uint64_t period_bytes = 0, run_bytes = 0;
};

struct DispatchCommand {
  std::shared_ptr<Kernel> kernel;
  std::vector<Operand> operands;  // one for each binding of the kernel
  std::vector<std::byte> params;  // KernelCode::param_bytes
  std::array<uint32_t, 3> groups{1, 1, 1};
  /// One for each operand, or none: only barriers depend on it. The kernel reads nothing that
  /// matters, and writes nothing, between the runs.
  std::vector<Stripes> stripes = {};
};
struct CopyCommand {
  Operand source, destination;  // same size, no overlap
};
struct FillCommand {
  Operand destination;  // size and offset multiples of 4
  uint32_t pattern = 0;
};
struct Command {
  std::variant<DispatchCommand, CopyCommand, FillCommand> op;
  std::string label;            // for profiles and traces
  bool barrier_before = false;  // set by CommandList from the hazards
};

/// Commands in order, with the barriers that their reads and writes need. Plain data.
class CommandList {
 public:
  CommandList();
  ~CommandList();
  CommandList(CommandList&&) noexcept;
  CommandList& operator=(CommandList&&) noexcept;

  /// A new rebindable slot, used with at most `size_bytes` of it; returns its index. Distinct
  /// slots, and slots and views, are taken not to overlap; `checked` verifies that at submit.
  uint32_t add_slot(uint64_t size_bytes);
  void dispatch(DispatchCommand command, std::string label = {});
  void copy(Operand source, Operand destination, std::string label = {});
  void fill(Operand destination, uint32_t pattern, std::string label = {});

  const std::vector<Command>& commands() const noexcept { return commands_; }
  const std::vector<uint64_t>& slot_bytes() const noexcept { return slot_bytes_; }
  /// For tests that prove that a missing barrier is caught: removes the barrier `index`, counted
  /// from 0 among the commands that have one. InvalidArgument where there are fewer.
  void drop_barrier_for_test(size_t index);

 private:
  struct Hazards;
  void add(Command command);
  std::vector<Command> commands_;
  std::vector<uint64_t> slot_bytes_;
  std::unique_ptr<Hazards> hazards_;
};

/// A command list made ready for one device. Immutable; may be submitted many times, and again
/// before an earlier submission has finished (the caller keeps the written ranges apart or accepts
/// queue order).
class Recording {
 public:
  virtual ~Recording() = default;
};

/// Names a submission on the queue that returned it; later ones have greater values. 0 means
/// nothing to wait for.
struct Ticket {
  uint64_t value = 0;
};

class Queue {
 public:
  virtual ~Queue() = default;
  /// Starts the recording after all that was submitted before. Never blocks on the device.
  virtual Ticket submit(const std::shared_ptr<Recording>& recording,
                        std::span<const View> slots = {}) = 0;
  /// Queue-ordered upload; `source` is free again when the call returns.
  virtual Ticket write(const View& destination, std::span<const std::byte> source) = 0;
  /// Queue-ordered download; `destination` is filled once wait(ticket) has returned.
  virtual Ticket read(const View& source, std::span<std::byte> destination) = 0;
  /// Returns when the ticket and all before it are done; throws the first asynchronous error.
  virtual void wait(Ticket ticket) = 0;
  virtual bool is_done(Ticket ticket) = 0;
  /// Calls `callback` once from a thread of dlk's, with nullptr or the error. It must not throw.
  virtual void on_complete(Ticket ticket, std::function<void(std::exception_ptr)> callback) = 0;
  /// Nanoseconds of each command of a finished submission that was recorded with `profile`.
  virtual std::vector<double> command_times_ns(Ticket ticket) = 0;
  /// Between hold(true) and hold(false) the queue may keep back what is submitted, written and
  /// read, and hand it to the device at once. wait, is_done, on_complete and hold(false) hand over
  /// what is kept back, and throw what the device says to it.
  virtual void hold(bool) {}
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const Caps& caps() const noexcept = 0;
  /// Contents are undefined. Throws OutOfMemory with the size asked for and the device's limit.
  virtual std::shared_ptr<Buffer> allocate(uint64_t size_bytes, MemoryKind kind) = 0;
  /// Uses host memory without a copy; `owner` is released with the buffer. Unsupported where the
  /// API or the alignment does not allow it: the caller then allocates and copies.
  virtual std::shared_ptr<Buffer> adopt(void* data, uint64_t size_bytes,
                                        std::shared_ptr<void> owner) = 0;
  /// Throws CompileFailed with the driver's log. Thread-safe; callers compile in parallel.
  virtual std::shared_ptr<Kernel> compile(KernelCode code) = 0;
  virtual std::shared_ptr<Recording> record(const CommandList& commands, bool profile = false) = 0;
  virtual std::unique_ptr<Queue> create_queue() = 0;
  /// What the driver keeps about these kernels, to compile them faster in another process with the
  /// same device and driver; empty where it hands nothing out.
  virtual std::string driver_cache_of(std::span<const KernelCode>) { return {}; }
  /// Hands it back before the kernels are compiled. What the driver does not want costs time only.
  virtual void add_driver_cache(std::string_view) {}
};

/// An application's own device and queue, for Backend::wrap. Handles that an API does not have stay
/// null; what the flags mean is the backend's business (dlk.h names them: DLK_FEATURE_*).
struct NativeDevice {
  void* instance = nullptr;         // VkInstance
  void* physical_device = nullptr;  // VkPhysicalDevice
  void* device = nullptr;           // VkDevice, cl_device_id, MTLDevice
  void* context = nullptr;          // cl_context
  void* queue = nullptr;            // VkQueue, cl_command_queue, MTLCommandQueue
  uint32_t queue_family = 0;        // Vulkan
  uint64_t features = 0;            // what the application enabled on a VkDevice
};
inline constexpr uint64_t kFeatureStorage16 = 1u << 0, kFeatureStorage8 = 1u << 1,
                          kFeatureFloat16 = 1u << 2, kFeatureInt64 = 1u << 3,
                          kFeatureFloat64 = 1u << 4, kFeatureInt16 = 1u << 5,
                          kFeatureTimelineSemaphore = 1u << 6, kFeatureInt8 = 1u << 7;

/// A GPU API that is compiled in. Backends register one with DLK_REGISTER_BACKEND.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "vulkan"
  virtual int priority() const = 0;      // the default device is of the highest
  /// A hidden backend is opened only by its id: never listed, never the default.
  virtual bool hidden() const { return false; }
  /// Listed and opened by id or name, and never the default: a simulator.
  virtual bool never_default() const { return false; }
  virtual KernelFormat kernel_format() const = 0;
  /// Caps of each device, in index order; empty where the loader or a driver is missing. Never
  /// throws.
  virtual std::vector<Caps> enumerate() = 0;
  /// Why `enumerate` is empty, and what to install; empty string when it is not.
  virtual std::string unavailable_reason() = 0;
  virtual std::shared_ptr<Device> open(uint32_t index) = 0;
  /// A device on the application's own objects, which it keeps and outlive the Device. Unchecked.
  virtual std::shared_ptr<Device> wrap(const NativeDevice&) {
    throw_unsupported(name() + " cannot use an application's own device");
  }
};

}  // namespace dlk
