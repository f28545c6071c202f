#include "core/ops/rnn_activations.h"

#include <algorithm>

namespace dlk {

namespace {

struct Row {
  const char* name;
  bool takes_alpha, takes_beta;
  double alpha, beta;
};

/// In the order of Activation.
const Row kRows[] = {
    {"Sigmoid", false, false, 0, 0},     {"Tanh", false, false, 0, 0},
    {"Relu", false, false, 0, 0},        {"Affine", true, true, 1, 0},
    {"LeakyRelu", true, false, 0.01, 0}, {"ThresholdedRelu", true, false, 1, 0},
    {"ScaledTanh", true, true, 1, 1},    {"HardSigmoid", true, true, 0.2, 0.5},
    {"Elu", true, false, 1, 0},          {"Softsign", false, false, 0, 0},
    {"Softplus", false, false, 0, 0},
};

std::string lower_case(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

/// Of one direction.
const std::vector<std::string>& default_activations(const std::string& op) {
  static const std::vector<std::string> rnn{"Tanh"}, gru{"Sigmoid", "Tanh"},
      lstm{"Sigmoid", "Tanh", "Tanh"};
  return op == "RNN" ? rnn : op == "GRU" ? gru : lstm;
}

}  // namespace

Activations read_activations(const NodeReader& node, int64_t directions) {
  const std::vector<std::string>& defaults = default_activations(node.node().op);
  std::vector<std::string> names;
  const auto found = node.node().attributes.find("activations");
  if (found != node.node().attributes.end()) {
    if (const auto* list = std::get_if<std::vector<std::string>>(&found->second)) names = *list;
  }
  const size_t per_direction = defaults.size();
  const size_t wanted = per_direction * static_cast<size_t>(directions);
  if (names.empty()) {
    for (int64_t d = 0; d < directions; ++d) {
      names.insert(names.end(), defaults.begin(), defaults.end());
    }
  }
  if (names.size() != wanted) {
    node.fail(std::to_string(names.size()) + " activations, expected " + std::to_string(wanted));
  }
  // Factors are listed for the activations that take them, in order.
  const auto alphas = node.attr_floats("activation_alpha");
  const auto betas = node.attr_floats("activation_beta");
  size_t next_alpha = 0, next_beta = 0;
  Activations result;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto* end = std::end(kRows);
    const auto* row = std::find_if(std::begin(kRows), end, [&](const Row& a) {
      return lower_case(a.name) == lower_case(names[i]);
    });
    if (row == end) node.unsupported("activation " + names[i]);
    const size_t slot = i / per_direction * 3 + i % per_direction;
    result.codes[slot] = row - std::begin(kRows);
    result.alpha[slot] =
        row->takes_alpha && next_alpha < alphas.size() ? alphas[next_alpha++] : row->alpha;
    result.beta[slot] =
        row->takes_beta && next_beta < betas.size() ? betas[next_beta++] : row->beta;
  }
  return result;
}

}  // namespace dlk
