#include "core/kernel/library.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>

#include "core/device/registry.h"
#include "core/kernel/disk_cache.h"
#include "core/kernel/ptx.h"

namespace dlk {

namespace {

using KernelFuture = std::shared_future<std::shared_ptr<Kernel>>;

/// Everything about a device that a printed or compiled kernel may depend on.
std::string device_key(const Caps& caps) {
  std::string text = "dlk " DLK_VERSION "|glslang " + glslang_version() + "|" + caps.backend + "|" +
                     caps.name + "|" + caps.vendor + "|" + caps.driver + "|" + caps.api_version;
  for (const auto& [name, value] : caps_flags(caps)) {
    if (value) text += "|" + name;
  }
  for (const uint32_t limit : {caps.max_push_bytes, caps.local_memory_bytes, caps.subgroup_size,
                               caps.max_group_invocations, caps.vector_width}) {
    text += "|" + std::to_string(limit);
  }
  return text;
}

KernelFormat format_of(const Caps& caps) {
  Backend* backend = find_backend(caps.backend);
  if (backend == nullptr) {
    throw_invalid("there is no backend '" + caps.backend + "' in this build for the device " +
                  caps.id);
  }
  return backend->kernel_format();
}

/// DLK_VULKAN_PTX=all: kernels without gang tiles are compiled to PTX too.
bool wants_all_in_ptx() {
  const char* setting = std::getenv("DLK_VULKAN_PTX");
  return setting != nullptr && std::string_view(setting) == "all";
}

class Library : public KernelLibrary {
 public:
  explicit Library(std::shared_ptr<Device> device)
      : device_(std::move(device)),
        sources_(KernelSources::embedded()),
        format_(format_of(device_->caps())),
        cache_(CacheFolder::kernels()),
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
    if (!builds) return future.get();
    try {
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

  std::vector<std::shared_ptr<Kernel>> get_all(
      const std::vector<KernelRequest>& requests,
      const std::function<void(size_t, size_t)>& progress) override;

  KernelLibraryStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

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
    std::optional<KernelCode> cached = cache_.load(disk_key);
    {
      const std::lock_guard lock(mutex_);
      if (cache_.enabled()) ++(cached ? stats_.disk_hits : stats_.disk_misses);
    }
    if (cached) return device_->compile(std::move(*cached));
    KernelCode code = in_ptx ? ptx_of(request) : sources_.print(request, format_, device_->caps());
    if (code.format == KernelFormat::kSpirv) code.code = compile_glsl(code.code, code.name);
    // Stored once the driver has taken it.
    const KernelCode copy = cache_.enabled() ? code : KernelCode{};
    std::shared_ptr<Kernel> kernel = device_->compile(std::move(code));
    if (cache_.enabled()) cache_.store(disk_key, copy);
    return kernel;
  }

  static bool is_ptx(const KernelRequest& request) {
    return request.lowering == "ptx" || request.lowering == "wgmma";
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
    return compile_ptx(sources_.print(request, KernelFormat::kOpenCLC, compiler.caps()), compiler,
                       device_->caps().backend);
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
  const std::string key_prefix_;
  const bool all_in_ptx_ = wants_all_in_ptx();
  std::once_flag compiler_asked_;
  std::shared_ptr<Device> compiler_;  // opened when something is not in the cache
  std::string no_compiler_;
  mutable std::mutex mutex_;
  std::map<std::string, KernelInterface> interfaces_;
  std::map<std::string, KernelFuture> kernels_;
  std::vector<KernelRequest> built_;
  KernelLibraryStats stats_;
};

std::vector<std::shared_ptr<Kernel>> Library::get_all(
    const std::vector<KernelRequest>& requests,
    const std::function<void(size_t, size_t)>& progress) {
  const size_t total = requests.size();
  std::vector<std::shared_ptr<Kernel>> kernels(total);
  std::mutex mutex;
  std::condition_variable changed;
  std::exception_ptr error;
  size_t next = 0, done = 0;
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
  constexpr size_t kMostThreads = 8;
  const size_t count =
      std::min({total, kMostThreads, std::max<size_t>(std::thread::hardware_concurrency(), 1)});
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
