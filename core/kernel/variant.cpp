#include "core/kernel/variant.h"

#include <algorithm>

#include "core/kernel/tiles.h"

namespace dlk::dialect {

namespace {

// Constants that a kernel has without declaring them.
constexpr std::string_view kVectorWidth = "VW";
constexpr std::string_view kHasEpilogue = "HAS_EPILOGUE";
constexpr std::string_view kHalfSums = "ACC16";

constexpr uint32_t kMostBindings = 64;
constexpr uint32_t kMostParamBytes = 4096;
constexpr int64_t kMostLocalElements = 1 << 20;

class VariantBuilder {
 public:
  VariantBuilder(const KernelDecl& decl, const KernelRequest& request)
      : decl_(decl), request_(request), source_(decl.unit->source) {
    variant_.decl = &decl;
    variant_.request = &request;
  }

  Variant build() {
    check_request();
    resolve_types();
    resolve_constants();
    for (const HeaderDecl& decl : decl_.decls) resolve(decl);
    const TileLowering& lowering = tile_lowering(request_.lowering);
    if (!variant_.tiles.empty()) lowering.lay_out(variant_);
    resolve_group();
    append_epilogue();
    fill_interface();
    return std::move(variant_);
  }

 private:
  [[noreturn]] void unknown(std::string_view what, const std::string& name, DeclKind kind) const {
    std::string known;
    for (const HeaderDecl& decl : decl_.decls) {
      if (decl.kind == kind) known += (known.empty() ? "" : ", ") + std::string(decl.name);
    }
    throw_invalid("the kernel '" + std::string(decl_.name) + "' has no " + std::string(what) +
                  " '" + name + "'; it has: " + (known.empty() ? "none" : known));
  }

  const HeaderDecl* find(std::string_view name, DeclKind kind) const {
    for (const HeaderDecl& decl : decl_.decls) {
      if (decl.kind == kind && decl.name == name) return &decl;
    }
    return nullptr;
  }

  bool has_accumulator() const {
    return std::any_of(decl_.decls.begin(), decl_.decls.end(),
                       [](const HeaderDecl& d) { return d.kind == DeclKind::kAcc; });
  }

  void check_request() const {
    for (const auto& [name, value] : request_.constants) {
      const bool of_tiles = has_accumulator() && (name == "TM" || name == "TN");
      if (name != kVectorWidth && name != kHalfSums && !of_tiles &&
          find(name, DeclKind::kConst) == nullptr) {
        unknown("constant", name, DeclKind::kConst);
      }
    }
    for (const auto& [name, dtype] : request_.types) {
      if (find(name, DeclKind::kType) == nullptr) unknown("type", name, DeclKind::kType);
    }
    if (!request_.epilogue.expression.empty() && !decl_.has_epilogue) {
      throw_invalid("the kernel '" + std::string(decl_.name) + "' has no epilogue hook");
    }
    if (request_.epilogue.expression.empty() && !request_.epilogue.operands.empty()) {
      throw_invalid("an epilogue with operands needs an expression");
    }
  }

  void resolve_types() {
    for (const HeaderDecl& decl : decl_.decls) {
      if (decl.kind != DeclKind::kType) continue;
      const auto found = request_.types.find(std::string(decl.name));
      variant_.types[decl.name] =
          found != request_.types.end() ? found->second : *parse_dtype(decl.type);
    }
  }

