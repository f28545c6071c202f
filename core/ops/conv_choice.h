// Which algorithm computes a convolution, where something other than the cost model decides: the
// variable DLK_CONV_ALGO, for tests and measurements, or a record of `dlk tune`. Private to
// core/ops/conv_*.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/device/device.h"
#include "core/kernel/matrix_units.h"

namespace dlk {

/// Of kernels/gemv.k, powers of 2: items of a group, rows of weights that it reads, and vectors of
/// each that an item has under way.
struct GemvShape {
  int64_t items = 0, columns = 0, ahead = 0;
};

/// What was asked for: "" (nothing), "direct", "block", "gemm", "mma", "gemv", "winograd2", ... A
/// problem that the algorithm cannot compute gets what it would have got anyway.
struct ConvChoice {
  std::string algorithm;
  std::optional<MatrixTile> tile;  // of mma
  int64_t slices = 0;              // of mma; 0: chosen
  bool inside = false;             // of mma: slices are summed in the same dispatch
  int64_t streams = 0;             // of mma: stream-K with so many groups a compute unit; 0: not
  bool forced = false;             // by DLK_CONV_ALGO
  std::optional<GemvShape> gemv = {};  // of gemv
};

/// DLK_CONV_ALGO, else the record for this device and problem, else nothing. Records are lines
/// "DEVICE<tab>PROBLEM<tab>ALGORITHM" of DLK_TUNING, or of tuning.tsv in the cache folder; DEVICE
/// is "BACKEND NAME". With DLK_CONV_KEYS, the problem is added as a line to that file.
ConvChoice convolution_choice(const Caps& caps, const std::string& problem);

/// The records that ship with dlk; conv_records.cpp.
std::string_view shipped_records();

/// "ALGORITHM", or "gemv:items,columns,ahead", or "mma:bm,bn,bk,stages,ahead,tm,tn" (",form"),
/// with ":N", ":insideN" or ":streamN" after it: slices, slices that one dispatch sums too, groups
/// of stream-K. InvalidArgument, which names `source`, for anything else.
ConvChoice parse_convolution_choice(const std::string& text, const std::string& source);

}  // namespace dlk
