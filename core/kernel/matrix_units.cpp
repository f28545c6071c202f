#include "core/kernel/matrix_units.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <string_view>
#include <thread>
#include <vector>

#include "core/base/cache_folder.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/phases.h"
#include "core/device/registry.h"
#include "core/kernel/matrix_trials.h"
#include "core/kernel/ptx.h"

namespace dlk {

namespace {

constexpr const char* kUses[] = {"",
                                 " turned",
                                 " of float32",
                                 " of int8",
                                 " by turned",
                                 " of bfloat16",
                                 " of bfloat16 images",
                                 " of int8 images",
                                 " summed in float16",
                                 " by turned, summed in float16"};

constexpr const char* kSharings[] = {"", " in shared slices", " as a stream"};

std::string coopmat_or_none(const Caps& caps) {
  return caps.cooperative_matrix && caps.subgroup_size == 32 ? "coopmat" : "";
}

std::string_view asked_units() {
  const char* setting = std::getenv("DLK_MATRIX_UNITS");
  return setting == nullptr ? "" : setting;
}

std::string lowering_of(const Caps& caps) {
  const std::string_view asked = asked_units();
  if (asked == "0" || caps.is_cpu || !caps.fp16_storage) return "";
  if (asked == "plain") return "plain";
  if (caps.inline_ptx || (caps.binary_import && asked != "coopmat")) return "ptx";
  return coopmat_or_none(caps);
}

CacheFolder folder() { return CacheFolder::kernels(); }

int64_t local_bytes(const MatrixTile& tile, MatrixUse use) {
  const bool is_bytes = use == MatrixUse::kBytes || use == MatrixUse::kByteImages;
  const int64_t element = use == MatrixUse::kFloats ? 4 : is_bytes ? 1 : 2;
  return tile.local_bytes(element);
}

}  // namespace

void MatrixTile::set_constants(KernelRequest& request, const std::string& lowering) const {
  request.lowering = lowering == "ptx" && in_gangs_of_four() ? "wgmma" : lowering;
  for (const auto& [name, value] : {std::pair<const char*, int64_t>{"BM", bm},
                                    {"BN", bn},
                                    {"BK", bk},
                                    {"STAGES", stages},
                                    {"AHEAD", ahead},
                                    {"TM", tm},
                                    {"TN", tn}}) {
    request.constants[name] = value;
  }
  if (form != 0) request.constants["FORM"] = form;
}

std::string MatrixTile::text() const {
  std::string result;
  for (const int64_t value : {bm, bn, bk, stages, ahead, tm, tn}) {
    result += (result.empty() ? "" : "x") + std::to_string(value);
  }
  if (form != 0) result += "x" + std::to_string(form);
  return result;
}

std::shared_ptr<MatrixUnits> MatrixUnits::of(const std::shared_ptr<Device>& device) {
  static std::mutex mutex;
  static std::map<const Device*, std::shared_ptr<MatrixUnits>> all;
  const std::lock_guard lock(mutex);
  std::erase_if(all, [](const auto& entry) { return entry.second->state_->device.expired(); });
  std::shared_ptr<MatrixUnits>& units = all[device.get()];
  if (units == nullptr) {
    units = std::make_shared<MatrixUnits>(device, lowering_of(device->caps()));
  }
  return units;
}

MatrixUnits::MatrixUnits(std::shared_ptr<Device> device, std::string lowering)
    : state_(std::make_shared<State>()) {
  state_->device = device;
  state_->lowering = std::move(lowering);
}

std::shared_ptr<MatrixUnits> MatrixUnits::assumed() const {
  auto same = std::make_shared<MatrixUnits>(*this);
  same->assumes_ = true;
  same->assumed_.clear();
  return same;
}

std::string MatrixUnits::current_lowering() const {
  const std::lock_guard lock(state_->mutex);
  return state_->lowering;
}

std::string MatrixUnits::lowering() {
  const std::shared_ptr<Device> device = state_->device.lock();
  {
    const std::lock_guard lock(state_->mutex);
    const bool sure = state_->lowering != "ptx" || !device || device->caps().inline_ptx;
    if (state_->chosen || sure) return state_->lowering;
  }
  constexpr MatrixTile kSmall{32, 64, 64, 4, 3, 16, 32};
  const bool works_here = works(kSmall);
  const std::lock_guard lock(state_->mutex);
  if (assumed_.contains({kSmall})) return state_->lowering;
  if (!works_here && !state_->chosen) state_->lowering = coopmat_or_none(device->caps());
  state_->chosen = true;
  return state_->lowering;
}

std::string MatrixUnits::lowering(MatrixUse use) {
  const std::string halves = lowering();
  if (use != MatrixUse::kFloats || halves.empty()) return halves;
  return halves == "ptx" ? "async" : "plain";
}

bool MatrixUnits::is_offered(MatrixUse use) const {
  const std::shared_ptr<Device> device = state_->device.lock();
  const std::string lowering = current_lowering();
  if (device == nullptr) return false;
  const Caps& caps = device->caps();
  switch (use) {
    case MatrixUse::kBytes:
    case MatrixUse::kByteImages:
      return caps.int8_storage && (lowering != "coopmat" || caps.cooperative_matrix_int8);
    case MatrixUse::kBfloats:
    case MatrixUse::kBfloatImages:
      return lowering != "coopmat";  // those are of another extension
    case MatrixUse::kHalfSums:
    case MatrixUse::kRightHalfSums:
      return lowering == "ptx" ||
             (caps.fp16_arithmetic && (lowering != "coopmat" || caps.cooperative_matrix_fp16_sums));
    default:
      return true;
  }
}

bool MatrixUnits::fits(const MatrixTrial& trial) const {
  const std::shared_ptr<Device> device = state_->device.lock();
  return device != nullptr && (local_bytes(trial.tile, trial.use) <= most_launched_local_bytes() ||
                               !device->caps().binary_import);
}

bool MatrixUnits::may_hang(const MatrixTrial& trial) const {
  return state_->device.lock()->caps().binary_import &&
         local_bytes(trial.tile, trial.use) > kMostStaticLocalBytes;
}

bool MatrixUnits::works(const MatrixTile& tile, MatrixUse use, TileSharing sharing) {
  const MatrixTrial trial{tile, use, sharing};
  const std::string lowering = current_lowering();
  if (lowering.empty() || !is_offered(use) || !fits(trial)) return false;
  if (lowering == "ptx" && tile.in_gangs_of_four() && asked_units() == "mma") return false;
  const Backend* backend = find_backend(state_->device.lock()->caps().backend);
  if (backend != nullptr && backend->kernel_format() == KernelFormat::kNone) return true;
  if (const std::optional<bool> result = known(trial)) return *result;
  if (!assumes_) return try_now(trial);
  assumed_.insert(trial);
  return true;
}

bool MatrixUnits::settle() {
  const Phase phase("plan/matrix unit tests");
  std::vector<std::future<bool>> results;
  for (const MatrixTrial& trial : std::exchange(assumed_, {})) {
    results.push_back(std::async(std::launch::async, [this, trial] { return try_now(trial); }));
  }
  bool all = true;
  for (std::future<bool>& result : results) all = result.get() && all;
  return all;
}

std::optional<bool> MatrixUnits::known(const MatrixTrial& trial) {
  {
    const std::lock_guard lock(state_->mutex);
    const auto found = state_->tried.find(trial);
    if (found != state_->tried.end()) return found->second;
  }
  const auto stored = folder().read(file_of(trial));
  if (stored != "works" && stored != "wrong") return std::nullopt;
  const std::lock_guard lock(state_->mutex);
  return state_->tried[trial] = stored == "works";
}

std::string MatrixUnits::text_of(const MatrixTrial& trial) {
  return trial.tile.text() + kUses[static_cast<size_t>(trial.use)] +
         kSharings[static_cast<size_t>(trial.sharing)];
}

std::string MatrixUnits::file_of(const MatrixTrial& trial) const {
  const std::string key = KernelLibrary::of(state_->device.lock())->cache_key() +
                          current_lowering() + "|" + text_of(trial);
  return "tile-" + hex_text(hash_text(key)) + hex_text(hash_text(key, 1)) + ".txt";
}

bool MatrixUnits::try_now(const MatrixTrial& trial) {
  std::string problem;
  bool for_good = true;
  try {
    const bool right = may_hang(trial)
                           ? try_in_time(trial)
                           : try_matrix_tile(state_->device.lock(), current_lowering(), trial);
    if (!right) problem = "its results are wrong";
  } catch (const Error& error) {
    problem = error.what();
    for_good = error.code() == ErrorCode::kCompileFailed || error.code() == ErrorCode::kUnsupported;
  }
  if (!problem.empty()) {
    const std::string device = state_->device.lock()->caps().id;
    log_once("the matrix tile " + text_of(trial) + " (" + current_lowering() + ") is not used on " +
             device + ": " + problem);
  }
  // Too little memory, say, may be another matter in the next process.
  if (for_good) folder().write(file_of(trial), problem.empty() ? "works" : "wrong");
  const std::lock_guard lock(state_->mutex);
  return state_->tried[trial] = problem.empty();
}

// A launch that never starts must not stop whoever asks: it is left behind.
bool MatrixUnits::try_in_time(const MatrixTrial& trial) const {
  constexpr std::chrono::seconds kLimit{20};
  auto result = std::make_shared<std::promise<bool>>();
  std::future<bool> future = result->get_future();
  std::thread([result, trial, device = state_->device.lock(), lowering = current_lowering()] {
    try {
      result->set_value(try_matrix_tile(device, lowering, trial));
    } catch (...) {
      result->set_exception(std::current_exception());
    }
  }).detach();
  if (future.wait_for(kLimit) == std::future_status::ready) return future.get();
  throw_unsupported("its launch did not end in 20 seconds");
}

}  // namespace dlk
