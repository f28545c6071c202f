// The plain lowering of gang tiles: the gang is the whole group. A tile that is read as the left
// side of tile_mma is stored column by column, so that a work-item reads its rows as vectors; that
// of tile_mma_t stands so already.
#include "core/kernel/tiles.h"

#include <algorithm>

#include "core/kernel/printer.h"

namespace dlk::dialect {

namespace {

std::string number(uint64_t value) { return std::to_string(value); }

struct Roles {
  bool left = false, turned = false, right = false, right_turned = false;
};

void find_roles(const Expr* expr, std::string_view tile, Roles& into) {
  if (expr == nullptr) return;
  if (expr->kind != ExprKind::kCall || expr->args.size() != 5) return;
  const bool turned = expr->text == "tile_mma_t", right_turned = expr->text == "tile_mma_bt";
  if (!turned && !right_turned && expr->text != "tile_mma") return;
  (turned ? into.turned : into.left) |= expr->args[1]->text == tile;
  (right_turned ? into.right_turned : into.right) |= expr->args[3]->text == tile;
}

void find_roles(const Variant& variant, const Stmt* stmt, std::string_view tile, Roles& into) {
  if (stmt == nullptr) return;
  if (stmt->kind == StmtKind::kStaticIf) {
    try {
      const bool taken = evaluate(variant.source(), stmt->expr, variant) != 0;
      return find_roles(variant, taken ? stmt->first : stmt->second, tile, into);
    } catch (const Error&) {  // it depends on more than the header: both may be printed
    }
  }
  find_roles(stmt->expr, tile, into);
  find_roles(variant, stmt->first, tile, into);
  find_roles(variant, stmt->second, tile, into);
  for (const Stmt* inner : stmt->body) find_roles(variant, inner, tile, into);
}

/// Where a tile's elements lie in local memory, in floats.
struct Layout {
  const TileVar* tile = nullptr;
  bool by_columns = false;  // element (r, c) at c * pitch + r
  bool in_vectors = false;  // declared and read as vectors of 4
  uint32_t pitch = 0;
  uint32_t stage = 0;  // floats of one stage
};

struct Shape {
  uint32_t rows, columns;  // of the accumulator
  uint32_t tm, tn;         // of a work-item's part of it
  uint32_t items_x;        // work-items along a row
  bool vector_rows, vector_columns;
};

const TileVar* find_tile(const Variant& variant, std::string_view name, bool accumulator) {
  for (const TileVar& tile : variant.tiles) {
    if (tile.name == name && tile.is_accumulator == accumulator) return &tile;
  }
  return nullptr;
}

Shape shape_of(const Variant& variant) {
  Shape shape{};
  shape.rows = accumulator_of(variant).rows;
  shape.columns = accumulator_of(variant).columns;
  shape.tm = static_cast<uint32_t>(*variant.constant("TM"));
  shape.tn = static_cast<uint32_t>(*variant.constant("TN"));
  shape.items_x = shape.columns / shape.tn;
  shape.vector_rows = shape.tm % 4 == 0;
  shape.vector_columns = shape.tn % 4 == 0;
  return shape;
}

Layout layout_of(const Variant& variant, const TileVar& tile) {
  Roles roles;
  find_roles(variant, variant.decl->body, tile.name, roles);
  const Shape shape = shape_of(variant);
  Layout layout;
  layout.tile = &tile;
  layout.by_columns = (roles.left || roles.right_turned) && !roles.right && !roles.turned;
  const bool vectors =
      (!roles.left || shape.vector_rows) && (!roles.right_turned || shape.vector_columns);
  // Four extra floats spread the column-wise writes over the banks and keep vectors aligned.
  layout.pitch = layout.by_columns ? tile.rows + (vectors ? 4 : 1) : tile.columns;
  layout.in_vectors = layout.by_columns
                          ? vectors && tile.rows % 4 == 0
                          : !roles.left && tile.columns % 4 == 0 && (roles.turned || roles.right) &&
                                (!roles.turned || shape.vector_rows) &&
                                (!roles.right || shape.vector_columns);
  layout.stage = layout.pitch * (layout.by_columns ? tile.columns : tile.rows);
  if (layout.in_vectors) layout.stage = (layout.stage + 3) / 4 * 4;
  return layout;
}

uint32_t automatic_extent(uint32_t size) {
  for (const uint32_t extent : {8u, 4u, 2u}) {
    if (size % extent == 0 && size / extent >= (extent == 8 ? 16u : 4u)) return extent;
  }
  return 1;
}

class PlainLowering : public TileLowering {
 public:
  void lay_out(Variant& variant) const override;
  std::string local_declarations(const Printer& printer) const override;
  void begin(Printer& printer) const override;
  void call(Printer& printer, const Expr* expr) const override;
  void each(Printer& printer, const Stmt* stmt) const override;

