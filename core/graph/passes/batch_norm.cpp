#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "core/base/parallel.h"
#include "core/graph/passes.h"

namespace dlk {

namespace {

/// y = scale * x + shift, channel by channel.
struct Affine {
  std::vector<double> scale, shift;
  std::string key;
};

std::optional<Affine> affine_of(const ConcreteGraph& graph, const ConcreteNode& node) {
  const NodeReader reader(node.node);
  if (node.node.op != "BatchNormalization" || !node.node.domain.empty()) return std::nullopt;
  if (reader.attr_int("training_mode", 0) != 0 || !node.epilogue.expression.empty()) {
    return std::nullopt;
  }
  for (size_t i = 1; i < 5; ++i) {
    const ConcreteValue& value = graph.value(node.node.inputs.at(i));
    if (!value.is_constant() || !value.known) return std::nullopt;
  }
  const auto values = [&](size_t i) {
    return graph.value(node.node.inputs[i]).known->to_doubles();
  };
  const auto gamma = values(1), beta = values(2), mean = values(3), variance = values(4);
  const double epsilon = reader.attr_float("epsilon", 1e-5);
  Affine affine;
  for (size_t c = 0; c < gamma.size(); ++c) {
    affine.scale.push_back(gamma[c] / std::sqrt(variance[c] + epsilon));
    affine.shift.push_back(beta[c] - mean[c] * affine.scale[c]);
  }
  affine.key = "bn" + std::to_string(epsilon);
  for (size_t i = 1; i < 5; ++i) affine.key += "," + graph.value(node.node.inputs[i]).key;
  return affine;
}

ValueId add_constant(ConcreteGraph& graph, const std::string& name, const std::string& key,
                     const HostTensor& tensor) {
  ConcreteValue value{name, ValueKind::kConstant, tensor.dtype, tensor.shape, tensor};
  value.key = key;
  return graph.add_value(std::move(value));
}

/// `make` runs once a key and model.
const HostTensor& cached(HostCache& cache, const std::string& key,
                         const std::function<HostTensor()>& make) {
  auto found = cache.find(key);
  if (found == cache.end()) found = cache.emplace(key, make()).first;
  return found->second;
}

/// The weights' axis of output channels, and how many of them stand in each group along it; nullopt
/// for operators that have no such weights.
struct ChannelAxis {
  size_t axis = 0;
  int64_t groups = 1;  // of ConvTranspose: axis 1 counts within a group, axis 0 is split by groups
};
std::optional<ChannelAxis> channel_axis(const ConcreteNode& node) {
  const NodeReader reader(node.node);
  if (!node.node.domain.empty()) return std::nullopt;
  if (node.node.op == "Conv") return ChannelAxis{0, 1};
  if (node.node.op == "ConvTranspose") return ChannelAxis{1, reader.attr_int("group", 1)};
  if (node.node.op == "Gemm" && reader.attr_float("alpha", 1) == 1 &&
      reader.attr_float("beta", 1) == 1) {
    return ChannelAxis{reader.attr_int("transB", 0) != 0 ? size_t{0} : size_t{1}, 1};
  }
  return std::nullopt;
}

/// What ConstantOfShape makes, as a constant that the host knows: it stands in for weights where a
/// network comes without them.
void know_filled(ConcreteGraph& graph, ValueId id, HostCache& cache) {
  constexpr int64_t kMostElements = int64_t{1} << 24;
  const ConcreteValue& value = graph.value(id);
  if (value.kind != ValueKind::kResult || value.producer == kNoNode) return;
  const Node& maker = graph.nodes[value.producer].node;
  if (maker.op != "ConstantOfShape" || !maker.domain.empty()) return;
  const int64_t count = element_count(value.shape);
  if (!is_floating(value.dtype) || count > kMostElements) return;
  const HostTensor* given = NodeReader(maker).attr_tensor("value");
  const double number = given ? given->to_doubles().at(0) : 0.0;
  const DType dtype = value.dtype;
  const Shape shape = value.shape;
  const std::string key = "filled:" + (given ? content_key(*given) : "0") +
                          std::string(dtype_name(dtype)) + shape_string(shape);
  const HostTensor& filled = cached(cache, key, [&] {
    return HostTensor::from_doubles(dtype, shape,
                                    std::vector<double>(static_cast<size_t>(count), number));
  });
  graph.value(id).known = filled;
  graph.value(id).kind = ValueKind::kConstant;
  graph.value(id).key = key;
}

/// Parameters of normalizations and of the operators before them.
void know_parameters(ConcreteGraph& graph, HostCache& cache) {
  for (const ConcreteNode& node : graph.nodes) {
    if (node.node.op != "BatchNormalization" || !node.node.domain.empty()) continue;
    for (size_t i = 1; i < node.node.inputs.size(); ++i) {
      know_filled(graph, node.node.inputs[i], cache);
    }
    const NodeId producer = graph.value(node.node.inputs[0]).producer;
    if (producer == kNoNode || !channel_axis(graph.nodes[producer])) continue;
    const std::vector<ValueId>& inputs = graph.nodes[producer].node.inputs;
    for (size_t i = 1; i < inputs.size(); ++i) {
      if (inputs[i] != kNoValue) know_filled(graph, inputs[i], cache);
    }
  }
  graph.remove_nodes([&](const ConcreteNode& node) {
    return node.node.op == "ConstantOfShape" && node.node.outputs.size() == 1 &&
           graph.value(node.node.outputs[0]).is_constant();
  });
}

/// Calls `scaled(row, scale)` for each row of weights that belong to one channel.
template <typename Scaled>
void each_row(const Shape& shape, int64_t inner, const ChannelAxis& channels,
              const std::vector<double>& scale, Scaled&& scaled) {
  const int64_t count = shape[channels.axis], rows = element_count(shape) / inner;
  const int64_t rows_per_group = shape[0] / channels.groups;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t channel = row % count;
    if (channels.groups > 1) channel += row / count / rows_per_group * count;
    scaled(row, scale[static_cast<size_t>(channel)]);
  }
}

/// Weights that have their memory and not yet their values. All weights of a network pass here at
/// its start, most of the time in touching new memory for the first time: threads share that.
using Jobs = std::vector<std::function<void()>>;

void run(Jobs& jobs) {
  parallel_for(jobs.size(), [&](size_t i) { jobs[i](); });
  jobs.clear();
}

HostTensor scaled_weights(const HostTensor& weights, const ChannelAxis& channels,
                          const std::vector<double>& scale, Jobs& jobs) {
  int64_t inner = 1;
  for (size_t i = channels.axis + 1; i < weights.shape.size(); ++i) inner *= weights.shape[i];
  if (weights.elements() == 0) return weights;
  if (weights.dtype != DType::kFloat32) {
    std::vector<double> values = weights.to_doubles();
    each_row(weights.shape, inner, channels, scale, [&](int64_t row, double by) {
      for (int64_t i = row * inner; i < (row + 1) * inner; ++i)
        values[static_cast<size_t>(i)] *= by;
    });
    return HostTensor::from_doubles(weights.dtype, weights.shape, values);
  }
  auto made = std::make_shared_for_overwrite<float[]>(static_cast<size_t>(weights.elements()));
  jobs.emplace_back([=] {
    each_row(weights.shape, inner, channels, scale, [&](int64_t row, double by) {
      const std::byte* from = weights.data.get() + 4 * row * inner;
      float* to = made.get() + row * inner;
      for (int64_t i = 0; i < inner; ++i) {
        float value = 0;
        std::memcpy(&value, from + 4 * i, 4);
        to[i] = static_cast<float>(static_cast<double>(value) * by);
      }
    });
  });
  return {DType::kFloat32, weights.shape,
          std::shared_ptr<const std::byte>(made, reinterpret_cast<const std::byte*>(made.get()))};
}

bool fold_into(ConcreteGraph& graph, ConcreteNode& node, const Affine& affine, HostCache& cache,
               Jobs& jobs) {
  const auto channels = channel_axis(node);
  if (!channels || node.node.inputs.size() < 2 || !node.epilogue.expression.empty()) return false;
  const ConcreteValue weights = graph.value(node.node.inputs[1]);
  if (!weights.is_constant() || !weights.known) return false;
  const auto outputs = static_cast<int64_t>(affine.scale.size());
  if (weights.shape[channels->axis] * channels->groups != outputs) return false;
  const bool has_bias = node.node.inputs.size() > 2 && node.node.inputs[2] != kNoValue;
  ConcreteValue bias;
  if (has_bias) {
    bias = graph.value(node.node.inputs[2]);
    if (!bias.is_constant() || !bias.known || element_count(bias.shape) != outputs) return false;
  }
  const std::string key = hashed_key(affine.key + "|" + weights.key + "|" + bias.key);
  constexpr char kPrefix[] = "bnw:";
  if (weights.key.starts_with(kPrefix)) run(jobs);  // its values come from one of them
  const HostTensor& new_weights = cached(cache, kPrefix + key, [&] {
    return scaled_weights(*weights.known, *channels, affine.scale, jobs);
  });
  const HostTensor& new_bias = cached(cache, "bnb:" + key, [&] {
    std::vector<double> values = affine.shift;
    const std::vector<double> old = has_bias ? bias.known->to_doubles() : std::vector<double>{};
    for (size_t c = 0; c < old.size(); ++c) values[c] += old[c] * affine.scale[c];
    return HostTensor::from_doubles(weights.dtype, {outputs}, values);
  });
  node.node.inputs.resize(std::max<size_t>(node.node.inputs.size(), 3), kNoValue);
  node.node.inputs[1] = add_constant(graph, weights.name + "*bn", kPrefix + key, new_weights);
  node.node.inputs[2] = add_constant(graph, node.node.name + "+bn", "bnb:" + key, new_bias);
  node.fused.push_back("BatchNormalization");
  return true;
}

/// Without a producer that takes it: x * scale + shift, which fuses as pointwise operators do.
ConcreteNode as_product(ConcreteGraph& graph, ConcreteNode& node, const Affine& affine,
                        HostCache& cache) {
  const ConcreteValue& result = graph.value(node.node.outputs[0]);
  const DType dtype = result.dtype;
  Shape shape(result.shape.size() - 1, 1);
  shape[0] = static_cast<int64_t>(affine.scale.size());
  const std::string key = hashed_key(affine.key);
  const std::string name = node.node.name;
  const auto constant = [&](const std::string& prefix, const std::vector<double>& values) {
    const std::string full = prefix + key + shape_string(shape);
    return add_constant(graph, name + prefix, full, cached(cache, full, [&] {
                          return HostTensor::from_doubles(dtype, shape, values);
                        }));
  };
  ConcreteValue scaled{name + " scaled", ValueKind::kResult, dtype, result.shape};
  ConcreteNode product;
  product.schema = find_op("Mul");
  product.node = {"Mul", "", name, {node.node.inputs[0], kNoValue}, {kNoValue}, {}};
  product.node.inputs[1] = constant("bn-scale:", affine.scale);
  product.node.outputs[0] = graph.add_value(std::move(scaled));
  const ValueId output = node.node.outputs[0];
  node = {};
  node.schema = find_op("Add");
  node.node = {"Add", "", name, {product.node.outputs[0], kNoValue}, {output}, {}};
  node.node.inputs[1] = constant("bn-shift:", affine.shift);
  return product;
}

}  // namespace

void fold_batch_norm(ConcreteGraph& graph, HostCache& cache) {
  graph.set_producers();
  know_parameters(graph, cache);
  graph.set_producers();
  Jobs jobs;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const auto affine = affine_of(graph, graph.nodes[n]);
    if (!affine || graph.value(graph.nodes[n].node.inputs[0]).shape.size() < 2) continue;
    const ValueId input = graph.nodes[n].node.inputs[0];
    const ValueId output = graph.nodes[n].node.outputs[0];
    const NodeId producer = graph.value(input).producer;
    const bool only_reader = producer != kNoNode && graph.use_counts()[input] == 1;
    if (only_reader && fold_into(graph, graph.nodes[producer], *affine, cache, jobs)) {
      graph.nodes[producer].node.outputs[0] = output;
      graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(n));
      --n;
    } else {
      ConcreteNode product = as_product(graph, graph.nodes[n], *affine, cache);
      graph.nodes.insert(graph.nodes.begin() + static_cast<std::ptrdiff_t>(n), std::move(product));
      ++n;
    }
    graph.set_producers();
  }
  run(jobs);
}

}  // namespace dlk
