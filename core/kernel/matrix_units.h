// The matrix units of one device, as the gang tiles reach them. Each size of tile is tried on the
// device before results of operators that use it are handed out: a small product is compared with
// the host's, and a size that is wrong or does not compile is dropped, with a line in the log. What
// came out is kept in the cache folder, by device, driver and dlk.
#pragma once

#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "core/device/device.h"
#include "core/kernel/library.h"

namespace dlk {

/// Constants of kernels/conv_mma.k. A group of `bm / tm * bn / tn` gangs computes bm x bn results,
/// bk deep at a time; copies are `ahead` steps before their product.
struct MatrixTile {
  int64_t bm = 0, bn = 0, bk = 0, stages = 0, ahead = 0, tm = 0, tn = 0;
  int64_t form = 0;  // FORM of the kernel: another order of a step
  auto operator<=>(const MatrixTile&) const = default;
  /// Sets the constants, and the lowering: that of the units, or "wgmma" for a tile of its form
  /// where the units are reached by PTX.
  void set_constants(KernelRequest& request, const std::string& lowering) const;
  std::string text() const;
  /// Of its operands, with `element` bytes each.
  int64_t local_bytes(int64_t element) const { return element * (bm + bn) * bk * stages; }
  /// The form of "wgmma", whose gangs have four subgroups.
  bool in_gangs_of_four() const { return tm == 16 && tn == bn && bn >= 64; }
};

/// Products that tiles are tried in before operators use them for the same.
enum class MatrixUse : uint8_t {
  kHalves,         // float16, kernels/conv_mma.k
  kTurned,         // float16, with the left side turned: kernels/conv_weight_tile.k
  kFloats,         // float32 in registers, kernels/conv_mma.k
  kBytes,          // int8, kernels/integer_tile.k
  kRight,          // float16, with the right side turned: kernels/gemm_mma.k
  kBfloats,        // the same in bfloat16
  kBfloatImages,   // bfloat16, kernels/conv_mma.k
  kByteImages,     // int8, kernels/integer_conv_tile.k
  kHalfSums,       // as kHalves, with sums in float16 (ACC16)
  kRightHalfSums,  // as kRight, the same
};

/// How groups share a tile of kernels/conv_mma.k where it is tried out: SPLIT of that kernel.
enum class TileSharing : uint8_t {
  kNone,
  kSlices,  // parts of the depth, which the last group of a tile adds up
  kStream,  // stream-K: steps of all tiles, where tiles end inside of a group's share
};

/// What is tried out: a tile for a use.
struct MatrixTrial {
  MatrixTile tile;
  MatrixUse use = MatrixUse::kHalves;
  TileSharing sharing = TileSharing::kNone;
  auto operator<=>(const MatrixTrial&) const = default;
};

class MatrixUnits {
 public:
  /// One object a device, kept while the device lives, so that each size is tried once.
  /// DLK_MATRIX_UNITS=0 hides the units; DLK_MATRIX_UNITS=plain puts registers in their place on
  /// any GPU, for tests; DLK_MATRIX_UNITS=coopmat leaves PTX out under Vulkan, =mma leaves wgmma
  /// out where PTX is run.
  static std::shared_ptr<MatrixUnits> of(const std::shared_ptr<Device>& device);
  MatrixUnits(std::shared_ptr<Device> device, std::string lowering);

  /// The lowering of gang tiles: "ptx", "coopmat", "plain"; empty where there are no units. The
  /// first call may try a tile: PTX under Vulkan needs an OpenCL driver, or a warm cache.
  std::string lowering();
  /// That of products of a kind: float32 has "async" where float16 has "ptx", else "plain".
  std::string lowering(MatrixUse use);
  /// Thread-safe; the first call for a tile compiles and runs (a backend whose kernels do nothing
  /// has nothing to try).
  /// `sharing` is of kernels/conv_mma.k, on devices with `device_fences`.
  bool works(const MatrixTile& tile, MatrixUse use = MatrixUse::kHalves,
             TileSharing sharing = TileSharing::kNone);

  /// The same units for one plan: `works` and `lowering` take it that what was never tried works.
  std::shared_ptr<MatrixUnits> assumed() const;
  /// Tries what was assumed, all at once. False where something does not work: what was planned
  /// with it must be planned again.
  bool settle();

 private:
  struct State {
    std::weak_ptr<Device> device;
    std::mutex mutex;  // of what follows
    std::string lowering;
    bool chosen = false;
    std::map<MatrixTrial, bool> tried;
  };

  std::string current_lowering() const;
  /// What is known of a tile, from this process or the cache folder.
  std::optional<bool> known(const MatrixTrial& trial);
  bool try_now(const MatrixTrial& trial);
  static std::string text_of(const MatrixTrial& trial);
  std::string file_of(const MatrixTrial& trial) const;
  /// The units, as they are reached, compute such products at all.
  bool is_offered(MatrixUse use) const;
  /// Launches of PTX under Vulkan never start with more local memory than a module may declare.
  bool fits(const MatrixTrial& trial) const;
  bool may_hang(const MatrixTrial& trial) const;
  bool try_in_time(const MatrixTrial& trial) const;

  std::shared_ptr<State> state_;
  bool assumes_ = false;
  std::set<MatrixTrial> assumed_;  // by `works`, not tried yet; used by the plan's thread only
};

}  // namespace dlk