  void resolve_constants() {
    variant_.constants[kVectorWidth] = 4;
    variant_.constants[kHalfSums] = 0;
    variant_.constants[kHasEpilogue] = request_.epilogue.expression.empty() ? 0 : 1;
    for (const auto& [name, value] : request_.constants) {
      if (name == kVectorWidth || name == kHalfSums || find(name, DeclKind::kConst) == nullptr) {
        variant_.constants[name] = value;
      }
    }
    for (const HeaderDecl& decl : decl_.decls) {
      if (decl.kind != DeclKind::kConst) continue;
      const auto found = request_.constants.find(std::string(decl.name));
      variant_.constants[decl.name] = found != request_.constants.end()
                                          ? found->second
                                          : evaluate(source_, decl.value, variant_);
    }
    const auto wide = variant_.constants.find("WIDE");
    variant_.wide = wide != variant_.constants.end() && wide->second != 0;
    if (variant_.wide && request_.constants.count(std::string(kVectorWidth)) == 0) {
      variant_.constants[kVectorWidth] = 1;
    }
    const int64_t width = variant_.constants[kVectorWidth];
    if (variant_.wide && width != 1) {
      throw_invalid("the kernel '" + std::string(decl_.name) +
                    "' computes in double: VW must be 1");
    }
    if (width != 1 && width != 2 && width != 4 && width != 8 && width != 16) {
      throw_invalid("VW of the kernel '" + std::string(decl_.name) + "' is " +
                    std::to_string(width) + ", and must be 1, 2, 4, 8 or 16");
    }
    variant_.vector_width = static_cast<uint32_t>(width);
    variant_.half_sums = variant_.constants[kHalfSums] != 0;
  }

  int64_t size(const Expr* expr, int64_t most, std::string_view what) const {
    return evaluate_in(source_, expr, variant_, 1, most, what);
  }

  void resolve(const HeaderDecl& decl) {
    const bool exists = decl.when == nullptr || evaluate(source_, decl.when, variant_) != 0;
    switch (decl.kind) {
      case DeclKind::kType:
      case DeclKind::kConst:
        return;
      case DeclKind::kBuffer: {
        const Access access = decl.access == "in"    ? Access::kRead
                              : decl.access == "out" ? Access::kWrite
                                                     : Access::kReadWrite;
        variant_.buffers.push_back({decl.name, *variant_.type(decl.type), access, exists});
        return;
      }
      case DeclKind::kParam: {
        ParamVar param{decl.name, decl.type[0], !decl.dims.empty(), exists, 1};
        if (param.is_array && exists) {
          param.count = static_cast<uint32_t>(size(decl.dims[0], 64, "the size of a parameter"));
        }
        variant_.params.push_back(param);
        return;
      }
      case DeclKind::kLocal: {
        LocalVar local{decl.name, decl.type[0], exists, 0};
        if (exists) {
          local.size = static_cast<uint32_t>(
              size(decl.dims[0], kMostLocalElements, "the size of a local array"));
        }
        variant_.locals.push_back(local);
        return;
      }
      case DeclKind::kTile:
      case DeclKind::kAcc: {
        TileVar tile{decl.name, 0, 0, 1, decl.kind == DeclKind::kAcc, DType::kFloat32};
        if (!exists) fail_at(source_, decl.at, "a tile cannot depend on a condition");
        if (!tile.is_accumulator && !variant_.type(decl.type)) {
          fail_at(source_, decl.at, "a tile's type is a type of the kernel or a storage type");
        }
        if (!tile.is_accumulator) tile.dtype = *variant_.type(decl.type);
        if (tile.is_accumulator && decl.type == "int") tile.dtype = DType::kInt32;
        tile.rows = static_cast<uint32_t>(size(decl.dims[0], 1024, "the rows of a tile"));
        tile.columns = static_cast<uint32_t>(size(decl.dims[1], 1024, "the columns of a tile"));
        if (decl.stages != nullptr) {
          tile.stages = static_cast<uint32_t>(size(decl.stages, 8, "the stages of a tile"));
        }
        variant_.tiles.push_back(tile);
        return;
      }
    }
  }

  void resolve_group() {
    uint64_t items = 1;
    for (size_t i = 0; i < decl_.group.size(); ++i) {
      const int64_t extent = size(decl_.group[i], 1024, "a group size");
      variant_.interface.group_size[i] = static_cast<uint32_t>(extent);
      items *= static_cast<uint64_t>(extent);
    }
    if (items > 1024) fail_at(source_, decl_.group[0]->at, "a group has more than 1024 work-items");
    const auto tile_items = variant_.constants.find("TILE_ITEMS");
    if (!variant_.tiles.empty() && static_cast<int64_t>(items) != tile_items->second) {
      fail_at(source_, decl_.group.empty() ? decl_.at : decl_.group[0]->at,
              "the group of a kernel with tiles is 'group TILE_ITEMS'");
    }
  }

