// The key of an operator that draws random numbers (kernels/philox.k).
#pragma once

#include <string>

#include "core/ops/op.h"

namespace dlk {

struct RandomKey {
  uint32_t low = 0, high = 0;
};

/// From the attribute `seed`; without one, from the node's name, so that every node draws its own
/// numbers and every run the same.
RandomKey random_key(const NodeReader& node);
void add_key(Params& params, const RandomKey& key);

}  // namespace dlk
