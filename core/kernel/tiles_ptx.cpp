// Gang tiles on NVIDIA's tensor cores in OpenCL C, by inline PTX: cp.async for copies, and for
// products either ldmatrix and mma.sync m16n8k16 (compute capability 8.0 and later) or wgmma
// m64nNk16, which reads its operands from local memory (9.0 alone). Chunks are placed with an
// exclusive-or of their row, so that eight rows of a column lie in different banks.
#include "core/kernel/tiles_matrix.h"

namespace dlk::dialect {

namespace {

// Everything that is PTX; tests put C in its place.
constexpr char kPrelude[] =
    R"(// ptx begin
static uint dlk_local_address(__local void* s) {
  uint a;
  __asm__("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(s));
  return a;
}
static void dlk_copy16(__local uint4* s, uint at, __global const void* from, bool ok) {
  __asm__ volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :: "r"(at), "l"(from), "r"(ok ? 16u : 0u) : "memory");
}
#define dlk_copies_commit() __asm__ volatile("cp.async.commit_group;" ::: "memory")
#define dlk_copies_wait(n) __asm__ volatile("cp.async.wait_group " #n ";" ::: "memory")
#define dlk_subgroup_barrier(s) __asm__ volatile("bar.warp.sync 0xffffffff;" ::: "memory")
static uint4 dlk_fragment(__local uint4* s, uint at) {
  uint a, b, c, d;
  __asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(at) : "memory");
  return (uint4)(a, b, c, d);
}
static uint4 dlk_fragment_t(__local uint4* s, uint at) {
  uint a, b, c, d;
  __asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(at) : "memory");
  return (uint4)(a, b, c, d);
}
static float4 dlk_mma(__local uint4* s, uint4 a, uint b0, uint b1, float4 c) {
  float x = c.x, y = c.y, z = c.z, w = c.w;
  __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  return (float4)(x, y, z, w);
}
static float4 dlk_mma_bf16(__local uint4* s, uint4 a, uint b0, uint b1, float4 c) {
  float x = c.x, y = c.y, z = c.z, w = c.w;
  __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  return (float4)(x, y, z, w);
}
static int4 dlk_mma_i8(__local uint4* s, uint4 a, uint b0, uint b1, int4 c) {
  int x = c.x, y = c.y, z = c.z, w = c.w;
  __asm__ volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(x), "+r"(y), "+r"(z), "+r"(w)
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  return (int4)(x, y, z, w);
}
static uint2 dlk_mma_half(__local uint4* s, uint4 a, uint b0, uint b1, uint2 c) {
  uint x = c.x, y = c.y;
  __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 "
               "{%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
               : "+r"(x), "+r"(y)
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  return (uint2)(x, y);
}
static float2 dlk_two_halves(uint word) {
  float x, y;
  __asm__("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
          : "=f"(x), "=f"(y) : "r"(word));
  return (float2)(x, y);
}
// ptx end
)";

class PtxLowering : public MatrixLowering {
 public:
  bool has_half_sums_of_its_own() const override { return true; }
  std::string local_declarations(const Printer& printer) const override {
    return "__local uint4 dlk_shared[" + std::to_string(local_chunks(printer.variant())) +
           "] __attribute__((aligned(" + std::to_string(alignment()) + ")));\n";
  }

 protected:
  std::string_view name() const override { return "ptx"; }
  uint32_t pitch(const TileVar& tile) const override { return tile.columns / chunk_elements(tile); }
  bool takes(DType dtype) const override {
    return dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kInt8;
  }

  std::string place(const TileVar& tile, const std::string& row,
                    const std::string& chunk) const override {
    return row + " * " + unsigned_text(pitch(tile)) + " + (" + chunk + " ^ " + twist(tile, row) +
           ")";
  }

  void set_up(Printer& printer) const override {
    if (printer.target().lang != Lang::kOpenCL) {
      throw_unsupported("the tile lowering 'ptx' is for OpenCL C on NVIDIA");
    }
    printer.add_prelude(kPrelude);
    printer.line("uint dlk_local = dlk_local_address(dlk_shared);");
    printer.line("uint dlk_lane = (uint)get_local_id(0) % 32u;");
    printer.line("uint dlk_subgroup = (uint)get_local_id(0) / 32u;");
    printer.line("__local float* dlk_bands = (__local float*)dlk_shared;");
    for (const TileVar& tile : printer.variant().tiles) {
      if (tile.is_accumulator) declare_sums(printer, tile);
    }
  }

