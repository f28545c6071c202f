// Fourier transforms along an axis, for DFT and STFT (kernels/signal.k): by their definition where
// that is as quick, in steps of the factors of the length, or for a length with a large prime
// factor by Bluestein's algorithm. Convolutions transform tiles in local memory instead
// (kernels/fft.k).
#pragma once

#include <optional>

#include "core/ops/op.h"

namespace dlk {

/// x and y: rows, then the transformed axis, then the parts.
struct DftViews {
  TensorView x, y;
  std::optional<TensorView> window;
  int64_t n = 0;
  bool inverse = false;
};

/// Transforms x, in float32 or float64, cut or padded with zeros to n, weighted by the window; y
/// gets as many bins as it has elements along the axis.
void dispatch_dft(LowerContext& context, const DftViews& views);

}  // namespace dlk
