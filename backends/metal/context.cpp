#include "backends/metal/context.h"

#include <cstdlib>
#include <string_view>

#include "backends/metal/archive.h"
#include "backends/metal/heap.h"

namespace dlk::metal {

namespace {

constexpr char kUtilitySource[] = R"(#include <metal_stdlib>
using namespace metal;

struct dlk_fill_block {
  uint count;
  uint pattern;
};

kernel void dlk_fill_words(
    device uint* to [[buffer(0)]],
    constant dlk_fill_block& block [[buffer(1)]],
    uint first [[thread_position_in_grid]],
    uint threads [[threads_per_grid]]) {
  for (uint i = first; i < block.count; i += threads) to[i] = block.pattern;
}

kernel void dlk_copy_words(
    device const uint* from [[buffer(0)]],
    device uint* to [[buffer(1)]],
    constant uint& count [[buffer(2)]],
    uint first [[thread_position_in_grid]],
    uint threads [[threads_per_grid]]) {
  for (uint i = first; i < count; i += threads) to[i] = from[i];
}

kernel void dlk_copy_bytes(
    device const uchar* from [[buffer(0)]],
    device uchar* to [[buffer(1)]],
    constant uint& count [[buffer(2)]],
    uint first [[thread_position_in_grid]],
    uint threads [[threads_per_grid]]) {
  for (uint i = first; i < count; i += threads) to[i] = from[i];
}
)";

constexpr const char* kUtilityNames[] = {"dlk_fill_words", "dlk_copy_words", "dlk_copy_bytes"};

struct Language {
  MTL::LanguageVersion version;
  const char* text;
};

bool system_is_at_least(NS::Integer macos, NS::Integer ios) {
#if TARGET_OS_OSX
  (void)ios;
  const NS::OperatingSystemVersion version{macos, 0, 0};
#else
  (void)macos;
  const NS::OperatingSystemVersion version{ios, 0, 0};
#endif
  return NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion(version);
}

Language newest_language() {
  if (system_is_at_least(14, 17)) return {MTL::LanguageVersion3_1, "3.1"};
  if (system_is_at_least(13, 16)) return {MTL::LanguageVersion3_0, "3.0"};
  if (system_is_at_least(12, 15)) return {MTL::LanguageVersion2_4, "2.4"};
  return {MTL::LanguageVersion2_3, "2.3"};
}

const Language& language() {
  static const Language value = newest_language();
  return value;
}

MTL::StorageMode chosen_storage(const Caps& caps) {
  const char* text = std::getenv("DLK_METAL_STORAGE");
  const std::string_view wanted = text ? text : "";
  if (wanted.empty()) return caps.unified_memory ? MTL::StorageModeShared : MTL::StorageModePrivate;
  if (wanted == "shared") return MTL::StorageModeShared;
  if (wanted == "private") return MTL::StorageModePrivate;
#if TARGET_OS_OSX
  if (wanted == "managed") return MTL::StorageModeManaged;
#endif
  throw_invalid("DLK_METAL_STORAGE is '" + std::string(wanted) +
                "'; it may be shared, private, or managed (macOS only)");
}

}  // namespace

bool environment_flag(const char* name, bool otherwise) {
  const char* text = std::getenv(name);
  const std::string_view value = text ? text : "";
  return value == "1" || (value != "0" && otherwise);
}

std::string language_version_text() { return language().text; }

Ref<MTL::Library> compile_library(MTL::Device* device, const std::string& source,
                                  NS::Error** error) {
  const auto options = own(MTL::CompileOptions::alloc()->init());
  options->setLanguageVersion(language().version);
  // Kernels rely on NaN, infinities and the order of operations. The older property is what
  // systems before macOS 15 and iOS 18 know.
  if (responds_to(options.get(), "setMathMode:")) {
    options->setMathMode(MTL::MathModeSafe);
  } else {
    options->setFastMathEnabled(false);
  }
  return own(device->newLibrary(ns_string(source), options.get(), error));
}

Context::Context(MTL::Device* device, Caps caps, MTL::CommandQueue* app_queue)
    : device_(share(device)),
      caps_(std::move(caps)),
      app_queue_(share(app_queue)),
      device_storage_(chosen_storage(caps_)),
      concurrent_(environment_flag("DLK_METAL_CONCURRENT", true)),
      heaps_(std::make_unique<HeapPool>(device, device_storage_)),
      archive_(std::make_unique<Archive>(device, caps_)) {}

Context::~Context() {
  const Pool pool;
  archive_.reset();
  heaps_.reset();
  for (auto& utility : utilities_) utility.reset();
  app_queue_.reset();
  device_.reset();
}

Ref<MTL::Library> Context::library(const std::string& source, const std::string& label) {
  NS::Error* error = nullptr;
  auto made = compile_library(device_.get(), source, &error);
  if (!made) {
    throw Error(ErrorCode::kCompileFailed,
                "kernel '" + label + "' on " + caps_.id + " does not compile: " + text_of(error));
  }
  return made;
}

Ref<MTL::ComputePipelineState> Context::pipeline(MTL::Library* library, const std::string& function,
                                                 uint64_t threads) {
  const auto entry = own(library->newFunction(ns_string(function)));
  if (!entry) {
    throw Error(ErrorCode::kCompileFailed,
                "the text of the kernel '" + function + "' has no kernel function of that name");
  }
  NS::Error* error = nullptr;
  auto made = archive_->pipeline(entry.get(), function, threads, &error);
  if (!made) {
    throw Error(ErrorCode::kCompileFailed, "kernel '" + function + "' on " + caps_.id +
                                               " gives no pipeline: " + text_of(error));
  }
  return made;
}

MTL::ComputePipelineState* Context::utility(Utility which) {
  const std::lock_guard lock(mutex_);
  if (!utilities_[0]) {
    const auto made = library(kUtilitySource, "copies and fills");
    for (size_t i = 0; i < utilities_.size(); ++i)
      utilities_[i] = pipeline(made.get(), kUtilityNames[i], 0);
  }
  return utilities_[static_cast<size_t>(which)].get();
}

}  // namespace dlk::metal
