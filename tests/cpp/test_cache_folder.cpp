// The cache on disk: bounded, shared by processes, and harmless where it cannot be written.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "core/base/cache_folder.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
namespace fs = std::filesystem;

namespace {

struct Temporary : testing::TemporaryFolder {
  Temporary() {
    setenv("DLK_CACHE_SIZE", "64K", 1);
    unsetenv("DLK_LOG");
  }
  ~Temporary() { unsetenv("DLK_CACHE_SIZE"); }
  uint64_t bytes() const {
    uint64_t total = 0;
    for (const auto& file : fs::directory_iterator(path)) total += file.file_size();
    return total;
  }
  size_t temporary_files() const {
    size_t count = 0;
    for (const auto& file : fs::directory_iterator(path))
      count += file.path().extension() == ".tmp";
    return count;
  }
  void age(const std::string& name, int hours) const {
    fs::last_write_time(path + "/" + name,
                        fs::file_time_type::clock::now() - std::chrono::hours(hours));
  }
};

std::string name_of(int i) { return "file" + std::to_string(i); }

/// Bytes that differ from file to file.
std::string content_of(int i, size_t bytes = 4000) {
  std::string text(bytes, static_cast<char>('a' + i % 26));
  return text.replace(0, 8, "<" + std::to_string(100000 + i) + ">");
}

struct ChildResult {
  int code = -1;
  std::string log;  // what went to stderr
};

ChildResult in_child(const std::function<int()>& body) {
  char name[] = "/tmp/dlk-cache-log-XXXXXX";
  const int log = mkstemp(name);
  const pid_t id = fork();
  REQUIRE(id >= 0);
  if (id == 0) {
    dup2(log, STDERR_FILENO);
    _exit(body());
  }
  int status = 0;
  waitpid(id, &status, 0);
  close(log);
  std::ifstream file(name);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  fs::remove(name);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text};
}

/// A user whom permissions stop, also where the tests run as root.
void become_nobody() {
  if (geteuid() == 0 && setuid(65534) != 0) _exit(99);
}

}  // namespace

TEST_CASE("files come back as they were written, or not at all") {
  const Temporary folder;
  const CacheFolder cache(folder.path + "/below/it");
  CHECK_FALSE(cache.read("a").has_value());
  for (const std::string& text : {std::string(), std::string("\0x", 2), content_of(3)}) {
    cache.write("a", text);
    CHECK(cache.read("a") == text);
  }
  const fs::path file = cache.path() + "/a";
  const auto size = fs::file_size(file);
  SUBCASE("truncated") { fs::resize_file(file, size - 1); }
  SUBCASE("longer") { fs::resize_file(file, size + 1); }
  SUBCASE("empty") { fs::resize_file(file, 0); }
  SUBCASE("a folder") {
    fs::remove(file);
    fs::create_directory(file);
  }
  CHECK_FALSE(cache.read("a").has_value());
}

TEST_CASE("the size is read from DLK_CACHE_SIZE") {
  const Temporary folder;
  const auto limit_of = [](const char* text) {
    setenv("DLK_CACHE_SIZE", text, 1);
    return cache_size_limit();
  };
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  CHECK(limit_of("1000") == 1000);
  CHECK(limit_of("3K") == 3 << 10);
  CHECK(limit_of("512M") == 512 << 20);
  CHECK(limit_of("20G") == 20 * kGiB);
  CHECK(limit_of("0") == 0);
  CHECK(limit_of("") == kGiB);
  for (const char* wrong : {"much", "1T", "-1", "1KK", "1 M", "99999999999G", "1e9", "K"}) {
    CAPTURE(wrong);
    const ChildResult result = in_child([&] { return limit_of(wrong) == kGiB ? 0 : 1; });
    CHECK(result.code == 0);
    CHECK(result.log.find(std::string("DLK_CACHE_SIZE is '") + wrong) != std::string::npos);
  }
}

