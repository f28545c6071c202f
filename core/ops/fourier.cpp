#include "core/ops/fourier.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "core/ops/elementwise.h"
#include "core/ops/op_util.h"

namespace dlk {
namespace {

constexpr int64_t kDirect = 64;    // up to this length one sum a bin is as quick
constexpr int64_t kMaxRadix = 16;  // of a step, unless a prime factor is larger
// Products for an element in the steps of a length, beyond which three transforms of a power of two
// that is twice as long are quicker; up to here squares of an index fit 32 bits.
constexpr int64_t kManyProducts = 400, kMostChirp = 65535;

/// Factors of n, none beyond kMaxRadix that could be split.
std::vector<int64_t> radices(int64_t n) {
  std::vector<int64_t> primes, steps;
  for (int64_t p = 2; p * p <= n; ++p) {
    for (; n % p == 0; n /= p) primes.push_back(p);
  }
  if (n > 1) primes.push_back(n);
  for (auto p = primes.rbegin(); p != primes.rend(); ++p) {
    const auto room = std::ranges::find_if(steps, [&](int64_t s) { return s * *p <= kMaxRadix; });
    if (room == steps.end()) {
      steps.push_back(*p);
    } else {
      *room *= *p;
    }
  }
  return steps;
}

/// The transform in one step for each factor of its length.
void dispatch_fft(LowerContext& context, const DftViews& v, const KernelRequest& like,
                  const std::vector<int64_t>& steps, const LoopNest& nest, const TensorView& roots,
                  const Params& params) {
  const int64_t rows = nest.size();
  TensorView from = v.x;
  TensorView work[2];
  int64_t l = 1;
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool first = i == 0, last = i + 1 == steps.size();
    TensorView& next = work[i % 2];
    if (!last && next.storage < 0) next = context.workspace(roots.dtype, {rows, v.n, 2});
    const TensorView to = last ? v.y : next;
    KernelRequest request = like;
    request.name = "fft_step";
    request.constants["FIRST"] = first ? 1 : 0;
    request.constants["LAST"] = last ? 1 : 0;
    if (!first) request.constants["COMPLEX"] = request.constants["HAS_WINDOW"] = 0;
    std::vector<TensorView> views{from, roots};
    if (first && v.window) views.push_back(*v.window);
    views.push_back(to);
    Params own = params;
    const int64_t bins = last ? std::get<int64_t>(params.at("bins")) : v.n;
    own["radix"] = steps[i];
    own["l"] = l;
    l *= steps[i];
    own["pieces"] = v.n / l;
    own["bins"] = bins;
    if (!last) own["scale"] = 1.0;
    dispatch_linear(context, request, views, std::move(own), rows * bins);
    from = to;
  }
}

TensorView roots_of_unity(LowerContext& context, DType dtype, int64_t n, bool inverse) {
  const TensorView roots = context.workspace(dtype, {n, 2});
  KernelRequest table;
  table.name = "dft_roots";
  table.types = {{"T", dtype}};
  dispatch_linear(context, table, {roots}, {{"sign", inverse ? 1.0 : -1.0}}, n);
  return roots;
}

/// Rows of n complex numbers one behind another, n a power of two.
void transform_rows(LowerContext& context, const TensorView& from, const TensorView& to,
                    const TensorView& roots) {
  const int64_t rows = from.shape[0], n = from.shape[1];
  const LoopNest nest = collapse({rows}, {{2 * n}, {2 * n}});
  KernelRequest like;
  like.types = {{"T", from.dtype}};
  like.constants = {{"ND", nest.rank()}, {"COMPLEX", 1}, {"HAS_WINDOW", 0}};
  const Params params{{"n", n},
                      {"length", n},
                      {"bins", n},
                      {"x_step", 2},
                      {"x_part", 1},
                      {"y_step", 2},
                      {"y_part", 1},
                      {"dims", nest.dims},
                      {"xs", nest.strides[0]},
                      {"ys", nest.strides[1]},
                      {"scale", 1.0}};
  dispatch_fft(context, {from, to, std::nullopt, n, false}, like, radices(n), nest, roots, params);
}

/// Bluestein (1970): with jk = (j^2 + k^2 - (k - j)^2) / 2 a transform is a convolution with a
/// chirp, which a longer transform of any length computes.
void dispatch_bluestein(LowerContext& context, const DftViews& v, const KernelRequest& like,
                        const LoopNest& nest, const TensorView& chirp, const Params& params) {
  const DType dtype = chirp.dtype;
  const int64_t rows = nest.size();
  const auto m = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(2 * v.n - 1)));
  const TensorView roots = roots_of_unity(context, dtype, m, false);
  const TensorView filter = context.workspace(dtype, {1, m, 2});
  const TensorView spectrum = context.workspace(dtype, {1, m, 2});
  const TensorView signal = context.workspace(dtype, {rows, m, 2});
  const TensorView product = context.workspace(dtype, {rows, m, 2});
  KernelRequest request = like;
  request.name = "chirp_filter";
  request.constants.clear();
  dispatch_linear(context, request, {chirp, filter}, {{"n", v.n}}, m);
  transform_rows(context, filter, spectrum, roots);

  const auto kept = [&](std::initializer_list<const char*> names) {
    Params own{{"m", m}};
    for (const char* name : names) own[name] = params.at(name);
    return own;
  };
  request = like;
  request.name = "chirp_signal";
  std::vector<TensorView> views{v.x, chirp};
  if (v.window) views.push_back(*v.window);
  views.push_back(signal);
  dispatch_linear(context, request, views, kept({"n", "length", "x_step", "x_part", "dims", "xs"}),
                  rows * m);
  transform_rows(context, signal, product, roots);

  request.name = "chirp_product";
  request.constants.clear();
  dispatch_linear(context, request, {product, spectrum, signal}, {{"m", m}}, rows * m);
  transform_rows(context, signal, product, roots);

  request.name = "chirp_result";
  request.constants = {{"ND", nest.rank()}};
  Params own = kept({"n", "bins", "y_step", "y_part", "dims", "ys"});
  own["scale"] = std::get<double>(params.at("scale")) / static_cast<double>(m);
  dispatch_linear(context, request, {product, chirp, v.y}, std::move(own),
                  rows * std::get<int64_t>(params.at("bins")));
}

}  // namespace

