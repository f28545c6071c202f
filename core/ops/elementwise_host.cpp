// Host evaluation of the arithmetic that shapes and conditions are computed with. Integers are
// computed in 64 bits, floats in double and rounded to their type after every operator.
#include <cmath>
#include <map>

#include "core/ops/elementwise.h"

namespace dlk {

namespace {

template <typename T>
using Function = T (*)(const std::vector<T>& args);

/// Integers wrap, as on devices.
template <typename T>
T added(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}

template <typename T>
T negated(T a) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(0 - static_cast<uint64_t>(a));
  } else {
    return -a;
  }
}

template <typename T>
T multiplied(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  } else {
    return a * b;
  }
}

template <typename T>
T from_double(double value) {
  if constexpr (std::is_integral_v<T>) {
    return saturated(value);
  } else {
    return value;
  }
}

template <typename T>
T divide(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return b == 0 ? 0 : b == -1 ? negated(a) : a / b;
  } else {
    return a / b;
  }
}

template <typename T>
T floor_mod(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    if (b == 0 || b == -1) return 0;
    const T rest = a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  } else {
    const T rest = std::fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  }
}

template <typename T>
T rounded(T x, double (*round)(double)) {
  if constexpr (std::is_integral_v<T>) return x;
  return static_cast<T>(round(static_cast<double>(x)));
}

template <typename T>
const std::map<std::string, Function<T>>& functions() {
  using Args = const std::vector<T>&;
  static const std::map<std::string, Function<T>> table = {
      {"Abs", [](Args a) { return a[0] < 0 ? negated(a[0]) : a[0]; }},
      {"Add", [](Args a) { return added(a[0], a[1]); }},
      {"And", [](Args a) { return T(a[0] != 0 && a[1] != 0); }},
      {"Cast", [](Args a) { return a[0]; }},
      {"CastLike", [](Args a) { return a[0]; }},
      {"Ceil", [](Args a) { return rounded(a[0], std::ceil); }},
      {"Div", [](Args a) { return divide(a[0], a[1]); }},
      {"Equal", [](Args a) { return T(a[0] == a[1]); }},
      {"Floor", [](Args a) { return rounded(a[0], std::floor); }},
      {"FMod",  // Mod with fmod=1
       [](Args a) {
         return from_double<T>(std::fmod(static_cast<double>(a[0]), static_cast<double>(a[1])));
       }},
      {"Greater", [](Args a) { return T(a[0] > a[1]); }},
      {"GreaterOrEqual", [](Args a) { return T(a[0] >= a[1]); }},
      {"Less", [](Args a) { return T(a[0] < a[1]); }},
      {"LessOrEqual", [](Args a) { return T(a[0] <= a[1]); }},
      {"Max",
       [](Args a) {
         T best = a[0];
         for (const T x : a) best = x > best ? x : best;
         return best;
       }},
      {"Min",
       [](Args a) {
         T best = a[0];
         for (const T x : a) best = x < best ? x : best;
         return best;
       }},
      {"Mod", [](Args a) { return floor_mod(a[0], a[1]); }},
      {"Mul", [](Args a) { return multiplied(a[0], a[1]); }},
      {"Neg", [](Args a) { return negated(a[0]); }},
      {"Not", [](Args a) { return T(a[0] == 0); }},
      {"Or", [](Args a) { return T(a[0] != 0 || a[1] != 0); }},
      {"Pow",
       [](Args a) {
         return from_double<T>(std::pow(static_cast<double>(a[0]), static_cast<double>(a[1])));
       }},
      {"Round", [](Args a) { return rounded(a[0], std::nearbyint); }},
      {"Sign", [](Args a) { return T((a[0] > 0) - (a[0] < 0)); }},
      {"Sqrt", [](Args a) { return from_double<T>(std::sqrt(static_cast<double>(a[0]))); }},
      {"Sub", [](Args a) { return added(a[0], negated(a[1])); }},
      {"Where", [](Args a) { return a[0] != 0 ? a[1] : a[2]; }},
      {"Xor", [](Args a) { return T((a[0] != 0) != (a[1] != 0)); }},
  };
  return table;
}

/// Element of a broadcast tensor that stands at `index` of the output.
size_t source_index(const Shape& shape, const Shape& output, int64_t index) {
  int64_t source = 0, stride = 1;
  for (size_t i = 0; i < output.size(); ++i) {
    const size_t axis = output.size() - 1 - i;
    const int64_t position = index % output[axis];
    index /= output[axis];
    if (i >= shape.size()) continue;
    const int64_t dim = shape[shape.size() - 1 - i];
    if (dim != 1) source += position * stride;
    stride *= dim;
  }
  return static_cast<size_t>(source);
}

template <typename T>
std::vector<T> values_of(const HostTensor& tensor) {
  if constexpr (std::is_integral_v<T>) {
    return tensor.to_ints();
  } else {
    return tensor.to_doubles();
  }
}

template <typename T>
std::vector<T> evaluate(const HostEvalContext& context) {
  const std::string& op = context.node().op;
  const bool like_c = op == "Mod" && context.attr_int("fmod", 0) != 0;
  const auto function = functions<T>().at(like_c ? "FMod" : op);
  const Shape& shape = context.output_shape(0);
  std::vector<std::vector<T>> inputs;
  const size_t count = op == "CastLike" ? 1 : context.input_count();
  for (size_t i = 0; i < count; ++i) inputs.push_back(values_of<T>(context.input(i)));
  std::vector<T> result(static_cast<size_t>(element_count(shape)));
  std::vector<T> args(inputs.size());
  for (size_t n = 0; n < result.size(); ++n) {
    for (size_t i = 0; i < args.size(); ++i) {
      args[i] = inputs[i][source_index(context.input(i).shape, shape, static_cast<int64_t>(n))];
    }
    result[n] = function(args);
  }
  return result;
}

void evaluate_pointwise(HostEvalContext& context) {
  bool floats = false;
  for (size_t i = 0; i < context.input_count(); ++i) {
    floats |= is_floating(context.input(i).dtype);
  }
  const DType dtype = context.output_dtype(0);
  const Shape& shape = context.output_shape(0);
  if (floats) {
    context.set_output(0, HostTensor::from_doubles(dtype, shape, evaluate<double>(context)));
  } else {
    context.set_output(0, HostTensor::from_ints(dtype, shape, evaluate<int64_t>(context)));
  }
}

}  // namespace

std::function<void(HostEvalContext&)> pointwise_host_eval(const std::string& name) {
  if (!functions<int64_t>().contains(name)) return {};
  return evaluate_pointwise;
}

}  // namespace dlk
