#include "core/kernel/kernel_pack.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/base/byte_stream.h"
#include "core/base/hash.h"
#include "core/base/inflate.h"
#include "core/base/log.h"
#include "core/kernel/dialect.h"
#include "core/model/mapped_file.h"

namespace dlk {

namespace fs = std::filesystem;

namespace {

// The file: this, the sizes of the index as it lies there and unpacked, the index as a zlib stream,
// then one zlib stream an entry. The index: a count, and for each entry the key and its place,
// counted from the end of the index, packed size and size.
constexpr std::string_view kMagic = "dlk kernels 1\n";
constexpr uint64_t kNumbers = 2 * 8, kEntryBytes = 5 * 8;
constexpr uint64_t kLargestKernel = 64u << 20;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

#if defined(_WIN32)
constexpr char kSeparator = ';';
#else
constexpr char kSeparator = ':';
#endif

}  // namespace

PackKey pack_key(const KernelCode& printed, const std::string& device) {
  const bool is_glsl = printed.format == KernelFormat::kSpirv;
  const std::string target = is_glsl ? "spirv|glslang " + glslang_version() : "ptx|" + device;
  const std::string text =
      target + "|" + printed.name + "|" + printed.build_options + "|" + printed.code;
  return {hash_text(text), hash_text(text, 0x9e3779b97f4a7c15u)};
}

void KernelPack::drop(const std::string& why) {
  log_once("the kernel pack " + path_ + " is not used: " + why +
           "; kernels are compiled here instead");
  entries_.clear();
  file_ = nullptr;
}

void KernelPack::open() {
  opened_ = true;
  try {
    file_ = MappedFile::open(path_);
  } catch (const Error& error) {
    return drop(error.what());
  }
  const std::string_view bytes = text_of(*file_);
  if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + kNumbers) {
    return drop("it is no kernel pack of this version of dlk");
  }
  ByteReader head(bytes.substr(kMagic.size(), kNumbers));
  const uint64_t packed = head.number(), size = head.number();
  const uint64_t begin = kMagic.size() + kNumbers;
  const std::string damaged = "it is damaged, install dlk again or make it anew (dlk pack)";
  if (packed > bytes.size() - begin) return drop(damaged);
  const std::optional<std::string> index = inflated(bytes.substr(begin, packed), size);
  if (!index) return drop(damaged);
  const uint64_t data = begin + packed;
  ByteReader in(*index);
  const uint64_t count = in.number();
  if (count > index->size() / kEntryBytes) return drop(damaged);
  for (uint64_t i = 0; i < count; ++i) {
    PackKey key{};
    for (uint64_t& part : key) part = in.number();
    Entry entry{in.number(), in.number(), in.number()};
    const uint64_t room = bytes.size() - data;
    if (entry.offset > room || entry.packed_bytes > room - entry.offset ||
        entry.bytes > kLargestKernel) {
      return drop(damaged);
    }
    entry.offset += data;
    entries_.emplace(key, entry);
  }
  if (!in.done()) drop(damaged);
}

std::optional<std::string> KernelPack::find(const PackKey& key) {
  Entry entry;
  std::shared_ptr<const MappedFile> file;
  {
    const std::lock_guard lock(mutex_);
    if (!opened_) open();
    const auto found = entries_.find(key);
    if (found == entries_.end()) return std::nullopt;
    entry = found->second;
    file = file_;
  }
  std::optional<std::string> code =
      inflated(text_of(*file).substr(entry.offset, entry.packed_bytes), entry.bytes);
  if (!code) {
    const std::lock_guard lock(mutex_);
    drop("it is damaged, install dlk again or make it anew (dlk pack)");
  }
  return code;
}

KernelPacks& KernelPacks::shared() {
  static KernelPacks packs;
  return packs;
}

void KernelPacks::add(const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    throw_invalid("there is no kernel pack '" + path + "'; name a file that `dlk pack` made");
  }
  const std::lock_guard lock(mutex_);
  if (std::ranges::any_of(added_, [&](const auto& pack) { return pack->path() == path; })) return;
  added_.push_back(std::make_shared<KernelPack>(path));
}

std::vector<std::shared_ptr<KernelPack>> KernelPacks::all() const {
  std::string paths = environment("DLK_KERNEL_PACKS");
  if (paths == "0") return {};
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<KernelPack>> packs;
  for (size_t at = 0; at < paths.size();) {
    const size_t end = std::min(paths.find(kSeparator, at), paths.size());
    if (const std::string path = paths.substr(at, end - at); !path.empty()) {
      std::shared_ptr<KernelPack>& pack = named_[path];
      if (pack == nullptr) pack = std::make_shared<KernelPack>(path);
      packs.push_back(pack);
    }
    at = end + 1;
  }
  packs.insert(packs.end(), added_.begin(), added_.end());
  return packs;
}

bool KernelPacks::any() const { return !all().empty(); }

std::optional<std::string> KernelPacks::find(const PackKey& key) {
  for (const std::shared_ptr<KernelPack>& pack : all()) {
    if (std::optional<std::string> code = pack->find(key)) return code;
  }
  return std::nullopt;
}

bool KernelPacks::records() { return !environment("DLK_KERNEL_PACK_RECORD").empty(); }

void KernelPacks::record(const PackKey& key, std::string_view code) {
  const std::string folder = environment("DLK_KERNEL_PACK_RECORD");
  if (folder.empty()) return;
  const std::string path = folder + "/" + hex_text(key[0]) + hex_text(key[1]) + ".kernel";
  try {
    fs::create_directories(folder);
    if (fs::exists(path)) return;
    AtomicFile file(path);
    file.write(std::string(code));
    file.commit();
  } catch (const std::exception& error) {
    log_once("DLK_KERNEL_PACK_RECORD: " + std::string(error.what()));
  }
}

}  // namespace dlk
