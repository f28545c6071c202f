#include "core/kernel/disk_cache.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/log.h"
#include "core/kernel/library.h"

namespace dlk {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "dlk kernel 1\n";
constexpr uint64_t kLargestEntry = 64u << 20;

class Writer {
 public:
  void number(uint64_t value) {
    for (int i = 0; i < 8; ++i) bytes_ += static_cast<char>((value >> (8 * i)) & 0xff);
  }
  void text(std::string_view value) {
    number(value.size());
    bytes_ += value;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads what Writer wrote; `ok` turns false at the first thing that does not fit.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool done() const { return ok_ && bytes_.empty(); }

  uint64_t number() {
    uint64_t value = 0;
    const std::string_view taken = take(8);
    for (size_t i = 0; i < taken.size(); ++i) {
      value |= static_cast<uint64_t>(static_cast<unsigned char>(taken[i])) << (8 * i);
    }
    return value;
  }
  uint32_t number32() { return static_cast<uint32_t>(number()); }
  std::string text() { return std::string(take(number())); }
  /// A count of elements that take at least 8 bytes each.
  uint64_t count() {
    const uint64_t value = number();
    if (value > bytes_.size() / 8) ok_ = false;
    return ok_ ? value : 0;
  }

 private:
  std::string_view take(uint64_t size) {
    if (size > bytes_.size()) ok_ = false;
    if (!ok_) return {};
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

std::string serialize(const KernelCode& code) {
  Writer out;
  out.number(static_cast<uint64_t>(code.format));
  out.text(code.name);
  out.text(code.code);
  out.text(code.build_options);
  out.number(code.bindings.size());
  for (const BindingInfo& binding : code.bindings) {
    out.text(binding.name);
    out.number(static_cast<uint64_t>(binding.access));
    out.number(binding.element_bytes);
  }
  out.number(code.params.size());
  for (const ParamInfo& param : code.params) {
    out.text(param.name);
    out.number(static_cast<uint64_t>(param.kind));
    out.number(param.count);
    out.number(param.offset_bytes);
  }
  out.number(code.param_bytes);
  out.number(code.params_in_buffer ? 1 : 0);
  for (const uint32_t extent : code.group_size) out.number(extent);
  out.number(code.local_bytes);
  out.number(code.required_subgroup_size);
  out.number(code.hash);
  return out.take();
}

std::optional<KernelCode> deserialize(std::string_view bytes) {
  Reader in(bytes);
  KernelCode code;
  code.format = static_cast<KernelFormat>(in.number());
  code.name = in.text();
  code.code = in.text();
  code.build_options = in.text();
  code.bindings.resize(in.count());
  for (BindingInfo& binding : code.bindings) {
    binding.name = in.text();
    binding.access = static_cast<Access>(in.number());
    binding.element_bytes = in.number32();
  }
  code.params.resize(in.count());
  for (ParamInfo& param : code.params) {
    param.name = in.text();
    param.kind = static_cast<char>(in.number());
    param.count = in.number32();
    param.offset_bytes = in.number32();
  }
  code.param_bytes = in.number32();
  code.params_in_buffer = in.number() != 0;
  for (uint32_t& extent : code.group_size) extent = in.number32();
  code.local_bytes = in.number32();
  code.required_subgroup_size = in.number32();
  code.hash = in.number();
  return in.done() ? std::optional(std::move(code)) : std::nullopt;
}

std::string hex(uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (size_t i = 0; i < 16; ++i) text[15 - i] = kDigits[(value >> (4 * i)) & 15];
  return text;
}

// magic, checksum of the rest, key, entry
std::string entry_of(const std::string& key, const KernelCode& code) {
  Writer rest;
  rest.text(key);
  rest.text(serialize(code));
  const std::string bytes = rest.take();
  Writer head;
  head.number(hash_text(bytes));
  return std::string(kMagic) + head.take() + bytes;
}

void report(const std::string& folder, const std::string& why) {
  log_once("the kernel cache " + folder + " cannot be written (" + why +
           "); kernels are compiled again in each process. Set DLK_CACHE_DIR to another folder, or "
           "DLK_CACHE=0 to silence this");
}

}  // namespace

uint64_t hash_text(std::string_view text, uint64_t seed) {
  uint64_t hash = seed;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

std::string cache_directory() {
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string own = environment("DLK_CACHE_DIR"); !own.empty()) return own;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/dlk";
  if (const std::string home = environment("HOME"); !home.empty()) return home + "/.cache/dlk";
  std::error_code error;
  const fs::path temporary = fs::temp_directory_path(error);
  return error ? std::string() : (temporary / "dlk").string();
}

std::string DiskCache::path_of(const std::string& key) const {
  return folder_ + "/" + hex(hash_text(key)) + hex(hash_text(key, 0x9e3779b97f4a7c15u)) + ".bin";
}

std::optional<KernelCode> DiskCache::load(const std::string& key) const noexcept {
  if (!enabled()) return std::nullopt;
  try {
    std::ifstream file(path_of(key), std::ios::binary | std::ios::ate);
    if (!file) return std::nullopt;
    const auto size = static_cast<uint64_t>(file.tellg());
    if (size < kMagic.size() + 8 || size > kLargestEntry) return std::nullopt;
    std::string bytes(size, '\0');
    file.seekg(0);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) return std::nullopt;
    std::string_view rest = bytes;
    if (!rest.starts_with(kMagic)) return std::nullopt;
    rest.remove_prefix(kMagic.size());
    const uint64_t checksum = Reader(rest.substr(0, 8)).number();
    rest.remove_prefix(8);
    if (hash_text(rest) != checksum) return std::nullopt;
    Reader reader(rest);
    if (reader.text() != key) return std::nullopt;
    const std::string body = reader.text();
    return reader.done() ? deserialize(body) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void DiskCache::store(const std::string& key, const KernelCode& code) const noexcept {
  if (!enabled()) return;
  try {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) return report(folder_, error.message());
    static std::atomic<uint64_t> counter{0};
    const std::string path = path_of(key);
    const std::string temporary =
        path + "." + std::to_string(getpid()) + "." + std::to_string(counter++) + ".tmp";
    bool written = false;
    {
      std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
      const std::string bytes = entry_of(key, code);
      file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      file.flush();
      written = file.good();
    }
    if (written) fs::rename(temporary, path, error);
    if (!written || error) {
      std::error_code ignored;
      fs::remove(temporary, ignored);
      report(folder_, error ? error.message() : "no space, or no permission");
    }
  } catch (const std::exception& problem) {
    report(folder_, problem.what());
  }
}

}  // namespace dlk
