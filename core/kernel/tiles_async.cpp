// Gang tiles of float32 on NVIDIA in OpenCL C: micro-tiles in registers, as the plain lowering has
// them. The right tile lies as it comes from memory, by cp.async. The left one, with two stages at
// most, is turned on its way, through registers: then both give a depth's part of a micro-tile in
// reads of four elements, and few registers hold what is ahead. (Rows held along the depth take
// four times as many, all of a depth in one bank of the register file: ptxas then issues a tenth
// fewer FFMA a cycle.) With more stages copies are under way for several steps, so they are
// cp.async on both sides, and a work-item reads four elements along the depth of each of its rows:
// for small tiles, whose steps are shorter than the memory's latency. FORM 2 and 3 of a kernel put
// a turned tile's depth into a loop of 8 and 4: less code than the instruction caches hold.
#include <algorithm>

#include "core/kernel/tiles_matrix.h"

namespace dlk::dialect {

namespace {

constexpr uint32_t kWide = 4;  // floats of a read or a copy
constexpr uint32_t kLanesX = 8, kLanesY = 4;
constexpr uint32_t kBankVectors = 8;  // vectors of four floats that lie side by side in the banks

// Everything that is PTX; tests put C in its place.
constexpr char kPrelude[] =
    R"(// ptx begin
static uint dlk_local_address(__local void* s) {
  uint a;
  __asm__("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(s));
  return a;
}
static void dlk_copy16(__local float4* s, uint at, __global const float* from, bool ok) {
  __asm__ volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :: "r"(at), "l"(from), "r"(ok ? 16u : 0u) : "memory");
}
#define dlk_copies_commit() __asm__ volatile("cp.async.commit_group;" ::: "memory")
#define dlk_copies_wait(n) __asm__ volatile("cp.async.wait_group " #n ";" ::: "memory")
// ptx end
)";

struct Shape {
  uint32_t rows, columns;  // of the accumulator
  uint32_t tm, tn;         // of a work-item's part of it
  uint32_t items_x() const { return columns / tn; }
  uint32_t items_y() const { return rows / tm; }
  uint32_t items() const { return items_y() * items_x(); }
  bool in_blocks() const { return items_x() % kLanesX == 0 && items_y() % kLanesY == 0; }
};

Shape shape_of(const Variant& variant) {
  const TileVar& acc = accumulator_of(variant);
  return {acc.rows, acc.columns, static_cast<uint32_t>(*variant.constant("TM")),
          static_cast<uint32_t>(*variant.constant("TN"))};
}

uint32_t stage_vectors(const TileVar& tile) { return tile.rows * tile.columns / kWide; }

std::string local_name(const TileVar& tile) { return "dlk_tile_" + std::string(tile.name); }

bool is_turned(const TileVar& left) { return left.stages <= 2; }

// Of the left tile as it comes from memory, four elements along the depth of a row. Parts are
// exchanged by rows, so that the rows of neighbouring work-items lie in different banks.
std::string row_vector(const Shape& shape, const TileVar& tile, const std::string& stage,
                       const std::string& row, const std::string& part) {
  const uint32_t parts = tile.columns / kWide;
  return "(" + stage + ") * " + unsigned_text(stage_vectors(tile)) + " + (" + row + ") * " +
         unsigned_text(parts) + " + ((" + part + ") ^ ((" + row + ") / " + unsigned_text(shape.tm) +
         " % " + unsigned_text(std::min(parts, kLanesY)) + "))";
}

// Of the turned left tile, the vector of four rows at a depth. Items that turn neighbouring chunks
// of eight of the depth write to different banks.
std::string turned_vector(const TileVar& tile, const std::string& stage, const std::string& depth,
                          const std::string& rows, const std::string& chunk) {
  const uint32_t chunks = std::min(tile.columns / kTileChunk, kBankVectors);
  std::string place = "(" + rows + ")";
  if (chunks > 1) {
    place = "(" + place + " ^ (" + chunk + " % " + unsigned_text(chunks) + " * " +
            unsigned_text(kBankVectors / chunks) + "))";
  }
  place = "(" + depth + ") * " + unsigned_text(tile.rows / kWide) + " + " + place;
  if (tile.stages == 1) return place;
  return "(" + stage + ") * " + unsigned_text(stage_vectors(tile)) + " + " + place;
}

// Of the right tile, four columns of a row.
std::string right_vector(const TileVar& tile, const std::string& stage, const std::string& row,
                         const std::string& part) {
  const std::string place = "(" + row + ") * " + unsigned_text(tile.columns / kWide) + " + " + part;
  if (tile.stages == 1) return place;
  return "(" + stage + ") * " + unsigned_text(stage_vectors(tile)) + " + " + place;
}

// The tile that is declared first is the left side of products.
const TileVar& left_of(const Variant& variant) {
  return *std::ranges::find(variant.tiles, false, &TileVar::is_accumulator);
}
bool is_left(const Variant& variant, const TileVar& tile) { return &tile == &left_of(variant); }

class AsyncLowering final : public TileLowering {
 public:
  void lay_out(Variant& variant) const override {
    const auto want = [&](bool right, const std::string& what) {
      if (!right) fail_at(variant.source(), variant.decl->at, "the lowering 'async' " + what);
    };
    size_t accumulators = 0, tiles = 0;
    uint32_t vectors = 0;
    for (const TileVar& tile : variant.tiles) {
      ++(tile.is_accumulator ? accumulators : tiles);
      if (tile.is_accumulator) continue;
      want(tile.dtype == DType::kFloat32, "takes tiles of f32");
      const uint32_t parts = tile.columns / kWide;
      want(tile.columns % kTileChunk == 0 && (parts & (parts - 1)) == 0,
           "takes tiles whose columns are a power of two, 8 at least");
      want(tiles > 1 || tile.rows % (kWide * kBankVectors) == 0,
           "takes a left tile whose rows are a multiple of 32");
      vectors += stage_vectors(tile) * tile.stages;
    }
    want(accumulators == 1 && tiles == 2, "takes kernels with one accumulator and two tiles");
    want(!variant.half_sums, "accumulates in float, not in float16 (ACC16)");
    const TileVar& acc = accumulator_of(variant);
    for (const auto& [name, size] : {std::pair{"TM", acc.rows}, {"TN", acc.columns}}) {
      const auto asked = variant.constant(name);
      const int64_t value = asked && *asked != 0 ? *asked : 8;
      want(value >= kWide && value <= 16 && size % value == 0 && value % kWide == 0,
           "needs TM and TN of 4, 8, 12 or 16 that divide the accumulator");
      variant.constants[name] = value;
    }
    variant.constants["TILE_ITEMS"] = shape_of(variant).items();
    variant.interface.local_bytes += 4 * kWide * vectors;
  }

