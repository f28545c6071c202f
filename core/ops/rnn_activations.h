// The activations of RNN, GRU and LSTM: their names and factors in a node's attributes. Used by the
// lowering and by the gradient.
#pragma once

#include "core/ops/op.h"

namespace dlk {

/// In the order of rnn_activate's codes (kernels/rnn.k).
enum class Activation : uint8_t {
  kSigmoid,
  kTanh,
  kRelu,
  kAffine,
  kLeakyRelu,
  kThresholdedRelu,
  kScaledTanh,
  kHardSigmoid,
  kElu,
  kSoftsign,
  kSoftplus,
};

/// f, g and h of the first direction, then of the second; those that the cell lacks are not used.
struct Activations {
  std::vector<int64_t> codes = std::vector<int64_t>(6, 0);
  std::vector<double> alpha = std::vector<double>(6, 0.0), beta = std::vector<double>(6, 0.0);
};

/// Of a node RNN, GRU or LSTM; an error where their number or a name is wrong.
Activations read_activations(const NodeReader& node, int64_t directions);

}  // namespace dlk
