#include "core/graph/tensor.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace dlk {

int64_t saturated(double value) {
  constexpr double kEnd = 9223372036854775808.0;  // 2^63
  if (value != value) return 0;
  if (value >= kEnd) return std::numeric_limits<int64_t>::max();
  if (value <= -kEnd) return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(value);
}

namespace {

/// `value` as Out; a number out of an integer's range is the nearest one in it.
template <typename Out, typename In>
Out converted(In value) {
  if constexpr (std::is_integral_v<Out> && std::is_floating_point_v<In>) {
    if constexpr (std::is_same_v<Out, uint64_t>) {
      constexpr double kHalf = 9223372036854775808.0;
      const auto number = static_cast<double>(value);
      if (number >= kHalf) return static_cast<uint64_t>(saturated(number - kHalf)) + (1ull << 63);
      return static_cast<uint64_t>(std::max<int64_t>(saturated(number), 0));
    } else {
      return static_cast<Out>(std::clamp<int64_t>(saturated(static_cast<double>(value)),
                                                  std::numeric_limits<Out>::min(),
                                                  std::numeric_limits<Out>::max()));
    }
  } else {
    return static_cast<Out>(value);
  }
}

/// The value at `source`, as Out (int64_t or double).
template <typename Out>
Out load_as(DType dtype, const std::byte* source) {
  const auto get = [&]<typename T>(T value) {
    std::memcpy(&value, source, sizeof(T));
    return value;
  };
  switch (dtype) {
    case DType::kFloat32:
      return converted<Out>(get(float{}));
    case DType::kFloat16:
      return converted<Out>(half_to_float(get(uint16_t{})));
    case DType::kBFloat16:
      return converted<Out>(bfloat16_to_float(get(uint16_t{})));
    case DType::kFloat64:
      return converted<Out>(get(double{}));
    case DType::kInt8:
      return converted<Out>(get(int8_t{}));
    case DType::kInt16:
      return converted<Out>(get(int16_t{}));
    case DType::kInt32:
      return converted<Out>(get(int32_t{}));
    case DType::kInt64:
      return converted<Out>(get(int64_t{}));
    case DType::kUInt8:
      return converted<Out>(get(uint8_t{}));
    case DType::kUInt16:
      return converted<Out>(get(uint16_t{}));
    case DType::kUInt32:
      return converted<Out>(get(uint32_t{}));
    case DType::kUInt64:
    case DType::kString:
      return converted<Out>(get(uint64_t{}));
    case DType::kBool:
      return converted<Out>(get(uint8_t{}) != 0);
    default:
      return converted<Out>(small_to_double(dtype, get(uint8_t{})));
  }
}

template <typename In>
void store_from(DType dtype, In value, std::byte* target) {
  const auto put = [&](auto v) { std::memcpy(target, &v, sizeof(v)); };
  switch (dtype) {
    case DType::kFloat32:
      return put(static_cast<float>(value));
    case DType::kFloat16:
      return put(float_to_half(static_cast<float>(value)));
    case DType::kBFloat16:
      return put(float_to_bfloat16(static_cast<float>(value)));
    case DType::kFloat64:
      return put(static_cast<double>(value));
    case DType::kInt8:
      return put(converted<int8_t>(value));
    case DType::kInt16:
      return put(converted<int16_t>(value));
    case DType::kInt32:
      return put(converted<int32_t>(value));
    case DType::kInt64:
      return put(converted<int64_t>(value));
    case DType::kUInt8:
      return put(converted<uint8_t>(value));
    case DType::kUInt16:
      return put(converted<uint16_t>(value));
    case DType::kUInt32:
      return put(converted<uint32_t>(value));
    case DType::kUInt64:
    case DType::kString:
      return put(converted<uint64_t>(value));
    case DType::kBool:
      return put(static_cast<uint8_t>(value != In{0} ? 1 : 0));
    default:
      return put(double_to_small(dtype, static_cast<double>(value)));
  }
}

template <typename In>
HostTensor from_values(DType dtype, Shape shape, const std::vector<In>& values) {
  const uint32_t size = dtype_size(dtype);
  std::vector<std::byte> bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) store_from(dtype, values[i], bytes.data() + i * size);
  return HostTensor::copy_of(dtype, std::move(shape), bytes);
}

