// A device of the tests that stands for NVIDIA's OpenCL: its compiler makes PTX of every kernel,
// and it says what it was given. Includes its backend: one test file of an executable may use it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/device/registry.h"
#include "core/kernel/library.h"

namespace dlk::testing {

inline constexpr char kPtx[] = ".version 8.0\n.target sm_90\n.visible .entry twice(){}\n";

class PtxKernel : public Kernel {
 public:
  PtxKernel(KernelCode code, std::string binary)
      : Kernel(std::move(code)), binary_(std::move(binary)) {}
  std::string binary() const override { return binary_; }

 private:
  std::string binary_;
};

/// As NVIDIA's OpenCL: what it hands out is PTX, ended by a zero.
class PtxDevice : public Device {
 public:
  explicit PtxDevice(std::string text = kPtx, std::string name = "Fake GPU")
      : text_(std::move(text)) {
    caps_.id = "ptx-test:0";
    caps_.backend = "ptx-test";
    caps_.name = std::move(name);
    caps_.inline_ptx = true;
    caps_.max_group_invocations = 1024;
    caps_.local_memory_bytes = 32768;
  }
  const Caps& caps() const noexcept override { return caps_; }
  std::shared_ptr<Buffer> allocate(uint64_t, MemoryKind) override { throw_unsupported("test"); }
  std::shared_ptr<Buffer> adopt(void*, uint64_t, std::shared_ptr<void>) override {
    throw_unsupported("test");
  }
  std::shared_ptr<Kernel> compile(KernelCode code) override {
    const std::lock_guard lock(mutex_);
    const bool is_machine = code.code.starts_with("CUBIN");
    taken.push_back(code.format == KernelFormat::kOpenCLC ? "source"
                    : is_machine                          ? "machine code"
                                                          : "ptx");
    if (is_machine && refuses) throw Error(ErrorCode::kCompileFailed, "no machine code here");
    if (taken.back() == "ptx" && refuses_ptx) throw Error(ErrorCode::kCompileFailed, "other PTX");
    std::string binary = is_machine ? code.code : text_ + '\0';
    return std::make_shared<PtxKernel>(std::move(code), std::move(binary));
  }
  std::shared_ptr<Recording> record(const CommandList&, bool) override {
    throw_unsupported("test");
  }
  std::unique_ptr<Queue> create_queue() override { throw_unsupported("test"); }

  /// Of Vulkan that runs PTX and compiles none.
  void take_ptx_only() { caps_.inline_ptx = !(caps_.binary_import = true); }

  std::vector<std::string> taken;
  bool refuses = false;
  bool refuses_ptx = false;

 protected:
  std::mutex mutex_;
  const std::string text_;
  Caps caps_;
};

class PtxBackend : public Backend {
 public:
  std::string name() const override { return "ptx-test"; }
  int priority() const override { return -100; }
  KernelFormat kernel_format() const override { return KernelFormat::kOpenCLC; }
  std::vector<Caps> enumerate() override { return {}; }
  std::string unavailable_reason() override { return "only a test"; }
  std::shared_ptr<Device> open(uint32_t) override { return nullptr; }
};

inline KernelRequest request() {
  KernelRequest request;
  request.name = "twice";
  request.source =
      "kernel twice\nin X : f32\nout Y : f32\ngroup 64\n{ st(Y, LX, 2.0f * ld(X, LX)); }\n";
  return request;
}

}  // namespace dlk::testing
