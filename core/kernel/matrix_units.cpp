#include "core/kernel/matrix_units.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <future>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "core/base/cache_folder.h"
#include "core/base/dtype.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/phases.h"
#include "core/device/registry.h"
#include "core/kernel/ptx.h"

namespace dlk {

namespace {

constexpr const char* kUses[] = {"",         " turned",    " of float32",
                                 " of int8", " by turned", " of bfloat16"};

constexpr const char* kSharings[] = {"", " in shared slices", " as a stream"};

std::string coopmat_or_none(const Caps& caps) {
  return caps.cooperative_matrix && caps.subgroup_size == 32 ? "coopmat" : "";
}

std::string lowering_of(const Caps& caps) {
  const char* setting = std::getenv("DLK_MATRIX_UNITS");
  const std::string_view asked = setting == nullptr ? "" : setting;
  if (asked == "0" || caps.is_cpu || !caps.fp16_storage) return "";
  if (asked == "plain") return "plain";
  if (caps.inline_ptx || (caps.binary_import && asked != "coopmat")) return "ptx";
  return coopmat_or_none(caps);
}

// Small numbers that float16 holds exactly.
class Numbers {
 public:
  std::vector<uint16_t> halves(int64_t count) {
    std::vector<uint16_t> values(static_cast<size_t>(count));
    for (uint16_t& value : values) {
      state_ = state_ * 1664525u + 1013904223u;
      value = float_to_half(static_cast<float>(static_cast<int>(state_ >> 24) - 128) / 64.0f);
    }
    return values;
  }

 private:
  uint32_t state_ = 1;
};

CacheFolder folder() { return CacheFolder::kernels(); }

using Values = std::map<std::string, std::vector<int64_t>>;

std::vector<std::byte> packed_params(const std::vector<ParamInfo>& params, uint32_t bytes,
                                     const Values& values) {
  std::vector<std::byte> packed(bytes);
  for (const ParamInfo& info : params) {
    const std::vector<int64_t>& of = values.at(info.name);
    for (size_t i = 0; i < of.size(); ++i) {
      const auto bits = static_cast<uint32_t>(of[i]);
      std::memcpy(packed.data() + info.offset_bytes + 4 * i, &bits, 4);
    }
  }
  return packed;
}

/// What groups share: their sums, and counters, which are zeros again after a run.
struct SharedMemory {
  std::vector<float> sums;
  std::vector<uint32_t> counters;
};

/// Runs a kernel of two inputs; `result` holds what the output starts with, then its bytes.
void run(const std::shared_ptr<Device>& device, const KernelRequest& request,
         std::span<const std::byte> left, std::span<const std::byte> right,
         std::span<std::byte> result, const Values& values, int64_t groups,
         SharedMemory* shared = nullptr) {
  const std::shared_ptr<Kernel> kernel = KernelLibrary::of(device)->get(request);
  const std::unique_ptr<Queue> queue = device->create_queue();
  DispatchCommand command;
  command.kernel = kernel;
  std::vector<View> views;
  std::vector<std::span<const std::byte>> operands{left, right, result};
  if (shared != nullptr) {
    operands.insert(operands.begin(), {std::as_bytes(std::span(shared->sums)),
                                       std::as_bytes(std::span(shared->counters))});
  }
  for (const std::span<const std::byte> data : operands) {
    views.push_back({device->allocate(data.size(), MemoryKind::kDevice), 0, data.size()});
    queue->write(views.back(), data);
    command.operands.emplace_back(views.back());
  }
  command.params = packed_params(kernel->info().params, kernel->info().param_bytes, values);
  command.groups = {static_cast<uint32_t>(groups), 1, 1};
  CommandList list;
  list.dispatch(std::move(command), "matrix units");
  queue->submit(device->record(list));
  if (shared != nullptr) {
    queue->read(views[1], std::as_writable_bytes(std::span(shared->counters)));
  }
  queue->wait(queue->read(views.back(), result));
}

std::vector<float> floats(const std::vector<uint16_t>& values) {
  std::vector<float> result;
  for (const uint16_t value : values) result.push_back(half_to_float(value));
  return result;
}

// As bfloat16, which holds `Numbers` exactly.
std::vector<uint16_t> brains(const std::vector<uint16_t>& values) {
  std::vector<uint16_t> result;
  for (const float value : floats(values)) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    result.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return result;
}

int64_t local_bytes(const MatrixTile& tile, MatrixUse use) {
  const int64_t element = use == MatrixUse::kFloats ? 4 : use == MatrixUse::kBytes ? 1 : 2;
  return element * (tile.bm + tile.bn) * tile.bk * tile.stages;
}

template <typename T>
std::span<const std::byte> bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

double number(uint16_t half) { return static_cast<double>(half_to_float(half)); }

std::vector<double> numbers_of(const std::vector<uint16_t>& halves) {
  std::vector<double> numbers(halves.size());
  std::ranges::transform(halves, numbers.begin(), number);
  return numbers;
}

/// A sum of products of two numbers and what float32 may make of it.
class Sum {
 public:
  void add(double left, double right) {
    sum_ += left * right;
    size_ += std::fabs(left * right);
  }
  bool is_near(double got) const { return std::fabs(got - sum_) <= 1e-3 * size_; }