  std::string local_declarations(const Printer& printer) const override {
    std::string text;
    for (const TileVar& tile : printer.variant().tiles) {
      if (tile.is_accumulator) continue;
      text += "__local float4 " + local_name(tile) + "[" +
              std::to_string(stage_vectors(tile) * tile.stages) +
              "] __attribute__((aligned(128)));\n";
    }
    return text;
  }

  void begin(Printer& printer) const override {
    if (printer.target().lang != Lang::kOpenCL) {
      throw_unsupported("the tile lowering 'async' is for OpenCL C on NVIDIA");
    }
    printer.add_prelude(kPrelude);
    const Shape shape = shape_of(printer.variant());
    printer.line("uint dlk_item = (uint)get_local_id(0);");
    if (shape.in_blocks()) {
      const std::string across = unsigned_text(shape.items_x() / kLanesX);
      // Bit 0 and bit 1 of the lane are of x and of y: reads of 16 bytes that two neighbours, or
      // the next but one, have in common take half of the cycles.
      printer.line("uint dlk_tile_x = dlk_item / 32u % " + across +
                   " * 8u + ((dlk_item & 1u) | (dlk_item >> 1 & 6u));");
      printer.line("uint dlk_tile_y = dlk_item / 32u / " + across +
                   " * 4u + ((dlk_item >> 1 & 1u) | (dlk_item >> 3 & 2u));");
    } else {
      printer.line("uint dlk_tile_x = dlk_item % " + unsigned_text(shape.items_x()) + ";");
      printer.line("uint dlk_tile_y = dlk_item / " + unsigned_text(shape.items_x()) + ";");
    }
    for (const TileVar& tile : printer.variant().tiles) {
      if (tile.is_accumulator) {
        printer.line("float4 " + acc_variable(tile) + "[" + std::to_string(sums(shape)) + "];");
      } else {
        printer.line("uint " + local_name(tile) + "_at = dlk_local_address(" + local_name(tile) +
                     ");");
      }
    }
  }

