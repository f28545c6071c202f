#include "core/model/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/base/error.h"

#if defined(_WIN32)
#include <process.h>
#define DLK_GETPID _getpid
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define DLK_GETPID getpid
#endif

namespace dlk {

namespace {

[[noreturn]] void fail_open(const std::string& path, const std::string& reason) {
  throw_invalid("cannot read '" + path + "': " + reason);
}

}  // namespace

#if defined(_WIN32)

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) fail_open(path, std::strerror(errno));
  std::shared_ptr<MappedFile> result(new MappedFile);
  std::byte block[1 << 16];
  size_t count = 0;
  while ((count = std::fread(block, 1, sizeof(block), file)) > 0)
    result->copy_.insert(result->copy_.end(), block, block + count);
  std::fclose(file);
  result->data_ = result->copy_.data();
  result->size_ = result->copy_.size();
  return result;
}

MappedFile::~MappedFile() = default;

#else

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail_open(path, std::strerror(errno));
  struct stat status = {};
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file);
    fail_open(path, "it is not a regular file");
  }
  std::shared_ptr<MappedFile> result(new MappedFile);
  result->size_ = static_cast<uint64_t>(status.st_size);
  if (result->size_ > 0) {
    void* data = ::mmap(nullptr, result->size_, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
      const int reason = errno;
      ::close(file);
      fail_open(path, std::strerror(reason));
    }
    result->data_ = static_cast<const std::byte*>(data);
    result->mapped_ = true;
  }
  ::close(file);
  return result;
}

MappedFile::~MappedFile() {
  if (mapped_) ::munmap(const_cast<std::byte*>(data_), size_);
}

#endif

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  std::random_device random;
  temporary_ = path + ".tmp" + std::to_string(DLK_GETPID()) + "-" + std::to_string(random());
  file_ = std::fopen(temporary_.c_str(), "wb");
  if (!file_) fail("create");
}

AtomicFile::~AtomicFile() {
  if (file_) std::fclose(file_);
  if (!temporary_.empty()) {
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }
}

void AtomicFile::fail(const char* what) const {
  throw_invalid("cannot " + std::string(what) + " '" + path_ + "': " + std::strerror(errno));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size())
    fail("write");
  position_ += bytes.size();
}

void AtomicFile::write(const std::string& text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  std::FILE* file = file_;
  file_ = nullptr;
  if (std::fflush(file) != 0) {
    std::fclose(file);
    fail("write");
  }
  if (std::fclose(file) != 0) fail("write");
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) throw_invalid("cannot write '" + path_ + "': " + error.message());
  temporary_.clear();
}

}  // namespace dlk
