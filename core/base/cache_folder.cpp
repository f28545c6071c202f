#include "core/base/cache_folder.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "core/base/hash.h"
#include "core/base/log.h"

#if defined(_WIN32)
#include <process.h>
#define DLK_GETPID _getpid
#else
#include <unistd.h>
#define DLK_GETPID getpid
#endif

namespace dlk {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "dlk cache 2\n";
constexpr size_t kHeaderBytes = 12 + 16;  // magic, checksum in hexadecimal
constexpr uint64_t kLargestFile = 256u << 20;
constexpr uint64_t kDefaultLimit = uint64_t{1} << 30;
constexpr std::chrono::hours kAbandoned{1};  // age of a temporary file that nobody writes any more

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void report(const std::string& folder, const std::string& why) {
  static std::mutex mutex;
  static std::set<std::string> reported;
  const std::lock_guard lock(mutex);
  if (!reported.insert(folder).second) return;
  log_once("the kernel cache " + folder + " cannot be written (" + why +
           "); kernels are compiled again in each process. Set DLK_CACHE_DIR to another folder, or "
           "DLK_CACHE=0 to silence this");
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

/// 0, or the errno of what failed.
int write_file(const std::string& path, std::string_view header, std::string_view bytes) {
  errno = 0;
  const auto failure = [] { return errno != 0 ? errno : EIO; };
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) return failure();
  for (const std::string_view part : {header, bytes}) {
    if (std::fwrite(part.data(), 1, part.size(), file.get()) != part.size()) return failure();
  }
  return std::fclose(file.release()) == 0 ? 0 : failure();
}

struct Entry {
  fs::path path;
  uint64_t bytes = 0;
  fs::file_time_type used;
};

/// Removes what was unused for longest until a quarter of the limit is free, if it is exceeded.
void prune(const std::string& folder, uint64_t limit) {
  std::vector<Entry> entries;
  uint64_t total = 0;
  std::error_code error;
  const auto now = fs::file_time_type::clock::now();
  for (const auto& file : fs::directory_iterator(folder, error)) {
    // Others remove files at the same time: what is gone is left out.
    std::error_code gone;
    Entry entry{file.path(), file.file_size(gone), {}};
    if (!gone) entry.used = file.last_write_time(gone);
    if (gone || !file.is_regular_file(gone)) continue;
    if (entry.path.extension() == ".tmp") {
      if (now - entry.used > kAbandoned) fs::remove(entry.path, gone);
      continue;
    }
    total += entry.bytes;
    entries.push_back(std::move(entry));
  }
  if (total <= limit) return;
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= limit - limit / 4) break;
    fs::remove(entry.path, error);
    total -= entry.bytes;
  }
}

/// True at this process's first file in the folder, and after each eighth of the limit.
bool prune_is_due(const std::string& folder, uint64_t bytes, uint64_t limit) {
  static std::mutex mutex;
  static std::map<std::string, uint64_t> written;
  const std::lock_guard lock(mutex);
  const auto [place, is_first] = written.try_emplace(folder, 0);
  place->second += bytes;
  if (!is_first && place->second <= limit / 8) return false;
  place->second = 0;
  return true;
}

}  // namespace

std::string cache_directory() {
  if (const std::string own = environment("DLK_CACHE_DIR"); !own.empty()) return own;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/dlk";
  if (const std::string home = environment("HOME"); !home.empty()) return home + "/.cache/dlk";
  std::error_code error;
  const fs::path temporary = fs::temp_directory_path(error);
  return error ? std::string() : (temporary / "dlk").string();
}

uint64_t cache_size_limit() {
  const std::string text = environment("DLK_CACHE_SIZE");
  if (text.empty()) return kDefaultLimit;
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [unit, problem] = std::from_chars(text.data(), end, value);
  const std::string_view rest(unit, static_cast<size_t>(end - unit));
  const size_t power = rest.empty() ? 0 : std::string_view("KMG").find(rest) + 1;
  const uint64_t scale = uint64_t{1} << (10 * std::min<size_t>(power, 3));
  if (problem != std::errc() || rest.size() > 1 || (!rest.empty() && power == 0) ||
      value > ~uint64_t{0} / scale) {
    log_once("DLK_CACHE_SIZE is '" + text + "'; it must be bytes, or a number with K, M or G. " +
             "1G is used");
    return kDefaultLimit;
  }
  return value * scale;
}

CacheFolder CacheFolder::kernels() {
  const std::string folder = environment("DLK_CACHE") == "0" ? "" : cache_directory();
  return CacheFolder(folder.empty() ? folder : folder + "/kernels");
}

std::optional<std::string> CacheFolder::read(const std::string& name) const noexcept {
  if (!enabled()) return std::nullopt;
  try {
    const std::string path = path_ + "/" + name;
    const File file(std::fopen(path.c_str(), "rb"));
    std::error_code error;
    const uint64_t size = file ? fs::file_size(path, error) : 0;
    if (error || size < kHeaderBytes || size > kLargestFile) return std::nullopt;
    std::string bytes(size, '\0');
    if (std::fread(bytes.data(), 1, size, file.get()) != size) return std::nullopt;
    const std::string_view body = std::string_view(bytes).substr(kHeaderBytes);
    if (!bytes.starts_with(std::string(kMagic) + hex_text(hash_text(body)))) return std::nullopt;
    fs::last_write_time(path, fs::file_time_type::clock::now(), error);
    return bytes.substr(kHeaderBytes);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void CacheFolder::write(const std::string& name, std::string_view bytes) const noexcept {
  if (!enabled()) return;
  try {
    const uint64_t limit = cache_size_limit();
    if (bytes.size() + kHeaderBytes > std::min(kLargestFile, limit / 4)) return;
    std::error_code error;
    fs::create_directories(path_, error);
    if (error) return report(path_, error.message());
    static std::atomic<uint64_t> counter{0};
    const std::string path = path_ + "/" + name;
    const std::string temporary =
        path + "." + std::to_string(DLK_GETPID()) + "." + std::to_string(counter++) + ".tmp";
    const int failure =
        write_file(temporary, std::string(kMagic) + hex_text(hash_text(bytes)), bytes);
    if (failure == 0) fs::rename(temporary, path, error);
    if (failure != 0 || error) {
      std::error_code ignored;
      fs::remove(temporary, ignored);
      return report(path_, failure != 0 ? std::strerror(failure) : error.message());
    }
    if (prune_is_due(path_, bytes.size() + kHeaderBytes, limit)) prune(path_, limit);
  } catch (const std::exception& problem) {
    report(path_, problem.what());
  }
}

}  // namespace dlk
