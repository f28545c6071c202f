#include "core/kernel/peaks.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/device/registry.h"
#include "core/kernel/library.h"

namespace dlk {

namespace {

constexpr int kRuns = 4;
constexpr double kEnoughSeconds = 4e-3;  // of a run, so that its start does not count
constexpr int64_t kChains = 8, kLength = 8;

/// Buffers of float32 and a queue to run probes on.
class Probe {
 public:
  explicit Probe(const std::shared_ptr<Device>& device)
      : device_(device), library_(KernelLibrary::of(device)), queue_(device->create_queue()) {}

  View allocate(uint64_t bytes) {
    View view{device_->allocate(bytes, MemoryKind::kDevice), 0, bytes};
    CommandList list;
    list.fill(view, 0x3f000000u);  // 0.5
    queue_->wait(queue_->submit(device_->record(list)));
    return view;
  }

  /// Seconds of the fastest of a few runs.
  double seconds(const KernelRequest& request, const View& x, const View& y, uint32_t groups,
                 uint32_t rounds) {
    DispatchCommand command;
    command.kernel = library_->get(request);
    command.operands = {x, y};
    command.params.resize(command.kernel->info().param_bytes);
    for (const ParamInfo& info : command.kernel->info().params) {
      std::memcpy(command.params.data() + info.offset_bytes, &rounds, 4);
    }
    command.groups = {groups, 1, 1};
    CommandList list;
    list.dispatch(std::move(command), request.name);
    const bool timed = device_->caps().timestamps;
    const std::shared_ptr<Recording> recording = device_->record(list, timed);
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kRuns; ++run) {
      const auto begin = std::chrono::steady_clock::now();
      const Ticket ticket = queue_->submit(recording);
      queue_->wait(ticket);
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      best = std::min(best, timed ? queue_->command_times_ns(ticket).at(0) / 1e9 : waited.count());
    }
    return std::max(best, 1e-9);
  }

 private:
  const std::shared_ptr<Device> device_;
  const std::shared_ptr<KernelLibrary> library_;
  const std::unique_ptr<Queue> queue_;
};

int64_t vector_width(const Caps& caps) { return caps.is_cpu ? caps.vector_width : 4; }

int64_t group_size(const Caps& caps) {
  return caps.is_cpu ? 1 : std::min<int64_t>(256, caps.max_group_invocations);
}

double copy_rate(Probe& probe, const Caps& caps) {
  const int64_t each = caps.is_cpu ? 4096 : 8;
  const int64_t group_bytes = 4 * vector_width(caps) * group_size(caps) * each;
  const uint64_t most = std::min(
      {uint64_t{256} << 20, caps.max_buffer_bytes, caps.max_binding_bytes, caps.memory_bytes / 8});
  const auto groups = static_cast<uint32_t>(
      std::clamp<uint64_t>(most / static_cast<uint64_t>(group_bytes), 1, caps.max_group_count[0]));
  const uint64_t bytes = groups * static_cast<uint64_t>(group_bytes);
  KernelRequest request;
  request.name = "probe_copy";
  request.constants = {{"WG", group_size(caps)}, {"EACH", each}, {"VW", vector_width(caps)}};
  const View x = probe.allocate(bytes), y = probe.allocate(bytes);
  return 2.0 * static_cast<double>(bytes) / probe.seconds(request, x, y, groups, 0);
}

double fma_rate(Probe& probe, const Caps& caps, bool half) {
  const auto groups = static_cast<uint32_t>(std::max<int64_t>(caps.compute_units, 8) * 16);
  const int64_t items = groups * group_size(caps), lanes = items * vector_width(caps);
  KernelRequest request;
  request.name = "probe_fma";
  request.constants = {{"WG", group_size(caps)},
                       {"CHAINS", kChains},
                       {"LENGTH", kLength},
                       {"ACC16", half ? 1 : 0},
                       {"VW", vector_width(caps)}};
  const View x = probe.allocate(256), y = probe.allocate(4 * static_cast<uint64_t>(lanes));
  constexpr uint32_t kMostRounds = 1u << 22;
  for (uint32_t rounds = 64;; rounds *= 4) {
    const double seconds = probe.seconds(request, x, y, groups, rounds);
    if (seconds >= kEnoughSeconds || rounds >= kMostRounds) {
      return 2.0 * static_cast<double>(lanes * kChains * kLength) * rounds / seconds;
    }
  }
}

}  // namespace

DevicePeaks measure_peaks(const std::shared_ptr<Device>& device) {
  const Caps& caps = device->caps();
  const Backend* backend = find_backend(caps.backend);
  if (backend != nullptr && backend->kernel_format() == KernelFormat::kNone) {
    throw_unsupported(caps.id +
                      " executes no kernels, so that it has no peaks; name another device");
  }
  Probe probe(device);
  DevicePeaks peaks;
  peaks.copy_bytes = copy_rate(probe, caps);
  peaks.fp32_flops = fma_rate(probe, caps, false);
  if (caps.fp16_arithmetic) peaks.fp16_flops = fma_rate(probe, caps, true);
  return peaks;
}

}  // namespace dlk
