// Gang tiles of float32 on NVIDIA in OpenCL C: micro-tiles in registers, as the plain lowering has
// them, with cp.async for copies. Tiles lie as they come from memory: a work-item reads four
// elements along the depth of each of its rows at a time, and multiplies four columns by each. In a
// subgroup, 4 x 8 work-items share rows and columns, so that most of their reads are one.
#include <algorithm>

#include "core/kernel/tiles_matrix.h"

namespace dlk::dialect {

namespace {

constexpr uint32_t kWide = 4;  // floats of a read or a copy
constexpr uint32_t kLanesX = 8, kLanesY = 4;

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
  uint32_t items() const { return rows / tm * items_x(); }
  bool in_blocks() const { return items_x() % kLanesX == 0 && rows / tm % kLanesY == 0; }
};

Shape shape_of(const Variant& variant) {
  const TileVar& acc = accumulator_of(variant);
  return {acc.rows, acc.columns, static_cast<uint32_t>(*variant.constant("TM")),
          static_cast<uint32_t>(*variant.constant("TN"))};
}

uint32_t stage_vectors(const TileVar& tile) { return tile.rows * tile.columns / kWide; }

std::string local_name(const TileVar& tile) { return "dlk_tile_" + std::string(tile.name); }

// The vector of four floats (row, part of the row) of a stage. Parts are exchanged by rows, so that
// the rows of neighbouring work-items lie in different banks.
std::string vector_at(const Variant& variant, const TileVar& tile, bool is_left,
                      const std::string& stage, const std::string& row, const std::string& part) {
  const uint32_t parts = tile.columns / kWide;
  std::string place = "(" + row + ") * " + unsigned_text(parts) + " + ";
  if (is_left) {
    const Shape shape = shape_of(variant);
    place += "((" + part + ") ^ ((" + row + ") / " + unsigned_text(shape.tm) + " % " +
             unsigned_text(std::min(parts, kLanesY)) + "))";
  } else {
    place += part;
  }
  if (tile.stages == 1) return place;
  return "(" + stage + ") * " + unsigned_text(stage_vectors(tile)) + " + " + place;
}

// The tile that is declared first is the left side of products.
bool is_left(const Variant& variant, const TileVar& tile) {
  for (const TileVar& first : variant.tiles) {
    if (!first.is_accumulator) return &tile == &first;
  }
  return false;
}

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
      printer.line("uint dlk_tile_x = dlk_item / 32u % " + across + " * 8u + dlk_item % 8u;");
      printer.line("uint dlk_tile_y = dlk_item / 32u / " + across + " * 4u + dlk_item % 32u / 8u;");
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
    printer.line("uint " + names.row + " = dlk_tile_y * " + unsigned_text(shape.tm) + " + dlk_i;");
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
    const TileCopy copy = tile_copy_arguments(printer, expr);
    const Variant& variant = printer.variant();
    const std::string name = printer.next_tile_site();
    printer.open("{");
    printer.line("bool " + name + " = " + copy.condition + ";");
    printer.line("uint " + name + "_r = " + copy.row + ";");
    printer.line("uint " + name + "_c = (" + copy.column + ") / 4u;");
    printer.line("__global const float* " + name + "_p = " +
                 printer.chunk_at(expr->args[4], name + " ? " + copy.index + " : 0u") + ";");
    for (const char* part : {"0u", "1u"}) {
      const std::string at = vector_at(variant, *copy.tile, is_left(variant, *copy.tile),
                                       copy.stage, name + "_r", name + "_c + " + part);
      printer.line("dlk_copy16(" + local_name(*copy.tile) + ", " + local_name(*copy.tile) +
                   "_at + 16u * (" + at + "), " + name + "_p + " + part + " * 4u, " + name + ");");
    }
    printer.close();
  }

  static void mma(Printer& printer, const TileProduct& product, const std::string& left_stage,
                  const std::string& right_stage) {
    const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
    const Variant& variant = printer.variant();
    if (!is_left(variant, left) || is_left(variant, right)) {
      throw_invalid("the lowering 'async' takes the tile that is declared first as the left side");
    }
    const Shape shape = shape_of(variant);
    const uint32_t across = shape.tn / kWide;
    constexpr uint32_t kMostUnrolled = 16;
    printer.open((right.rows <= kMostUnrolled ? std::string(printer.target().unroll) : "") +
                 "for (uint dlk_k = 0u; dlk_k < " + unsigned_text(right.rows / kWide) +
                 "; ++dlk_k) {");
    printer.line("float4 dlk_a[" + std::to_string(shape.tm) + "];");
    printer.line(unrolled("dlk_i", shape.tm) + "dlk_a[dlk_i] = " + local_name(left) + "[" +
                 vector_at(variant, left, true, left_stage,
                           "dlk_tile_y * " + unsigned_text(shape.tm) + " + dlk_i", "dlk_k") +
                 "];");
    for (uint32_t lane = 0; lane < kWide; ++lane) {
      printer.open("{");
      printer.line("float4 dlk_b[" + std::to_string(across) + "];");
      printer.line(unrolled("dlk_j", across) + "dlk_b[dlk_j] = " + local_name(right) + "[" +
                   vector_at(variant, right, false, right_stage,
                             "dlk_k * 4u + " + unsigned_text(lane),
                             "dlk_j * " + unsigned_text(shape.items_x()) + " + dlk_tile_x") +
                   "];");
      const std::string sum = acc_variable(acc) + "[dlk_i * " + unsigned_text(across) + " + dlk_j]";
      printer.line(unrolled("dlk_i", shape.tm) + unrolled("dlk_j", across) + sum +
                   " = mad((float4)(dlk_a[dlk_i].s" + std::to_string(lane) + "), dlk_b[dlk_j], " +
                   sum + ");");
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
