// Gang tiles on Metal's simdgroup_matrix: the group is divided into SIMD-groups of 32, each owns a
// part of the accumulator in fragments of 8 x 8, and tiles lie row by row in threadgroup memory.
// The accumulators come out in bands of 8 rows through threadgroup memory of the SIMD-group's own.
#include <algorithm>

#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

namespace {

constexpr uint32_t kFragment = 8;
constexpr uint32_t kLanes = 32;
constexpr uint32_t kWidestPart = 32;      // of the accumulator, that one SIMD-group owns
constexpr uint32_t kMostSimdgroups = 16;  // in a group

std::string number(uint64_t value) { return std::to_string(value); }
std::string unsigned_number(uint64_t value) { return std::to_string(value) + "u"; }

std::string tile_name(const TileVar& tile) { return "dlk_tile_" + std::string(tile.name); }
std::string acc_name(const TileVar& tile) { return "dlk_acc_" + std::string(tile.name); }

/// Floats from one row to the next: four more keep vectors aligned and spread rows over the banks.
uint32_t pitch_of(const TileVar& tile) { return tile.columns + 4; }
uint32_t stage_of(const TileVar& tile) { return tile.rows * pitch_of(tile); }

std::string stage_start(const TileVar& tile, const std::string& stage) {
  if (tile.stages == 1) return {};
  return "(" + stage + ") * " + unsigned_number(stage_of(tile)) + " + ";
}

/// How the accumulator is divided.
struct Shape {
  uint32_t rows = 0, columns = 0;            // of the accumulator
  uint32_t part_rows = 0, part_columns = 0;  // of a SIMD-group's part
  uint32_t across() const { return columns / part_columns; }
  uint32_t simdgroups() const { return rows / part_rows * across(); }
  uint32_t row_fragments() const { return part_rows / kFragment; }
  uint32_t column_fragments() const { return part_columns / kFragment; }
  uint32_t band_floats() const { return kFragment * part_columns; }
};

uint32_t part_of(uint32_t size) {
  uint32_t part = std::min(size, kWidestPart);
  while (part > kFragment && size % part != 0) part -= kFragment;
  return part;
}

Shape shape_of(const Variant& variant) {
  Shape shape;
  shape.rows = accumulator_of(variant).rows;
  shape.columns = accumulator_of(variant).columns;
  shape.part_rows = part_of(shape.rows);
  shape.part_columns = part_of(shape.columns);
  return shape;
}

class SimdgroupLowering : public TileLowering {
 public:
  void lay_out(Variant& variant) const override;
  std::string local_declarations(const Printer& printer) const override;
  void begin(Printer& printer) const override;
  void call(Printer& printer, const Expr* expr) const override;
  void each(Printer& printer, const Stmt* stmt) const override;
  uint32_t subgroup_size() const override { return kLanes; }

