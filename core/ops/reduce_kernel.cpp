// The reductions: a table of (init, map, combine, finish), one kernel text that they are put into,
// and the choice of the shape that it runs in. Accumulates in float32 (float64, 32- or 64-bit
// integers for those types), in an order that depends on shapes only.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/ops/channel_sums.h"
#include "core/ops/op_util.h"
#include "core/ops/reduce.h"

namespace dlk {
namespace {

/// Expressions over A (accumulator): `x` an element, `shift` the row's maximum, `a` and `b` two
/// partial results, `count` the row's length.
struct Reduction {
  const char* name;
  const char* init;  // "lowest" and "highest" stand for the type's own
  const char* map;
  const char* combine;
  const char* finish;
  double empty;           // the result over no elements
  bool shifted = false;   // subtracts the maximum first: log-sum-exp
  bool identity = false;  // of a single element
  bool transcendental = false;
};

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

const Reduction kReductions[] = {
    {"ReduceSum", "A(0)", "x", "a + b", "a", 0, false, true},
    {"ReduceMean", "A(0)", "x", "a + b", "a / A(count)", kNaN, false, true},
    {"ReduceProd", "A(1)", "x", "a * b", "a", 1, false, true},
    {"ReduceMax", "lowest", "x", "(is_nan(a) || a >= b) ? a : b", "a", -kInfinity, false, true},
    {"ReduceMin", "highest", "x", "(is_nan(a) || a <= b) ? a : b", "a", kInfinity, false, true},
    {"ReduceL1", "A(0)", "x < A(0) ? A(0) - x : x", "a + b", "a", 0},
    {"ReduceL2", "A(0)", "x * x", "a + b", "root(a)", 0},
    {"ReduceSumSquare", "A(0)", "x * x", "a + b", "a", 0},
    {"ReduceLogSum", "A(0)", "x", "a + b", "log_of(a)", -kInfinity, false, false, true},
    {"ReduceLogSumExp", "A(0)", "exp_of(x - shift)", "a + b", "log_of(a) + shift", -kInfinity, true,
     false, true},
};

const char* const kText = R"(
kernel @name
type TI = f32
type TO = f32
type A = f32
const KO = 1, KR = 1, GROUP = 0, SHIFT = 0, WG = 64
const STEP = 1 + GROUP * (WG - 1)
in X : TI
in M : A when SHIFT
out Y : TO
param rows, length, chunk, chunks, ychunk, count : uint
param odims[KO], oxs[KO], oys[KO], oms[KO] : uint
param rdims[KR], rxs[KR] : uint
local part : @local[WG] when GROUP
group WG
{
  uint item = WL;
  uint first = LX;
  static if (GROUP == 0) {
    item = WL * WG + LX;
    first = 0u;
  }
  uint row = min(item, rows - 1u);
  uint piece = row % chunks;
  uint rest = row / chunks;
  uint x0 = 0u;
  uint y = piece * ychunk;
  uint m = 0u;
  uint c = 0u;
  static for (d = 0; d < KO; d++) {
    c = rest % odims[KO - 1 - d];
    rest = rest / odims[KO - 1 - d];
    x0 += c * oxs[KO - 1 - d];
    y += c * oys[KO - 1 - d];
    m += c * oms[KO - 1 - d];
  }
  A shift = A(0);
  static if (SHIFT) {
    shift = ld(M, m);
    shift = isinf(shift) ? A(0) : shift;
  }
  uint begin = piece * chunk;
  uint end = item < rows ? min(begin + chunk, length) : begin;
  A whole = @init;
  // In blocks of 128: the rounding error of a long sum grows with the number of blocks only.
  for (uint start = begin + first; start < end; start += 128u * STEP) {
    uint stop = min(start + 128u * STEP, end);
    A sum = @init;
    for (uint i = start; i < stop; i += STEP) {
      uint at = x0;
      static if (KR == 1) {
        at += i * rxs[0];
      } else {
        uint left = i;
        static for (d = 0; d < KR; d++) {
          at += (left % rdims[KR - 1 - d]) * rxs[KR - 1 - d];
          left = left / rdims[KR - 1 - d];
        }
      }
      A x = A(ld(X, at));
      A a = sum;
      A b = @map;
      sum = @combine;
    }
    A a = whole;
    A b = sum;
    whole = @combine;
  }
  static if (GROUP) {
    part[LX] = whole;
    barrier();
    for (uint s = WG / 2u; s > 0u; s = s / 2u) {
      if (LX < s) {
        A a = part[LX];
        A b = part[LX + s];
        part[LX] = @combine;
      }
      barrier();
    }
    whole = part[0];
  }
  if (item < rows && first == 0u) {
    A a = whole;
    st(Y, y, TO(@finish));
  }
}
)";

const Reduction& find_reduction(const std::string& name) {
  for (const Reduction& r : kReductions) {
    if (name == r.name) return r;
  }
  throw_invalid("there is no reduction called " + name);
}

/// The result over no elements; integers have no infinities.
double empty_value(const Reduction& r, DType dtype) {
  if (is_floating(dtype) || std::isfinite(r.empty)) return r.empty;
  if (dtype == DType::kBool || std::isnan(r.empty)) return r.empty > 0 ? 1 : 0;
  const int bits = 8 * static_cast<int>(dtype_size(dtype));
  if (is_unsigned_integer(dtype)) return r.empty < 0 ? 0 : std::ldexp(1.0, bits) - 1;
  return r.empty < 0 ? -std::ldexp(1.0, bits - 1) : std::ldexp(1.0, bits - 1) - 1;
}

/// exp and log of float64, which GLSL lacks: a Taylor series on a reduced argument, and a Halley
/// step on float32's logarithm.
const char* const kDoubleFunctions = R"(
func double exp64(double x) {
  double result = double(INFINITY);
  if (x < double(-745.0f)) {
    result = double(0.0f);
  } else if (!(x > double(710.0f))) {
    int k = int(rint(float(x) * 1.44269504f));
    // ln 2 as the sum of two floats.
    double r = x - double(k) * double(0.693147182464599609375f);
    r = r + double(k) * double(1.904654299957767e-9f);
    double sum = double(1.0f);
    for (int n = 16; n > 0; n--) { sum = double(1.0f) + r * sum / double(n); }
    double power = double(k < 0 ? 0.5f : 2.0f);
    result = sum;
    for (int rest = abs(k); rest > 0; rest = rest / 2) {
      if (rest % 2 == 1) { result = result * power; }
      power = power * power;
    }
  }
  return x == x ? result : x;
}

func double log64(double x) {
  double y = double(log(float(x)));
  if (x > double(0.0f) && x < double(INFINITY)) {
    double scaled = x;
    double shift = double(0.0f);
    double step = double(44.0f) * (double(0.693147182464599609375f) - double(1.904654299957767e-9f));
    while (scaled > double(1.0e15f)) {
      scaled = scaled / double(17592186044416.0f);
      shift = shift + step;
    }
    while (scaled < double(1.0e-15f)) {
      scaled = scaled * double(17592186044416.0f);
      shift = shift - step;
    }
    y = double(log(float(scaled)));
    double e = exp64(y);
    y = y + double(2.0f) * (scaled - e) / (scaled + e) + shift;
  }
  return y;
}
)";

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// The smallest or largest value of the accumulator type, in the dialect.
std::string extreme(DType type, bool lowest) {
  const std::string low64 = "(A(-2147483647 - 1) * A(65536) * A(65536))";
  switch (type) {
    case DType::kInt32:
      return lowest ? "(-2147483647 - 1)" : "2147483647";
    case DType::kUInt32:
      return lowest ? "0u" : "4294967295u";
    case DType::kInt64:
      return lowest ? low64 : "(A(-1) - " + low64 + ")";
    case DType::kUInt64:
      // Constants of the dialect are signed: the largest value has to be computed by the item.
      return lowest ? "A(0)" : "(~A(LX - LX))";
    default:
      return lowest ? "A(-INFINITY)" : "A(INFINITY)";
  }
}

