#include "core/kernel/tiles_matrix.h"

#include <algorithm>

namespace dlk::dialect {

MatrixShape matrix_shape(const Variant& variant) {
  MatrixShape shape;
  shape.rows = accumulator_of(variant).rows;
  shape.columns = accumulator_of(variant).columns;
  const auto part = [&](const char* name, uint32_t size) {
    const auto asked = variant.constant(name);
    return asked && *asked != 0 ? static_cast<uint32_t>(*asked) : std::min(size, 2 * kFragment);
  };
  shape.tm = part("TM", shape.rows);
  shape.tn = part("TN", shape.columns);
  return shape;
}

uint32_t MatrixLowering::first_chunk(const Variant& variant, const TileVar& tile) const {
  uint32_t chunks = 0;
  for (const TileVar& before : variant.tiles) {
    if (&before == &tile) break;
    if (!before.is_accumulator) chunks += stage_chunks(before) * before.stages;
  }
  return chunks;
}

uint32_t MatrixLowering::local_chunks(const Variant& variant) const {
  uint32_t chunks = 0;
  for (const TileVar& tile : variant.tiles) {
    if (!tile.is_accumulator) chunks += stage_chunks(tile) * tile.stages;
  }
  const MatrixShape shape = matrix_shape(variant);
  return std::max(chunks, shape.subgroups() * shape.band_floats() / 4);
}

void MatrixLowering::lay_out(Variant& variant) const {
  const SourceText& source = variant.source();
  const std::string who = "the lowering '" + std::string(name()) + "' ";
  const auto want = [&](bool right, const std::string& what) {
    if (!right) fail_at(source, variant.decl->at, who + what);
  };
  size_t accumulators = 0;
  for (const TileVar& tile : variant.tiles) {
    accumulators += tile.is_accumulator ? 1 : 0;
    if (tile.is_accumulator) continue;
    want(takes(tile.dtype), "takes tiles of f16");
    want(is_integer(tile.dtype) == is_integer(accumulator_of(variant).dtype),
         "adds products of i8 in int, others in float");
    want(!variant.half_sums || tile.dtype == DType::kFloat16,
         "adds products of f16 alone in float16 (ACC16)");
    const uint32_t chunks = tile.columns / chunk_elements(tile);
    want(tile.columns % (2 * chunk_elements(tile)) == 0 && tile.rows % kFragment == 0 &&
             (chunks == 2 || chunks == 4 || chunks % 8 == 0),
         "takes tiles of 16, 32, or a multiple of 64 columns, and a multiple of 16 rows");
  }
  want(accumulators == 1, "takes kernels with one accumulator");
  const MatrixShape shape = matrix_shape(variant);
  want(shape.tm % kFragment == 0 && shape.tn % kFragment == 0 && shape.rows % shape.tm == 0 &&
           shape.columns % shape.tn == 0,
       "needs TM and TN that are multiples of 16 and divide the accumulator");
  variant.constants["TM"] = shape.tm;
  variant.constants["TN"] = shape.tn;
  variant.constants["TILE_ITEMS"] = kSubgroup * shape.subgroups();
  variant.interface.local_bytes += 16 * local_chunks(variant);
}

std::string MatrixLowering::stage_start(const Variant& variant, const TileVar& tile,
                                        const std::string& stage) const {
  const std::string first = unsigned_text(first_chunk(variant, tile));
  if (tile.stages == 1) return first;
  return first + " + (" + stage + ") * " + unsigned_text(stage_chunks(tile));
}

std::string MatrixLowering::chunk_of(const Variant& variant, const TileVar& tile,
                                     const std::string& stage, const std::string& row,
                                     const std::string& column) const {
  return stage_start(variant, tile, stage) + " + " +
         place(tile, "(" + row + ")",
               "((" + column + ") / " + unsigned_text(chunk_elements(tile)) + ")");
}

void MatrixLowering::begin(Printer& printer) const {
  const MatrixShape shape = matrix_shape(printer.variant());
  const uint32_t across = shape.columns / shape.tn;
  set_up(printer);
  printer.line("uint dlk_gang_row = dlk_subgroup / " + unsigned_text(across) + " * " +
               unsigned_text(shape.tm) + ";");
  printer.line("uint dlk_gang_column = dlk_subgroup % " + unsigned_text(across) + " * " +
               unsigned_text(shape.tn) + ";");
}

void MatrixLowering::call(Printer& printer, const Expr* expr) const {
  const std::string_view what = expr->text;
  const std::string barrier = std::string(printer.target().barrier_local) + ";";
  if (what == "tile_zero") {
    want_tile_arguments(printer, expr, 1);
    zero(printer, tile_argument(printer, expr->args[0], true));
  } else if (what == "tile_put" || what == "tile_putv") {
    want_tile_arguments(printer, expr, 5);
    put(printer, expr, what == "tile_putv" && printer.variant().vector_width > 1);
  } else if (what == "tile_copy") {
    copy(printer, expr);
  } else if (what == "tile_land") {
    land_tile_copies(printer, expr);
  } else if (what == "tile_commit") {
    want_tile_arguments(printer, expr, 0);
    commit(printer);
  } else if (what == "tile_wait") {
    want_tile_arguments(printer, expr, 1);
    wait(printer, printer.constant_in(expr->args[0], 0, 8, "the number of open batches"));
    printer.line(barrier);
  } else if (what == "tile_release") {
    want_tile_arguments(printer, expr, 0);
    printer.line(barrier);
  } else if (what.starts_with("tile_mma")) {
    const TileProduct product = tile_product_arguments(printer, expr);
    const std::string stage = printer.converted(expr->args[2], Base::kUint);
    mma(printer, product, stage, printer.converted(expr->args[4], Base::kUint));
  } else {
    printer.fail(expr->at, "there is no tile operation '" + std::string(what) + "'");
  }
}

void MatrixLowering::each(Printer& printer, const Stmt* stmt) const {
  const TileVar* acc = nullptr;
  for (const TileVar& tile : printer.variant().tiles) {
    if (tile.is_accumulator && tile.name == stmt->names[0]) acc = &tile;
  }
  if (acc == nullptr) printer.fail(stmt->at, "expected the name of an accumulator ('acc')");
  if (stmt->flag && (printer.variant().vector_width != 4 || is_integer(acc->dtype))) {
    printer.fail(stmt->at, "tile_eachv needs VW = 4, and an accumulator of float");
  }
  const MatrixShape shape = matrix_shape(printer.variant());
  const uint32_t width = stmt->flag ? 4 : 1;
  const std::string across = unsigned_text(shape.tn / width);
  const uint32_t elements = kFragment * shape.tn / width;
  // The bands lie over the tiles: nothing may still be on its way to these.
  finish(printer, *acc);
  wait(printer, 0);
  printer.line(std::string(printer.target().barrier_local) + ";");
  printer.open(std::string(printer.target().unroll) + "for (uint dlk_i = 0u; dlk_i < " +
               unsigned_text(shape.row_fragments()) + "; ++dlk_i) {");
  store_band(printer, *acc);
  printer.line(subgroup_barrier() + ";");
  printer.open(band_loop() + "for (uint dlk_j = dlk_lane; dlk_j < " + unsigned_text(elements) +
               "; dlk_j += " + unsigned_text(kSubgroup) + ") {");
  printer.push_scope();
  const TileEachNames names = declare_tile_each(printer, stmt);
  printer.line("uint " + names.row + " = dlk_gang_row + dlk_i * 16u + dlk_j / " + across + ";");
  printer.line("uint " + names.column + " = dlk_gang_column + dlk_j % " + across + " * " +
               unsigned_text(width) + ";");
  const std::string index = "dlk_subgroup * " + unsigned_text(shape.band_floats()) + " + dlk_j / " +
                            across + " * " + unsigned_text(shape.band_pitch()) + " + dlk_j % " +
                            across + " * " + unsigned_text(width);
  const bool integer = is_integer(acc->dtype);
  const Base base = stmt->flag ? Base::kVec : integer ? Base::kInt : Base::kFloat;
  const std::string value = band_value(index, stmt->flag);
  printer.line(printer.type(base) + " " + names.element + " = " +
               (integer ? bits_as_int(value) : value) + ";");
  printer.statement(stmt->first);
  printer.pop_scope();
  printer.close();
  printer.line(subgroup_barrier() + ";");
  printer.close();
}

}  // namespace dlk::dialect
