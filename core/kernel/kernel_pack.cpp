#include "core/kernel/kernel_pack.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/base/byte_stream.h"
#include "core/base/hash.h"
#include "core/base/inflate.h"
#include "core/base/log.h"
#include "core/kernel/dialect.h"

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

/// Part of a file, or less where it ends before.
std::string part_of(const std::string& path, uint64_t offset, uint64_t bytes) {
  std::string part(bytes, '\0');
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(part.data(), static_cast<std::streamsize>(bytes));
  part.resize(file.gcount() > 0 ? static_cast<size_t>(file.gcount()) : 0);
  return part;
}

constexpr char kDamaged[] = "it is damaged, install dlk again or make it anew (dlk pack)";

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
}

void KernelPack::open() {
  opened_ = true;
  std::error_code error;
  const uint64_t size = fs::file_size(path_, error);
  if (error) return drop(error.message());
  constexpr uint64_t kBegin = kMagic.size() + kNumbers;
  const std::string head = part_of(path_, 0, kBegin);
  if (!head.starts_with(kMagic) || head.size() < kBegin) {
    return drop("it is no kernel pack of this version of dlk");
  }
  ByteReader numbers(std::string_view(head).substr(kMagic.size()));
  const uint64_t packed_bytes = numbers.number(), index_bytes = numbers.number();
  if (packed_bytes > size - kBegin) return drop(kDamaged);
  const std::optional<std::string> index =
      inflated(part_of(path_, kBegin, packed_bytes), index_bytes);
  if (!index) return drop(kDamaged);
  const uint64_t data = kBegin + packed_bytes, room = size - data;
  ByteReader in(*index);
  const uint64_t count = in.number();
  if (count > index->size() / kEntryBytes) return drop(kDamaged);
  for (uint64_t i = 0; i < count; ++i) {
    PackKey key{};
    for (uint64_t& part : key) part = in.number();
    Entry entry{in.number(), in.number(), in.number()};
    if (entry.offset > room || entry.packed_bytes > room - entry.offset ||
        entry.bytes > kLargestKernel) {
      return drop(kDamaged);
    }
    entry.offset += data;
    entries_.emplace(key, entry);
  }
  if (!in.done()) drop(kDamaged);
}

std::optional<std::string> KernelPack::find(const PackKey& key) {
  Entry entry;
  {
    const std::lock_guard lock(mutex_);
    if (!opened_) open();
    const auto found = entries_.find(key);
    if (found == entries_.end()) return std::nullopt;
    entry = found->second;
  }
  std::optional<std::string> code =
      inflated(part_of(path_, entry.offset, entry.packed_bytes), entry.bytes);
  if (!code) {
    const std::lock_guard lock(mutex_);
    drop(kDamaged);
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
    // Others may write the same file: it appears whole.
    const uint64_t who = uint64_t{std::random_device{}()} << 32 | std::random_device{}();
    const std::string temporary = path + "." + hex_text(who) + ".tmp";
    std::ofstream file(temporary, std::ios::binary);
    file << code;
    file.close();
    if (!file) throw_invalid("cannot write " + temporary);
    fs::rename(temporary, path);
  } catch (const std::exception& error) {
    log_once("DLK_KERNEL_PACK_RECORD: " + std::string(error.what()));
  }
}

}  // namespace dlk