void dispatch_dft(LowerContext& context, const DftViews& v) {
  require_compute(context, v.x.dtype);
  const size_t rows = v.x.shape.size() - 2;
  const bool complex = v.x.shape.back() == 2;
  const DType compute = v.x.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const std::vector<int64_t> steps = radices(v.n);
  const bool chirp =
      std::accumulate(steps.begin(), steps.end(), int64_t{0}) > kManyProducts && v.n <= kMostChirp;
  // The chirp's angles are half as large.
  const TensorView roots = roots_of_unity(context, compute, chirp ? 2 * v.n : v.n, v.inverse);
  const auto leading = [&](const Shape& s) {
    return Shape(s.begin(), s.begin() + static_cast<std::ptrdiff_t>(rows));
  };
  const LoopNest nest = collapse(leading(v.y.shape), {leading(v.x.strides), leading(v.y.strides)});
  KernelRequest request;
  request.name = "dft";
  request.types = {{"T", compute}};
  request.constants = {
      {"ND", nest.rank()}, {"COMPLEX", complex ? 1 : 0}, {"HAS_WINDOW", v.window ? 1 : 0}};
  std::vector<TensorView> views{v.x, roots};
  if (v.window) views.push_back(*v.window);
  views.push_back(v.y);
  const int64_t bins = v.y.shape[rows];
  Params params{{"n", v.n},
                {"length", std::min(v.n, v.x.shape[rows])},
                {"bins", bins},
                {"x_step", v.x.strides[rows]},
                {"x_part", v.x.strides.back()},
                {"y_step", v.y.strides[rows]},
                {"y_part", v.y.strides.back()},
                {"dims", nest.dims},
                {"xs", nest.strides[0]},
                {"ys", nest.strides[1]},
                {"scale", v.inverse ? 1.0 / static_cast<double>(v.n) : 1.0}};
  if (chirp) return dispatch_bluestein(context, v, request, nest, roots, params);
  if (v.n > kDirect && steps.size() > 1) {
    return dispatch_fft(context, v, request, steps, nest, roots, params);
  }
  dispatch_linear(context, request, views, std::move(params), nest.size() * bins);
}

}  // namespace dlk
