#include "core/kernel/matrix_trials.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <span>
#include <vector>

#include "core/base/dtype.h"

namespace dlk {

namespace {

/// What is tried, and how gang tiles reach it.
struct Where {
  std::shared_ptr<Device> device;
  std::string lowering;
};

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

// Of the sum of all sizes. In float16 each addition rounds by 2^-11 of what is there.
constexpr double kOfFloatSums = 1e-3, kOfHalfSums = 4e-3;

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

template <typename T>
std::span<const std::byte> bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<int8_t> random_bytes(int64_t count, uint32_t state) {
  std::vector<int8_t> values(static_cast<size_t>(count));
  for (int8_t& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<int8_t>(state >> 24);
  }
  return values;
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
  bool is_near(double got, double tolerance) const {
    return std::fabs(got - sum_) <= tolerance * size_;
  }

 private:
  double sum_ = 0, size_ = 1;
};

// Rows that fill no tile, two blocks of columns or more, a depth with a tail.
bool try_out(const Where& where, const MatrixTrial& trial) {
  const MatrixTile& tile = trial.tile;
  const bool in_floats = trial.use == MatrixUse::kFloats;
  const bool in_brains = trial.use == MatrixUse::kBfloatImages;
  const bool half_sums = trial.use == MatrixUse::kHalfSums;
  const double tolerance = half_sums ? kOfHalfSums : kOfFloatSums;
  const DType dtype = in_floats ? DType::kFloat32 : in_brains ? DType::kBFloat16 : DType::kFloat16;
  const std::string& lowering = where.lowering;
  KernelRequest request;
  request.name = "conv_mma";
  request.types = {{"TX", dtype}, {"TW", dtype}};
  tile.set_constants(request, !in_floats ? lowering : lowering == "ptx" ? "async" : "plain");
  request.constants["POINT"] = request.constants["VECTOR_Y"] = 1;
  if (half_sums) request.constants["ACC16"] = 1;
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
  const std::vector<uint16_t> short_x = in_brains ? brains(x) : x,
                              short_w = in_brains ? brains(w) : w;
  run(where.device, request, in_floats ? bytes(wide_x) : bytes(short_x),
      in_floats ? bytes(wide_w) : bytes(short_w), std::as_writable_bytes(std::span(y)), values,
      groups, parts == 0 ? nullptr : &shared);
  if (std::ranges::any_of(shared.counters, [](uint32_t n) { return n != 0; })) return false;
  const std::vector<double> left = numbers_of(x), right = numbers_of(w);
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < columns; ++n) {
      Sum sum;
      const double* row = left.data() + m * depth;
      const double* column = right.data() + n / 64 * packed_rows * 64 + n % 64;
      for (int64_t k = 0; k < depth; ++k) sum.add(row[k], column[k * 64]);
      if (!sum.is_near(number(y[static_cast<size_t>(m * columns + n)]), tolerance)) return false;
    }
  }
  return true;
}

// Two slices of pixels that end inside of a step; rows and columns that fill no tile.
bool try_out_turned(const Where& where, const MatrixTile& tile) {
  KernelRequest request;
  request.name = "conv_weight_tile";
  tile.set_constants(request, where.lowering);
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
  run(where.device, request, bytes(x), bytes(d), std::as_writable_bytes(std::span(parts)), values,
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
    if (!sum.is_near(static_cast<double>(parts[static_cast<size_t>(i)]), kOfFloatSums))
      return false;
  }
  return true;
}

// Two batches; rows, columns and a depth that fill no tile.
bool try_out_right(const Where& where, const MatrixTile& tile, DType dtype, bool half_sums) {
  KernelRequest request;
  request.name = "gemm_mma";
  request.types = {{"TA", dtype}, {"TB", dtype}};
  tile.set_constants(request, where.lowering);
  request.constants["B_TURNED"] = request.constants["VECTOR_C"] = 1;
  if (half_sums) request.constants["ACC16"] = 1;
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
  const double tolerance = half_sums ? kOfHalfSums : kOfFloatSums;
  const std::vector<uint16_t> left = in_halves ? a : brains(a), right = in_halves ? b : brains(b);
  run(where.device, request, bytes(left), bytes(right), std::as_writable_bytes(std::span(c)),
      values, total);
  const std::vector<double> lefts = numbers_of(a), rights = numbers_of(b);
  for (int64_t i = 0; i < kBatches * m * n; ++i) {
    const int64_t batch = i / (m * n), row = i / n % m, column = i % n;
    Sum sum;
    for (int64_t d = 0; d < k; ++d) {
      sum.add(lefts[static_cast<size_t>((batch * m + row) * k + d)],
              rights[static_cast<size_t>((batch * n + column) * k + d)]);
    }
    if (!sum.is_near(number(c[static_cast<size_t>(i)]), tolerance)) return false;
  }
  return true;
}

