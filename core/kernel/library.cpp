#include "core/kernel/library.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>

#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/phases.h"
#include "core/base/processors.h"
#include "core/device/registry.h"
#include "core/kernel/background_kernels.h"
#include "core/kernel/cubin.h"
#include "core/kernel/device_key.h"
#include "core/kernel/disk_cache.h"
#include "core/kernel/packed_kernels.h"
#include "core/kernel/ptx.h"

namespace dlk {

namespace {

using KernelFuture = std::shared_future<std::shared_ptr<Kernel>>;

KernelFormat format_of(const Caps& caps) {
  Backend* backend = find_backend(caps.backend);
  if (backend == nullptr) {
    throw_invalid("there is no backend '" + caps.backend + "' in this build for the device " +
                  caps.id);
  }
  return backend->kernel_format();
}

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

constexpr char kRefusedFile[] = "no-machine-code-", kNotMadeFile[] = "no-machine-code-of-";

class Library : public KernelLibrary {
 public:
  explicit Library(std::shared_ptr<Device> device)
      : device_(std::move(device)),
        sources_(KernelSources::embedded()),
        format_(format_of(device_->caps())),
        cache_(CacheFolder::kernels()),
        packs_(device_->caps(), sources_),
        key_prefix_(device_key(device_->caps()) + "|" + std::to_string(sources_.hash()) + "|") {}

  const KernelInterface& interface_of(const KernelRequest& request) override {
    const std::string key = request.key();
    {
      const std::lock_guard lock(mutex_);
      const auto found = interfaces_.find(key);
      if (found != interfaces_.end()) return found->second;
    }
    KernelInterface made = sources_.interface_of(request);
    const std::lock_guard lock(mutex_);
    return interfaces_.emplace(key, std::move(made)).first->second;
  }

  std::shared_ptr<Kernel> get(const KernelRequest& request) override {
    const std::string key = request.key();
    std::promise<std::shared_ptr<Kernel>> promise;
    KernelFuture future;
    bool builds = false;
    {
      const std::lock_guard lock(mutex_);
      const auto [entry, is_new] = kernels_.try_emplace(key);
      if (is_new) {
        entry->second = promise.get_future().share();
        builds = true;
      } else {
        ++stats_.memory_hits;
      }
      future = entry->second;
    }
    if (!builds) return best(future.get());
    try {
      const BackgroundKernels::Hold hold(background_);
      std::shared_ptr<Kernel> kernel = build(request, key);
      const std::lock_guard lock(mutex_);
      ++stats_.pipelines;
      built_.push_back(request);
      promise.set_value(kernel);
      return kernel;
    } catch (...) {
      // Those who wait get the error; the next request tries again.
      const std::lock_guard lock(mutex_);
      promise.set_exception(std::current_exception());
      kernels_.erase(key);
      throw;
    }
  }

  KernelPackage package(const KernelRequest& request) override {
    if (format_ != KernelFormat::kSpirv && format_ != KernelFormat::kOpenCLC) {
      throw_unsupported("bundles of kernels are for Vulkan and OpenCL, not for " +
                        device_->caps().backend);
    }
    const bool in_ptx =
        is_ptx(request) && (device_->caps().binary_import || request.lowering == "wgmma");
    KernelPackage made;
    try {
      made.portable = made_code(request, in_ptx);
    } catch (const Error& error) {
      if (!in_ptx || sources_.has_tiles(request)) throw;
      made.portable = made_code(request, false);
    }
    KernelCode code = made.portable;
    if (std::string binary = binary_of(*compiled(code)); !binary.empty()) {
      code.code = std::move(binary);
      code.format = KernelFormat::kBinary;
      code.build_options.clear();
      made.binary = code;
    }
    if (std::optional<KernelCode> machine = machine_code(code)) {
      try {
        compiled(*machine);
        made.binary = std::move(*machine);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kCompileFailed) throw;
        refuse_machine_code(error.what());
      }
    }
    return made;
  }

  std::vector<std::shared_ptr<Kernel>> get_all(
      const std::vector<KernelRequest>& requests,
      const std::function<void(size_t, size_t)>& progress) override;

  bool are_there(const std::vector<KernelRequest>& requests) const {
    const std::lock_guard lock(mutex_);
    return std::ranges::all_of(
        requests, [&](const KernelRequest& one) { return kernels_.contains(one.key()); });
  }

  bool settle(std::span<const std::shared_ptr<Kernel>> kernels) override {
    return background_.settle(kernels);
  }
  std::shared_ptr<Kernel> best(const std::shared_ptr<Kernel>& kernel) const override {
    return background_.best(kernel);
  }
  uint64_t replaced() const override { return background_.done(); }
  void finish_background() override { background_.finish(); }

  KernelLibraryStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  const std::string& cache_key() const override { return key_prefix_; }

  std::vector<KernelRequest> built() const override {
    const std::lock_guard lock(mutex_);
    return built_;
  }

 private:
  std::shared_ptr<Kernel> build(const KernelRequest& request, const std::string& key) {
    if (device_->caps().binary_import && !is_ptx(request) && all_in_ptx_) {
      try {
        return build_one(request, key, true);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kCompileFailed && error.code() != ErrorCode::kUnsupported) {
          throw;
        }
      }
    }
    if (device_->caps().simdgroup_matrix && request.lowering == "plain" &&
        sources_.has_tiles(request)) {
      // The same tiles on matrix units; what they do not take stays as it is.
      KernelRequest faster = request;
      faster.lowering = "simdgroup";
      try {
        return build_one(faster, faster.key());
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kCompileFailed && error.code() != ErrorCode::kUnsupported) {
          throw;
        }
      }
    }
    if (device_->caps().binary_import && is_ptx(request) && !sources_.has_tiles(request)) {
      // Asked for because it is faster, not because of tiles: SPIR-V does as well.
      try {
        return build_one(request, key, true);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kCompileFailed && error.code() != ErrorCode::kUnsupported) {
          throw;
        }
      }
      return build_one(request, key);
    }
    return build_one(
        request, key,
        is_ptx(request) && (device_->caps().binary_import || request.lowering == "wgmma"));
  }

  std::shared_ptr<Kernel> build_one(const KernelRequest& request, const std::string& key,
                                    bool in_ptx = false) {
    if (format_ == KernelFormat::kNone) return device_->compile(interface_only(request));
    const std::string disk_key = key_prefix_ + key + (in_ptx ? "|in ptx" : "") +
                                 (request.source.empty() ? "" : "|source=" + request.source);
    std::optional<KernelCode> cached;
    {
      const Phase phase("kernels/cache");
      cached = cache_.load(disk_key);
    }
    {
      const std::lock_guard lock(mutex_);
      if (cache_.enabled()) ++(cached ? stats_.disk_hits : stats_.disk_misses);
    }
    if (cached) {
      if (std::shared_ptr<Kernel> kernel = from_cache(std::move(*cached), disk_key)) return kernel;
    }
    bool packed = false;
    KernelCode code = made_code(request, in_ptx, &packed);
    if (!packed) return from_code(std::move(code), disk_key);
    try {
      std::shared_ptr<Kernel> kernel = from_machine_code(code, disk_key);
      if (kernel == nullptr) kernel = from_code(std::move(code), disk_key);
      const std::lock_guard lock(mutex_);
      ++stats_.pack_hits;
      return kernel;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCompileFailed) throw;
      log_once(device_->caps().id +
               " does not take a kernel of a pack and compiles it: " + error.what());
    }
    return from_code(made_code(request, in_ptx), disk_key);
  }

  /// Null where the driver takes no machine code. Under Vulkan the driver itself makes a better
  /// program of the PTX, of which more groups share a compute unit's local memory, but one after
  /// the other: machine code lies beside the PTX in the cache, and is replaced in the background.
  std::shared_ptr<Kernel> from_machine_code(const KernelCode& code, const std::string& disk_key) {
    const bool replaced = device_->caps().binary_import && machine_setting_ != "1";
    if (replaced && (machine_setting_ == "0" || !is_ptx_text(code))) return nullptr;
    const std::string key = replaced ? disk_key + "|machine code" : disk_key;
    std::optional<KernelCode> machine = replaced ? cache_.load(key) : std::nullopt;
    const bool is_new = !machine;
    if (is_new) machine = machine_code(code);
    if (!machine) return nullptr;
    const KernelCode copy = is_new ? *machine : KernelCode{};
    try {
      std::shared_ptr<Kernel> kernel = compiled(std::move(*machine));
      if (is_new) cache_.store(key, copy);
      if (is_new && replaced) cache_.store(disk_key, code);
      if (replaced) background_.add(kernel, code);
      return kernel;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCompileFailed) throw;
      refuse_machine_code(error.what());
    }
    return nullptr;
  }

  /// Null where the driver no longer takes its own form of the kernel.
  std::shared_ptr<Kernel> from_cache(KernelCode code, const std::string& disk_key) {
    if (std::shared_ptr<Kernel> kernel = from_machine_code(code, disk_key)) return kernel;
    const bool is_binary = code.format == KernelFormat::kBinary;
    try {
      return compiled(std::move(code));
    } catch (const Error& error) {
      if (!is_binary || error.code() != ErrorCode::kCompileFailed) throw;
      return nullptr;
    }
  }

  std::shared_ptr<Kernel> from_code(KernelCode code, const std::string& disk_key) {
    // Stored once the driver has taken it: its own form where there is one.
    const bool records = packs_.records(code);
    KernelCode copy = cache_.enabled() || records ? code : KernelCode{};
    std::shared_ptr<Kernel> kernel = compiled(std::move(code));
    if (!cache_.enabled() && !records) return kernel;
    // CPU drivers compile for every size of group when asked for it, and keep their own cache.
    const bool asks = !device_->caps().is_cpu && copy.format != KernelFormat::kBinary;
    if (std::string binary = asks ? binary_of(*kernel) : ""; !binary.empty()) {
      if (records) packs_.record(copy, binary);
      copy.code = std::move(binary);
      copy.format = KernelFormat::kBinary;
      copy.build_options.clear();
    }
    cache_.store(disk_key, copy);
    return kernel;
  }

  /// From the packs too where `packed` is given: then that tells.
  KernelCode made_code(const KernelRequest& request, bool in_ptx, bool* packed = nullptr) {
    if (in_ptx) {
      std::optional<KernelCode> found = packed != nullptr ? packs_.ptx_of(request) : std::nullopt;
      if (found) {
        *packed = true;
        return std::move(*found);
      }
      const Phase phase("kernels/ptx");
      return ptx_of(request);
    }
    KernelCode code;
    {
      const Phase phase("kernels/print");
      code = sources_.print(request, format_, device_->caps());
    }
    if (packed != nullptr && packs_.take(code)) {
      *packed = true;
      return code;
    }
    if (code.format == KernelFormat::kSpirv) {
      const Phase phase("kernels/glslang");
      std::string spirv = compile_glsl(code.code, code.name);
      packs_.record(code, spirv);
      code.code = std::move(spirv);
    }
    return code;
  }

  std::shared_ptr<Kernel> compiled(KernelCode code) {
    const Phase phase("kernels/driver");
    return device_->compile(std::move(code));
  }

  /// What drivers hand out is not needed where they cannot: then the text is kept.
  static std::string binary_of(const Kernel& kernel) {
    const Phase phase("kernels/binary");
    try {
      return kernel.binary();
    } catch (const Error&) {
      return {};
    }
  }

  /// Machine code of PTX from the cache or a pack, where the driver's CUDA library makes it: in
  /// parallel, while the driver compiles one text after another, and in each process again.
  std::optional<KernelCode> machine_code(const KernelCode& code) {
    const Caps& caps = device_->caps();
    if (!is_ptx_text(code) || !(caps.inline_ptx || caps.binary_import)) return std::nullopt;
    const std::string mark = kNotMadeFile + hex_text(hash_text(key_prefix_ + code.code)) + ".txt";
    if (refusal_.read(mark)) return std::nullopt;
    std::call_once(machine_asked_, [&] {
      if (refusal_.read(kRefusedFile + device_name_)) return;
      try {
        machine_ = CubinCompiler::open(caps);
      } catch (const Error&) {  // the text does as well
      }
    });
    if (machine_ == nullptr || machine_refused_) return std::nullopt;
    const Phase phase("kernels/machine code");
    KernelCode made = code;
    made.format = KernelFormat::kBinary;
    made.build_options.clear();
    std::string text = code.code;
    text.resize(std::min(text.find('\0'), text.size()));
    try {
      made.code = machine_->compile(text, code.name);
    } catch (const Error& error) {  // PTX that only the driver of this API takes: not tried again
      refusal_.write(mark, error.what());
      return std::nullopt;
    }
    return made;
  }

  /// The driver takes no machine code through this API: not asked again, in other processes too.
  void refuse_machine_code(const std::string& why) {
    if (machine_refused_.exchange(true)) return;
    log_once(device_->caps().id + " takes no machine code of kernels: " + why);
    refusal_.write(kRefusedFile + device_name_, why);
  }

  static bool is_ptx(const KernelRequest& request) {
    return request.lowering == "ptx" || request.lowering == "wgmma" || request.lowering == "async";
  }

  KernelCode ptx_of(const KernelRequest& request) {
    std::call_once(compiler_asked_, [&] {
      try {
        if (device_->caps().inline_ptx) return;
        compiler_ = ptx_compiler_for(device_->caps());
      } catch (const Error& error) {
        no_compiler_ = error.what();
      }
    });
    if (!no_compiler_.empty()) throw_unsupported(no_compiler_);
    Device& compiler = compiler_ == nullptr ? *device_ : *compiler_;
    const std::string& backend = device_->caps().backend;
    KernelCode source =
        ptx_source(sources_.print(request, KernelFormat::kOpenCLC, compiler.caps()), backend);
    std::string ptx = driver_ptx(source, compiler);
    packs_.record(source, ptx);
    return launchable_ptx(std::move(source), std::move(ptx), backend);
  }

  /// For backends that compute nothing: the kernel's calling convention without a text.
  KernelCode interface_only(const KernelRequest& request) const {
    const KernelInterface interface = sources_.interface_of(request);
    KernelCode code;
    code.name = request.name;
    code.bindings = interface.bindings;
    code.params = interface.params;
    code.param_bytes = interface.param_bytes;
    code.group_size = interface.group_size;
    code.local_bytes = interface.local_bytes;
    code.hash = std::hash<std::string>{}(request.key());
    return code;
  }

  const std::shared_ptr<Device> device_;
  const KernelSources& sources_;
  const KernelFormat format_;
  const DiskCache cache_;
  const PackedKernels packs_;
  const std::string key_prefix_;
  // DLK_VULKAN_PTX=all: kernels without gang tiles are compiled to PTX too.
  const bool all_in_ptx_ = setting("DLK_VULKAN_PTX") == "all";
  // 0: no machine code. 1: under Vulkan nothing else. Unset: there it is for the start.
  const std::string machine_setting_ = setting("DLK_CUBIN");
  std::once_flag compiler_asked_;
  std::shared_ptr<Device> compiler_;  // opened when something is not in the cache
  std::string no_compiler_;
  const std::string device_name_ = hex_text(hash_text(key_prefix_)) + ".txt";
  const CacheFolder refusal_ = CacheFolder::kernels();
  std::once_flag machine_asked_;
  std::unique_ptr<CubinCompiler> machine_;
  std::atomic<bool> machine_refused_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, KernelInterface> interfaces_;
  std::map<std::string, KernelFuture> kernels_;
  std::vector<KernelRequest> built_;
  KernelLibraryStats stats_;
  // The last: its thread ends before anything else of this goes.
  BackgroundKernels background_{
      [this](KernelCode code) { return device_->compile(std::move(code)); }};
};

