// The matrix units of one device, as the gang tiles reach them. Each size of tile is tried on the
// device before operators use it: a small product is compared with the host's, and a size that is
// wrong or does not compile is dropped, with a line in the log.
#pragma once

#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "core/device/device.h"
#include "core/kernel/library.h"

namespace dlk {

/// Constants of kernels/conv_mma.k. A group of `bm / tm * bn / tn` gangs computes bm x bn results,
/// bk deep at a time; copies are `ahead` steps before their product.
struct MatrixTile {
  int64_t bm = 0, bn = 0, bk = 0, stages = 0, ahead = 0, tm = 0, tn = 0;
  auto operator<=>(const MatrixTile&) const = default;
  /// Sets the constants, and the lowering: that of the units, or "wgmma" for a tile of its form
  /// where the units are reached by PTX.
  void set_constants(KernelRequest& request, const std::string& lowering) const;
  std::string text() const;
};

class MatrixUnits {
 public:
  /// One object a device, shared, so that each size is tried once. DLK_MATRIX_UNITS=0 hides the
  /// units; DLK_MATRIX_UNITS=plain puts registers in their place on any GPU, for tests;
  /// DLK_MATRIX_UNITS=coopmat leaves PTX out under Vulkan.
  static std::shared_ptr<MatrixUnits> of(const std::shared_ptr<Device>& device);
  MatrixUnits(std::shared_ptr<Device> device, std::string lowering);

  /// The lowering of gang tiles: "ptx", "coopmat", "plain"; empty where there are no units. The
  /// first call may try a tile: PTX under Vulkan needs an OpenCL driver, or a warm cache.
  const std::string& lowering();
  /// Thread-safe; the first call for a tile compiles and runs (a backend whose kernels do nothing
  /// has nothing to try). `turned`: in products whose left
  /// side is turned (kernels/conv_weight_tile.k).
  bool works(const MatrixTile& tile, bool turned = false);

 private:
  /// Launches of PTX under Vulkan never start with more local memory than a module may declare.
  bool fits(const MatrixTile& tile) const;
  bool try_out(const MatrixTile& tile);
  bool try_out_turned(const MatrixTile& tile);

  const std::weak_ptr<Device> device_;
  std::once_flag chosen_;
  std::string lowering_;
  std::mutex mutex_;
  std::map<std::pair<MatrixTile, bool>, bool> tried_;
};

}  // namespace dlk