  virtual void declare_sums(Printer& printer, const TileVar& acc) const {
    const MatrixShape shape = matrix_shape(printer.variant());
    printer.line(four_sums(printer, acc) + " " + acc_variable(acc) + "[" +
                 std::to_string(2 * shape.row_fragments() * shape.column_fragments()) + "];");
  }

  void zero(Printer& printer, const TileVar& acc) const override {
    const MatrixShape shape = matrix_shape(printer.variant());
    printer.line(unrolled("dlk_i", 2 * shape.row_fragments() * shape.column_fragments()) +
                 acc_variable(acc) + "[dlk_i] = (" + four_sums(printer, acc) + ")(0);");
  }

  void put(Printer& printer, const Expr* expr, bool is_vector) const override {
    const TileVar& tile = tile_argument(printer, expr->args[0], false);
    if (tile.dtype != DType::kFloat16) {
      printer.fail(expr->at, "the lowering 'ptx' puts elements into tiles of f16 alone");
    }
    const std::string stage = printer.converted(expr->args[1], Base::kUint);
    const std::string row = printer.converted(expr->args[2], Base::kUint);
    const std::string column = printer.converted(expr->args[3], Base::kUint);
    const std::string value =
        printer.converted(expr->args[4], is_vector ? Base::kVec : Base::kFloat);
    const uint32_t width = is_vector ? printer.variant().vector_width : 1;
    if (width > kTileChunk) printer.fail(expr->at, "tile_putv needs VW to be at most 8");
    printer.line("vstore_half" + (width == 1 ? "" : std::to_string(width)) + "_rte(" + value +
                 ", 0, (__local half*)(dlk_shared + " +
                 chunk_of(printer.variant(), tile, stage, row, column) + ") + (" + column +
                 ") % 8u);");
  }

  void copy(Printer& printer, const Expr* expr) const override {
    const TileCopy copy = tile_copy_arguments(printer, expr);
    const std::string name = printer.next_tile_site();
    const std::string chunk =
        chunk_of(printer.variant(), *copy.tile, copy.stage, copy.row, copy.column);
    printer.open("{");
    printer.line("bool " + name + " = " + copy.condition + ";");
    printer.line("dlk_copy16(dlk_shared, dlk_local + 16u * (" + chunk + "), " +
                 printer.chunk_at(expr->args[4], name + " ? " + copy.index + " : 0u") + ", " +
                 name + ");");
    printer.close();
  }

  void commit(Printer& printer) const override { printer.line("dlk_copies_commit();"); }
  void wait(Printer& printer, int64_t open) const override {
    printer.line("dlk_copies_wait(" + std::to_string(open) + ");");
  }

  void mma(Printer& printer, const TileProduct& product, const std::string& left_stage,
           const std::string& right_stage) const override {
    const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
    const Variant& variant = printer.variant();
    const MatrixShape shape = matrix_shape(variant);
    const uint32_t rows = shape.row_fragments(), columns = shape.column_fragments();
    const uint32_t steps = product.depth / depth_of_step(right);
    constexpr uint32_t kMostUnrolled = 8;
    printer.open((steps <= kMostUnrolled ? std::string(printer.target().unroll) : std::string()) +
                 "for (uint dlk_k = 0u; dlk_k < " + unsigned_text(steps) + "; ++dlk_k) {");
    printer.line("uint4 dlk_a[" + std::to_string(rows) + "], dlk_b[" + std::to_string(columns) +
                 "];");
    printer.open(unrolled("dlk_i", rows) + "{");
    const std::string from = stage_start(variant, left, left_stage);
    if (product.turned) {
      printer.line("uint dlk_r = dlk_k * 16u + dlk_lane / 16u * 8u + dlk_lane % 8u;");
      printer.line(
          fragment("dlk_a[dlk_i]", "dlk_fragment_t", from,
                   place(left, "dlk_r", "(dlk_gang_row / 8u + dlk_i * 2u + dlk_lane / 8u % 2u)")));
    } else {
      printer.line("uint dlk_r = dlk_gang_row + dlk_i * 16u + dlk_lane % 16u;");
      printer.line(fragment("dlk_a[dlk_i]", "dlk_fragment", from,
                            place(left, "dlk_r", "(dlk_k * 2u + dlk_lane / 16u)")));
    }
    printer.close();
    printer.open(unrolled("dlk_i", columns) + "{");
    const std::string at = stage_start(variant, right, right_stage);
    if (product.right_turned) {
      printer.line(
          "uint dlk_r = dlk_gang_column + dlk_i * 16u + dlk_lane / 16u * 8u + dlk_lane % 8u;");
      printer.line(fragment("dlk_b[dlk_i]", "dlk_fragment", at,
                            place(right, "dlk_r", "(dlk_k * 2u + dlk_lane / 8u % 2u)")));
    } else {
      printer.line("uint dlk_r = dlk_k * 16u + dlk_lane % 16u;");
      printer.line(
          fragment("dlk_b[dlk_i]", "dlk_fragment_t", at,
                   place(right, "dlk_r", "(dlk_gang_column / 8u + dlk_i * 2u + dlk_lane / 16u)")));
    }
    printer.close();
    printer.open(unrolled("dlk_i", rows) + unrolled("dlk_j", columns) + "{");
    for (const uint32_t half : {0u, 1u}) {
      const std::string sum = acc_variable(acc) + "[(dlk_i * " + unsigned_text(columns) +
                              " + dlk_j) * 2u + " + unsigned_text(half) + "]";
      const std::string b =
          half == 0 ? "dlk_b[dlk_j].x, dlk_b[dlk_j].y" : "dlk_b[dlk_j].z, dlk_b[dlk_j].w";
      printer.line(sum + " = " + product_function(printer, acc, right) +
                   "(dlk_shared, dlk_a[dlk_i], " + b + ", " + sum + ");");
    }
    printer.close();
    printer.close();
  }