/// One stage's text: the first of two leaves `finish` out, the second `map`.
std::string kernel_text(const Reduction& r, DType accumulator, bool map, bool finish) {
  std::string name = r.name;
  if (!map) name += "_finish";
  if (!finish) name += "_part";
  const bool wide = accumulator == DType::kFloat64;
  std::string text = (wide && r.transcendental ? kDoubleFunctions : "") + std::string(kText);
  const bool floating = is_floating(accumulator);
  const std::string local = accumulator == DType::kInt32    ? "int"
                            : accumulator == DType::kUInt32 ? "uint"
                                                            : "float";
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"@name", name},
           {"@local", local},
           {"@init", r.init},
           {"@map", map ? r.map : "x"},
           {"@combine", r.combine},
           {"@finish", finish ? r.finish : "a"},
           {"is_nan(a) || ", floating ? "isnan(a) || " : ""},
           {"lowest", extreme(accumulator, true)},
           {"highest", extreme(accumulator, false)},
           {"root(a)", wide ? "sqrt(a)" : "A(sqrt(float(a)))"},
           {"log_of(a)", wide ? "log64(a)" : "A(log(float(a)))"},
           {"exp_of(x - shift)", wide ? "exp64(x - shift)" : "A(exp(float(x - shift)))"}}) {
    replace_all(text, from, to);
  }
  return text;
}

