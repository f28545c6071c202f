// Metal's compute objects as the simulator holds them, and the functions that install their
// methods. Each install_* lives in the file of its topic.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/metal_sim/execute/memory.h"
#include "tests/metal_sim/execute/order.h"
#include "tests/metal_sim/msl/module.h"
#include "tests/metal_sim/objc/foundation.h"

namespace metal_sim {

enum class StorageMode { kShared = 0, kManaged = 1, kPrivate = 2, kMemoryless = 3 };
constexpr UInt kUntracked = 1, kTracked = 2;  // MTLHazardTrackingMode

inline StorageMode storage_of(UInt options) {
  return static_cast<StorageMode>((options >> 4) & 15);
}
inline UInt hazard_mode_of(UInt options) { return (options >> 8) & 3; }

struct Size3 {
  UInt width, height, depth;
};

/// An object that can be labelled and knows its device.
struct DeviceObject : Object {
  Ref<String> label;
  void dispose() override { label.reset(); }
};

struct Device : DeviceObject {};

struct Heap;

struct Buffer : DeviceObject {
  std::shared_ptr<Allocation> memory;
  uint64_t offset = 0, size = 0;  // inside `memory`
  UInt options = 0;
  Ref<Heap> heap;
  std::vector<std::byte> host_copy;  // managed storage only: what the CPU sees
  void* deallocator = nullptr;       // block of newBufferWithBytesNoCopy
  std::byte* gpu() const { return memory->bytes() + offset; }
  void* contents();
  void dispose() override;
};

struct HeapDescriptor : Object {
  UInt size = 0, storage = 2, hazard_mode = 0, type = 0, options = 0;
};

struct Heap : DeviceObject {
  struct Range {
    uint64_t begin, end;
  };
  std::shared_ptr<Allocation> memory;
  UInt storage = 2, hazard_mode = kUntracked, type = 0;
  std::mutex mutex;
  std::vector<Range> used;  // sorted by begin
  void dispose() override;
  uint64_t used_bytes();
  std::optional<uint64_t> take(uint64_t size, uint64_t alignment);
  void give_back(uint64_t begin);
};

struct CompileOptions : Object {
  UInt language_version = 0;
  Int math_mode = 2;  // fast
};

struct Library : DeviceObject {
  std::shared_ptr<Module> module;
  void dispose() override;
};

struct Function : DeviceObject {
  std::shared_ptr<Module> module;
  const KernelEntry* kernel = nullptr;
  void dispose() override;
};

struct PipelineDescriptor : DeviceObject {
  Ref<Function> function;
  Ref<Array> archives;
  UInt max_threads = 0;
  bool multiple_of_width = false;
  void dispose() override;
};

struct Pipeline : DeviceObject {
  std::shared_ptr<Module> module;
  const KernelEntry* kernel = nullptr;
  UInt max_threads = 0;
  void dispose() override;
};

struct BinaryArchiveDescriptor : Object {
  Ref<Url> url;
  void dispose() override { url.reset(); }
};

struct BinaryArchive : DeviceObject {
  std::vector<std::string> keys;  // of the pipelines that it holds
};

struct Event : DeviceObject {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t value = 0;
  ScopeSet before;  // what the last signal ordered
};

struct Fence : DeviceObject {
  ScopeSet before;
};

/// What is bound at one index of an encoder's argument table.
struct Binding {
  Ref<Buffer> buffer;  // or
  std::shared_ptr<std::vector<std::byte>> bytes;
  UInt offset = 0;
  bool is_set() const { return buffer || bytes; }
};
constexpr size_t kBindings = 31;

/// A dispatch as it was encoded.
struct Dispatch {
  Ref<Pipeline> pipeline;
  std::array<Binding, kBindings> bindings;
  std::array<UInt, kBindings> threadgroup_bytes{};
  std::array<uint32_t, 3> grid{}, threads{};
  bool non_uniform = false;  // dispatchThreads: `grid` counts threads
  std::shared_ptr<Scope> scope;
  uint32_t position = 0;  // in its encoder
};

struct CommandQueue : DeviceObject {
  Ref<Device> device;
  std::thread worker;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  bool stopping = false;
  bool failed = false;  // of the worker: an injected fault stopped the queue
  ScopeSet observed;    // scopes that the CPU knows to have completed
  UInt max_buffers = 64;
  void dispose() override;
};

/// Values of MTLCommandBufferStatus.
enum : int { kNotEnqueued, kEnqueued, kCommitted, kScheduled, kCompleted, kFailed };

/// How far a command buffer is; outlives it for those who wait.
struct Progress {
  std::mutex mutex;
  std::condition_variable changed;
  int status = kNotEnqueued;
  bool finished = false;  // after the handlers
};

struct CommandBuffer : DeviceObject {
  Ref<CommandQueue> queue;
  bool encoding = false;
  std::vector<std::function<void(CommandBuffer&)>> commands;
  std::vector<Ref<Object>> kept;
  std::vector<void*> scheduled, handlers;
  ScopeSet before, scopes;  // ordered before its encoders; its own encoders
  std::shared_ptr<Progress> progress = std::make_shared<Progress>();
  bool running = false;
  Ref<Error> error;
  double start = 0, end = 0;
  int status();
  void use(Object* object) { kept.emplace_back(object); }
  void fail(Int code, const std::string& what);
  void dispose() override;
};

struct Encoder : DeviceObject {
  Ref<CommandBuffer> buffer;
  std::shared_ptr<Scope> scope;
  bool ended = false;
  void check_open(const char* what) const;
  void dispose() override;
};

struct ComputeEncoder : Encoder {
  Ref<Pipeline> pipeline;
  std::array<Binding, kBindings> bindings;
  std::array<UInt, kBindings> threadgroup_bytes{};
  uint32_t position = 0;
  void dispose() override;
};

struct BlitEncoder : Encoder {};

Device* the_device();
Buffer* new_buffer(uint64_t size, UInt options);
/// Runs a dispatch; its errors go to the command buffer.
void run_dispatch(CommandBuffer& buffer, const Dispatch& dispatch);

void install_device();
void install_buffers();
void install_heaps();
void install_libraries();
void install_queues();
void install_command_buffers();
void install_compute_encoders();
void install_blit_encoders();
void install_events();
void install_all_classes();

}  // namespace metal_sim