  // A lane holds columns 2t and 2t+1 of rows g and g + 8 of each 16 x 8 part.
  void store_band(Printer& printer, const TileVar& acc) const override {
    const MatrixShape shape = matrix_shape(printer.variant());
    const std::string pitch = unsigned_text(shape.band_pitch());
    printer.open(unrolled("dlk_j", 2 * shape.column_fragments()) + "{");
    const std::string sums = sums_at(
        printer, acc, "dlk_i * " + unsigned_text(2 * shape.column_fragments()) + " + dlk_j");
    if (in_halves(printer)) {
      printer.line("uint2 dlk_h = " + sums + ";");
      printer.line("float4 dlk_c = (float4)(dlk_two_halves(dlk_h.x), dlk_two_halves(dlk_h.y));");
    } else {
      printer.line("float4 dlk_c = " + (is_integer(acc.dtype) ? "as_float4(" + sums + ")" : sums) +
                   ";");
    }
    printer.line("uint dlk_at = dlk_subgroup * " + unsigned_text(shape.band_floats()) +
                 " + dlk_lane / 4u * " + pitch + " + dlk_j * 8u + dlk_lane % 4u * 2u;");
    printer.line("vstore2(dlk_c.xy, 0, dlk_bands + dlk_at);");
    printer.line("vstore2(dlk_c.zw, 0, dlk_bands + dlk_at + 8u * " + pitch + ");");
    printer.close();
  }

  std::string band_value(const std::string& index, bool vector) const override {
    if (!vector) return "dlk_bands[" + index + "]";
    return "*(__local float4*)(dlk_bands + " + index + ")";
  }
  std::string subgroup_barrier() const override { return "dlk_subgroup_barrier(dlk_shared)"; }
  // Few subgroups are there to wait for each other's reads.
  std::string band_loop() const override { return "_Pragma(\"unroll 4\") "; }

  std::string bits_as_int(const std::string& value) const override {
    return "as_int(" + value + ")";
  }

  /// Four sums of a lane as a vector.
  virtual std::string sums_at(const Printer&, const TileVar& acc, const std::string& index) const {
    return acc_variable(acc) + "[" + index + "]";
  }
  static bool in_halves(const Printer& printer) { return printer.variant().half_sums; }
  /// The type of four sums; those in float16 are two in a word.
  static std::string four_sums(const Printer& printer, const TileVar& acc) {
    return in_halves(printer) ? "uint2" : is_integer(acc.dtype) ? "int4" : "float4";
  }
  static std::string product_function(const Printer& printer, const TileVar& acc,
                                      const TileVar& right) {
    return in_halves(printer)                ? "dlk_mma_half"
           : is_integer(acc.dtype)           ? "dlk_mma_i8"
           : right.dtype == DType::kBFloat16 ? "dlk_mma_bf16"
                                             : "dlk_mma";
  }
  /// Elements of the depth of one instruction: two chunks.
  static uint32_t depth_of_step(const TileVar& tile) { return 2 * chunk_elements(tile); }
  /// Bytes to which the tiles are aligned.
  virtual uint32_t alignment() const { return 128; }
  static std::string unrolled(const std::string& variable, uint32_t count) {
    return "_Pragma(\"unroll\") for (uint " + variable + " = 0u; " + variable + " < " +
           unsigned_text(count) + "; ++" + variable + ") ";
  }

