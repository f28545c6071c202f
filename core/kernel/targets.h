// What OpenCL C, GLSL and MSL say differently, as tables. The printer is one; it looks everything
// that differs up here. Patterns are text with placeholders:
//   $1 $2 $3  arguments            $T  printed type of the arguments     $n  the vector width
//   $e  the scalar element's place $w  the vector element's place        $v  the value to store
//   $X  the buffer's pointer       $i  the index
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/dtype.h"
#include "core/device/device.h"

namespace dlk::dialect {

/// Types of expressions. kFlex is an integer constant that takes the type it meets.
enum class Base : uint8_t {
  kVoid,
  kBool,
  kInt,
  kUint,
  kFloat,
  kDouble,
  kLong,
  kUlong,
  kVec,
  kHalf,  // what `afloat` and `avec` are in a variant that accumulates in float16
  kHalfVec,
  kFlex,
};

constexpr bool is_vector(Base base) { return base == Base::kVec || base == Base::kHalfVec; }
/// The type of a vector's lanes, or the type itself.
constexpr Base lane_base(Base base) {
  return base == Base::kVec ? Base::kFloat : base == Base::kHalfVec ? Base::kHalf : base;
}

/// The dialect's name of a type, for messages.
std::string_view base_name(Base base);
/// What a value of this storage type is computed in.
Base compute_base(DType dtype);

enum class Lang : uint8_t { kOpenCL, kGlsl, kMsl };

/// How one storage type is declared, loaded and stored.
struct StorageRow {
  std::string_view type;
  std::string_view load;
  std::string_view store;
  std::string_view vector_type;  // empty: no vector access
  std::string_view vector_load;
  std::string_view vector_store;
};

struct Target {
  Lang lang;
  std::string_view name;
  uint32_t widest_vector;
  std::string_view local_id[3], group_id[3], group_count[3];
  std::string_view function_prefix;
  std::string_view unroll;
  std::string_view local_qualifier, local_alignment;
  std::string_view barrier_local, barrier_all;
  std::string_view infinity, nan;
  std::string_view device_fence;  // empty: there is none
  std::string_view atomic_add;    // $T, $e, $v
  std::string_view to_uint_bits, to_float_bits, to_int_bits;
  std::string_view bf16_vector;  // helper that rounds a vector to bf16 bits
};

const Target& target_of(KernelFormat format);
const StorageRow& storage_row(const Target& target, DType dtype);
/// Printed type of a scalar or vector.
std::string type_text(const Target& target, Base base, uint32_t vector_width);
/// The suffix of lane `lane`: ".s3", ".w".
std::string lane_text(const Target& target, uint32_t lane);

/// A function of the dialect and its spelling in a target; `pattern` "@" means: the function of
/// this name in the library `math`. Without '$' the pattern is a function's name.
struct Builtin {
  std::string_view name;
  // f: float, fvec, double; s: signed integers; u: unsigned integers; t: float to bool
  char operands;
  uint8_t arity;
  std::string_view opencl, glsl, msl;
  bool glsl_double;  // GLSL's form takes doubles
};

/// nullptr: no built-in function of this name for operands of this class ('?' for any).
const Builtin* find_builtin(std::string_view name, char operands);
std::string_view spelling(const Builtin& builtin, const Target& target);

/// A function that the dialect itself defines; no user function may have its name.
bool is_own_word(std::string_view name);
/// Words that some target keeps: a user's name like this is printed with a prefix.
bool is_reserved(std::string_view name);

/// Replaces placeholders.
struct Placeholders {
  std::string_view args[3], type, element, vector, value, pointer, index;
  uint32_t width = 0;
};
std::string fill(std::string_view pattern, const Placeholders& with);

}  // namespace dlk::dialect
