// NodeReader and the parts of the contexts that are the same for every implementation.
#include <set>

#include "core/ops/op.h"

namespace dlk {

namespace {

template <typename T>
const T* find_attribute(const Node& node, const std::string& name) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? nullptr : std::get_if<T>(&found->second);
}

/// Sizes, steps and axes beyond 31 bits are no model's: sums and products of them stay in 64.
int64_t in_range(const NodeReader& node, const std::string& name, int64_t value) {
  static const std::set<std::string> any{"default_int64", "end",        "seed",         "start",
                                         "value_int",     "value_ints", "values_int64s"};
  constexpr int64_t kLimit = int64_t{1} << 31;
  if ((value < -kLimit || value > kLimit) && !any.contains(name)) {
    node.fail("attribute '" + name + "' is " + std::to_string(value) +
              "; the limit is 2147483648 either way");
  }
  return value;
}

}  // namespace

bool NodeReader::has_attr(const std::string& name) const { return node_.attributes.contains(name); }

int64_t NodeReader::attr_int(const std::string& name, int64_t fallback) const {
  if (!has_attr(name)) return fallback;
  if (const auto* value = find_attribute<int64_t>(node_, name)) {
    return in_range(*this, name, *value);
  }
  fail("attribute '" + name + "' must be an integer");
}

double NodeReader::attr_float(const std::string& name, double fallback) const {
  if (!has_attr(name)) return fallback;
  if (const auto* value = find_attribute<double>(node_, name)) return *value;
  if (const auto* value = find_attribute<int64_t>(node_, name)) return static_cast<double>(*value);
  fail("attribute '" + name + "' must be a number");
}

std::string NodeReader::attr_string(const std::string& name, const std::string& fallback) const {
  if (!has_attr(name)) return fallback;
  if (const auto* value = find_attribute<std::string>(node_, name)) return *value;
  fail("attribute '" + name + "' must be a string");
}

std::vector<int64_t> NodeReader::attr_ints(const std::string& name,
                                           std::vector<int64_t> fallback) const {
  if (!has_attr(name)) return fallback;
  if (const auto* value = find_attribute<std::vector<int64_t>>(node_, name)) {
    for (const int64_t item : *value) in_range(*this, name, item);
    return *value;
  }
  // An empty list has no element type in Python or ONNX: take any.
  if (const auto* value = find_attribute<std::vector<double>>(node_, name)) {
    if (value->empty()) return {};
  }
  fail("attribute '" + name + "' must be a list of integers");
}

std::vector<double> NodeReader::attr_floats(const std::string& name) const {
  if (!has_attr(name)) return {};
  if (const auto* value = find_attribute<std::vector<double>>(node_, name)) return *value;
  if (const auto* value = find_attribute<std::vector<int64_t>>(node_, name)) {
    return std::vector<double>(value->begin(), value->end());
  }
  fail("attribute '" + name + "' must be a list of numbers");
}

std::vector<std::string> NodeReader::attr_strings(const std::string& name) const {
  if (!has_attr(name)) return {};
  if (const auto* value = find_attribute<std::vector<std::string>>(node_, name)) return *value;
  if (const auto* value = find_attribute<std::vector<int64_t>>(node_, name)) {
    if (value->empty()) return {};
  }
  fail("attribute '" + name + "' must be a list of strings");
}

const HostTensor* NodeReader::attr_tensor(const std::string& name) const {
  if (!has_attr(name)) return nullptr;
  if (const auto* value = find_attribute<HostTensor>(node_, name)) return value;
  fail("attribute '" + name + "' must be a tensor");
}

int64_t NodeReader::normalize_axis(int64_t axis, int64_t rank) const {
  if (axis < -rank || axis >= rank) {
    fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + rank : axis;
}

void NodeReader::fail(const std::string& message) const {
  throw_invalid(node_.name + " (" + node_.op + "): " + message);
}

void NodeReader::unsupported(const std::string& message) const {
  throw_unsupported(node_.name + " (" + node_.op + "): " + message);
}

HostTensor InferContext::require_constant(size_t input, const std::string& what) const {
  auto value = constant(input);
  if (!value) fail(what + " must be known before the run: a constant or computed from shapes");
  return *value;
}

std::array<int64_t, 3> LowerContext::linear_groups(int64_t n) const {
  const int64_t limit = caps().max_group_count[0];
  if (n <= limit) return {n, 1, 1};
  // Nearly square, so that few groups are idle.
  int64_t rows = (n + limit - 1) / limit;
  int64_t columns = (n + rows - 1) / rows;
  if (rows > caps().max_group_count[1]) fail("too many work-groups for the device");
  return {columns, rows, 1};
}

}  // namespace dlk