TEST_CASE("what was unused for longest goes first") {
  const Temporary folder;
  const CacheFolder cache(folder.path);
  for (int i = 0; i < 14; ++i) {
    cache.write(name_of(i), content_of(i));
    folder.age(name_of(i), 100 - i);
  }
  std::ofstream(folder.path + "/abandoned.1.2.tmp") << "x";
  folder.age("abandoned.1.2.tmp", 2);
  std::ofstream(folder.path + "/busy.1.3.tmp") << "x";
  CHECK(cache.read(name_of(0)).has_value());  // now the newest
  for (int i = 14; i < 20; ++i) cache.write(name_of(i), content_of(i));
  CHECK(cache.read(name_of(0)) == content_of(0));
  CHECK_FALSE(cache.read(name_of(1)).has_value());
  CHECK_FALSE(cache.read(name_of(2)).has_value());
  CHECK(cache.read(name_of(19)) == content_of(19));
  CHECK_FALSE(fs::exists(folder.path + "/abandoned.1.2.tmp"));
  CHECK(fs::exists(folder.path + "/busy.1.3.tmp"));
  for (int i = 20; i < 100; ++i) {
    cache.write(name_of(i), content_of(i));
    CHECK(folder.bytes() <= (64 << 10) + (64 << 10) / 8 + 5000);
  }
  cache.write("large", content_of(0, 20000));  // more than a quarter of the limit: never kept
  CHECK_FALSE(cache.read("large").has_value());
}

TEST_CASE("processes that write, read and prune one folder at once") {
  const Temporary folder;
  std::vector<pid_t> children;
  for (int child = 0; child < 4; ++child) {
    const pid_t id = fork();
    REQUIRE(id >= 0);
    if (id > 0) {
      children.push_back(id);
      continue;
    }
    const CacheFolder cache(folder.path);
    int hits = 0, wrong = 0;
    for (int i = 0; i < 300; ++i) {
      const int mine = (i * 7 + child) % 40, other = (i * 11 + child) % 40;
      cache.write(name_of(mine), content_of(mine));
      const auto found = cache.read(name_of(other));
      hits += found.has_value();
      wrong += found && *found != content_of(other);
    }
    _exit(wrong == 0 && hits > 0 ? 0 : 1);
  }
  for (const pid_t id : children) {
    int status = 1;
    CHECK(waitpid(id, &status, 0) == id);
    CHECK(status == 0);
  }
  CHECK(folder.temporary_files() == 0);
  CHECK(folder.bytes() <= (64 << 10) + 4 * ((64 << 10) / 8 + 5000));
}

TEST_CASE("a folder that must not be written: one warning, no failure") {
  const Temporary folder;
  CacheFolder(folder.path).write("old", "kept");
  chmod(folder.path.c_str(), 0555);
  const ChildResult result = in_child([&] {
    become_nobody();
    const CacheFolder cache(folder.path), below(folder.path + "/below");
    for (int i = 0; i < 3; ++i) {
      cache.write(name_of(i), "new");
      if (cache.read(name_of(i))) return 1;
    }
    if (cache.read("old") != "kept") return 2;
    below.write("a", "b");  // another folder, another line
    return below.read("a") ? 3 : 0;
  });
  CHECK(result.code == 0);
  CHECK(std::count(result.log.begin(), result.log.end(), '\n') == 2);
  CHECK(result.log.find(folder.path + " cannot be written (Permission denied)") !=
        std::string::npos);
  CHECK(result.log.find("DLK_CACHE_DIR") != std::string::npos);
}

TEST_CASE("no room: one warning, no failure, nothing half written") {
  const Temporary folder;
  CacheFolder(folder.path).write("old", "kept");
  const ChildResult result = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    // The log is a file too: it fits.
    const rlimit limit{2000, 2000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
    const CacheFolder cache(folder.path);
    for (int i = 0; i < 3; ++i) {
      cache.write(name_of(i), content_of(i));
      if (cache.read(name_of(i))) return 1;
    }
    cache.write("small", "fits");
    if (cache.read("small") != "fits") return 2;
    return cache.read("old") == "kept" ? 0 : 3;
  });
  CHECK(result.code == 0);
  CHECK(std::count(result.log.begin(), result.log.end(), '\n') == 1);
  CHECK(folder.temporary_files() == 0);
}

TEST_CASE("a folder that nobody may see") {
  const Temporary folder;
  CacheFolder(folder.path).write("old", "kept");
  chmod(folder.path.c_str(), 0000);
  const ChildResult result = in_child([&] {
    become_nobody();
    const CacheFolder cache(folder.path);
    cache.write("a", "b");
    return cache.read("old") || cache.read("a") ? 1 : 0;
  });
  CHECK(result.code == 0);
  CHECK(std::count(result.log.begin(), result.log.end(), '\n') == 1);
}

TEST_CASE("an empty path is no cache") {
  const CacheFolder off{std::string()};
  CHECK_FALSE(off.enabled());
  off.write("a", "b");
  CHECK_FALSE(off.read("a").has_value());
}
