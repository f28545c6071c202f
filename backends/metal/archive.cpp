#include "backends/metal/archive.h"

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string_view>
#include <system_error>

#include "backends/metal/context.h"
#include "core/base/cache_folder.h"
#include "core/kernel/library.h"

namespace dlk::metal {

namespace fs = std::filesystem;

namespace {

std::string archive_path(const Caps& caps) {
  const char* cache = std::getenv("DLK_CACHE");
  if (cache && std::string_view(cache) == "0") return {};
  if (!environment_flag("DLK_METAL_ARCHIVE", true)) return {};
  const std::string folder = cache_directory();
  if (folder.empty()) return {};
  // Machine code of one system is refused by the next: each has a file of its own.
  const std::string key = caps.name + "|" + caps.driver + "|" + caps.api_version;
  return folder + "/metal/" + std::to_string(std::hash<std::string>{}(key)) + ".archive";
}

}  // namespace

Archive::Archive(MTL::Device* device, const Caps& caps)
    : device_(device), path_(archive_path(caps)) {
  if (!path_.empty()) open();
}

void Archive::open() {
  const Pool pool;
  NS::Error* error = nullptr;
  const auto descriptor = own(MTL::BinaryArchiveDescriptor::alloc()->init());
  std::error_code code;
  if (fs::is_regular_file(path_, code)) {
    descriptor->setUrl(NS::URL::fileURLWithPath(ns_string(path_)));
    archive_ = own(device_->newBinaryArchive(descriptor.get(), &error));
    if (archive_) return;
    descriptor->setUrl(nullptr);  // damaged, or of another system: start anew
  }
  archive_ = own(device_->newBinaryArchive(descriptor.get(), &error));
}

Archive::~Archive() {
  const Pool pool;
  save();
  archive_.reset();
}

void Archive::save() {
  if (!archive_ || added_ == 0) return;
  std::error_code code;
  fs::create_directories(fs::path(path_).parent_path(), code);
  // Written aside and renamed, so that a process never reads half a file.
  const std::string aside =
      path_ + "." + std::to_string(std::hash<const void*>{}(this) ^ added_) + ".tmp";
  NS::Error* error = nullptr;
  if (archive_->serializeToURL(NS::URL::fileURLWithPath(ns_string(aside)), &error)) {
    fs::rename(aside, path_, code);
  }
  if (code || error) fs::remove(aside, code);
}

Ref<MTL::ComputePipelineState> Archive::pipeline(MTL::Function* function, const std::string& label,
                                                 uint64_t threads, NS::Error** error) {
  const auto descriptor = own(MTL::ComputePipelineDescriptor::alloc()->init());
  descriptor->setComputeFunction(function);
  descriptor->setLabel(ns_string(label));
  descriptor->setMaxTotalThreadsPerThreadgroup(threads);
  const auto build = [&] {
    return own(device_->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr,
                                                error));
  };
  if (!archive_) return build();
  descriptor->setBinaryArchives(NS::Array::array(archive_.get()));
  NS::Error* miss = nullptr;
  auto found = own(device_->newComputePipelineState(
      descriptor.get(), MTL::PipelineOptionFailOnBinaryArchiveMiss, nullptr, &miss));
  if (found) {
    const std::lock_guard lock(mutex_);
    ++hits_;
    return found;
  }
  auto built = build();
  if (!built) return built;
  const std::lock_guard lock(mutex_);
  if (archive_->addComputePipelineFunctions(descriptor.get(), &miss)) ++added_;
  return built;
}

}  // namespace dlk::metal
