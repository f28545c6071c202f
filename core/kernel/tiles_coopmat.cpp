// Gang tiles on the matrix units of Vulkan devices: GL_KHR_cooperative_matrix with matrices of
// 16 x 16 x 16, float16 in and float (with ACC16 float16) accumulated, or of 16 x 16 x 32, int8 in
// and int accumulated. Copies wait in registers until tile_land.
#include "core/kernel/tiles_matrix.h"

namespace dlk::dialect {

namespace {

class CoopmatLowering : public MatrixLowering {
 public:
  std::string local_declarations(const Printer& printer) const override {
    return "shared uvec4 dlk_shared[" + std::to_string(local_chunks(printer.variant())) + "];\n";
  }

 protected:
  std::string_view name() const override { return "coopmat"; }
  // One more chunk a row spreads the rows over the banks.
  uint32_t pitch(const TileVar& tile) const override {
    return tile.columns / chunk_elements(tile) + 1;
  }
  bool takes(DType dtype) const override {
    return dtype == DType::kFloat16 || dtype == DType::kInt8;
  }

  std::string place(const TileVar& tile, const std::string& row,
                    const std::string& chunk) const override {
    return row + " * " + unsigned_text(pitch(tile)) + " + " + chunk;
  }

  void set_up(Printer& printer) const override {
    if (printer.target().lang != Lang::kGlsl) {
      throw_unsupported("the tile lowering 'coopmat' is for Vulkan");
    }
    for (const char* name :
         {"GL_KHR_cooperative_matrix", "GL_KHR_memory_scope_semantics",
          "GL_KHR_shader_subgroup_basic", "GL_EXT_shader_explicit_arithmetic_types_float16"}) {
      printer.need_extension(name);
    }
    printer.line("uint dlk_lane = gl_SubgroupInvocationID;");
    printer.line("uint dlk_subgroup = gl_SubgroupID;");
    for (const TileVar& tile : printer.variant().tiles) {
      if (!tile.is_accumulator) continue;
      if (is_integer(tile.dtype)) {
        printer.need_extension("GL_EXT_shader_explicit_arithmetic_types_int8");
      }
      printer.line(sums(printer, tile) + " " + acc_variable(tile) + "[" +
                   std::to_string(fragments(printer)) + "];");
    }
  }

  void zero(Printer& printer, const TileVar& acc) const override {
    printer.line(unrolled("dlk_i", fragments(printer)) + "{ " + acc_variable(acc) +
                 "[dlk_i] = " + sums(printer, acc) + "(0); }");
  }

  void put(Printer& printer, const Expr* expr, bool is_vector) const override {
    if (!is_vector || printer.variant().vector_width != 4) {
      printer.fail(expr->at, "the lowering 'coopmat' takes tile_putv with VW = 4 only");
    }
    const TileVar& tile = tile_argument(printer, expr->args[0], false);
    if (tile.dtype != DType::kFloat16) {
      printer.fail(expr->at, "the lowering 'coopmat' puts elements into tiles of f16 alone");
    }
    const std::string stage = printer.converted(expr->args[1], Base::kUint);
    const std::string row = printer.converted(expr->args[2], Base::kUint);
    const std::string column = printer.converted(expr->args[3], Base::kUint);
    printer.open("{");
    printer.line("vec4 dlk_v = " + printer.converted(expr->args[4], Base::kVec) + ";");
    printer.line("uint dlk_at = " + chunk_of(printer.variant(), tile, stage, row, column) + ";");
    printer.line("uvec2 dlk_h = uvec2(packHalf2x16(dlk_v.xy), packHalf2x16(dlk_v.zw));");
    printer.line("if ((" + column +
                 ") % 8u == 0u) { dlk_shared[dlk_at].xy = dlk_h; } else { "
                 "dlk_shared[dlk_at].zw = dlk_h; }");
    printer.close();
  }

  void copy(Printer& printer, const Expr* expr) const override {
    const TileCopy copy = tile_copy_arguments(printer, expr);
    const std::string name = printer.next_tile_site();
    printer.declare_late("uvec4 " + name + ";");
    printer.declare_late("uint " + name + "_at;");
    printer.declare_late("bool " + name + "_ok;");
    printer.line(name + "_at = " +
                 chunk_of(printer.variant(), *copy.tile, copy.stage, copy.row, copy.column) + ";");
    // Without a branch, so that the loads of a step are under way together.
    const std::string index = name + "_ok ? " + copy.index + " : 0u";
    printer.line(name + "_ok = " + copy.condition + ";");
    printer.line(name + " = " + printer.chunk_at(expr->args[4], "(" + index + ")") + ";");
    // Zeros are put in where the copy lands: before, that would wait for the load.
    printer.pending_lands().push_back([name](Printer& to) {
      to.line("dlk_shared[" + name + "_at] = " + name + "_ok ? " + name + " : uvec4(0u);");
    });
  }

  void commit(Printer&) const override {}
  void wait(Printer&, int64_t) const override {}