  void call(Printer& printer, const Expr* expr) const override {
    const std::string_view what = expr->text;
    const std::string barrier = std::string(printer.target().barrier_local) + ";";
    if (what == "tile_zero") {
      want_tile_arguments(printer, expr, 1);
      const TileVar& acc = tile_argument(printer, expr->args[0], true);
      printer.line(unrolled("dlk_i", sums(shape_of(printer.variant()))) + acc_variable(acc) +
                   "[dlk_i] = (float4)(0.0f);");
    } else if (what == "tile_copy") {
      copy(printer, expr);
    } else if (what == "tile_land") {
      land_tile_copies(printer, expr);
    } else if (what == "tile_commit") {
      want_tile_arguments(printer, expr, 0);
      printer.line("dlk_copies_commit();");
    } else if (what == "tile_wait") {
      want_tile_arguments(printer, expr, 1);
      const int64_t open = printer.constant_in(expr->args[0], 0, 8, "the number of open batches");
      printer.line("dlk_copies_wait(" + std::to_string(open) + ");");
      printer.line(barrier);
    } else if (what == "tile_release") {
      want_tile_arguments(printer, expr, 0);
      printer.line(barrier);
    } else if (what == "tile_mma") {
      const TileProduct product = tile_product_arguments(printer, expr);
      const std::string stage = printer.converted(expr->args[2], Base::kUint);
      mma(printer, product, stage, printer.converted(expr->args[4], Base::kUint));
    } else {
      printer.fail(expr->at, "the lowering 'async' has no '" + std::string(what) + "'");
    }
  }

  void each(Printer& printer, const Stmt* stmt) const override {
    const TileVar& acc = tile_named(printer, stmt->names[0], true, stmt->at);
    if (!stmt->flag || printer.variant().vector_width != kWide) {
      printer.fail(stmt->at, "the lowering 'async' has tile_eachv alone, with VW = 4");
    }
    const Shape shape = shape_of(printer.variant());
    const std::string across = unsigned_text(shape.tn / kWide);
    printer.open(unrolled("dlk_i", shape.tm) + "{");
    printer.open(unrolled("dlk_j", shape.tn / kWide) + "{");
    printer.push_scope();
    const TileEachNames names = declare_tile_each(printer, stmt);
    const bool turned = is_turned(left_of(printer.variant()));
    printer.line("uint " + names.row + " = " +
                 (turned ? "dlk_i / 4u * " + unsigned_text(kWide * shape.items_y()) +
                               " + dlk_tile_y * 4u + dlk_i % 4u;"
                         : "dlk_tile_y * " + unsigned_text(shape.tm) + " + dlk_i;"));
    printer.line("uint " + names.column + " = dlk_j * " + unsigned_text(kWide * shape.items_x()) +
                 " + dlk_tile_x * 4u;");
    printer.line("float4 " + names.element + " = " + acc_variable(acc) + "[dlk_i * " + across +
                 " + dlk_j];");
    printer.statement(stmt->first);
    printer.pop_scope();
    printer.close();
    printer.close();
  }

