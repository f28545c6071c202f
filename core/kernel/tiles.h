// Gang tiles: how the tile_* operations of the dialect become code. A lowering owns the layout of
// tiles and accumulators; the kernel owns addresses and the epilogue. `plain` keeps tiles in local
// memory and a TM x TN micro-tile of the accumulator in the registers of each work-item.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/kernel/ast.h"

namespace dlk::dialect {

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
  virtual void each(Printer& printer, const Stmt* stmt) const = 0;
  /// What KernelCode::required_subgroup_size becomes.
  virtual uint32_t subgroup_size() const { return 0; }
};

/// Unsupported for a lowering that this build does not have.
const TileLowering& tile_lowering(const std::string& name);
const TileLowering& simdgroup_tiles();  // tiles_simdgroup.cpp

}  // namespace dlk::dialect