std::vector<std::shared_ptr<Kernel>> Library::get_all(
    const std::vector<KernelRequest>& requests,
    const std::function<void(size_t, size_t)>& progress) {
  const size_t total = requests.size();
  std::vector<std::shared_ptr<Kernel>> kernels(total);
  if (are_there(requests)) {  // no threads for what takes none
    std::ranges::transform(requests, kernels.begin(), [&](const auto& one) { return get(one); });
    if (progress && total > 0) progress(total, total);
    return kernels;
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::exception_ptr error;
  size_t next = 0, done = 0;
  const Phase phase("kernels");
  const auto work = [&] {
    std::unique_lock lock(mutex);
    while (next < total && error == nullptr) {
      const size_t index = next++;
      lock.unlock();
      std::exception_ptr problem;
      try {
        kernels[index] = get(requests[index]);
      } catch (...) {
        problem = std::current_exception();
      }
      lock.lock();
      if (problem != nullptr && error == nullptr) error = problem;
      ++done;
      changed.notify_one();
    }
    changed.notify_one();
  };
  constexpr size_t kMostThreads = 32;
  const size_t count = std::min<size_t>({total, kMostThreads, usable_processors()});
  std::vector<std::thread> threads;
  for (size_t i = 0; i < count; ++i) threads.emplace_back(work);
  std::unique_lock lock(mutex);
  size_t reported = 0;
  while (reported < total && error == nullptr) {
    changed.wait(lock, [&] { return done > reported || error != nullptr; });
    reported = done;
    if (!progress || error != nullptr) continue;
    lock.unlock();
    std::exception_ptr problem;
    try {
      progress(reported, total);
    } catch (...) {
      problem = std::current_exception();
    }
    lock.lock();
    if (error == nullptr) error = problem;
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  if (error != nullptr) std::rethrow_exception(error);
  return kernels;
}

}  // namespace

std::shared_ptr<KernelLibrary> KernelLibrary::of(const std::shared_ptr<Device>& device) {
  static std::mutex mutex;
  static std::map<const Device*, std::weak_ptr<KernelLibrary>> libraries;
  const std::lock_guard lock(mutex);
  std::erase_if(libraries, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<KernelLibrary>& place = libraries[device.get()];
  std::shared_ptr<KernelLibrary> library = place.lock();
  if (library == nullptr) {
    library = std::make_shared<Library>(device);
    place = library;
  }
  return library;
}

}  // namespace dlk