 private:
  double sum_ = 0, size_ = 1;
};

}  // namespace

void MatrixTile::set_constants(KernelRequest& request, const std::string& lowering) const {
  const bool in_gangs_of_four = tm == 16 && tn == bn && bn >= 64;
  request.lowering = lowering == "ptx" && in_gangs_of_four ? "wgmma" : lowering;
  for (const auto& [name, value] : {std::pair<const char*, int64_t>{"BM", bm},
                                    {"BN", bn},
                                    {"BK", bk},
                                    {"STAGES", stages},
                                    {"AHEAD", ahead},
                                    {"TM", tm},
                                    {"TN", tn}}) {
    request.constants[name] = value;
  }
}

std::string MatrixTile::text() const {
  std::string result;
  for (const int64_t value : {bm, bn, bk, stages, ahead, tm, tn}) {
    result += (result.empty() ? "" : "x") + std::to_string(value);
  }
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

bool MatrixUnits::fits(const Trial& trial) const {
  const std::shared_ptr<Device> device = state_->device.lock();
  return device != nullptr && (local_bytes(trial.tile, trial.use) <= most_launched_local_bytes() ||
                               !device->caps().binary_import);
}

bool MatrixUnits::may_hang(const Trial& trial) const {
  return state_->device.lock()->caps().binary_import &&
         local_bytes(trial.tile, trial.use) > kMostStaticLocalBytes;
}

bool MatrixUnits::works(const MatrixTile& tile, MatrixUse use, TileSharing sharing) {
  const Trial trial{tile, use, sharing};
  if (current_lowering().empty() || !fits(trial)) return false;
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
  for (const Trial& trial : std::exchange(assumed_, {})) {
    results.push_back(std::async(std::launch::async, [this, trial] { return try_now(trial); }));
  }
  bool all = true;
  for (std::future<bool>& result : results) all = result.get() && all;
  return all;
}

std::optional<bool> MatrixUnits::known(const Trial& trial) {
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

std::string MatrixUnits::text_of(const Trial& trial) {
  return trial.tile.text() + kUses[static_cast<size_t>(trial.use)] +
         kSharings[static_cast<size_t>(trial.sharing)];
}

std::string MatrixUnits::file_of(const Trial& trial) const {
  const std::string key = KernelLibrary::of(state_->device.lock())->cache_key() +
                          current_lowering() + "|" + text_of(trial);
  return "tile-" + hex_text(hash_text(key)) + hex_text(hash_text(key, 1)) + ".txt";
}

bool MatrixUnits::try_now(const Trial& trial) {
  std::string problem;
  bool for_good = true;
  try {
    const bool right = may_hang(trial) ? try_in_time(trial) : try_any(trial);
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

bool MatrixUnits::try_any(const Trial& trial) const {
  const MatrixTile& tile = trial.tile;
  switch (trial.use) {
    case MatrixUse::kTurned:
      return try_out_turned(tile);
    case MatrixUse::kBytes:
      return try_out_bytes(tile);
    case MatrixUse::kRight:
      return try_out_right(tile, DType::kFloat16);
    case MatrixUse::kBfloats:
      return try_out_right(tile, DType::kBFloat16);
    case MatrixUse::kHalves:
    case MatrixUse::kFloats:
      break;
  }
  return try_out(trial);
}

// A launch that never starts must not stop whoever asks: it is left behind.
bool MatrixUnits::try_in_time(const Trial& trial) const {
  constexpr std::chrono::seconds kLimit{20};
  auto result = std::make_shared<std::promise<bool>>();
  std::future<bool> future = result->get_future();
  std::thread([result, trial, device = state_->device.lock(), lowering = current_lowering()] {
    try {
      result->set_value(MatrixUnits(device, lowering).try_any(trial));
    } catch (...) {
      result->set_exception(std::current_exception());
    }
  }).detach();
  if (future.wait_for(kLimit) == std::future_status::ready) return future.get();
  throw_unsupported("its launch did not end in 20 seconds");
}

// Rows that fill no tile, two blocks of columns or more, a depth with a tail.
bool MatrixUnits::try_out(const Trial& trial) const {
  const MatrixTile& tile = trial.tile;
  const bool in_floats = trial.use == MatrixUse::kFloats;
  const DType dtype = in_floats ? DType::kFloat32 : DType::kFloat16;
  const std::string lowering = current_lowering();
  KernelRequest request;
  request.name = "conv_mma";
  request.types = {{"TX", dtype}, {"TW", dtype}};
  tile.set_constants(request, !in_floats ? lowering : lowering == "ptx" ? "async" : "plain");
  request.constants["POINT"] = request.constants["VECTOR_Y"] = 1;
  const int64_t rows = tile.bm + 5, depth = 3 * tile.bk + 8, packed_rows = 4 * tile.bk;
  const int64_t columns = std::max<int64_t>(128, tile.bn);
  Numbers numbers;
  const std::vector<uint16_t> x = numbers.halves(rows * depth);
  std::vector<uint16_t> w = numbers.halves(packed_rows * columns);
  for (int64_t i = 0; i < packed_rows * columns; ++i) {
    if (i / 64 % packed_rows >= depth) w[static_cast<size_t>(i)] = 0;
  }
  const int64_t tiles = (rows + tile.bm - 1) / tile.bm * ((columns + tile.bn - 1) / tile.bn);
  constexpr int64_t kSteps = 4;  // of the depth
  Values values{{"pixels", {rows}},
                {"cg", {depth}},
                {"kg", {columns}},
                {"first_block", {0}},
                {"bound_blocks", {columns / 64}},
                {"packed_rows", {packed_rows}},
                {"xs", {rows * depth, 1, depth, depth}},
                {"ys", {rows * columns, 1, columns, columns}}};
  for (const char* one : {"k_h", "k_w", "stride_h", "stride_w", "dil_h", "dil_w"})
    values[one] = {1};
  for (const char* none : {"pad_h", "pad_w"}) values[none] = {0};
  values["in_h"] = values["out_h"] = {rows};
  values["in_w"] = values["out_w"] = {1};
  int64_t groups = tiles, parts = 0;
  if (trial.sharing == TileSharing::kSlices) {
    groups = parts = 2 * tiles;
    values["slices"] = values["depth"] = {2};
  } else if (trial.sharing == TileSharing::kStream) {
    // Shares that end one tile and begin another; one group more than tiles.
    groups = tiles + 1;
    parts = groups + tiles;
    values["share"] = {tiles * kSteps / groups};
    values["extra"] = {tiles * kSteps % groups};
  }
  if (parts != 0) request.constants["SPLIT"] = trial.sharing == TileSharing::kSlices ? 2 : 3;
  values["total"] = {groups};
  SharedMemory shared;
  shared.sums.assign(static_cast<size_t>(parts * (tile.bm * tile.bn + 1)), NAN);
  shared.counters.assign(static_cast<size_t>(tiles), 0);
  std::vector<uint16_t> y(static_cast<size_t>(rows * columns), 0x7e00);
  const std::vector<float> wide_x = floats(x), wide_w = floats(w);
  run(state_->device.lock(), request, in_floats ? bytes(wide_x) : bytes(x),
      in_floats ? bytes(wide_w) : bytes(w), std::as_writable_bytes(std::span(y)), values, groups,
      parts == 0 ? nullptr : &shared);
  if (std::ranges::any_of(shared.counters, [](uint32_t n) { return n != 0; })) return false;
  const std::vector<double> left = numbers_of(x), right = numbers_of(w);
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < columns; ++n) {
      Sum sum;
      const double* row = left.data() + m * depth;
      const double* column = right.data() + n / 64 * packed_rows * 64 + n % 64;
      for (int64_t k = 0; k < depth; ++k) sum.add(row[k], column[k * 64]);
      if (!sum.is_near(number(y[static_cast<size_t>(m * columns + n)]))) return false;
    }
  }
  return true;
}

// Two slices of pixels that end inside of a step; rows and columns that fill no tile.
bool MatrixUnits::try_out_turned(const MatrixTile& tile) const {
  KernelRequest request;
  request.name = "conv_weight_tile";
  tile.set_constants(request, current_lowering());
  request.constants["POINT"] = request.constants["VECTOR_P"] = 1;
  const int64_t rows = tile.bm + 8, columns = tile.bn + 16, pixels = 4 * tile.bk + 3;
  constexpr int64_t kSlices = 2, kDepth = 3;
  Numbers numbers;
  const std::vector<uint16_t> x = numbers.halves(pixels * rows),
                              d = numbers.halves(pixels * columns);
  const int64_t total = 2 * 2 * kSlices;
  const Values values{{"total", {total}},     {"pixels", {pixels}},  {"groups", {1}},
                      {"rows", {rows}},       {"stored", {rows}},    {"cg", {rows}},
                      {"kg", {columns}},      {"slices", {kSlices}}, {"depth", {kDepth}},
                      {"d_pixel", {columns}}, {"x_pixel", {rows}}};
  std::vector<float> parts(static_cast<size_t>(kSlices * rows * columns), NAN);
  run(state_->device.lock(), request, bytes(x), bytes(d), std::as_writable_bytes(std::span(parts)),
      values, total);
  const std::vector<double> left = numbers_of(x), right = numbers_of(d);
  for (int64_t i = 0; i < kSlices * rows * columns; ++i) {
    const int64_t slice = i / (rows * columns), row = i / columns % rows, column = i % columns;
    Sum sum;
    const int64_t begin = slice * kDepth * tile.bk;
    for (int64_t m = begin; m < std::min(begin + kDepth * tile.bk, pixels); ++m) {
      sum.add(left[static_cast<size_t>(m * rows + row)],
              right[static_cast<size_t>(m * columns + column)]);
    }
    if (!sum.is_near(static_cast<double>(parts[static_cast<size_t>(i)]))) return false;
  }
  return true;
}

// Two batches; rows, columns and a depth that fill no tile.
bool MatrixUnits::try_out_right(const MatrixTile& tile, DType dtype) const {
  KernelRequest request;
  request.name = "gemm_mma";
  request.types = {{"TA", dtype}, {"TB", dtype}};
  tile.set_constants(request, current_lowering());
  request.constants["B_TURNED"] = request.constants["VECTOR_C"] = 1;
  constexpr int64_t kBatches = 2;
  const int64_t m = tile.bm + 5, n = tile.bn + 12, k = 2 * tile.bk + 8;
  Numbers numbers;
  const std::vector<uint16_t> a = numbers.halves(kBatches * m * k),
                              b = numbers.halves(kBatches * n * k);
  const int64_t total = kBatches * 4;
  float alpha = 1.0f;
  uint32_t bits = 0;
  std::memcpy(&bits, &alpha, 4);
  const Values values{
      {"m", {m}},         {"n", {n}},           {"k", {k}},
      {"total", {total}}, {"a_row", {k}},       {"a_batch", {m * k}},
      {"b_row", {k}},     {"b_batch", {n * k}}, {"c_row", {n}},
      {"c_col", {1}},     {"c_batch", {m * n}}, {"alpha", {static_cast<int64_t>(bits)}}};
  std::vector<uint16_t> c(static_cast<size_t>(kBatches * m * n), 0x7e00);
  const bool in_halves = dtype == DType::kFloat16;
  const std::vector<uint16_t> left = in_halves ? a : brains(a), right = in_halves ? b : brains(b);
  run(state_->device.lock(), request, bytes(left), bytes(right),
      std::as_writable_bytes(std::span(c)), values, total);
  const std::vector<double> lefts = numbers_of(a), rights = numbers_of(b);
  for (int64_t i = 0; i < kBatches * m * n; ++i) {
    const int64_t batch = i / (m * n), row = i / n % m, column = i % n;
    Sum sum;
    for (int64_t d = 0; d < k; ++d) {
      sum.add(lefts[static_cast<size_t>((batch * m + row) * k + d)],
              rights[static_cast<size_t>((batch * n + column) * k + d)]);
    }
    if (!sum.is_near(number(c[static_cast<size_t>(i)]))) return false;
  }
  return true;
}

// All values of int8, sums as they must be.
bool MatrixUnits::try_out_bytes(const MatrixTile& tile) const {
  KernelRequest request;
  request.name = "integer_tile";
  request.types = {{"TA", DType::kInt8}, {"TB", DType::kInt8}};
  tile.set_constants(request, current_lowering());
  const int64_t m = tile.bm + 5, n = tile.bn + 3, k = 2 * tile.bk + 16, total = 4;
  std::vector<int8_t> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(n * k));
  uint32_t state = 1;
  for (std::vector<int8_t>* values : {&a, &b}) {
    for (int8_t& value : *values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<int8_t>(state >> 24);
    }
  }
  Values values{{"total", {total}}, {"m", {m}},     {"n", {n}},   {"k", {k}},
                {"depth", {k}},     {"a_row", {k}}, {"y_m", {n}}, {"y_n", {1}}};
  for (const char* none : {"a_batch", "b_batch", "y_batch", "za_m", "zb_n", "sa_m", "sb_n",
                           "na_batch", "nb_batch", "low", "high", "a_offset", "b_offset"}) {
    values[none] = {0};
  }
  std::vector<int32_t> y(static_cast<size_t>(m * n), INT32_MIN);
  run(state_->device.lock(), request, bytes(a), bytes(b), std::as_writable_bytes(std::span(y)),
      values, total);
  for (int64_t i = 0; i < m * n; ++i) {
    int32_t sum = 0;
    for (int64_t d = 0; d < k; ++d) {
      sum += a[static_cast<size_t>(i / n * k + d)] * b[static_cast<size_t>(i % n * k + d)];
    }
    if (sum != y[static_cast<size_t>(i)]) return false;
  }
  return true;
}

}  // namespace dlk
