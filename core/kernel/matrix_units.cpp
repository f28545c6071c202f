#include "core/kernel/matrix_units.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/log.h"

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

/// The product that is tried: rows that fill no tile, two blocks of columns or more, a depth with a
/// tail.
struct Trial {
  int64_t rows, depth, packed_rows, columns = 128;
  std::vector<uint16_t> x, w;
};

Trial make_trial(const MatrixTile& tile) {
  Trial t{tile.bm + 5, 3 * tile.bk + 8, 4 * tile.bk, std::max<int64_t>(128, tile.bn), {}, {}};
  uint32_t state = 1;
  const auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return float_to_half(static_cast<float>(static_cast<int>(state >> 24) - 128) / 64.0f);
  };
  t.x.resize(static_cast<size_t>(t.rows * t.depth));
  for (uint16_t& value : t.x) value = next();
  t.w.resize(static_cast<size_t>(t.packed_rows * t.columns));
  for (int64_t block = 0; block < t.columns / 64; ++block) {
    for (int64_t k = 0; k < t.depth; ++k) {
      for (int64_t n = 0; n < 64; ++n) t.w[(block * t.packed_rows + k) * 64 + n] = next();
    }
  }
  return t;
}

bool is_right(const Trial& t, const std::vector<uint16_t>& y) {
  for (int64_t m = 0; m < t.rows; ++m) {
    for (int64_t n = 0; n < t.columns; ++n) {
      double sum = 0, size = 1;
      for (int64_t k = 0; k < t.depth; ++k) {
        const double product =
            static_cast<double>(half_to_float(t.x[m * t.depth + k])) *
            static_cast<double>(half_to_float(t.w[(n / 64 * t.packed_rows + k) * 64 + n % 64]));
        sum += product;
        size += std::fabs(product);
      }
      const auto got = static_cast<double>(half_to_float(y[m * t.columns + n]));
      if (!(std::fabs(got - sum) <= 1e-3 * size)) return false;
    }
  }
  return true;
}

std::vector<std::byte> packed_params(const std::vector<ParamInfo>& params, uint32_t bytes,
                                     const std::map<std::string, std::vector<int64_t>>& values) {
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
  static std::map<const Device*, std::weak_ptr<MatrixUnits>> all;
  const std::lock_guard lock(mutex);
  std::erase_if(all, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<MatrixUnits>& place = all[device.get()];
  std::shared_ptr<MatrixUnits> units = place.lock();
  if (units == nullptr) {
    units = std::make_shared<MatrixUnits>(device, lowering_of(device->caps()));
    place = units;
  }
  return units;
}

MatrixUnits::MatrixUnits(std::shared_ptr<Device> device, std::string lowering)
    : device_(device), lowering_(std::move(lowering)) {}

const std::string& MatrixUnits::lowering() {
  std::call_once(chosen_, [&] {
    const std::shared_ptr<Device> device = device_.lock();
    if (lowering_ != "ptx" || device == nullptr || device->caps().inline_ptx) return;
    constexpr MatrixTile kSmall{32, 64, 64, 4, 3, 16, 32};
    if (!works(kSmall)) lowering_ = coopmat_or_none(device->caps());
  });
  return lowering_;
}

bool MatrixUnits::fits(const MatrixTile& tile) const {
  const std::shared_ptr<Device> device = device_.lock();
  const int64_t bytes = 2 * (tile.bm + tile.bn) * tile.bk * tile.stages;
  return device != nullptr && (bytes <= kMostStaticLocalBytes || !device->caps().binary_import ||
                               std::getenv("DLK_TEST_LARGE_LOCAL") != nullptr);
}

bool MatrixUnits::works(const MatrixTile& tile) {
  if (lowering_.empty() || !fits(tile)) return false;
  const std::lock_guard lock(mutex_);
  const auto found = tried_.find(tile);
  if (found != tried_.end()) return found->second;
  std::string problem;
  try {
    if (!try_out(tile)) problem = "its results are wrong";
  } catch (const Error& error) {
    problem = error.what();
  }
  if (!problem.empty()) {
    const std::string device = device_.lock()->caps().id;
    log_once("the matrix tile " + tile.text() + " (" + lowering_ + ") is not used on " + device +
             ": " + problem);
  }
  return tried_[tile] = problem.empty();
}

bool MatrixUnits::try_out(const MatrixTile& tile) {
  const std::shared_ptr<Device> device = device_.lock();
  KernelRequest request;
  request.name = "conv_mma";
  tile.set_constants(request, lowering_);
  request.constants["POINT"] = request.constants["VECTOR_Y"] = 1;
  const std::shared_ptr<Kernel> kernel = KernelLibrary::of(device)->get(request);
  const Trial t = make_trial(tile);
  const int64_t tiles = (t.rows + tile.bm - 1) / tile.bm;
  const int64_t total = tiles * ((t.columns + tile.bn - 1) / tile.bn);
  const std::vector<int64_t> rows_of_x{t.rows * t.depth, 1, t.depth, t.depth};
  const std::vector<int64_t> rows_of_y{t.rows * t.columns, 1, t.columns, t.columns};
  std::map<std::string, std::vector<int64_t>> values{{"pixels", {t.rows}},
                                                     {"total", {total}},
                                                     {"cg", {t.depth}},
                                                     {"kg", {t.columns}},
                                                     {"first_block", {0}},
                                                     {"bound_blocks", {t.columns / 64}},
                                                     {"packed_rows", {t.packed_rows}},
                                                     {"xs", rows_of_x},
                                                     {"ys", rows_of_y}};
  for (const char* one : {"k_h", "k_w", "stride_h", "stride_w", "dil_h", "dil_w"})
    values[one] = {1};
  for (const char* none : {"pad_h", "pad_w"}) values[none] = {0};
  values["in_h"] = values["out_h"] = {t.rows};
  values["in_w"] = values["out_w"] = {1};
  const std::unique_ptr<Queue> queue = device->create_queue();
  std::vector<uint16_t> y(static_cast<size_t>(t.rows * t.columns), 0x7e00);
  DispatchCommand command;
  command.kernel = kernel;
  std::vector<View> views;
  for (const std::vector<uint16_t>* data :
       {&t.x, &t.w, static_cast<const std::vector<uint16_t>*>(&y)}) {
    const uint64_t bytes = 2 * data->size();
    views.push_back({device->allocate(bytes, MemoryKind::kDevice), 0, bytes});
    queue->write(views.back(), std::as_bytes(std::span(*data)));
    command.operands.emplace_back(views.back());
  }
  command.params = packed_params(kernel->info().params, kernel->info().param_bytes, values);
  command.groups = {static_cast<uint32_t>(total), 1, 1};
  CommandList list;
  list.dispatch(std::move(command), "matrix units");
  queue->submit(device->record(list));
  queue->wait(queue->read(views.back(), std::as_writable_bytes(std::span(y))));
  return is_right(t, y);
}

}  // namespace dlk