  void mma(Printer& printer, const TileProduct& product, const std::string& left_stage,
           const std::string& right_stage) const override {
    const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
    const Variant& variant = printer.variant();
    const MatrixShape shape = matrix_shape(variant);
    const uint32_t rows = shape.row_fragments(), columns = shape.column_fragments();
    // Two chunks of the depth: 16 halves or 32 bytes.
    const uint32_t depth = 2 * chunk_elements(left);
    const std::string operand = is_integer(acc.dtype) ? "int8_t" : "float16_t";
    printer.open(unrolled("dlk_k", product.depth / depth) + "{");
    printer.line(matrix(operand, "A", 16, depth) + " dlk_a[" + std::to_string(rows) + "];");
    printer.line(matrix(operand, "B", depth, 16) + " dlk_b[" + std::to_string(columns) + "];");
    const std::string from = stage_start(variant, left, left_stage);
    printer.line(unrolled("dlk_i", rows) + "{ " +
                 (product.turned ? load("dlk_a[dlk_i]", left, from, "(dlk_k * 16u)",
                                        "(dlk_gang_row / 8u + dlk_i * 2u)", true)
                                 : load("dlk_a[dlk_i]", left, from, "(dlk_gang_row + dlk_i * 16u)",
                                        "dlk_k * 2u", false)) +
                 " }");
    const std::string at = stage_start(variant, right, right_stage);
    printer.line(unrolled("dlk_i", columns) + "{ " +
                 (product.right_turned ? load("dlk_b[dlk_i]", right, at,
                                              "(dlk_gang_column + dlk_i * 16u)", "dlk_k * 2u", true)
                                       : load("dlk_b[dlk_i]", right, at, "(dlk_k * 16u)",
                                              "(dlk_gang_column / 8u + dlk_i * 2u)", false)) +
                 " }");
    const std::string sum = acc_variable(acc) + "[dlk_i * " + unsigned_text(columns) + " + dlk_j]";
    printer.line(unrolled("dlk_i", rows) + "{ " + unrolled("dlk_j", columns) + "{ " + sum +
                 " = coopMatMulAdd(dlk_a[dlk_i], dlk_b[dlk_j], " + sum + "); } }");
    printer.close();
  }

  void store_band(Printer& printer, const TileVar& acc) const override {
    const MatrixShape shape = matrix_shape(printer.variant());
    const std::string sum =
        acc_variable(acc) + "[dlk_i * " + unsigned_text(shape.column_fragments()) + " + dlk_j]";
    const bool in_halves = printer.variant().half_sums;
    printer.line(unrolled("dlk_j", shape.column_fragments()) + "{ coopMatStore(" +
                 (in_halves ? matrix("float", "Accumulator", 16, 16) + "(" + sum + ")" : sum) +
                 ", dlk_shared, dlk_subgroup * " + unsigned_text(shape.band_floats() / 4) +
                 " + dlk_j * 4u, " + unsigned_text(shape.band_pitch() / 4) +
                 ", gl_CooperativeMatrixLayoutRowMajor); }");
  }

  std::string band_value(const std::string& index, bool vector) const override {
    if (vector) return "uintBitsToFloat(dlk_shared[(" + index + ") / 4u])";
    return "uintBitsToFloat(dlk_shared[(" + index + ") / 4u][(" + index + ") % 4u])";
  }
  std::string bits_as_int(const std::string& value) const override {
    return "floatBitsToInt(" + value + ")";
  }
  std::string subgroup_barrier() const override { return "subgroupBarrier()"; }

 private:
  static uint32_t fragments(const Printer& printer) {
    const MatrixShape shape = matrix_shape(printer.variant());
    return shape.row_fragments() * shape.column_fragments();
  }
  static std::string unrolled(const std::string& variable, uint32_t count) {
    return "[[unroll]] for (uint " + variable + " = 0u; " + variable + " < " +
           unsigned_text(count) + "; ++" + variable + ") ";
  }
  static std::string matrix(const std::string& type, const std::string& use, uint32_t rows,
                            uint32_t columns) {
    return "coopmat<" + type + ", gl_ScopeSubgroup, " + std::to_string(rows) + ", " +
           std::to_string(columns) + ", gl_MatrixUse" + use + ">";
  }
  static std::string sums(const Printer& printer, const TileVar& acc) {
    const bool in_halves = printer.variant().half_sums;
    return matrix(is_integer(acc.dtype) ? "int"
                  : in_halves           ? "float16_t"
                                        : "float",
                  "Accumulator", 16, 16);
  }
  std::string load(const std::string& to, const TileVar& tile, const std::string& start,
                   const std::string& row, const std::string& chunk, bool turned) const {
    return "coopMatLoad(" + to + ", dlk_shared, " + start + " + " + place(tile, row, chunk) + ", " +
           unsigned_text(pitch(tile)) + ", gl_CooperativeMatrixLayout" +
           (turned ? "ColumnMajor);" : "RowMajor);");
  }
};

}  // namespace

const TileLowering& coopmat_tiles() {
  static const CoopmatLowering lowering;
  return lowering;
}

}  // namespace dlk::dialect
