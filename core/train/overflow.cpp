// Overflow: whether any number of any tensor is infinite or NaN, for loss scaling: a few tensors a
// dispatch, then one dispatch over what their groups found.
#include "core/train/tensor_lists.h"

namespace dlk {

namespace {

constexpr const char* kHeader = R"(
kernel find_overflow
type T = f32
out F : f32
local found : uint[WG]
)";

constexpr const char* kBuffers = R"(
in X@ : T
)";

constexpr const char* kBefore = R"(
    bool bad = false;
)";

constexpr const char* kBody = R"(
        float x = float(ld(X@, i));
        bad = bad || isnan(x) || isinf(x);
)";

constexpr const char* kAfter = R"(
    found[LX] = bad ? 1u : 0u;
    barrier();
    for (uint s = uint(WG / 2); s > 0u; s = s / 2u) {
      if (LX < s) found[LX] = found[LX] | found[LX + s];
      barrier();
    }
    if (LX == 0u) st(F, WL, float(found[0]));
)";

constexpr const char* kFold = R"(
kernel fold_overflow
type TY = f32
const WG = 256
in F : f32
out Y : TY
param count : uint
local found : uint[WG]
group WG
{
  uint bad = 0u;
  for (uint i = LX; i < count; i += uint(WG)) bad = bad | uint(ld(F, i));
  found[LX] = bad;
  barrier();
  for (uint s = uint(WG / 2); s > 0u; s = s / 2u) {
    if (LX < s) found[LX] = found[LX] | found[LX + s];
    barrier();
  }
  if (LX == 0u) st(Y, 0u, TY(found[0] != 0u ? NAN : 0.0f));
}
)";

void infer(InferContext& ctx) {
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const DType dtype = ctx.dtype(i);
    if (dtype != DType::kFloat32 && dtype != DType::kFloat16) {
      ctx.unsupported("takes float32 and float16");
    }
  }
  ctx.set_output(0, DType::kFloat32, {1});
}

void lower(LowerContext& ctx) {
  std::vector<TensorView> views;
  Shape sizes;
  std::vector<int> kinds;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (ctx.input(i).elements() == 0) continue;
    views.push_back(ctx.contiguous(ctx.input(i)));
    sizes.push_back(views.back().elements());
    kinds.push_back(static_cast<int>(views.back().dtype));
  }
  const std::vector<ListPart> parts = list_parts(ctx.caps(), sizes, kinds, 1, 1);
  int64_t groups = 0;
  for (const ListPart& part : parts) groups += part.groups;
  if (groups == 0) return fill_view(ctx, ctx.output(0), 0);
  const TensorView found = ctx.workspace(DType::kFloat32, {groups});
  int64_t first = 0;
  for (const ListPart& part : parts) {
    KernelRequest request;
    request.name = "find_overflow";
    request.source = list_kernel(kHeader, kBuffers, part.count, kBefore, kBody, kAfter);
    request.types = {{"T", views[part.first].dtype}};
    std::vector<TensorView> operands{slice_view(found, 0, first, part.groups)};
    for (size_t t = part.first; t < part.first + part.count; ++t) operands.push_back(views[t]);
    ctx.dispatch(request, operands, part.params, ctx.linear_groups(part.groups));
    first += part.groups;
  }
  KernelRequest fold;
  fold.name = "fold_overflow";
  fold.source = kFold;
  fold.types = {{"TY", ctx.output(0).dtype}};
  ctx.dispatch(fold, {found, ctx.output(0)}, {{"count", groups}}, {1, 1, 1});
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({.name = "Overflow",
               .domain = "dlk",
               .doc = "0 where every number of every input is finite, NaN otherwise.",
               .min_inputs = 1,
               .max_inputs = -1,
               .layout = LayoutRule::kContiguous,
               .infer = infer,
               .lower = lower,
               .mixed_floats = true});
}

}  // namespace dlk