// All values of int8, sums as they must be.
bool try_out_bytes(const Where& where, const MatrixTile& tile) {
  KernelRequest request;
  request.name = "integer_tile";
  request.types = {{"TA", DType::kInt8}, {"TB", DType::kInt8}};
  tile.set_constants(request, where.lowering);
  const int64_t m = tile.bm + 5, n = tile.bn + 3, k = 2 * tile.bk + 16, total = 4;
  const std::vector<int8_t> a = random_bytes(m * k, 1), b = random_bytes(n * k, 2);
  Values values{{"total", {total}}, {"m", {m}},     {"n", {n}},   {"k", {k}},
                {"depth", {k}},     {"a_row", {k}}, {"y_m", {n}}, {"y_n", {1}}};
  for (const char* none : {"a_batch", "b_batch", "y_batch", "za_m", "zb_n", "sa_m", "sb_n",
                           "na_batch", "nb_batch", "low", "high", "a_offset", "b_offset"}) {
    values[none] = {0};
  }
  std::vector<int32_t> y(static_cast<size_t>(m * n), INT32_MIN);
  run(where.device, request, bytes(a), bytes(b), std::as_writable_bytes(std::span(y)), values,
      total);
  for (int64_t i = 0; i < m * n; ++i) {
    int32_t sum = 0;
    for (int64_t d = 0; d < k; ++d) {
      sum += a[static_cast<size_t>(i / n * k + d)] * b[static_cast<size_t>(i % n * k + d)];
    }
    if (sum != y[static_cast<size_t>(i)]) return false;
  }
  return true;
}

// An image of one line and windows of 3 with padding; channels whose windows end inside of a step.
bool try_out_byte_images(const Where& where, const MatrixTile& tile) {
  constexpr int64_t kTaps = 3, kCount = 2;
  KernelRequest request;
  request.name = "integer_conv_tile";
  request.types = {{"TX", DType::kInt8}, {"TW", DType::kInt8}};
  tile.set_constants(request, where.lowering);
  const int64_t width = tile.bm / 2 + 5, columns = tile.bn + 3, channels = tile.bk / 2 + 16;
  const int64_t pixels = kCount * width, depth = kTaps * channels, total = 4;
  const std::vector<int8_t> x = random_bytes(pixels * channels, 1),
                            w = random_bytes(columns * depth, 2);
  Values values{{"total", {total}},
                {"pixels", {pixels}},
                {"groups", {1}},
                {"cg", {channels}},
                {"kg", {columns}},
                {"depth", {depth}},
                {"in_w", {width}},
                {"out_w", {width}},
                {"k_w", {kTaps}},
                {"pad_w", {1}},
                {"xs", {width * channels, 1, 0, channels}},
                {"ys", {width * columns, 1, 0, columns}}};
  for (const char* one : {"in_h", "out_h", "k_h", "stride_h", "stride_w", "dil_h", "dil_w"}) {
    values[one] = {1};
  }
  for (const char* none :
       {"pad_h", "zero_step", "scale_step", "low", "high", "x_offset", "w_offset"}) {
    values[none] = {0};
  }
  std::vector<int32_t> y(static_cast<size_t>(pixels * columns), INT32_MIN);
  run(where.device, request, bytes(x), bytes(w), std::as_writable_bytes(std::span(y)), values,
      total);
  for (int64_t i = 0; i < pixels * columns; ++i) {
    const int64_t pixel = i / columns, place = pixel % width;
    int32_t sum = 0;
    for (int64_t tap = 0; tap < kTaps; ++tap) {
      if (place + tap < 1 || place + tap > width) continue;
      const int8_t* from = x.data() + (pixel + tap - 1) * channels;
      const int8_t* filter = w.data() + i % columns * depth + tap * channels;
      for (int64_t c = 0; c < channels; ++c) sum += from[c] * filter[c];
    }
    if (sum != y[static_cast<size_t>(i)]) return false;
  }
  return true;
}

}  // namespace

bool try_matrix_tile(const std::shared_ptr<Device>& device, const std::string& lowering,
                     const MatrixTrial& trial) {
  const Where where{device, lowering};
  const MatrixTile& tile = trial.tile;
  switch (trial.use) {
    case MatrixUse::kTurned:
      return try_out_turned(where, tile);
    case MatrixUse::kBytes:
      return try_out_bytes(where, tile);
    case MatrixUse::kByteImages:
      return try_out_byte_images(where, tile);
    case MatrixUse::kRight:
      return try_out_right(where, tile, DType::kFloat16, false);
    case MatrixUse::kRightHalfSums:
      return try_out_right(where, tile, DType::kFloat16, true);
    case MatrixUse::kBfloats:
      return try_out_right(where, tile, DType::kBFloat16, false);
    case MatrixUse::kHalves:
    case MatrixUse::kFloats:
    case MatrixUse::kBfloatImages:
    case MatrixUse::kHalfSums:
      break;
  }
  return try_out(where, trial);
}

}  // namespace dlk
