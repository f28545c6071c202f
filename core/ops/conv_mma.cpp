// Convolution on matrix units (kernels/conv_mma.k): which tile, how many slices of the depth, and
// in which form the operands reach it.
#include <algorithm>
#include <span>

#include "core/ops/conv_parts.h"

namespace dlk {

namespace {

// Weights are packed once for all tiles.
constexpr int64_t kColumns = 64, kRows = 128;

// Copies are asynchronous in PTX: several steps ahead. The others keep one step in registers. Tiles
// with TM = 16 and TN = BN are of wgmma.
constexpr MatrixTile kPtxTiles[] = {
    {256, 128, 64, 4, 2, 16, 128},   {128, 256, 64, 4, 2, 16, 256},   {128, 128, 64, 3, 1, 16, 128},
    {64, 128, 64, 2, 1, 16, 128},    {128, 64, 64, 2, 1, 16, 64},     {128, 64, 64, 4, 2, 16, 64},
    {128, 128, 64, 3, 2, 64, 64, 1}, {128, 128, 32, 3, 2, 64, 64, 1}, {64, 64, 64, 3, 2, 32, 32},
    {32, 64, 64, 4, 3, 16, 32},      {16, 64, 64, 4, 3, 16, 16},      {32, 64, 128, 3, 2, 16, 32},
    {16, 64, 128, 3, 2, 16, 16},     {128, 128, 64, 4, 2, 16, 128},   {64, 128, 64, 4, 2, 16, 128},
    {32, 64, 64, 4, 3, 16, 16}};
constexpr MatrixTile kCoopmatTiles[] = {{128, 128, 64, 1, 1, 64, 64},
                                        {64, 64, 64, 2, 1, 32, 32},
                                        {32, 64, 64, 2, 1, 16, 32},
                                        {16, 64, 64, 2, 1, 16, 16}};
constexpr MatrixTile kPlainTiles[] = {{64, 64, 32, 1, 1, 4, 4}, {32, 64, 64, 1, 1, 4, 4}};

constexpr TileSets kTiles{kPtxTiles, kCoopmatTiles, kPlainTiles};

// In float32: registers, with asynchronous copies of the same form ("async"), or without. With two
// stages the left tile is turned on its way, which pays where there are many steps.
constexpr MatrixTile kFloatTiles[] = {{128, 128, 16, 2, 1, 16, 8}, {256, 128, 16, 2, 1, 16, 8},
                                      {128, 128, 16, 2, 1, 8, 8},  {64, 128, 16, 2, 1, 8, 8},
                                      {128, 64, 16, 2, 1, 8, 8},   {64, 64, 16, 2, 1, 8, 4},
                                      {64, 64, 16, 4, 3, 4, 4}};
constexpr MatrixTile kPlainFloatTiles[] = {{64, 64, 16, 2, 1, 4, 4}};

struct MmaPlan {
  MatrixTile tile;
  int64_t slices = 1, depth = 0;
  double microseconds = 0;
  int64_t streams = 0;       // groups of stream-K, which share the steps of all tiles
  bool sums_inside = false;  // the last group of a split tile adds its slices up