/// Kept and reduced dimensions with their strides in input, output and shift.
struct Rows {
  Shape kept, kept_x, kept_y, kept_m;
  Shape reduced, reduced_x;
  int64_t count = 1;  // elements of a whole row, for the mean

  int64_t outputs() const { return element_count(kept); }
  int64_t length() const { return element_count(reduced); }
};

struct Tactic {
  bool group = false;
  int64_t chunks = 1;
  int64_t items = kLinearGroup;  // in a group
};

Tactic choose(const Caps& caps, const Rows& rows, DType accumulator) {
  Tactic tactic;
  const int64_t outputs = rows.outputs(), length = rows.length();
  const bool local_type = dtype_size(accumulator) == 4;
  if (!caps.is_cpu && local_type && length >= 64) {
    tactic.group = rows.reduced_x.back() == 1 || (length >= 256 && outputs < 4096);
  }
  // Enough rows, or pieces of rows, to fill the device.
  const int64_t units = std::max<int64_t>(caps.compute_units, 1);
  const int64_t wanted = 4 * units * (tactic.group || caps.is_cpu ? 1 : kLinearGroup);
  if (outputs < wanted && length >= 8192) {
    tactic.chunks = std::min({ceil_div(length, 4096), ceil_div(wanted, outputs), int64_t{1024}});
  }
  const int64_t items = outputs * tactic.chunks;
  tactic.items = tactic.group ? 128 : caps.is_cpu ? cpu_group(items, units) : kLinearGroup;
  return tactic;
}

void dispatch_stage(LowerContext& context, const Reduction& r, DType accumulator, const Rows& rows,
                    const Tactic& tactic, const std::vector<TensorView>& operands, bool map,
                    bool finish) {
  KernelRequest request;
  request.source = kernel_text(r, accumulator, map, finish);
  request.name = std::string(r.name) + (map ? "" : "_finish") + (finish ? "" : "_part");
  const int64_t group = tactic.items;
  request.constants = {{"KO", static_cast<int64_t>(rows.kept.size())},
                       {"KR", static_cast<int64_t>(rows.reduced.size())},
                       {"GROUP", tactic.group ? 1 : 0},
                       {"SHIFT", operands.size() == 3 ? 1 : 0},
                       {"WG", group}};
  const auto storage = [](DType t) { return t == DType::kBool ? DType::kUInt8 : t; };
  request.types = {{"TI", storage(operands.front().dtype)},
                   {"TO", storage(operands.back().dtype)},
                   {"A", accumulator}};
  std::vector<TensorView> views = operands;
  for (TensorView& view : views) view.dtype = storage(view.dtype);
  const int64_t items = rows.outputs() * tactic.chunks;
  context.dispatch(request, views,
                   {{"rows", items},
                    {"length", rows.length()},
                    {"chunk", ceil_div(rows.length(), tactic.chunks)},
                    {"chunks", tactic.chunks},
                    {"ychunk", finish ? 0 : 1},
                    {"count", rows.count},
                    {"odims", rows.kept},
                    {"oxs", rows.kept_x},
                    {"oys", rows.kept_y},
                    {"oms", rows.kept_m},
                    {"rdims", rows.reduced},
                    {"rxs", rows.reduced_x}},
                   context.linear_groups(tactic.group ? items : ceil_div(items, group)));
}

