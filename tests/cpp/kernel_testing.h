// Runs one kernel of the dialect on a device and hands its buffers back. For tests of the dialect
// and of the kernels in kernels/, which compare with what the host computes.
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/kernel/library.h"
#include "tests/cpp/device_conformance.h"

namespace dlk::testing {

using Bytes = std::vector<std::byte>;

template <typename T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <typename T>
std::vector<T> values_of(const Bytes& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

/// Numbers between -1 and 1 that float16 holds exactly; and as float16.
inline std::vector<float> random_halves(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = half_to_float(float_to_half(distribution(generator)));
  return values;
}
inline std::vector<uint16_t> halves(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(float_to_half(value));
  return bits;
}

/// A parameter block, in the order of the kernel's header.
class Params {
 public:
  template <typename T>
  Params& add(T value) {
    static_assert(sizeof(T) == 4);
    bytes_.resize(bytes_.size() + 4);
    std::memcpy(bytes_.data() + bytes_.size() - 4, &value, 4);
    return *this;
  }
  Params& u(size_t value) { return add(static_cast<uint32_t>(value)); }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

/// Runs `request` (or what was made of it, `kernel`) once over `groups`; `buffers` go in, and come
/// back as the kernel left them. Each starts 256 bytes into its allocation, to make base offsets
/// matter.
inline void run_kernel(const std::shared_ptr<Device>& device, const KernelRequest& request,
                       std::vector<Bytes*> buffers, const Params& params,
                       std::array<uint32_t, 3> groups, std::shared_ptr<Kernel> kernel = nullptr) {
  constexpr uint64_t kOffset = 256;
  DispatchCommand command;
  command.kernel = kernel ? std::move(kernel) : KernelLibrary::of(device)->get(request);
  REQUIRE(command.kernel->info().bindings.size() == buffers.size());
  REQUIRE(command.kernel->info().param_bytes == params.bytes().size());
  const auto queue = device->create_queue();
  std::vector<View> views;
  for (const Bytes* bytes : buffers) {
    const auto buffer = device->allocate(bytes->size() + kOffset, MemoryKind::kDevice);
    views.push_back({buffer, kOffset, bytes->size()});
    queue->write(views.back(), *bytes);
    command.operands.emplace_back(views.back());
  }
  command.params = params.bytes();
  command.groups = groups;
  CommandList list;
  list.dispatch(std::move(command), request.name);
  queue->submit(device->record(list));
  Ticket last;
  for (size_t i = 0; i < buffers.size(); ++i) last = queue->read(views[i], *buffers[i]);
  queue->wait(last);
}

/// A kernel with a group of 64 and a parameter `n`, the last: `body` sees `i` and runs below n.
inline KernelRequest each_element(const std::string& header, const std::string& body,
                                  const std::string& functions = {}) {
  KernelRequest request;
  request.name = "each";
  request.source = functions + "\nkernel each\n" + header +
                   "\nparam n : uint\ngroup 64\n{\n  uint i = WX * 64u + LX;\n  if (i < n) {\n" +
                   body + "\n  }\n}\n";
  return request;
}

inline uint32_t groups_of(size_t n) { return static_cast<uint32_t>((n + 63) / 64); }

}  // namespace dlk::testing