  bool is_split() const { return slices > 1 || streams != 0; }
  TileSharing sharing() const {
    return streams != 0  ? TileSharing::kStream
           : sums_inside ? TileSharing::kSlices
                         : TileSharing::kNone;
  }
};

// Microseconds, as measured on an H200. A step waits for memory, less the more steps are under way;
// it moves its operands through the unit's path to the second-level cache and multiplies. What is
// asynchronous hides behind each other, the rest adds up. A group waits for its first copies and
// stores its results, the last group of a split tile waits for the counter and the other sums, and
// a second dispatch for the first.
constexpr double kStartOfDispatch = 3.0, kStart = 1.5, kFinish = 5.0;
constexpr double kLatency = 0.9, kHiddenLatency = 0.45, kStep = 0.03;
constexpr double kBytesPerUs = 3.0e6, kResultsPerUs = 9.0e3;
constexpr double kRecordedDispatch = 5.0, kLaunchedDispatch = 9.0;  // Vulkan's, OpenCL's
constexpr int64_t kLocalBytesPerUnit = 227 << 10;

/// A compute unit, as a lowering reaches it.
struct Unit {
  int64_t most_groups;     // at a time
  double flops, bytes;     // a microsecond: products, and operands copied
  double wgmma_flops = 0;  // of tiles in that form
  bool asynchronous = false;
  int64_t element = 2;  // bytes
  bool in_registers() const { return element == 4; }
};

Unit unit_of(const std::string& lowering, bool in_floats) {
  if (in_floats) return {4, 0.345e6, 0.9e5, 0.0, lowering == "async", 4};
  if (lowering == "ptx") return {4, 3.0e6, 0.72e5, 5.0e6, true};
  return {4, 3.0e6, 0.9e5};
}

/// Items of a group: those of its gangs, or one for each part in registers.
int64_t items_of(const MatrixTile& t, const Unit& unit) {
  constexpr int64_t kSubgroup = 32, kFragment = 16, kWgmmaRows = 64, kWgmmaItems = 128;
  if (unit.element == 2 && t.in_gangs_of_four() && t.bm >= kWgmmaRows) {
    return t.bm / kWgmmaRows * kWgmmaItems;
  }
  const int64_t parts = std::max<int64_t>(1, t.bm / t.tm * (t.bn / t.tn));
  return unit.element == 2 && t.tm % kFragment == 0 ? kSubgroup * parts : parts;
}

/// Groups that a unit runs at a time, as far as local memory and registers go round: sums, and what
/// addresses and operands take.
int64_t groups_together(const MatrixTile& t, const Unit& unit) {
  constexpr int64_t kRegisters = 1 << 16, kMostEach = 255;
  const int64_t local = t.local_bytes(unit.element);
  const int64_t items = items_of(t, unit), sums = t.bm * t.bn / items;
  const int64_t each = std::min(kMostEach, unit.in_registers() ? 32 + sums * 3 / 2 : 48 + sums);
  const int64_t most = std::min(kLocalBytesPerUnit / local, kRegisters / (items * each));
  return std::clamp<int64_t>(most, 1, unit.most_groups);
}

/// How long a step takes at least where a group has a unit to itself: with one subgroup to a
/// scheduler, products wait for each other, and few items issue the copies.
double step_alone(const MatrixTile& t, const Unit& unit, double work, double bytes) {
  constexpr int64_t kFewItems = 128, kManySums = 64;
  constexpr double kWaits = 1.2, kWaitsOfManySums = 1.75;
  constexpr double kIssuedPerUs = 4.3e4, kIssuedByGangsOfFour = 6.0e4;
  if (!unit.asynchronous) return 0;
  if (!unit.in_registers()) {
    return kStep + bytes / (t.in_gangs_of_four() ? kIssuedByGangsOfFour : kIssuedPerUs);
  }
  if (items_of(t, unit) > kFewItems) return work;
  return work * (t.tm * t.tn > kManySums ? kWaitsOfManySums : kWaits);
}

double time_of(const MatrixTile& t, const Unit& unit, int64_t units, int64_t groups,
               int64_t steps) {
  const int64_t most = groups_together(t, unit);
  const int64_t waves = ceil_div(groups, units * most);
  const auto together = static_cast<double>(std::min(ceil_div(groups, units), most));
  // Of a part in registers, what is loaded for each multiplication falls with its size.
  const double loads =
      unit.in_registers() ? 1.0 / static_cast<double>(t.tm) + 1.0 / static_cast<double>(t.tn) : 0.0;
  // As scheduled for sm_90: the share of instructions and operands that a turned tile saves.
  constexpr double kTurned = 1.15;
  const double turned = unit.in_registers() && unit.asynchronous && t.stages <= 2 ? kTurned : 1.0;
  const double rate =
      turned * (t.in_gangs_of_four() ? unit.wgmma_flops : unit.flops) / (1.0 + loads);
  const double work = 2.0 * static_cast<double>(t.bm * t.bn * t.bk) / rate;
  const auto bytes = static_cast<double>(unit.element * (t.bm + t.bn) * t.bk);
  const double copies = bytes * together / unit.bytes;
  const auto ahead = static_cast<double>(t.ahead);
  const double step = unit.asynchronous ? std::max({kHiddenLatency / ahead, work * together, copies,
                                                    step_alone(t, unit, work, bytes)})
                                        : kLatency / ahead + work * together + copies;
  const double results =
      unit.in_registers() ? 0 : static_cast<double>(t.bm * t.bn) * together / kResultsPerUs;
  return static_cast<double>(waves) * (kStart + static_cast<double>(steps) * step + results);
}

struct MmaProblem {
  int64_t units, pixels, channels, blocks, depth;
  bool fences;      // the last group of a tile may finish it
  double dispatch;  // microseconds
  int64_t forced_slices = 0, forced_streams = 0;
  bool forced_inside = false;
};

/// What the last group of a tile takes for `parts` sums: its items wait for their loads.
double sum_time(const MatrixTile& t, const Unit& unit, int64_t parts) {
  constexpr double kBytesPerItem = 350;  // a microsecond
  const double rate = kBytesPerItem * static_cast<double>(items_of(t, unit));
  return 4.0 * static_cast<double>(parts * t.bm * t.bn) / rate;
}

/// What it costs to sum the slices in the same dispatch, or in one of their own.
double inner_sum_time(const MmaPlan& plan, const Unit& unit, const MmaProblem& p, int64_t tiles) {
  return kFinish +
         static_cast<double>(ceil_div(tiles, p.units)) * sum_time(plan.tile, unit, plan.slices);
}

double outer_sum_time(const MmaPlan& plan, const MmaProblem& p) {
  return p.dispatch + 8.0 * static_cast<double>(plan.slices * p.pixels * p.channels) / kBytesPerUs;
}

MmaPlan plan_of(const MatrixTile& tile, const Unit& unit, const MmaProblem& p) {
  constexpr int64_t kLeastSteps = 2;
  const int64_t steps = ceil_div(p.depth, tile.bk);
  const int64_t tiles = ceil_div(p.pixels, tile.bm) * ceil_div(p.blocks * kColumns, tile.bn);
  MmaPlan best;
  for (const int64_t wanted : {1, 2, 3, 4, 6, 8, 12, 16}) {
    if (p.forced_slices == 0 && wanted > 1 && steps < wanted * kLeastSteps) break;
    if (p.forced_slices != 0 && wanted != p.forced_slices) continue;
    MmaPlan plan{tile, 1, ceil_div(steps, wanted), 0};
    plan.slices = ceil_div(steps, plan.depth);
    plan.microseconds = time_of(tile, unit, p.units, tiles * plan.slices, plan.depth);
    if (plan.slices > 1) {
      const double outer = outer_sum_time(plan, p), inner = inner_sum_time(plan, unit, p, tiles);
      plan.sums_inside = p.fences && (p.forced_inside || inner < outer);
      plan.microseconds += plan.sums_inside ? inner : outer;
    }
    if (best.microseconds == 0 || plan.microseconds < best.microseconds) best = plan;
  }
  return best;
}

/// Stream-K: as many groups as run at a time, or fewer of each unit. It pays where the last wave
/// of whole tiles, or of their slices, would leave most units idle; a group that ends inside of a
/// tile writes its sums, and starts the next tile's copies anew.
std::optional<MmaPlan> streamed_plan(const MatrixTile& tile, const Unit& unit,
                                     const MmaProblem& p) {
  constexpr int64_t kLeastSteps = 4, kMostWaves = 4;
  if (!p.fences || p.forced_slices != 0) return std::nullopt;
  const int64_t steps = ceil_div(p.depth, tile.bk);
  const int64_t tiles = ceil_div(p.pixels, tile.bm) * ceil_div(p.blocks * kColumns, tile.bn);
  const int64_t all = tiles * steps;  // which kernels count in 32 bits
  if (all > INT32_MAX) return std::nullopt;
  const bool forced = p.forced_streams != 0;
  const int64_t most = forced ? p.forced_streams : groups_together(tile, unit);
  std::optional<MmaPlan> best;
  for (int64_t each = forced ? most : 1; each <= most; ++each) {
    const int64_t groups = std::min(p.units * each, all);
    const bool pays = all >= groups * kLeastSteps && tiles <= groups * kMostWaves;
    if (!forced && (!pays || tiles % groups == 0)) continue;
    MmaPlan plan{tile, 1, ceil_div(all, groups), 0, groups};
    const auto begun = static_cast<double>(ceil_div(plan.depth, steps));  // tiles after the first
    const int64_t parts = ceil_div(steps, plan.depth) + 1;
    const double written = 4.0 * static_cast<double>((groups + tiles) * tile.bm * tile.bn) /
                           (unit.bytes * static_cast<double>(p.units));
    plan.microseconds = time_of(tile, unit, p.units, groups, plan.depth) + kLatency * begun +
                        kFinish + written + sum_time(tile, unit, parts);
    if (!best || plan.microseconds < best->microseconds) best = plan;
  }
  return best;
}

bool is_point(const Window& w) {
  return w.taps() == 1 && w.pad_begin[0] == 0 && w.pad_begin[1] == 0 && w.pad_end[0] == 0 &&
         w.pad_end[1] == 0;
}

/// In which arithmetic the units compute a problem.
struct MmaForm {
  DType dtype;
  MatrixUse use;
  std::string lowering;
  bool in_floats() const { return dtype == DType::kFloat32; }
};

// The channels of each group can be copied as they are.
bool is_aligned(const ConvProblem& p, DType dtype) {
  return p.x.dtype == dtype && sizes_of(p).cg % kTileChannels == 0 &&
         vectors_along(p.x, 1, kTileChannels);
}

std::optional<MmaForm> form_of(const LowerContext& ctx, const ConvProblem& p) {
  MatrixUnits* units = ctx.matrix_units();
  if (units == nullptr || units->lowering().empty()) return std::nullopt;
  // Training keeps the weights in float32 and what they make in float16.
  const bool halves = p.weight.dtype == DType::kFloat16 ||
                      (p.weight.dtype == DType::kFloat32 && p.y.dtype == DType::kFloat16);
  const bool floats = p.weight.dtype == DType::kFloat32 && p.x.dtype == DType::kFloat32;
  const bool brains = p.weight.dtype == DType::kBFloat16 && p.x.dtype == DType::kBFloat16;
  if (brains && units->lowering() != "coopmat" &&
      (is_aligned(p, DType::kBFloat16) || p.groups == 1)) {
    return MmaForm{DType::kBFloat16, MatrixUse::kBfloatImages, units->lowering()};
  }
  if (halves && (is_aligned(p, DType::kFloat16) || p.groups == 1)) {
    const MatrixUse use = ctx.accumulate_fp16() ? MatrixUse::kHalfSums : MatrixUse::kHalves;
    return MmaForm{DType::kFloat16, use, units->lowering()};
  }
  // Registers have no zeros to spare: conv_gemm gathers single channels.
  if (ctx.accumulate_fp16() || halves || !floats || !is_aligned(p, DType::kFloat32) ||
      units->lowering() == "coopmat") {
    return std::nullopt;
  }
  return MmaForm{DType::kFloat32, MatrixUse::kFloats, units->lowering(MatrixUse::kFloats)};
}

std::span<const MatrixTile> tiles_for(const MmaForm& form) {
  if (!form.in_floats()) return kTiles.of(form.lowering);
  if (form.lowering == "async") return kFloatTiles;
  return kPlainFloatTiles;
}

/// The fastest of the tiles that work on the device; none where the problem is not for them.
std::optional<MmaPlan> chosen_plan(const LowerContext& ctx, const ConvProblem& p,
                                   const ConvChoice& choice) {
  const std::optional<MmaForm> form = form_of(ctx, p);
  if (!form) return std::nullopt;
  MatrixUnits* units = ctx.matrix_units();
  const ConvSizes s = sizes_of(p);
  const Window w = p.window.expanded(2);
  const int64_t pixels = s.batch * w.output[0] * w.output[1];
  const int64_t stored = ceil_div(s.cg, kTileChannels) * kTileChannels;
  const int64_t blocks = p.groups * ceil_div(s.kg, kColumns);
  const double dispatch = ctx.caps().inline_ptx ? kLaunchedDispatch : kRecordedDispatch;
  const MmaProblem problem{
      ctx.caps().compute_units, pixels,   s.channels_out, blocks,         s.taps * stored,
      ctx.caps().device_fences, dispatch, choice.slices,  choice.streams, choice.inside};
  const auto works = [&](const MatrixTile& tile, TileSharing sharing) {
    if (sharing != TileSharing::kNone && problem.fences && units->works(tile, form->use, sharing)) {
      return true;
    }
    // Slices that one dispatch cannot finish take two.
    return sharing != TileSharing::kStream && units->works(tile, form->use);
  };
  const std::span<const MatrixTile> known = tiles_for(*form);
  std::vector<MatrixTile> tiles(known.begin(), known.end());
  // A record of other units than the device offers now leaves the choice to the model.
  const MmaPlan asked{{}, choice.slices, 0, 0, choice.streams};
  if (choice.tile && (choice.forced || works(*choice.tile, asked.sharing()))) {
    tiles = {*choice.tile};
  }
  const Unit unit = unit_of(form->lowering, form->in_floats());
  // Memory that a recorded launch gives costs mma.sync a tenth of its rate on an H200.
  const auto is_slowed = [&](const MatrixTile& t) {
    return form->lowering == "ptx" && !ctx.caps().inline_ptx && !choice.tile &&
           !t.in_gangs_of_four() && t.local_bytes(unit.element) > kMostStaticLocalBytes;
  };
  std::vector<MmaPlan> plans;
  for (const MatrixTile& tile : tiles) {
    if ((tile.bn > kColumns && p.groups != 1) || is_slowed(tile)) continue;
    if (const auto stream = streamed_plan(tile, unit, problem)) plans.push_back(*stream);
    plans.push_back(plan_of(tile, unit, problem));
  }
  // A stream by what it gains beyond the model's error, or where it is asked for.
  constexpr double kLeastGain = 1.2;
  std::ranges::stable_sort(plans, {}, [&](const MmaPlan& candidate) {
    const double weight = candidate.streams == 0 ? 1.0 : choice.streams == 0 ? kLeastGain : 0.0;
    return weight * candidate.microseconds;
  });
  const auto plan = std::ranges::find_if(
      plans, [&](const MmaPlan& candidate) { return works(candidate.tile, candidate.sharing()); });
  if (plan == plans.end()) return std::nullopt;
  // Conv_gemm's tiles are finer.
  if (form->in_floats() && choice.algorithm != "mma" &&
      gemm_microseconds(ctx, p) < kStartOfDispatch + plan->microseconds) {
    return std::nullopt;
  }
  return *plan;
}

/// Memory in which groups finish their tiles in one dispatch; empty where there is nothing to
/// share, and where that is left to a second dispatch.
std::vector<TensorView> shared_by(LowerContext& ctx, const MmaPlan& plan, const MmaForm& form,
                                  int64_t tiles, size_t operands) {
  const bool may_share = plan.sharing() != TileSharing::kNone &&
                         ctx.matrix_units()->works(plan.tile, form.use, plan.sharing());
  if (!may_share) return {};
  return shared_sums(ctx, {tiles, plan.slices, plan.tile.bm * plan.tile.bn, plan.streams}, operands)
      .value_or(std::vector<TensorView>{});
}

// Planes of pixels side by side, as pictures come; false for others.
bool pad_planes(LowerContext& ctx, const TensorView& image, const TensorView& copy) {
  constexpr int64_t kWidth = 4;
  const Shape &shape = image.shape, &steps = image.strides;
  const int64_t pixels = shape[2] * shape[3], groups = ceil_div(pixels / kWidth, kLinearGroup);
  const bool is_float = image.dtype == DType::kFloat32 || image.dtype == DType::kFloat16;
  const bool lies_even = steps[3] == 1 && steps[2] == shape[3] && steps[1] % kWidth == 0 &&
                         (shape[0] == 1 || steps[0] % kWidth == 0) && image.offset % kWidth == 0;
  if (ctx.caps().is_cpu || !is_float || !lies_even || shape[1] > kWidth || pixels % kWidth != 0 ||
      shape[0] > ctx.caps().max_group_count[1] || groups > ctx.caps().max_group_count[0]) {
    return false;
  }
  KernelRequest request;
  request.name = "conv_pad_planes";
  request.types = {{"TX", image.dtype}, {"TY", copy.dtype}};
  request.constants = {{"WG", kLinearGroup}, {"CHANNELS", shape[1]}};
  ctx.dispatch(request, {image, copy}, {{"pixels", pixels}, {"xs_n", steps[0]}, {"xs_c", steps[1]}},
               {groups, shape[0], 1});
  return true;
}

}  // namespace

TensorView padded_image(LowerContext& ctx, const TensorView& x, DType dtype) {
  const TensorView image = with_spatial_rank(x, 2);
  const int64_t channels = image.shape[1],
                padded = ceil_div(channels, kTileChannels) * kTileChannels;
  const Shape shape{image.shape[0], image.shape[2], image.shape[3], padded};
  TensorView copy = ctx.workspace(dtype, shape);
  if (!pad_planes(ctx, image, copy)) {
    KernelRequest request;
    request.name = "conv_pad_channels";
    request.types = {{"TX", image.dtype}, {"TY", copy.dtype}};
    dispatch_linear(ctx, std::move(request), {image, copy},
                    {{"channels", channels},
                     {"padded", padded},
                     {"height", image.shape[2]},
                     {"width", image.shape[3]},
                     {"xs", image.strides}},
                    copy.elements() / 4);
  }
  copy.shape = {shape[0], padded, shape[1], shape[2]};
  copy.strides = {shape[1] * shape[2] * padded, 1, shape[2] * padded, padded};
  return copy;
}

int64_t pixel_step(const TensorView& view) {
  int64_t step = 0, next = 0;
  for (const size_t axis : {3, 2, 0}) {
    if (view.shape[axis] == 1) continue;
    if (step == 0) step = next = view.strides[axis];
    if (step == 0 || view.strides[axis] != next) return 0;  // 0: the axis is a repetition
    next *= view.shape[axis];
  }
  return step == 0 ? view.shape[1] : step;
}

double mma_microseconds(const LowerContext& ctx, const ConvProblem& p, const ConvChoice& choice) {
  const std::optional<MmaPlan> plan = chosen_plan(ctx, p, choice);
  return plan ? kStartOfDispatch + plan->microseconds : 0;
}

bool lower_conv_mma(LowerContext& ctx, const ConvProblem& p, const ConvChoice& choice) {
  const std::optional<MmaPlan> plan = chosen_plan(ctx, p, choice);
  if (!plan) return false;
  const MmaForm form = *form_of(ctx, p);
  const ConvSizes s = sizes_of(p);
  const bool aligned = is_aligned(p, form.dtype);
  const Window w = p.window.expanded(2);
  const int64_t pixels = s.batch * w.output[0] * w.output[1];
  const int64_t stored = ceil_div(s.cg, kTileChannels) * kTileChannels;
  const int64_t blocks = p.groups * ceil_div(s.kg, kColumns);
  const int64_t places =
      ceil_div(pixels, plan->tile.bm) * ceil_div(blocks * kColumns, plan->tile.bn);
  WeightPacking packing = packing_of(p, p.groups, kColumns);
  packing.row_multiple = kRows;
  packing.channel_multiple = kTileChannels;
  packing.dtype = form.dtype;
  const Shape packed_shape{blocks, ceil_div(s.taps * stored, kRows) * kRows, kColumns};
  if (blocks_in_reach(ctx, p.groups, packed_shape, form.dtype) < blocks) return false;
  const TensorView packed = packed_weights(ctx, p, packing);
  const std::vector<TensorView> shared =
      shared_by(ctx, *plan, form, places, operands_of(ctx, p, packed).size());
  // A stream ends in one dispatch or not at all.
  if (plan->streams != 0 && shared.empty()) {
    return lower_conv_mma(ctx, p, {.algorithm = "mma", .tile = plan->tile, .slices = 1});
  }
  const int64_t split = !plan->is_split() ? 0 : shared.empty() ? 1 : plan->streams == 0 ? 2 : 3;
  ConvProblem product = p;
  if (!aligned) product.x = padded_image(ctx, p.x, form.dtype);
  KernelRequest request;
  if (split == 1) {
    product.bias.reset();
    product.y = ctx.workspace(DType::kFloat32, {plan->slices, pixels, s.channels_out});
    request.name = "conv_mma";
    require_32bit(ctx, product.y);
  } else {
    request = request_with_epilogue(ctx, "conv_mma");
  }
  set_types(request, product, packed.dtype);
  plan->tile.set_constants(request, form.lowering);
  set_half_sums(ctx, request, form.use == MatrixUse::kHalfSums);
  const bool whole = s.kg % 4 == 0;
  request.constants["POINT"] = is_point(w) ? 1 : 0;
  // In large tiles alone: small ones are of networks, whose sizes should share pipelines.
  constexpr int64_t kLarge = 128 * 128;
  const bool is_large = plan->tile.bm * plan->tile.bn >= kLarge;
  request.constants["WHOLE"] = is_large && is_point(w) && stored % plan->tile.bk == 0 ? 1 : 0;
  // Pixels that stand evenly, also those of several images, need no divisions.
  const auto even_strides = [&request](const TensorView& view, const char* name, bool wanted) {
    std::vector<int64_t> strides = expanded_strides(view, 2);
    const int64_t step = wanted ? pixel_step(with_spatial_rank(view, 2)) : 0;
    request.constants[name] = step != 0 ? 1 : 0;
    if (step != 0) strides[3] = step;
    return strides;
  };
  const std::vector<int64_t> xs = even_strides(product.x, "EVEN_X", w.is_pointwise());
  const std::vector<int64_t> ys = even_strides(p.y, "EVEN_Y", split != 1);
  request.constants["SPLIT"] = split;
  request.constants["VECTOR_Y"] = whole && (split == 1 || vectors_along(p.y, 1, 4)) ? 1 : 0;
  const int64_t total = plan->streams != 0 ? plan->streams : places * plan->slices;
  Params params{{"pixels", pixels},
                {"total", total},
                {"cg", stored},
                {"kg", s.kg},
                {"first_block", 0},
                {"bound_blocks", blocks},
                {"packed_rows", packed.shape[1]},
                {"xs", xs}};
  if (split == 3) {
    const int64_t all = places * ceil_div(s.taps * stored, plan->tile.bk);
    params["share"] = all / total;
    params["extra"] = all % total;
  } else if (split != 0) {
    params["slices"] = plan->slices;
    params["depth"] = plan->depth;
  }
  if (split == 1) {
    params["channels"] = s.channels_out;
  } else {
    params["ys"] = ys;
  }
  add_window_params(params, w);
  std::vector<TensorView> views = shared;
  if (split == 1) {
    views = {product.x, packed, product.y};
  } else {
    std::ranges::copy(operands_of(ctx, product, packed), std::back_inserter(views));
  }
  ctx.dispatch(request, views, std::move(params), ctx.linear_groups(total));
  if (split == 1) sum_slices(ctx, p, w, product.y);
  return true;
}

}  // namespace dlk
