// Gang tiles: how the tile_* operations of the dialect become code. A lowering owns the layout of
// tiles and accumulators; the kernel owns addresses and the epilogue. `plain` keeps tiles in local
// memory and a TM x TN micro-tile of the accumulator in the registers of each work-item.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/kernel/ast.h"

namespace dlk::dialect {

struct TileVar;
struct Variant;
class Printer;

class TileLowering {
 public:
  virtual ~TileLowering() = default;
  /// Sets the constants TM, TN and TILE_ITEMS and the local memory of a variant with tiles.
  virtual void lay_out(Variant& variant) const = 0;
  /// Declarations of the tiles in local memory, as lines of the target.
  virtual std::string local_declarations(const Printer& printer) const = 0;
  /// Declarations at the start of the kernel's body.
  virtual void begin(Printer& printer) const = 0;
  /// One statement that is a tile_* call.
  virtual void call(Printer& printer, const Expr* expr) const = 0;
  /// tile_each; with `stmt->flag` tile_eachv.
  virtual void each(Printer& printer, const Stmt* stmt) const = 0;
  /// What KernelCode::required_subgroup_size becomes.
  virtual uint32_t subgroup_size() const { return 0; }
  /// Sums in float16 (ACC16) are made by instructions that the language's half is not needed for.
  virtual bool has_half_sums_of_its_own() const { return false; }
};

/// What tile_copy moves: 8 elements of a row.
inline constexpr uint32_t kTileChunk = 8;

/// The arguments of tile_copy(tile, stage, row, column, buffer, index, condition), printed.
struct TileCopy {
  const TileVar* tile = nullptr;
  std::string stage, row, column, index, condition;
};
TileCopy tile_copy_arguments(Printer& printer, const Expr* expr);

/// The tiles of tile_mma(C, A, sa, B, sb), of tile_mma_t, whose A is turned, and of tile_mma_bt,
/// whose B is; their sizes fit.
struct TileProduct {
  const TileVar *acc = nullptr, *left = nullptr, *right = nullptr;
  bool turned = false, right_turned = false;
  uint32_t depth = 0;
};
TileProduct tile_product_arguments(const Printer& printer, const Expr* expr);

/// Where a copy's vectors of VW elements land, and each vector, printed.
struct TileLanding {
  std::string stage, row, column, value;
};
using TileStore = std::function<void(Printer&, const TileVar&, const TileLanding&)>;
/// tile_copy where memory is read into registers at once and `store` prints what tile_land does.
void copy_through_registers(Printer& printer, const Expr* expr, const TileStore& store);
/// tile_land: prints what the copies since the last one left to do.
void land_tile_copies(Printer& printer, const Expr* expr);
/// Declares the names of a tile_each in the current scope; returns them as printed.
struct TileEachNames {
  std::string row, column, element;
};
TileEachNames declare_tile_each(Printer& printer, const Stmt* stmt);

/// The accumulator that gives a variant's tiles their sizes; an error where there is none.
const TileVar& accumulator_of(const Variant& variant);

/// What a call's argument names, and how many there are: errors point at the call.
const TileVar& tile_named(const Printer& printer, std::string_view name, bool accumulator,
                          uint32_t at);
const TileVar& tile_argument(const Printer& printer, const Expr* expr, bool accumulator);
void want_tile_arguments(const Printer& printer, const Expr* expr, size_t count);

/// InvalidArgument for other names than plain, coopmat, ptx, wgmma, async and simdgroup.
const TileLowering& tile_lowering(const std::string& name);
const TileLowering& plain_tiles();      // tiles.cpp
const TileLowering& simdgroup_tiles();  // tiles_simdgroup.cpp
const TileLowering& coopmat_tiles();    // tiles_coopmat.cpp
const TileLowering& ptx_tiles();        // tiles_ptx.cpp
const TileLowering& wgmma_tiles();      // tiles_ptx.cpp
const TileLowering& async_tiles();      // tiles_async.cpp

}  // namespace dlk::dialect