 private:
  static uint32_t sums(const Shape& shape) { return shape.tm * shape.tn / kWide; }
  static std::string unrolled(const std::string& variable, uint32_t count) {
    return "_Pragma(\"unroll\") for (uint " + variable + " = 0u; " + variable + " < " +
           unsigned_text(count) + "; ++" + variable + ") ";
  }

  static void copy(Printer& printer, const Expr* expr) {
    const Variant& variant = printer.variant();
    const TileVar& tile = tile_argument(printer, expr->args[0], false);
    const bool left = is_left(variant, tile);
    if (left && is_turned(tile)) {
      copy_through_registers(printer, expr, turn);
      return;
    }
    const TileCopy copy = tile_copy_arguments(printer, expr);
    const std::string name = printer.next_tile_site();
    printer.open("{");
    printer.line("bool " + name + " = " + copy.condition + ";");
    printer.line("uint " + name + "_r = " + copy.row + ";");
    printer.line("uint " + name + "_c = (" + copy.column + ") / 4u;");
    printer.line("__global const float* " + name + "_p = " +
                 printer.chunk_at(expr->args[4], name + " ? " + copy.index + " : 0u") + ";");
    for (const char* part : {"0u", "1u"}) {
      const std::string row = name + "_r", column = name + "_c + " + part;
      const std::string at = left ? row_vector(shape_of(variant), tile, copy.stage, row, column)
                                  : right_vector(tile, copy.stage, row, column);
      printer.line("dlk_copy16(" + local_name(tile) + ", " + local_name(tile) + "_at + 16u * (" +
                   at + "), " + name + "_p + " + part + " * 4u, " + name + ");");
    }
    printer.close();
  }

  // Four elements along the depth go to four rows of the turned tile.
  static void turn(Printer& printer, const TileVar& tile, const TileLanding& at) {
    const std::string place =
        turned_vector(tile, at.stage, at.column, at.row + " / 4u", "(" + at.column + ") / 8u");
    printer.open("{");
    printer.line("__local float* dlk_to = (__local float*)(" + local_name(tile) + " + (" + place +
                 ")) + " + at.row + " % 4u;");
    for (uint32_t lane = 0; lane < kWide; ++lane) {
      printer.line("dlk_to[" + unsigned_text(lane * tile.rows) + "] = " + at.value + ".s" +
                   std::to_string(lane) + ";");
    }
    printer.close();
  }

  static void mma(Printer& printer, const TileProduct& product, const std::string& left_stage,
                  const std::string& right_stage) {
    if (!is_left(printer.variant(), *product.left) || is_left(printer.variant(), *product.right)) {
      throw_invalid("the lowering 'async' takes the tile that is declared first as the left side");
    }
    if (is_turned(*product.left)) {
      mma_turned(printer, product, left_stage, right_stage);
    } else {
      mma_by_rows(printer, product, left_stage, right_stage);
    }
  }

  // A row of the micro-tile, times what dlk_b holds.
  static void add_row(Printer& printer, const TileVar& acc, const std::string& row,
                      const std::string& value) {
    const uint32_t across = shape_of(printer.variant()).tn / kWide;
    const std::string sum =
        acc_variable(acc) + "[" + row + " * " + unsigned_text(across) + " + dlk_j]";
    printer.line(unrolled("dlk_j", across) + sum + " = mad((float4)(" + value +
                 "), dlk_b[dlk_j], " + sum + ");");
  }

