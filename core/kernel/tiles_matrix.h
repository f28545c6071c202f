// What the lowerings onto matrix units share: a gang is one subgroup of 32 work-items and owns
// TM x TN of the accumulator in fragments of 16 x 16; tiles hold float16 in 16-byte chunks of local
// memory; the accumulators come out through bands of 16 rows that lie over the tiles. A derived
// lowering says how chunks are placed and how fragments are loaded, multiplied and stored.
#pragma once

#include <string>

#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

inline constexpr uint32_t kFragment = 16;
inline constexpr uint32_t kSubgroup = 32;

/// Sizes of a variant's tiles. Chunks are counted from the start of the local memory.
struct MatrixShape {
  uint32_t rows = 0, columns = 0;  // of the accumulator
  uint32_t tm = 0, tn = 0;         // of a subgroup's part
  uint32_t subgroups() const { return (rows / tm) * (columns / tn); }
  uint32_t row_fragments() const { return tm / kFragment; }
  uint32_t column_fragments() const { return tn / kFragment; }
  /// Floats between the rows of a band: 8 more than its columns spread them over the banks.
  uint32_t band_pitch() const { return tn + 8; }
  uint32_t band_floats() const { return kFragment * band_pitch(); }
};
MatrixShape matrix_shape(const Variant& variant);

class MatrixLowering : public TileLowering {
 public:
  void lay_out(Variant& variant) const override;
  void begin(Printer& printer) const override;
  void call(Printer& printer, const Expr* expr) const override;
  void each(Printer& printer, const Stmt* stmt) const override;
  uint32_t subgroup_size() const override { return kSubgroup; }

 protected:
  virtual std::string_view name() const = 0;
  /// Types of tiles that the units multiply.
  virtual bool takes(DType dtype) const { return dtype == DType::kFloat16; }
  /// Chunks from one row of a tile to the next.
  virtual uint32_t pitch(const TileVar& tile) const = 0;
  /// The chunk of (row, chunk of the row) inside of a stage.
  virtual std::string place(const TileVar& tile, const std::string& row,
                            const std::string& chunk) const = 0;
  virtual void set_up(Printer& printer) const = 0;
  virtual void zero(Printer& printer, const TileVar& acc) const = 0;
  virtual void put(Printer& printer, const Expr* expr, bool is_vector) const = 0;
  virtual void copy(Printer& printer, const Expr* expr) const = 0;
  virtual void commit(Printer& printer) const = 0;
  virtual void wait(Printer& printer, int64_t open) const = 0;
  virtual void mma(Printer& printer, const TileProduct& product, const std::string& left_stage,
                   const std::string& right_stage) const = 0;
  /// Printed before the accumulator is read: waits for products that are under way.
  virtual void finish(Printer&, const TileVar&) const {}
  /// Band `dlk_i` of the accumulator to the subgroup's local memory; and its reading back.
  virtual void store_band(Printer& printer, const TileVar& acc) const = 0;
  virtual std::string band_value(const std::string& index, bool vector) const = 0;
  /// A band's float that holds the bits of an int.
  virtual std::string bits_as_int(const std::string& value) const = 0;
  virtual std::string subgroup_barrier() const = 0;
  /// What stands before the loop over a band's elements.
  virtual std::string band_loop() const { return ""; }

  uint32_t stage_chunks(const TileVar& tile) const { return tile.rows * pitch(tile); }
  uint32_t first_chunk(const Variant& variant, const TileVar& tile) const;
  uint32_t local_chunks(const Variant& variant) const;
  /// The chunk where a stage of a tile starts.
  std::string stage_start(const Variant& variant, const TileVar& tile,
                          const std::string& stage) const;
  /// The chunk of an element whose column is a multiple of 8.
  std::string chunk_of(const Variant& variant, const TileVar& tile, const std::string& stage,
                       const std::string& row, const std::string& column) const;
};

/// Elements of 16 bytes.
inline uint32_t chunk_elements(const TileVar& tile) {
  return 16 / static_cast<uint32_t>(dtype_size(tile.dtype));
}
inline std::string acc_variable(const TileVar& acc) { return "dlk_acc_" + std::string(acc.name); }
inline std::string unsigned_text(uint64_t value) { return std::to_string(value) + "u"; }

}  // namespace dlk::dialect