 private:
  static void put(Printer& printer, const Expr* expr, bool is_vector);
  static void store(Printer& printer, const TileVar& tile, const TileLanding& at, bool vectors);
  static void mma(Printer& printer, const Expr* expr);
  static std::string unrolled(const Printer& printer, const char* variable, uint32_t count) {
    return std::string(printer.target().unroll) + "for (uint " + variable + " = 0u; " + variable +
           " < " + unsigned_number(count) + "; ++" + variable + ") ";
  }
};

void SimdgroupLowering::lay_out(Variant& variant) const {
  const auto want = [&](bool right, const std::string& what) {
    if (!right) fail_at(variant.source(), variant.decl->at, "the lowering 'simdgroup' " + what);
  };
  size_t accumulators = 0;
  for (const TileVar& tile : variant.tiles) {
    accumulators += tile.is_accumulator ? 1 : 0;
    want(tile.rows % kFragment == 0 && tile.columns % kFragment == 0,
         "takes tiles and accumulators whose sides are multiples of 8");
  }
  want(accumulators == 1, "takes kernels with one accumulator");
  want(!is_integer(accumulator_of(variant).dtype), "takes accumulators of float");
  want(!variant.half_sums, "accumulates in float, not in float16 (ACC16)");
  const Shape shape = shape_of(variant);
  want(shape.simdgroups() <= kMostSimdgroups,
       "takes accumulators that " + number(kMostSimdgroups) + " SIMD-groups hold");
  variant.constants["TILE_ITEMS"] = kLanes * shape.simdgroups();
  for (const TileVar& tile : variant.tiles) {
    if (!tile.is_accumulator) variant.interface.local_bytes += 4 * stage_of(tile) * tile.stages;
  }
  variant.interface.local_bytes += 4 * shape.simdgroups() * shape.band_floats();
}

std::string SimdgroupLowering::local_declarations(const Printer& printer) const {
  const Target& target = printer.target();
  const auto array = [&](const std::string& name, uint32_t floats) {
    return std::string(target.local_qualifier) + "float " + name + "[" + number(floats) + "]" +
           std::string(target.local_alignment) + ";\n";
  };
  std::string text;
  for (const TileVar& tile : printer.variant().tiles) {
    if (!tile.is_accumulator) text += array(tile_name(tile), stage_of(tile) * tile.stages);
  }
  const Shape shape = shape_of(printer.variant());
  return text + array("dlk_bands", shape.simdgroups() * shape.band_floats());
}

void SimdgroupLowering::begin(Printer& printer) const {
  if (printer.target().lang != Lang::kMsl) {
    throw_unsupported("the tile lowering 'simdgroup' is for Metal");
  }
  const Shape shape = shape_of(printer.variant());
  const std::string across = unsigned_number(shape.across());
  printer.line("uint dlk_part_row = dlk_simdgroup / " + across + " * " +
               unsigned_number(shape.part_rows) + ";");
  printer.line("uint dlk_part_column = dlk_simdgroup % " + across + " * " +
               unsigned_number(shape.part_columns) + ";");
  printer.line("threadgroup float* dlk_band = dlk_bands + dlk_simdgroup * " +
               unsigned_number(shape.band_floats()) + ";");
  for (const TileVar& tile : printer.variant().tiles) {
    if (!tile.is_accumulator) continue;
    printer.line("simdgroup_float8x8 " + acc_name(tile) + "[" +
                 number(shape.row_fragments() * shape.column_fragments()) + "];");
  }
}

void SimdgroupLowering::call(Printer& printer, const Expr* expr) const {
  const std::string_view name = expr->text;
  const std::string barrier = std::string(printer.target().barrier_local) + ";";
  if (name == "tile_zero") {
    want_tile_arguments(printer, expr, 1);
    const TileVar& acc = tile_argument(printer, expr->args[0], true);
    const Shape shape = shape_of(printer.variant());
    printer.line(unrolled(printer, "dlk_i", shape.row_fragments() * shape.column_fragments()) +
                 "{ " + acc_name(acc) +
                 "[dlk_i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f); }");
  } else if (name == "tile_put" || name == "tile_putv") {
    put(printer, expr, name == "tile_putv");
  } else if (name == "tile_copy") {
    copy_through_registers(printer, expr, [](Printer& to, const TileVar& tile, const auto& at) {
      store(to, tile, at, true);
    });
  } else if (name == "tile_land") {
    land_tile_copies(printer, expr);
  } else if (name == "tile_commit") {
    want_tile_arguments(printer, expr, 0);  // puts are synchronous
  } else if (name == "tile_wait") {
    want_tile_arguments(printer, expr, 1);
    printer.constant_in(expr->args[0], 0, 8, "the number of open batches");
    printer.line(barrier);
  } else if (name == "tile_release") {
    want_tile_arguments(printer, expr, 0);
    printer.line(barrier);
  } else if (name.starts_with("tile_mma")) {
    mma(printer, expr);
  } else {
    printer.fail(expr->at, "the lowering 'simdgroup' has no '" + std::string(name) + "'");
  }
}

void SimdgroupLowering::put(Printer& printer, const Expr* expr, bool is_vector) {
  want_tile_arguments(printer, expr, 5);
  const TileVar& tile = tile_argument(printer, expr->args[0], false);
  const std::string stage = printer.converted(expr->args[1], Base::kUint);
  const std::string row = printer.converted(expr->args[2], Base::kUint);
  const std::string column = printer.converted(expr->args[3], Base::kUint);
  const uint32_t width = printer.variant().vector_width;
  const bool vectors = is_vector && width > 1;
  const std::string value = printer.converted(expr->args[4], vectors ? Base::kVec : Base::kFloat);
  store(printer, tile, {stage, row, column, value}, vectors);
}

void SimdgroupLowering::store(Printer& printer, const TileVar& tile, const TileLanding& at,
                              bool vectors) {
  const std::string index = stage_start(tile, at.stage) + "(" + at.row + ") * " +
                            unsigned_number(pitch_of(tile)) + " + (" + at.column + ")";
  if (vectors) {
    printer.line("*(threadgroup " + printer.type(Base::kVec) + "*)(" + tile_name(tile) + " + " +
                 index + ") = " + at.value + ";");
  } else {
    printer.line(tile_name(tile) + "[" + index + "] = " + at.value + ";");
  }
}

void SimdgroupLowering::mma(Printer& printer, const Expr* expr) {
  const TileProduct product = tile_product_arguments(printer, expr);
  const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
  const Shape shape = shape_of(printer.variant());
  const uint32_t rows = shape.row_fragments(), columns = shape.column_fragments();
  const std::string a = stage_start(left, printer.converted(expr->args[2], Base::kUint));
  const std::string b = stage_start(right, printer.converted(expr->args[4], Base::kUint));
  const auto load = [](const std::string& to, const TileVar& tile, const std::string& at,
                       bool turned) {
    return "simdgroup_load(" + to + ", " + tile_name(tile) + " + " + at + ", " +
           unsigned_number(pitch_of(tile)) + (turned ? ", ulong2(0, 0), true);" : ");");
  };
  const std::string row = "(dlk_part_row + dlk_i * 8u)";
  const std::string from =
      product.turned ? "dlk_k * " + unsigned_number(kFragment * pitch_of(left)) + " + " + row
                     : row + " * " + unsigned_number(pitch_of(left)) + " + dlk_k * 8u";
  printer.open(unrolled(printer, "dlk_k", product.depth / kFragment) + "{");
  printer.line("simdgroup_float8x8 dlk_a[" + number(rows) + "];");
  printer.line("simdgroup_float8x8 dlk_b[" + number(columns) + "];");
  printer.line(unrolled(printer, "dlk_i", rows) + "{ " +
               load("dlk_a[dlk_i]", left, a + from, product.turned) + " }");
  const std::string column = "(dlk_part_column + dlk_j * 8u)";
  const std::string right_from =
      product.right_turned
          ? column + " * " + unsigned_number(pitch_of(right)) + " + dlk_k * 8u"
          : "dlk_k * " + unsigned_number(kFragment * pitch_of(right)) + " + " + column;
  printer.line(unrolled(printer, "dlk_j", columns) + "{ " +
               load("dlk_b[dlk_j]", right, b + right_from, product.right_turned) + " }");
  const std::string sum = acc_name(acc) + "[dlk_i * " + unsigned_number(columns) + " + dlk_j]";
  printer.line(unrolled(printer, "dlk_i", rows) + "{ " + unrolled(printer, "dlk_j", columns) +
               "{ simdgroup_multiply_accumulate(" + sum + ", dlk_a[dlk_i], dlk_b[dlk_j], " + sum +
               "); } }");
  printer.close();
}

void SimdgroupLowering::each(Printer& printer, const Stmt* stmt) const {
  const TileVar& acc = tile_named(printer, stmt->names[0], true, stmt->at);
  if (stmt->flag && printer.variant().vector_width != 4) {
    printer.fail(stmt->at, "tile_eachv needs VW = 4");
  }
  const Shape shape = shape_of(printer.variant());
  const std::string width = unsigned_number(shape.part_columns);
  const std::string fence = "simdgroup_barrier(mem_flags::mem_threadgroup);";
  printer.open(unrolled(printer, "dlk_i", shape.row_fragments()) + "{");
  printer.line(unrolled(printer, "dlk_j", shape.column_fragments()) + "{ simdgroup_store(" +
               acc_name(acc) + "[dlk_i * " + unsigned_number(shape.column_fragments()) +
               " + dlk_j], dlk_band + dlk_j * 8u, " + width + "); }");
  printer.line(fence);
  const uint32_t unit = stmt->flag ? 4 : 1;
  const std::string first = unit == 1 ? "dlk_j" : "dlk_j * 4u";
  printer.open("for (uint dlk_j = dlk_lane; dlk_j < " +
               unsigned_number(shape.band_floats() / unit) +
               "; dlk_j += " + unsigned_number(kLanes) + ") {");
  printer.push_scope();
  const TileEachNames names = declare_tile_each(printer, stmt);
  printer.line("uint " + names.row + " = dlk_part_row + dlk_i * 8u + " + first + " / " + width +
               ";");
  printer.line("uint " + names.column + " = dlk_part_column + " + first + " % " + width + ";");
  printer.line(unit == 1 ? "float " + names.element + " = dlk_band[dlk_j];"
                         : "float4 " + names.element +
                               " = *(threadgroup float4*)(dlk_band + dlk_j * 4u);");
  printer.statement(stmt->first);
  printer.pop_scope();
  printer.close();
  printer.line(fence);
  printer.close();
}

}  // namespace

const TileLowering& simdgroup_tiles() {
  static const SimdgroupLowering lowering;
  return lowering;
}

}  // namespace dlk::dialect