  // All reads are at constant distances from a few places: their addresses need no arithmetic.
  static void mma_turned(Printer& printer, const TileProduct& product,
                         const std::string& left_stage, const std::string& right_stage) {
    const TileVar &left = *product.left, &right = *product.right;
    const Shape shape = shape_of(printer.variant());
    const uint32_t down = shape.tm / kWide, across = shape.tn / kWide;
    printer.line("__local const float4* dlk_right = " + local_name(right) + " + (" +
                 right_vector(right, right_stage, "0u", "dlk_tile_x") + ");");
    const int64_t form = printer.variant().constant("FORM").value_or(0);
    const bool rolled = form >= 2;
    const uint32_t unroll = form == 3 ? kTileChunk / 2 : kTileChunk;
    for (uint32_t depth = 0; depth < (rolled ? kTileChunk : right.rows); depth += kTileChunk) {
      const std::string first = rolled ? "dlk_d" : unsigned_text(depth),
                        chunk = rolled ? "dlk_d / 8u" : unsigned_text(depth / kTileChunk);
      printer.open(!rolled ? "{"
                           : "_Pragma(\"unroll 1\") for (uint dlk_d = 0u; dlk_d < " +
                                 unsigned_text(right.rows) + "; dlk_d += " + unsigned_text(unroll) +
                                 ") {");
      for (uint32_t i = 0; i < down; ++i) {
        const std::string rows = "dlk_tile_y + " + unsigned_text(i * shape.items_y());
        printer.line("__local const float4* dlk_left_" + std::to_string(i) + " = " +
                     local_name(left) + " + (" +
                     turned_vector(left, left_stage, first, rows, chunk) + ");");
      }
      printer.open(unrolled("dlk_k", unroll) + "{");
      printer.line("float4 dlk_a[" + std::to_string(down) + "], dlk_b[" + std::to_string(across) +
                   "];");
      for (uint32_t i = 0; i < down; ++i) {
        printer.line("dlk_a[" + std::to_string(i) + "] = dlk_left_" + std::to_string(i) +
                     "[dlk_k * " + unsigned_text(left.rows / kWide) + "];");
      }
      printer.line(unrolled("dlk_j", across) + "dlk_b[dlk_j] = dlk_right[(dlk_k + " + first +
                   ") * " + unsigned_text(right.columns / kWide) + " + dlk_j * " +
                   unsigned_text(shape.items_x()) + "];");
      for (uint32_t i = 0; i < shape.tm; ++i) {
        add_row(printer, *product.acc, unsigned_text(i),
                "dlk_a[" + unsigned_text(i / kWide) + "].s" + std::to_string(i % kWide));
      }
      printer.close();
      printer.close();
    }
  }

  static void mma_by_rows(Printer& printer, const TileProduct& product,
                          const std::string& left_stage, const std::string& right_stage) {
    const TileVar &left = *product.left, &right = *product.right;
    const Shape shape = shape_of(printer.variant());
    constexpr uint32_t kMostUnrolled = 16;
    printer.open((right.rows <= kMostUnrolled ? std::string(printer.target().unroll) : "") +
                 "for (uint dlk_k = 0u; dlk_k < " + unsigned_text(right.rows / kWide) +
                 "; ++dlk_k) {");
    printer.line("float4 dlk_a[" + std::to_string(shape.tm) + "], dlk_b[" +
                 std::to_string(shape.tn / kWide) + "];");
    printer.line(unrolled("dlk_i", shape.tm) + "dlk_a[dlk_i] = " + local_name(left) + "[" +
                 row_vector(shape, left, left_stage,
                            "dlk_tile_y * " + unsigned_text(shape.tm) + " + dlk_i", "dlk_k") +
                 "];");
    for (uint32_t lane = 0; lane < kWide; ++lane) {
      printer.line(unrolled("dlk_j", shape.tn / kWide) + "dlk_b[dlk_j] = " + local_name(right) +
                   "[" +
                   right_vector(right, right_stage, "dlk_k * 4u + " + unsigned_text(lane),
                                "dlk_j * " + unsigned_text(shape.items_x()) + " + dlk_tile_x") +
                   "];");
      printer.open(unrolled("dlk_i", shape.tm) + "{");
      add_row(printer, *product.acc, "dlk_i", "dlk_a[dlk_i].s" + std::to_string(lane));
      printer.close();
    }
    printer.close();
  }
};

}  // namespace

const TileLowering& async_tiles() {
  static const AsyncLowering lowering;
  return lowering;
}

}  // namespace dlk::dialect