  void append_epilogue() {
    const auto& operands = request_.epilogue.operands;
    for (size_t i = 0; i < operands.size(); ++i) {
      const bool is_value = operands[i].kind == EpilogueOperand::Kind::kValue;
      variant_.epilogue_names.push_back((is_value ? "e" : "E") + std::to_string(i));
      if (find_any(variant_.epilogue_names.back())) {
        throw_invalid("the kernel '" + std::string(decl_.name) + "' already has a name '" +
                      variant_.epilogue_names.back() + "', which its epilogue needs");
      }
    }
  }

  bool find_any(std::string_view name) const {
    return std::any_of(decl_.decls.begin(), decl_.decls.end(),
                       [&](const HeaderDecl& decl) { return decl.name == name; });
  }

  void need(DType dtype) {
    KernelInterface& to = variant_.interface;
    switch (dtype) {
      case DType::kFloat64:
        to.needs_fp64 = true;
        return;
      case DType::kInt64:
      case DType::kUInt64:
        to.needs_int64 = true;
        return;
      case DType::kFloat16:
        to.needs_fp16 = true;
        return;
      case DType::kBFloat16:
      case DType::kInt16:
      case DType::kUInt16:
        to.needs_int16 = true;
        return;
      case DType::kFloat32:
      case DType::kInt32:
      case DType::kUInt32:
        return;
      default:  // bool and the storage-only types
        to.needs_int8 = true;
        return;
    }
  }

  void add_binding(std::string name, DType dtype, Access access) {
    need(dtype);
    variant_.interface.bindings.push_back({std::move(name), access, dtype_size(dtype)});
  }

  void add_param(std::string name, char kind, uint32_t count) {
    KernelInterface& to = variant_.interface;
    to.params.push_back({std::move(name), kind, count, to.param_bytes});
    to.param_bytes += 4 * count;
  }

  void fill_interface() {
    KernelInterface& to = variant_.interface;
    for (const BufferVar& buffer : variant_.buffers) {
      if (buffer.exists) add_binding(std::string(buffer.name), buffer.dtype, buffer.access);
    }
    for (const ParamVar& param : variant_.params) {
      if (param.exists) add_param(std::string(param.name), param.kind, param.count);
    }
    const auto& operands = request_.epilogue.operands;
    for (size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].kind == EpilogueOperand::Kind::kValue) {
        add_param(variant_.epilogue_names[i], 'f', 1);
      } else {
        add_binding(variant_.epilogue_names[i], operands[i].dtype, Access::kRead);
      }
    }
    for (const LocalVar& local : variant_.locals) {
      if (local.exists) to.local_bytes += 4 * local.size;
    }
    to.needs_subgroups = decl_.uses_subgroups;
    if (to.bindings.size() > kMostBindings || to.param_bytes > kMostParamBytes) {
      fail_at(source_, decl_.at, "this kernel has too many buffers or parameters");
    }
  }

  const KernelDecl& decl_;
  const KernelRequest& request_;
  const SourceText& source_;
  Variant variant_;
};

}  // namespace

std::optional<int64_t> Variant::constant(std::string_view name) const {
  const auto found = constants.find(name);
  return found == constants.end() ? std::nullopt : std::optional(found->second);
}

std::optional<DType> Variant::type(std::string_view name) const {
  const auto found = types.find(name);
  return found == types.end() ? parse_dtype(name) : std::optional(found->second);
}

std::optional<bool> Variant::exists(std::string_view name) const {
  for (const BufferVar& buffer : buffers) {
    if (buffer.name == name) return buffer.exists;
  }
  for (const ParamVar& param : params) {
    if (param.name == name) return param.exists;
  }
  for (const LocalVar& local : locals) {
    if (local.name == name) return local.exists;
  }
  return std::nullopt;
}

Variant make_variant(const KernelDecl& decl, const KernelRequest& request) {
  return VariantBuilder(decl, request).build();
}

}  // namespace dlk::dialect