 private:
  static std::string fragment(const std::string& to, const std::string& function,
                              const std::string& start, const std::string& place) {
    return to + " = " + function + "(dlk_shared, dlk_local + 16u * (" + start + " + " + place +
           "));";
  }
  std::string twist(const TileVar& tile, const std::string& row) const {
    switch (pitch(tile)) {
      case 2:
        return row + " / 4u % 2u";
      case 4:
        return row + " / 2u % 4u";
      default:
        return row + " % 8u";
    }
  }
};

constexpr char kWgmmaPrelude[] =
    R"(#define dlk_writes_done() __asm__ volatile("fence.proxy.async.shared::cta;" ::: "memory")
)";

/// A gang of 4 subgroups multiplies 64 rows by all columns. OpenCL C is compiled for targets
/// without wgmma: its instructions are comments that core/kernel/ptx.cpp makes instructions of.
class WgmmaLowering final : public PtxLowering {
 public:
  void lay_out(Variant& variant) const override {
    PtxLowering::lay_out(variant);
    const auto want = [&](bool right, const std::string& what) {
      if (!right) fail_at(variant.source(), variant.decl->at, "the lowering 'wgmma' " + what);
    };
    const MatrixShape shape = matrix_shape(variant);
    want(shape.tm == kFragment && shape.tn == shape.columns && shape.rows % kRows == 0 &&
             shape.columns <= 256,
         "needs TM = 16, TN = the accumulator's columns, at most 256, and rows in 64s");
    for (const TileVar& tile : variant.tiles) {
      want(tile.is_accumulator || tile.columns % block_of(tile) == 0,
           "takes tiles whose rows are parts of 128 bytes");
    }
  }

 protected:
  std::string_view name() const override { return "wgmma"; }
  uint32_t alignment() const override { return 1024; }  // of the pattern that repeats

  // Blocks of 64 columns, one after the other; each row of a block is 128 bytes.
  std::string place(const TileVar& tile, const std::string& row,
                    const std::string& chunk) const override {
    const std::string twisted = row + " * 8u + (" + chunk + " % 8u ^ " + row + " % 8u)";
    if (tile.columns == block_of(tile)) return twisted;
    return chunk + " / 8u * " + unsigned_text(tile.rows * 8) + " + " + twisted;
  }

  void set_up(Printer& printer) const override {
    PtxLowering::set_up(printer);
    printer.add_prelude(kWgmmaPrelude);
  }

  // Scalars: operands of instructions are no elements of vectors.
  void declare_sums(Printer& printer, const TileVar& acc) const override {
    const std::string type = in_halves(printer) ? "uint" : is_integer(acc.dtype) ? "int" : "float";
    printer.line(type + " " + acc_variable(acc) + "[" + std::to_string(sums(printer, acc)) + "];");
  }
  void zero(Printer& printer, const TileVar& acc) const override {
    printer.line(unrolled("dlk_i", sums(printer, acc)) + acc_variable(acc) + "[dlk_i] = 0;");
  }
  std::string sums_at(const Printer& printer, const TileVar& acc,
                      const std::string& index) const override {
    const uint32_t registers = in_halves(printer) ? 2 : 4;
    std::string text;
    for (uint32_t i = 0; i < registers; ++i) {
      text += (i == 0 ? "(" + four_sums(printer, acc) + ")(" : ", ") + acc_variable(acc) + "[(" +
              index + ") * " + unsigned_text(registers) + " + " + unsigned_text(i) + "]";
    }
    return text + ")";
  }

  void wait(Printer& printer, int64_t open) const override {
    PtxLowering::wait(printer, open);
    printer.line("dlk_writes_done();");
  }

