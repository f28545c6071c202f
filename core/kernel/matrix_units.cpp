#include "core/kernel/matrix_units.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <future>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/cache_folder.h"
#include "core/base/dtype.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/phases.h"
#include "core/device/registry.h"

namespace dlk {

namespace {

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

/// Runs a kernel of two float16 inputs; `result` holds what the output starts with, then its bytes.
void run(const std::shared_ptr<Device>& device, const KernelRequest& request,
         const std::vector<uint16_t>& left, const std::vector<uint16_t>& right,
         std::span<std::byte> result, const Values& values, int64_t groups) {
  const std::shared_ptr<Kernel> kernel = KernelLibrary::of(device)->get(request);
  const std::unique_ptr<Queue> queue = device->create_queue();
  DispatchCommand command;
  command.kernel = kernel;
  std::vector<View> views;
  for (const std::span<const std::byte> data :
       {std::as_bytes(std::span(left)), std::as_bytes(std::span(right)),
        std::span<const std::byte>(result)}) {
    views.push_back({device->allocate(data.size(), MemoryKind::kDevice), 0, data.size()});
    queue->write(views.back(), data);
    command.operands.emplace_back(views.back());
  }
  command.params = packed_params(kernel->info().params, kernel->info().param_bytes, values);
  command.groups = {static_cast<uint32_t>(groups), 1, 1};
  CommandList list;
  list.dispatch(std::move(command), "matrix units");
  queue->submit(device->record(list));
  queue->wait(queue->read(views.back(), result));
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
  if (assumed_.contains({kSmall, false})) return state_->lowering;
  if (!works_here && !state_->chosen) state_->lowering = coopmat_or_none(device->caps());
  state_->chosen = true;
  return state_->lowering;
}

bool MatrixUnits::fits(const MatrixTile& tile) const {
  const std::shared_ptr<Device> device = state_->device.lock();
  const int64_t bytes = 2 * (tile.bm + tile.bn) * tile.bk * tile.stages;
  return device != nullptr && (bytes <= kMostStaticLocalBytes || !device->caps().binary_import);
}

bool MatrixUnits::works(const MatrixTile& tile, bool turned) {
  if (current_lowering().empty() || !fits(tile)) return false;
  const Backend* backend = find_backend(state_->device.lock()->caps().backend);
  if (backend != nullptr && backend->kernel_format() == KernelFormat::kNone) return true;
  const Trial trial{tile, turned};
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

std::string MatrixUnits::file_of(const Trial& trial) const {
  const std::string key = KernelLibrary::of(state_->device.lock())->cache_key() +
                          current_lowering() + "|" + trial.first.text() +
                          (trial.second ? "|turned" : "");
  return "tile-" + hex_text(hash_text(key)) + hex_text(hash_text(key, 1)) + ".txt";
}

bool MatrixUnits::try_now(const Trial& trial) {
  const auto& [tile, turned] = trial;
  std::string problem;
  bool for_good = true;
  try {
    if (!(turned ? try_out_turned(tile) : try_out(tile))) problem = "its results are wrong";
  } catch (const Error& error) {
    problem = error.what();
    for_good = error.code() == ErrorCode::kCompileFailed || error.code() == ErrorCode::kUnsupported;
  }
  if (!problem.empty()) {
    const std::string device = state_->device.lock()->caps().id;
    log_once("the matrix tile " + tile.text() + (turned ? " turned" : "") + " (" +
             current_lowering() + ") is not used on " + device + ": " + problem);
  }
  // Too little memory, say, may be another matter in the next process.
  if (for_good) folder().write(file_of(trial), problem.empty() ? "works" : "wrong");
  const std::lock_guard lock(state_->mutex);
  return state_->tried[trial] = problem.empty();
}

// Rows that fill no tile, two blocks of columns or more, a depth with a tail.
bool MatrixUnits::try_out(const MatrixTile& tile) const {
  KernelRequest request;
  request.name = "conv_mma";
  tile.set_constants(request, current_lowering());
  request.constants["POINT"] = request.constants["VECTOR_Y"] = 1;
  const int64_t rows = tile.bm + 5, depth = 3 * tile.bk + 8, packed_rows = 4 * tile.bk;
  const int64_t columns = std::max<int64_t>(128, tile.bn);
  Numbers numbers;
  const std::vector<uint16_t> x = numbers.halves(rows * depth);
  std::vector<uint16_t> w = numbers.halves(packed_rows * columns);
  for (int64_t i = 0; i < packed_rows * columns; ++i) {
    if (i / 64 % packed_rows >= depth) w[static_cast<size_t>(i)] = 0;
  }
  const int64_t total = (rows + tile.bm - 1) / tile.bm * ((columns + tile.bn - 1) / tile.bn);
  Values values{{"pixels", {rows}},
                {"total", {total}},
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
  std::vector<uint16_t> y(static_cast<size_t>(rows * columns), 0x7e00);
  run(state_->device.lock(), request, x, w, std::as_writable_bytes(std::span(y)), values, total);
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
  run(state_->device.lock(), request, x, d, std::as_writable_bytes(std::span(parts)), values,
      total);
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

}  // namespace dlk
