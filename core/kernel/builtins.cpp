// The dialect's functions in each target, and the words that targets keep for themselves.
#include <algorithm>
#include <array>
#include <iterator>
#include <unordered_set>

#include "core/kernel/targets.h"

namespace dlk::dialect {

namespace {

// "@" is chosen where a target has no such function, or one that is less exact than 1e-6 allows
// (Vulkan bounds exp, log, sin and their kin only loosely).
constexpr Builtin kBuiltins[] = {
    {"abs", 'f', 1, "fabs", "abs", "fabs", true},
    {"abs", 's', 1, "($T)abs($1)", "abs", "abs", true},
    {"abs", 'u', 1, "$1", "$1", "$1", true},
    {"min", 'f', 2, "min", "min", "min", true},
    {"min", 's', 2, "min", "min", "min", true},
    {"min", 'u', 2, "min", "min", "min", true},
    {"max", 'f', 2, "max", "max", "max", true},
    {"max", 's', 2, "max", "max", "max", true},
    {"max", 'u', 2, "max", "max", "max", true},
    {"clamp", 'f', 3, "clamp", "clamp", "clamp", true},
    {"clamp", 's', 3, "clamp", "clamp", "clamp", true},
    {"clamp", 'u', 3, "clamp", "clamp", "clamp", true},
    {"fma", 'f', 3, "fma", "fma", "fma", true},
    {"floor", 'f', 1, "floor", "floor", "floor", true},
    {"ceil", 'f', 1, "ceil", "ceil", "ceil", true},
    {"trunc", 'f', 1, "trunc", "trunc", "trunc", true},
    {"rint", 'f', 1, "rint", "roundEven", "rint", true},
    {"sign", 'f', 1, "sign", "sign", "sign", true},
    {"sqrt", 'f', 1, "sqrt", "sqrt", "precise::sqrt", true},
    {"rsqrt", 'f', 1, "rsqrt", "inversesqrt", "precise::rsqrt", true},
    {"exp", 'f', 1, "exp", "@", "precise::exp", false},
    {"exp2", 'f', 1, "exp2", "@", "precise::exp2", false},
    {"log", 'f', 1, "log", "@", "precise::log", false},
    {"log2", 'f', 1, "log2", "@", "precise::log2", false},
    {"pow", 'f', 2, "pow", "@", "precise::pow", false},
    {"sin", 'f', 1, "sin", "@", "precise::sin", false},
    {"cos", 'f', 1, "cos", "@", "precise::cos", false},
    {"tan", 'f', 1, "tan", "@", "precise::tan", false},
    {"asin", 'f', 1, "asin", "@", "precise::asin", false},
    {"acos", 'f', 1, "acos", "@", "precise::acos", false},
    {"atan", 'f', 1, "atan", "@", "precise::atan", false},
    {"atan2", 'f', 2, "atan2", "@", "precise::atan2", false},
    {"sinh", 'f', 1, "sinh", "@", "@", false},
    {"cosh", 'f', 1, "cosh", "@", "@", false},
    {"tanh", 'f', 1, "tanh", "@", "@", false},
    {"asinh", 'f', 1, "asinh", "@", "@", false},
    {"acosh", 'f', 1, "acosh", "@", "@", false},
    {"atanh", 'f', 1, "atanh", "@", "@", false},
    {"erf", 'f', 1, "erf", "@", "@", false},
    {"fmod", 'f', 2, "fmod", "@", "@", false},
    {"isnan", 't', 1, "(isnan($1) != 0)", "@", "@", false},
    {"isinf", 't', 1, "(isinf($1) != 0)", "@", "@", false},
    {"mad24", 's', 3, "mad24", "($1 * $2 + $3)", "mad24", true},
    {"mad24", 'u', 3, "mad24", "($1 * $2 + $3)", "mad24", true},
    {"popcount", 'u', 1, "popcount", "uint(bitCount($1))", "popcount", true},
    {"popcount", 's', 1, "popcount", "bitCount", "popcount", true},
};

// Functions that the printer handles itself, and names of places.
constexpr std::string_view kOwnWords[] = {"ld",           "st",
                                          "ldv",          "stv",
                                          "ldn",          "stn",
                                          "epilogue_n",   "ldl",
                                          "stl",          "lane",
                                          "set_lane",     "barrier",
                                          "device_fence", "select",
                                          "epilogue",     "atomic_add",
                                          "load_bits",    "store_bits",
                                          "bitcast_uint", "bitcast_float",
                                          "bitcast_int",  "dot4i8",
                                          "tile_zero",    "tile_put",
                                          "tile_putv",    "tile_commit",
                                          "tile_wait",    "tile_mma",
                                          "tile_release", "tile_each",
                                          "tile_eachv",   "tile_copy",
                                          "tile_land",    "tile_mma_t",
                                          "tile_mma_bt",  "is_type",
                                          "size_of",      "has",
                                          "subgroup_sum", "subgroup_min",
                                          "subgroup_max", "subgroup_broadcast"};

const std::unordered_set<std::string_view>& reserved_words() {
  static const std::unordered_set<std::string_view> words = {
      // C, C++
      "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break",
      "case", "catch", "char", "class", "compl", "const", "constexpr", "continue", "decltype",
      "default", "delete", "do", "double", "else", "enum", "explicit", "export", "extern", "false",
      "float", "for", "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace",
      "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private",
      "protected", "public", "register", "restrict", "return", "short", "signed", "sizeof",
      "static", "struct", "switch", "template", "this", "throw", "true", "try", "typedef", "typeid",
      "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "while", "xor",
      "xor_eq", "concept", "requires", "main", "size_t", "ptrdiff_t", "linux", "unix", "complex",
      "imaginary", "errno", "assert", "NULL", "I",
      // OpenCL C and MSL
      "kernel", "global", "local", "constant", "generic", "half", "uchar", "ushort", "uint",
      "ulong", "quad", "event_t", "sampler_t", "read_only", "write_only", "read_write", "pipe",
      "device", "thread", "threadgroup", "threadgroup_imageblock", "vertex", "fragment", "metal",
      "access", "texture", "sampler", "stage_in", "as_type", "select", "precise", "fast",
      "object_data", "ray_data", "bfloat", "simd", "simdgroup", "mesh", "visible", "intersection",
      "packed",
      // GLSL
      "attribute", "buffer", "uniform", "varying", "shared", "layout", "centroid", "flat", "smooth",
      "noperspective", "patch", "sample", "subroutine", "in", "out", "inout", "invariant",
      "discard", "lowp", "mediump", "highp", "precision", "common", "partition", "active", "filter",
      "noinline", "external", "interface", "input", "output", "resource", "superp", "fixed",
      "hvec2", "hvec3", "hvec4", "fvec2", "fvec3", "fvec4", "dvec2", "dvec3", "dvec4", "vec2",
      "vec3", "vec4", "ivec2", "ivec3", "ivec4", "uvec2", "uvec3", "uvec4", "bvec2", "bvec3",
      "bvec4", "mat2", "mat3", "mat4", "image1D", "image2D", "image3D", "sampler1D", "sampler2D",
      "sampler3D", "coherent", "readonly", "writeonly", "demote", "accept", "atomic_uint", "cast",
      "terminateInvocation", "mix", "step", "any", "all", "equal", "dot", "cross", "length",
      "distance", "normalize", "reflect", "transpose", "inverse", "noise1", "texelFetch", "mod",
      "round", "fract", "exponent", "ldexp", "frexp", "modf"};
  return words;
}

bool is_vector_name(std::string_view name) {
  for (std::string_view scalar : {"char", "uchar", "short", "ushort", "int", "uint", "long",
                                  "ulong", "float", "double", "half", "bool", "as_", "convert_"}) {
    if (!name.starts_with(scalar)) continue;
    const std::string_view rest = name.substr(scalar.size());
    if (scalar.ends_with("_")) return true;
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return true;
  }
  return name.ends_with("_t");
}

}  // namespace

const Builtin* find_builtin(std::string_view name, char operands) {
  for (const Builtin& builtin : kBuiltins) {
    if (builtin.name == name && (operands == '?' || builtin.operands == operands)) return &builtin;
  }
  return nullptr;
}

std::string_view spelling(const Builtin& builtin, const Target& target) {
  switch (target.lang) {
    case Lang::kOpenCL:
      return builtin.opencl;
    case Lang::kGlsl:
      return builtin.glsl;
    case Lang::kMsl:
      break;
  }
  return builtin.msl;
}

bool is_own_word(std::string_view name) {
  return std::find(std::begin(kOwnWords), std::end(kOwnWords), name) != std::end(kOwnWords) ||
         find_builtin(name, '?') != nullptr;
}

bool is_reserved(std::string_view name) {
  return reserved_words().contains(name) || is_vector_name(name) || is_own_word(name);
}

}  // namespace dlk::dialect