  // One product stays under way where a further stage keeps its operands from being overwritten:
  // then tile_land, which stands after the copies of the step, waits for the one before.
  void mma(Printer& printer, const TileProduct& product, const std::string& left_stage,
           const std::string& right_stage) const override {
    const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
    const Variant& variant = printer.variant();
    if (product.depth != block_of(right)) {
      throw_invalid("the lowering 'wgmma' takes a depth of 128 bytes");
    }
    printer.open("{");
    printer.line("uint dlk_a = dlk_local / 16u + " + stage_start(variant, left, left_stage) +
                 " + dlk_subgroup / 4u * " + unsigned_text(kRows * 8) + ";");
    printer.line("uint dlk_b = dlk_local / 16u + " + stage_start(variant, right, right_stage) +
                 ";");
    printer.line("__asm__ volatile(\"//dlk wgmma.fence.sync.aligned;\" ::: \"memory\");");
    for (uint32_t k = 0; k < product.depth / depth_of_step(right); ++k) {
      printer.line(instruction(printer, product, k));
    }
    printer.line("__asm__ volatile(\"//dlk wgmma.commit_group.sync.aligned;\" ::: \"memory\");");
    const auto ahead = variant.constant("AHEAD");
    if (ahead && left.stages >= *ahead + 2) {
      printer.pending_lands().push_back([&acc](Printer& at) { finish(at, acc, 1); });
    } else {
      finish(printer, acc, 0);
    }
    printer.close();
  }

  void finish(Printer& printer, const TileVar& acc) const override { finish(printer, acc, 0); }

 private:
  static constexpr uint32_t kRows = 64;
  /// Elements of 128 bytes, in which chunks are exchanged.
  static uint32_t block_of(const TileVar& tile) { return 8 * chunk_elements(tile); }
  /// Registers of a lane; of float16 each has two.
  static uint32_t sums(const Printer& printer, const TileVar& acc) {
    return acc.columns / (in_halves(printer) ? 4 : 2);
  }

  static std::string operands(const Printer& printer, const TileVar& acc) {
    const bool in_words = in_halves(printer) || is_integer(acc.dtype);
    std::string text;
    for (uint32_t i = 0; i < sums(printer, acc); ++i) {
      text += (i == 0 ? "" : ", ") + std::string(in_words ? "\"+r\"(" : "\"+f\"(") +
              acc_variable(acc) + "[" + std::to_string(i) + "])";
    }
    return text;
  }

  static void finish(Printer& printer, const TileVar& acc, int64_t open) {
    printer.line("__asm__ volatile(\"//dlk wgmma.wait_group.sync.aligned " + std::to_string(open) +
                 ";\" : " + operands(printer, acc) + " :: \"memory\");");
  }

  // Descriptors: address, leading and stride byte offset, all in 16 bytes; a pattern of 128 bytes.
  // A gang's 64 rows are a block of columns of a turned tile.
  static std::string instruction(const Printer& printer, const TileProduct& product, uint32_t k) {
    const TileVar &acc = *product.acc, &right = *product.right;
    const std::string count = std::to_string(acc.columns);
    const uint32_t n = sums(printer, acc);
    std::string registers;
    for (uint32_t i = 0; i < n; ++i) registers += (i == 0 ? "%" : ", %") + std::to_string(i);
    const std::string left_base = std::to_string((1ull << 62) | (64ull << 32) | (1ull << 16));
    const std::string right_base =
        product.right_turned
            ? left_base
            : std::to_string((1ull << 62) | (64ull << 32) | (uint64_t{right.rows} * 8 << 16));
    const bool bytes = is_integer(acc.dtype);
    const std::string kind = bytes                             ? "k32.s32.s8.s8 {"
                             : in_halves(printer)              ? "k16.f16.f16.f16 {"
                             : right.dtype == DType::kBFloat16 ? "k16.f32.bf16.bf16 {"
                                                               : "k16.f32.f16.f16 {";
    // Bytes are never turned, and have no signs to change.
    const std::string how = bytes ? ", p;}"
                                  : std::string(", p, 1, 1, ") + (product.turned ? "1, " : "0, ") +
                                        (product.right_turned ? "0;}" : "1;}");
    return "__asm__ volatile(\"//dlk {.reg .pred p; setp.ne.b32 p, 1, 0; "
           "wgmma.mma_async.sync.aligned.m64n" +
           count + kind + registers + "}, %" + std::to_string(n) + ", %" + std::to_string(n + 1) +
           how + "\" : " + operands(printer, acc) + " : \"l\"(" + left_base +
           "ul | (ulong)(dlk_a + " + unsigned_text(product.turned ? kFragment * 8 * k : 2 * k) +
           ")), \"l\"(" + right_base + "ul | (ulong)(dlk_b + " +
           unsigned_text(product.right_turned ? 2 * k : kFragment * 8 * k) + ")) : \"memory\");";
  }
};

}  // namespace

const TileLowering& wgmma_tiles() {
  static const WgmmaLowering lowering;
  return lowering;
}

const TileLowering& ptx_tiles() {
  static const PtxLowering lowering;
  return lowering;
}

}  // namespace dlk::dialect