 private:
  static void put(Printer& printer, const Expr* expr, bool is_vector);
  static void store(Printer& printer, const TileVar& tile, const std::string& base,
                    const std::string& row, const std::string& column, const std::string& value,
                    bool vectors);
  static void mma(Printer& printer, const Expr* expr);
  static void each_vector(Printer& printer, const Stmt* stmt, const TileVar& acc);
  static void barrier(Printer& printer);
};

bool sums_integers(const Printer& printer) {
  return is_integer(accumulator_of(printer.variant()).dtype);
}

// What tiles hold in local memory: floats, or ints where the accumulator is of int.
std::string number1(const Printer& printer) { return sums_integers(printer) ? "int" : "float"; }
std::string number4(const Printer& printer) {
  if (printer.target().lang != Lang::kGlsl) return number1(printer) + "4";
  return sums_integers(printer) ? "ivec4" : "vec4";
}

// The type of accumulators and of what they are made from: scalars, or vectors of four.
std::string sum_type(const Printer& printer, bool vectors) {
  if (!printer.variant().half_sums) return vectors ? number4(printer) : number1(printer);
  if (printer.target().lang == Lang::kGlsl) return vectors ? "f16vec4" : "float16_t";
  return vectors ? "half4" : "half";
}

std::string splat4(const Printer& printer, const std::string& scalar) {
  const std::string type = sum_type(printer, true);
  if (printer.target().lang == Lang::kOpenCL) return "(" + type + ")(" + scalar + ")";
  return type + "(" + scalar + ")";
}

// What was read from a tile, as the accumulators' type.
std::string summand(const Printer& printer, const std::string& value, bool vectors) {
  if (!printer.variant().half_sums) return value;
  const std::string type = sum_type(printer, vectors);
  if (printer.target().lang != Lang::kOpenCL) return type + "(" + value + ")";
  return vectors ? "convert_" + type + "(" + value + ")" : "(" + type + ")" + value;
}

std::string local_name(const TileVar& tile) { return "dlk_tile_" + std::string(tile.name); }
std::string acc_name(const TileVar& tile) { return "dlk_acc_" + std::string(tile.name); }

std::string fused(const Printer& printer, const std::string& a, const std::string& b,
                  const std::string& c) {
  if (sums_integers(printer)) return c + " += " + a + " * " + b + ";";
  const std::string name = printer.target().lang == Lang::kOpenCL ? "mad" : "fma";
  return c + " = " + name + "(" + a + ", " + b + ", " + c + ");";
}

// The vector of 4 floats at `index`, a multiple of 4.
std::string vector_at(const Printer& printer, const Layout& layout, const std::string& index) {
  const std::string name = local_name(*layout.tile);
  switch (printer.target().lang) {
    case Lang::kGlsl:
      return name + "[(" + index + ") / 4u]";
    case Lang::kOpenCL:
      return "(*(__local " + number4(printer) + "*)(" + name + " + " + index + "))";
    case Lang::kMsl:
      break;
  }
  return "(*(threadgroup " + number4(printer) + "*)(" + name + " + " + index + "))";
}

std::string scalar_at(const Printer& printer, const Layout& layout, const std::string& index) {
  const std::string name = local_name(*layout.tile);
  if (layout.in_vectors && printer.target().lang == Lang::kGlsl) {
    return name + "[(" + index + ") / 4u][(" + index + ") % 4u]";
  }
  return name + "[" + index + "]";
}

void PlainLowering::lay_out(Variant& variant) const {
  const SourceText& source = variant.source();
  const TileVar* accumulator = nullptr;
  for (const TileVar& tile : variant.tiles) {
    if (!tile.is_accumulator) continue;
    if (accumulator != nullptr &&
        (tile.rows != accumulator->rows || tile.columns != accumulator->columns)) {
      fail_at(source, variant.decl->at, "all accumulators of a kernel have one size");
    }
    accumulator = &tile;
  }
  if (accumulator == nullptr)
    fail_at(source, variant.decl->at, "tiles need an accumulator ('acc')");
  const auto extent = [&](const char* name, uint32_t size) {
    const auto asked = variant.constant(name);
    const int64_t value = asked && *asked != 0 ? *asked : automatic_extent(size);
    if (value < 1 || value > 16 || size % value != 0) {
      fail_at(source, variant.decl->at,
              std::string(name) + " is " + std::to_string(value) +
                  ", and must be from 1 to 16 and divide the accumulator's " + number(size));
    }
    variant.constants[name] = value;
    return size / static_cast<uint32_t>(value);
  };
  const uint32_t items = extent("TM", accumulator->rows) * extent("TN", accumulator->columns);
  variant.constants["TILE_ITEMS"] = items;
  for (const TileVar& tile : variant.tiles) {
    if (tile.is_accumulator) continue;
    variant.interface.local_bytes += 4 * layout_of(variant, tile).stage * tile.stages;
  }
}

std::string PlainLowering::local_declarations(const Printer& printer) const {
  std::string text;
  const Target& target = printer.target();
  for (const TileVar& tile : printer.variant().tiles) {
    if (tile.is_accumulator) continue;
    const Layout layout = layout_of(printer.variant(), tile);
    const uint32_t floats = layout.stage * tile.stages;
    const bool in_vectors = layout.in_vectors && target.lang == Lang::kGlsl;
    text += std::string(target.local_qualifier) +
            (in_vectors ? number4(printer) : number1(printer)) + " " + local_name(tile) + "[" +
            number(in_vectors ? floats / 4 : floats) + "]" + std::string(target.local_alignment) +
            ";\n";
  }
  return text;
}

void PlainLowering::begin(Printer& printer) const {
  const Shape shape = shape_of(printer.variant());
  const std::string item(printer.target().local_id[0]);
  printer.line("uint dlk_tile_x = " + item + " % " + number(shape.items_x) + "u;");
  printer.line("uint dlk_tile_y = " + item + " / " + number(shape.items_x) + "u;");
  for (const TileVar& tile : printer.variant().tiles) {
    if (!tile.is_accumulator) continue;
    const uint32_t count = shape.tm * shape.tn;
    printer.line(sum_type(printer, shape.vector_columns) + " " + acc_name(tile) + "[" +
                 number(shape.vector_columns ? count / 4 : count) + "];");
  }
}

void PlainLowering::barrier(Printer& printer) {
  printer.line(std::string(printer.target().barrier_local) + ";");
}

void PlainLowering::call(Printer& printer, const Expr* expr) const {
  const std::string_view name = expr->text;
  if (name == "tile_zero") {
    want_tile_arguments(printer, expr, 1);
    const TileVar& acc = tile_argument(printer, expr->args[0], true);
    const Shape shape = shape_of(printer.variant());
    const uint32_t count = shape.tm * shape.tn / (shape.vector_columns ? 4 : 1);
    printer.line(std::string(printer.target().unroll) + "for (uint dlk_i = 0u; dlk_i < " +
                 number(count) + "u; ++dlk_i) { " + acc_name(acc) + "[dlk_i] = " +
                 (shape.vector_columns ? splat4(printer, "0") : summand(printer, "0", false)) +
                 "; }");
  } else if (name == "tile_put" || name == "tile_putv") {
    put(printer, expr, name == "tile_putv");
  } else if (name == "tile_copy") {
    copy_through_registers(printer, expr, [](Printer& to, const TileVar& tile, const auto& at) {
      store(to, tile, at.stage, at.row, at.column, at.value, tile.dtype != DType::kInt8);
    });
  } else if (name == "tile_land") {
    land_tile_copies(printer, expr);
  } else if (name == "tile_commit") {
    want_tile_arguments(printer, expr, 0);  // puts are synchronous
  } else if (name == "tile_wait") {
    want_tile_arguments(printer, expr, 1);
    printer.constant_in(expr->args[0], 0, 8, "the number of open batches");
    barrier(printer);
  } else if (name == "tile_release") {
    want_tile_arguments(printer, expr, 0);
    barrier(printer);
  } else if (name.starts_with("tile_mma")) {
    mma(printer, expr);
  } else {
    printer.fail(expr->at, "there is no tile operation '" + std::string(name) + "'");
  }
}

void PlainLowering::put(Printer& printer, const Expr* expr, bool is_vector) {
  want_tile_arguments(printer, expr, 5);
  const TileVar& tile = tile_argument(printer, expr->args[0], false);
  const std::string stage = printer.converted(expr->args[1], Base::kUint);
  const std::string row = printer.converted(expr->args[2], Base::kUint);
  const std::string column = printer.converted(expr->args[3], Base::kUint);
  const bool vectors = is_vector && printer.variant().vector_width > 1;
  const Base element = sums_integers(printer) ? Base::kInt : Base::kFloat;
  const std::string value = printer.converted(expr->args[4], vectors ? Base::kVec : element);
  store(printer, tile, stage, row, column, value, vectors);
}

void PlainLowering::store(Printer& printer, const TileVar& tile, const std::string& stage,
                          const std::string& row, const std::string& column,
                          const std::string& value, bool vectors) {
  const Layout layout = layout_of(printer.variant(), tile);
  const uint32_t width = printer.variant().vector_width;
  const std::string base =
      tile.stages == 1 ? "" : "(" + stage + ") * " + number(layout.stage) + "u + ";
  const std::string pitch = number(layout.pitch) + "u + ";
  printer.open("{");
  printer.line("uint dlk_i = " + base +
               (layout.by_columns ? "(" + column + ") * " + pitch + "(" + row + ");"
                                  : "(" + row + ") * " + pitch + "(" + column + ");"));
  if (!vectors) {
    printer.line(scalar_at(printer, layout, "dlk_i") + " = " + value + ";");
  } else if (!layout.by_columns && layout.in_vectors && width == 4) {
    printer.line(vector_at(printer, layout, "dlk_i") + " = " + value + ";");
  } else {
    printer.line(printer.type(Base::kVec) + " dlk_v = " + value + ";");
    for (uint32_t i = 0; i < width; ++i) {
      const std::string at = "dlk_i + " + number(i * (layout.by_columns ? layout.pitch : 1)) + "u";
      printer.line(scalar_at(printer, layout, at) + " = " + printer.lane("dlk_v", i) + ";");
    }
  }
  printer.close();
}

void PlainLowering::mma(Printer& printer, const Expr* expr) {
  const TileProduct product = tile_product_arguments(printer, expr);
  const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
  const Layout a = layout_of(printer.variant(), left);
  const Layout b = layout_of(printer.variant(), right);
  const Shape shape = shape_of(printer.variant());
  const std::string stage_a = printer.converted(expr->args[2], Base::kUint);
  const std::string stage_b = printer.converted(expr->args[4], Base::kUint);
  const Target& target = printer.target();
  constexpr uint32_t kMostUnrolled = 16;
  if (product.right_turned && !b.by_columns) {
    printer.fail(expr->at, "a tile is the right side of tile_mma or of tile_mma_bt, not of both");
  }
  printer.open(std::string(product.depth <= kMostUnrolled ? target.unroll : "") +
               "for (uint dlk_k = 0u; dlk_k < " + number(product.depth) + "u; ++dlk_k) {");
  const auto base = [](const TileVar& tile, const Layout& layout, const std::string& stage) {
    return tile.stages == 1 ? std::string() : "(" + stage + ") * " + number(layout.stage) + "u + ";
  };
  // The work-item's rows of A: TM consecutive ones.
  const bool by_columns = a.by_columns || product.turned;
  const std::string first_row = "dlk_tile_y * " + number(shape.tm) + "u";
  printer.line("uint dlk_a = " + base(left, a, stage_a) +
               (by_columns ? "dlk_k * " + number(a.pitch) + "u + " + first_row
                           : first_row + " * " + number(a.pitch) + "u + dlk_k") +
               ";");
  std::vector<std::string> rows(shape.tm);
  for (uint32_t i = 0; i < shape.tm; ++i) {
    if (a.in_vectors) {
      const std::string name = "dlk_a" + number(i / 4);
      if (i % 4 == 0) {
        const std::string at = "dlk_a + " + number(i) + "u";
        printer.line(sum_type(printer, true) + " " + name + " = " +
                     summand(printer, vector_at(printer, a, at), true) + ";");
      }
      rows[i] = name + lane_text(target, i % 4);
    } else {
      rows[i] = "dlk_a" + number(i);
      const uint32_t step = by_columns ? 1 : a.pitch;
      const std::string at = "dlk_a + " + number(i * step) + "u";
      printer.line(sum_type(printer, false) + " " + rows[i] + " = " +
                   summand(printer, scalar_at(printer, a, at), false) + ";");
    }
  }
  // Its columns of B: vectors of four, interleaved with those of its neighbours.
  const uint32_t unit = shape.vector_columns ? 4 : 1;
  printer.line("uint dlk_b = " + base(right, b, stage_b) + "dlk_k * " + number(b.pitch) +
               "u + dlk_tile_x * " + number(unit) + "u;");
  for (uint32_t j = 0; j < shape.tn / unit; ++j) {
    const std::string at = "dlk_b + " + number(j * unit * shape.items_x) + "u";
    const std::string name = "dlk_b" + number(j);
    if (unit == 1) {
      printer.line(sum_type(printer, false) + " " + name + " = " +
                   summand(printer, scalar_at(printer, b, at), false) + ";");
    } else if (b.in_vectors) {
      printer.line(sum_type(printer, true) + " " + name + " = " +
                   summand(printer, vector_at(printer, b, at), true) + ";");
    } else {
      std::string lanes;
      for (uint32_t l = 0; l < 4; ++l) {
        const std::string lane = scalar_at(printer, b, at + " + " + number(l) + "u");
        lanes += (l == 0 ? "" : ", ") + summand(printer, lane, false);
      }
      printer.line(sum_type(printer, true) + " " + name + " = " + splat4(printer, lanes) + ";");
    }
  }
  for (uint32_t i = 0; i < shape.tm; ++i) {
    for (uint32_t j = 0; j < shape.tn / unit; ++j) {
      const std::string place = acc_name(acc) + "[" + number(i * (shape.tn / unit) + j) + "]";
      printer.line(fused(printer, unit == 4 ? splat4(printer, rows[i]) : rows[i],
                         "dlk_b" + number(j), place));
    }
  }
  printer.close();
}

void PlainLowering::each(Printer& printer, const Stmt* stmt) const {
  const TileVar* acc = find_tile(printer.variant(), stmt->names[0], true);
  if (acc == nullptr) printer.fail(stmt->at, "expected the name of an accumulator ('acc')");
  const Shape shape = shape_of(printer.variant());
  const Target& target = printer.target();
  const std::string unroll(target.unroll);
  if (stmt->flag) return each_vector(printer, stmt, *acc);
  printer.open(unroll + "for (uint dlk_i = 0u; dlk_i < " + number(shape.tm) + "u; ++dlk_i) {");
  printer.open(unroll + "for (uint dlk_j = 0u; dlk_j < " + number(shape.tn) + "u; ++dlk_j) {");
  printer.push_scope();
  const auto [row, column, element] = declare_tile_each(printer, stmt);
  const std::string to_float =
      target.lang == Lang::kOpenCL ? "(" + number1(printer) + ")(" : number1(printer) + "(";
  printer.line("uint " + row + " = dlk_tile_y * " + number(shape.tm) + "u + dlk_i;");
  if (!shape.vector_columns) {
    printer.line("uint " + column + " = dlk_j * " + number(shape.items_x) + "u + dlk_tile_x;");
    printer.line(number1(printer) + " " + element + " = " + to_float + acc_name(*acc) +
                 "[dlk_i * " + number(shape.tn) + "u + dlk_j]);");
  } else {
    printer.line("uint " + column + " = dlk_j / 4u * " + number(4 * shape.items_x) +
                 "u + dlk_tile_x * 4u + dlk_j % 4u;");
    const std::string vector =
        acc_name(*acc) + "[dlk_i * " + number(shape.tn / 4) + "u + dlk_j / 4u]";
    printer.line(sum_type(printer, true) + " dlk_x = " + vector + ";");
    // OpenCL C cannot index a vector; the choice folds once the loop is unrolled.
    printer.line(number1(printer) + " " + element + " = " + to_float +
                 (target.lang == Lang::kOpenCL
                      ? std::string("dlk_j % 4u == 0u ? dlk_x.s0 : dlk_j % 4u == 1u ? dlk_x.s1 : "
                                    "dlk_j % 4u == 2u ? dlk_x.s2 : dlk_x.s3);")
                      : std::string("dlk_x[dlk_j % 4u]);")));
  }
  printer.statement(stmt->first);
  printer.pop_scope();
  printer.close();
  printer.close();
}

// Vectors of four columns: as tile_each, but v is an fvec.
void PlainLowering::each_vector(Printer& printer, const Stmt* stmt, const TileVar& acc) {
  const Shape shape = shape_of(printer.variant());
  const std::string unroll(printer.target().unroll);
  if (!shape.vector_columns || printer.variant().vector_width != 4 || sums_integers(printer)) {
    printer.fail(stmt->at,
                 "tile_eachv needs VW = 4, TN to be a multiple of 4, an accumulator of float");
  }
  printer.open(unroll + "for (uint dlk_i = 0u; dlk_i < " + number(shape.tm) + "u; ++dlk_i) {");
  printer.open(unroll + "for (uint dlk_j = 0u; dlk_j < " + number(shape.tn / 4) + "u; ++dlk_j) {");
  printer.push_scope();
  const TileEachNames names = declare_tile_each(printer, stmt);
  printer.line("uint " + names.row + " = dlk_tile_y * " + number(shape.tm) + "u + dlk_i;");
  printer.line("uint " + names.column + " = dlk_j * " + number(4 * shape.items_x) +
               "u + dlk_tile_x * 4u;");
  const std::string vector = acc_name(acc) + "[dlk_i * " + number(shape.tn / 4) + "u + dlk_j]";
  const bool opencl_half = printer.variant().half_sums && printer.target().lang == Lang::kOpenCL;
  const std::string type = number4(printer);
  printer.line(type + " " + names.element + " = " +
               (opencl_half                   ? "convert_float4(" + vector + ")"
                : printer.variant().half_sums ? type + "(" + vector + ")"
                                              : vector) +
               ";");
  printer.statement(stmt->first);
  printer.pop_scope();
  printer.close();
  printer.close();
}

}  // namespace

const TileLowering& plain_tiles() {
  static const PlainLowering lowering;
  return lowering;
}

}  // namespace dlk::dialect