/// `shift`: the maximum of each row, where the reduction subtracts it.
void dispatch_rows(LowerContext& context, const Reduction& r, DType accumulator,
                   const TensorView& from, const TensorView& to, Rows rows) {
  std::vector<TensorView> shift;
  rows.kept_m = contiguous_strides(rows.kept);
  if (r.shifted) {
    shift.push_back(context.workspace(accumulator, {rows.outputs()}));
    Rows largest = rows;
    largest.kept_y = rows.kept_m;
    dispatch_rows(context, find_reduction("ReduceMax"), accumulator, from, shift[0], largest);
  }
  const auto operands = [&](const TensorView& x, const TensorView& y) {
    std::vector<TensorView> views{x};
    views.insert(views.end(), shift.begin(), shift.end());
    views.push_back(y);
    return views;
  };
  Tactic tactic = choose(context.caps(), rows, accumulator);
  if (tactic.chunks == 1) {
    dispatch_stage(context, r, accumulator, rows, tactic, operands(from, to), true, true);
    return;
  }
  const int64_t chunks = tactic.chunks;
  const TensorView parts = context.workspace(accumulator, {rows.outputs() * chunks});
  Rows first = rows;
  first.kept_y = rows.kept_m;
  for (int64_t& stride : first.kept_y) stride *= chunks;
  dispatch_stage(context, r, accumulator, first, tactic, operands(from, parts), true, false);
  Rows second = rows;
  second.kept_x = first.kept_y;
  second.reduced = {chunks};
  second.reduced_x = {1};
  tactic = {tactic.group, 1, tactic.group ? tactic.items : kLinearGroup};
  dispatch_stage(context, r, accumulator, second, tactic, operands(parts, to), false, true);
}

}  // namespace

std::vector<std::string> reduction_names() {
  std::vector<std::string> names;
  for (const Reduction& r : kReductions) names.emplace_back(r.name);
  return names;
}

bool keeps_single_elements(const std::string& name) { return find_reduction(name).identity; }

void dispatch_reduction(LowerContext& context, const std::string& name, const TensorView& from,
                        const TensorView& to, const std::vector<int64_t>& axes) {
  const Reduction& r = find_reduction(name);
  if (to.elements() == 0) return;
  if (from.elements() == 0) return fill_view(context, to, empty_value(r, to.dtype));
  require_compute(context, from.dtype);
  DType accumulator = accumulator_dtype(from.dtype);
  if (r.transcendental && accumulator != DType::kFloat64) accumulator = DType::kFloat32;
  Shape kept, kept_x, kept_y, reduced, reduced_x;
  for (size_t d = 0; d < from.shape.size(); ++d) {
    if (std::count(axes.begin(), axes.end(), static_cast<int64_t>(d)) > 0) {
      reduced.push_back(from.shape[d]);
      reduced_x.push_back(from.strides[d]);
    } else {
      kept.push_back(from.shape[d]);
      kept_x.push_back(from.strides[d]);
      kept_y.push_back(to.strides[d]);
    }
  }
  const LoopNest outer = collapse(kept, {kept_y, kept_x}, {}, true);
  const LoopNest inner = collapse(reduced, {reduced_x}, {}, true);
  const bool is_mean = name == "ReduceMean";
  if ((is_mean || name == "ReduceSum") && accumulator == DType::kFloat32 &&
      sum_columns(context, from, to, outer, inner,
                  is_mean ? 1.0 / static_cast<double>(inner.size()) : 1.0)) {
    return;
  }
  Rows rows;
  rows.kept = outer.dims;
  rows.kept_y = outer.strides[0];
  rows.kept_x = outer.strides[1];
  rows.reduced = inner.dims;
  rows.reduced_x = inner.strides[0];
  rows.count = inner.size();
  dispatch_rows(context, r, accumulator, from, to, rows);
}

}  // namespace dlk