template <typename Out>
std::vector<Out> to_values(const HostTensor& tensor) {
  const uint32_t size = dtype_size(tensor.dtype);
  std::vector<Out> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = load_as<Out>(tensor.dtype, tensor.data.get() + i * size);
  }
  return values;
}

}  // namespace

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  bool zero = false;
  for (const int64_t dim : shape) {
    if (dim < 0) throw_invalid("shape " + shape_string(shape) + " has a negative dimension");
    if (dim == 0) {
      zero = true;
    } else if (count > std::numeric_limits<int64_t>::max() / 16 / dim) {
      throw_invalid("shape " + shape_string(shape) + " has too many elements");
    } else {
      count *= dim;
    }
  }
  return zero ? 0 : count;
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

std::string shape_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

Shape broadcast_shapes(const Shape& a, const Shape& b) {
  Shape result(std::max(a.size(), b.size()));
  for (size_t i = 0; i < result.size(); ++i) {
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) {
      throw_invalid("shapes " + shape_string(a) + " and " + shape_string(b) +
                    " cannot be broadcast");
    }
    result[result.size() - 1 - i] = x == 1 ? y : x;
  }
  return result;
}

std::pair<HostTensor, std::span<std::byte>> HostTensor::unfilled(DType dtype, Shape shape) {
  HostTensor tensor{dtype, std::move(shape), nullptr};
  const uint64_t size = tensor.size_bytes();
  const std::shared_ptr<std::byte[]> bytes(new std::byte[std::max<uint64_t>(size, 1)]);
  tensor.data = std::shared_ptr<const std::byte>(bytes, bytes.get());
  return {std::move(tensor), {bytes.get(), size}};
}

HostTensor HostTensor::copy_of(DType dtype, Shape shape, std::span<const std::byte> bytes) {
  auto [tensor, target] = unfilled(dtype, std::move(shape));
  if (bytes.size() != target.size()) {
    throw_invalid("a " + std::string(dtype_name(dtype)) + " tensor of shape " +
                  shape_string(tensor.shape) + " has " + std::to_string(target.size()) +
                  " bytes, not " + std::to_string(bytes.size()));
  }
  if (!bytes.empty()) std::memcpy(target.data(), bytes.data(), bytes.size());
  return std::move(tensor);
}

HostTensor HostTensor::ints(const std::vector<int64_t>& values) {
  return from_ints(DType::kInt64, {static_cast<int64_t>(values.size())}, values);
}

HostTensor HostTensor::scalar(DType dtype, double value) {
  return from_doubles(dtype, {}, {value});
}

HostTensor HostTensor::from_ints(DType dtype, Shape shape, const std::vector<int64_t>& values) {
  return from_values(dtype, std::move(shape), values);
}

HostTensor HostTensor::from_doubles(DType dtype, Shape shape, const std::vector<double>& values) {
  return from_values(dtype, std::move(shape), values);
}

HostTensor HostTensor::strings(Shape shape, const std::vector<std::string>& texts) {
  std::vector<uint64_t> numbers;
  for (const std::string& text : texts) numbers.push_back(intern(text));
  return of(DType::kString, std::move(shape), numbers);
}

std::vector<std::string> HostTensor::to_strings() const {
  if (dtype != DType::kString) {
    throw_invalid("a " + std::string(dtype_name(dtype)) + " tensor holds no strings");
  }
  std::vector<std::string> texts;
  for (const uint64_t number : to_values<uint64_t>(*this)) texts.push_back(interned(number));
  return texts;
}

std::vector<int64_t> HostTensor::to_ints() const { return to_values<int64_t>(*this); }

std::vector<double> HostTensor::to_doubles() const { return to_values<double>(*this); }

}  // namespace dlk
