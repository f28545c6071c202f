// One variant of a kernel: its declaration with constants, types and sizes resolved. Made from a
// request without a device; the printers work from it.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernel/ast.h"
#include "core/kernel/const_expr.h"
#include "core/kernel/dialect.h"

namespace dlk::dialect {

struct BufferVar {
  std::string_view name;
  DType dtype = DType::kFloat32;
  Access access = Access::kRead;
  bool exists = true;
};

struct ParamVar {
  std::string_view name;
  char kind = 'u';
  bool is_array = false;
  bool exists = true;
  uint32_t count = 1;
};

struct LocalVar {
  std::string_view name;
  char kind = 'f';
  bool exists = true;
  uint32_t size = 0;
};

struct TileVar {
  std::string_view name;
  uint32_t rows = 0, columns = 0, stages = 1;
  bool is_accumulator = false;
  DType dtype = DType::kFloat32;  // of a tile's elements
};

/// What a kernel's header means under one request.
struct Variant : ConstNames {
  const KernelDecl* decl = nullptr;
  const KernelRequest* request = nullptr;
  std::map<std::string_view, int64_t> constants;
  std::map<std::string_view, DType> types;
  std::vector<BufferVar> buffers;
  std::vector<ParamVar> params;
  std::vector<LocalVar> locals;
  std::vector<TileVar> tiles;
  std::vector<std::string> epilogue_names;  // "E0", "e0", ... of the operands
  KernelInterface interface;
  uint32_t vector_width = 4;
  bool wide = false;       // WIDE: float, fvec and afloat are double
  bool half_sums = false;  // ACC16: afloat and avec are of float16

  std::optional<int64_t> constant(std::string_view name) const override;
  std::optional<DType> type(std::string_view name) const override;
  std::optional<bool> exists(std::string_view name) const override;
  const SourceText& source() const { return decl->unit->source; }
};

/// InvalidArgument for constants and types that the kernel does not have; CompileFailed with the
/// position for what a header says wrong under these constants.
Variant make_variant(const KernelDecl& decl, const KernelRequest& request);

}  // namespace dlk::dialect
