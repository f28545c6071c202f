// A folder that is there as long as its owner, for tests that write files.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace dlk::testing {

struct TemporaryFolder {
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dlk-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("no folder " + name);
    path = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    chmod(path.c_str(), 0700);  // a test may have closed it
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  /// The path of a file in it.
  std::string file(const std::string& name) const { return path + "/" + name; }

  std::string path;
};

}  // namespace dlk::testing
