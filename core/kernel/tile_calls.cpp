// What the lowerings of gang tiles share: the arguments of tile_* calls, and which lowering a name
// is.
#include "core/kernel/printer.h"
#include "core/kernel/tiles.h"

namespace dlk::dialect {

const TileVar& accumulator_of(const Variant& variant) {
  for (const TileVar& tile : variant.tiles) {
    if (tile.is_accumulator) return tile;
  }
  fail_at(variant.source(), variant.decl->at, "tiles need an accumulator ('acc')");
}

const TileVar& tile_named(const Printer& printer, std::string_view name, bool accumulator,
                          uint32_t at) {
  for (const TileVar& tile : printer.variant().tiles) {
    if (tile.name == name && tile.is_accumulator == accumulator) return tile;
  }
  printer.fail(at, accumulator ? "expected the name of an accumulator ('acc')"
                               : "expected the name of a tile");
}

const TileVar& tile_argument(const Printer& printer, const Expr* expr, bool accumulator) {
  const bool is_name = expr->kind == ExprKind::kName;
  return tile_named(printer, is_name ? expr->text : std::string_view(), accumulator, expr->at);
}

void want_tile_arguments(const Printer& printer, const Expr* expr, size_t count) {
  if (expr->args.size() != count) {
    printer.fail(expr->at, "'" + std::string(expr->text) + "' takes " + std::to_string(count) +
                               " arguments, not " + std::to_string(expr->args.size()));
  }
}

TileCopy tile_copy_arguments(Printer& printer, const Expr* expr) {
  want_tile_arguments(printer, expr, 7);
  TileCopy copy;
  copy.tile = &tile_argument(printer, expr->args[0], false);
  if (copy.tile->columns % (copy.tile->dtype == DType::kInt8 ? 16 : kTileChunk) != 0) {
    printer.fail(expr->at, "tile_copy needs a tile whose columns are a multiple of 8");
  }
  copy.stage = printer.converted(expr->args[1], Base::kUint);
  copy.row = printer.converted(expr->args[2], Base::kUint);
  copy.column = printer.converted(expr->args[3], Base::kUint);
  copy.index = printer.converted(expr->args[5], Base::kUint);
  copy.condition = printer.converted(expr->args[6], Base::kBool);
  return copy;
}

TileProduct tile_product_arguments(const Printer& printer, const Expr* expr) {
  want_tile_arguments(printer, expr, 5);
  TileProduct product;
  product.acc = &tile_argument(printer, expr->args[0], true);
  product.left = &tile_argument(printer, expr->args[1], false);
  product.right = &tile_argument(printer, expr->args[3], false);
  product.turned = expr->text == "tile_mma_t";
  product.right_turned = expr->text == "tile_mma_bt";
  const TileVar &acc = *product.acc, &left = *product.left, &right = *product.right;
  product.depth = product.turned ? left.rows : left.columns;
  const uint32_t rows = product.turned ? left.columns : left.rows;
  const uint32_t columns = product.right_turned ? right.rows : right.columns;
  const uint32_t depth = product.right_turned ? right.columns : right.rows;
  if (rows != acc.rows || columns != acc.columns || depth != product.depth) {
    const std::string a = product.turned ? "transposed A[K, M]" : "A[M, K]";
    const std::string b = product.right_turned ? "transposed B[N, K]" : "B[K, N]";
    printer.fail(expr->at, "the sizes of " + std::string(expr->text) +
                               " do not fit: C[M, N] += " + a + " * " + b);
  }
  return product;
}

TileEachNames declare_tile_each(Printer& printer, const Stmt* stmt) {
  const TileVar& acc = tile_named(printer, stmt->names[0], true, stmt->at);
  const Base element = is_integer(acc.dtype) ? Base::kInt : Base::kFloat;
  const Base bases[] = {Base::kUint, Base::kUint, stmt->flag ? Base::kVec : element};
  for (size_t i = 0; i < 3; ++i) {
    Symbol symbol;
    symbol.base = bases[i];
    symbol.is_const = i < 2;
    symbol.printed = "dlk_e_" + std::string(stmt->names[i + 1]);
    printer.declare(stmt->names[i + 1], stmt->at, std::move(symbol));
  }
  const auto name = [&](size_t i) { return "dlk_e_" + std::string(stmt->names[i]); };
  return {name(1), name(2), name(3)};
}

void copy_through_registers(Printer& printer, const Expr* expr, const TileStore& store) {
  const TileCopy copy = tile_copy_arguments(printer, expr);
  const bool bytes = copy.tile->dtype == DType::kInt8;  // which have no vectors
  const uint32_t width = bytes ? 1 : printer.variant().vector_width;
  const uint32_t count = bytes ? 16 : kTileChunk;
  if (!bytes && (width == 1 || width > kTileChunk)) {
    printer.fail(expr->at, "tile_copy needs VW to be 2, 4 or 8");
  }
  const std::string name = printer.next_tile_site();
  const std::string type = printer.type(bytes ? Base::kInt : Base::kVec);
  const bool is_msl_or_glsl = printer.target().lang != Lang::kOpenCL;
  const std::string zero = bytes ? "0" : is_msl_or_glsl ? type + "(0.0f)" : "(" + type + ")(0.0f)";
  printer.declare_late("uint " + name + "_s = 0u, " + name + "_r = 0u, " + name + "_c = 0u;");
  printer.line(name + "_s = " + copy.stage + "; " + name + "_r = " + copy.row + "; " + name +
               "_c = " + copy.column + ";");
  const std::string index = name + "_i";
  printer.declare_late("uint " + index + " = 0u;");
  printer.line(index + " = " + copy.index + ";");
  std::string loads, zeros;
  for (uint32_t i = 0; i < count; i += width) {
    const std::string part = name + "_" + std::to_string(i / width);
    printer.declare_late(type + " " + part + " = " + zero + ";");
    const std::string at = "(" + index + " + " + std::to_string(i) + "u)";
    loads +=
        part + " = " +
        (bytes ? printer.scalar_from(expr->args[4], at) : printer.vector_from(expr->args[4], at)) +
        "; ";
    zeros += part + " = " + zero + "; ";
  }
  printer.line("if (" + copy.condition + ") { " + loads + "} else { " + zeros + "}");
  printer.pending_lands().push_back([=, tile = copy.tile](Printer& to) {
    for (uint32_t i = 0; i < count; i += width) {
      store(to, *tile,
            {name + "_s", name + "_r", name + "_c + " + std::to_string(i) + "u",
             name + "_" + std::to_string(i / width)});
    }
  });
}

void land_tile_copies(Printer& printer, const Expr* expr) {
  want_tile_arguments(printer, expr, 0);
  const auto lands = std::exchange(printer.pending_lands(), {});
  for (const auto& land : lands) land(printer);
}

const TileLowering& tile_lowering(const std::string& name) {
  if (name == "plain") return plain_tiles();
  if (name == "coopmat") return coopmat_tiles();
  if (name == "ptx") return ptx_tiles();
  if (name == "wgmma") return wgmma_tiles();
  if (name == "async") return async_tiles();
  if (name == "simdgroup") return simdgroup_tiles();
  throw_invalid("there is no tile lowering '" + name +
                "'; the lowerings are plain, coopmat, ptx, wgmma, async and simdgroup");
}

}  // namespace dlk::dialect
