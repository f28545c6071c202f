// The Metal standard library as far as dlk's kernels use it, for clang on the host. Two modes:
// METAL_SIM_CHECK makes address spaces real types, for -fsyntax-only; otherwise they vanish, loads
// and stores are instrumented, and barriers and simdgroup functions call the simulator.
#pragma once

#ifdef METAL_SIM_CHECK
#define device __attribute__((address_space(1)))
#define constant const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#else
#define device
#define constant const
#define threadgroup
#endif
#define thread
#ifdef METAL_SIM_CHECK
#define kernel
#else
#define kernel static
#endif

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long uint64_t;
typedef long int64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef _Float16 half;

#define METAL_SIM_INLINE inline __attribute__((always_inline))
#define METAL_SIM_UNCHECKED __attribute__((no_sanitize("thread")))

/// bfloat: arithmetic is float's, stores round to nearest even.
struct bfloat {
  ushort bits;
  bfloat() = default;
  METAL_SIM_INLINE bfloat(float value) {
    uint word;
    __builtin_memcpy(&word, &value, 4);
    const uint rounded = word + 0x7fffu + ((word >> 16) & 1u);
    bits = ushort((word & 0x7fffffffu) > 0x7f800000u ? (word >> 16) | 0x40u : rounded >> 16);
  }
  METAL_SIM_INLINE operator float() const {
    const uint word = uint(bits) << 16;
    float value;
    __builtin_memcpy(&value, &word, 4);
    return value;
  }
};

#define METAL_SIM_VECTORS(T)                          \
  typedef T T##2 __attribute__((ext_vector_type(2))); \
  typedef T T##3 __attribute__((ext_vector_type(3))); \
  typedef T T##4 __attribute__((ext_vector_type(4)));
METAL_SIM_VECTORS(float)
METAL_SIM_VECTORS(half)
METAL_SIM_VECTORS(int)
METAL_SIM_VECTORS(uint)
METAL_SIM_VECTORS(short)
METAL_SIM_VECTORS(ushort)
METAL_SIM_VECTORS(char)
METAL_SIM_VECTORS(uchar)
METAL_SIM_VECTORS(long)
METAL_SIM_VECTORS(ulong)
METAL_SIM_VECTORS(bool)
static_assert(sizeof(float3) == 16, "float3 is 16 bytes in MSL");

// Vector types by element and count, and the reverse.
template <class T>
struct metal_sim_vector {
  static constexpr int count = 1;
  typedef T element;
};
#define METAL_SIM_TRAITS(T)         \
  template <>                       \
  struct metal_sim_vector<T##2> {   \
    static constexpr int count = 2; \
    typedef T element;              \
  };                                \
  template <>                       \
  struct metal_sim_vector<T##3> {   \
    static constexpr int count = 3; \
    typedef T element;              \
  };                                \
  template <>                       \
  struct metal_sim_vector<T##4> {   \
    static constexpr int count = 4; \
    typedef T element;              \
  };
METAL_SIM_TRAITS(float)
METAL_SIM_TRAITS(half)
METAL_SIM_TRAITS(int)
METAL_SIM_TRAITS(uint)
METAL_SIM_TRAITS(short)
METAL_SIM_TRAITS(ushort)
METAL_SIM_TRAITS(char)
METAL_SIM_TRAITS(uchar)
METAL_SIM_TRAITS(long)
METAL_SIM_TRAITS(ulong)
METAL_SIM_TRAITS(bool)

// float4(a, b.xy, c) is rewritten to metal_sim_make<float4>(a, b.xy, c).
template <class S, class A>
METAL_SIM_INLINE void metal_sim_put(S* out, int& at, A value) {
  if constexpr (metal_sim_vector<A>::count == 1) {
    out[at++] = S(value);
  } else {
    for (int i = 0; i < metal_sim_vector<A>::count; ++i) out[at++] = S(value[i]);
  }
}
template <class V, class... A>
METAL_SIM_INLINE V metal_sim_make(A... values) {
  typedef typename metal_sim_vector<V>::element S;
  constexpr int wanted = metal_sim_vector<V>::count;
  constexpr int given = (metal_sim_vector<A>::count + ...);
  static_assert(given == wanted || (sizeof...(A) == 1 && given == 1),
                "wrong number of components in a vector constructor");
  S parts[4];
  int at = 0;
  (metal_sim_put<S>(parts, at, values), ...);
  V result;
  for (int i = 0; i < wanted; ++i) result[i] = given == 1 ? parts[0] : parts[i];
  return result;
}

struct metal_sim_exchange_t {
  uint64_t mask;
  unsigned char data[32][64];
};
struct metal_sim_place {
  uint thread_position_in_grid[3], thread_position_in_threadgroup[3],
      threadgroup_position_in_grid[3], threads_per_threadgroup[3], threadgroups_per_grid[3],
      threads_per_grid[3];
  uint thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup,
      simdgroups_per_threadgroup, threads_per_simdgroup;
};

extern "C" {
__attribute__((convergent, noduplicate)) void metal_sim_barrier(int flags);
__attribute__((convergent, noduplicate)) void metal_sim_simd_barrier(int flags);
__attribute__((convergent, noduplicate)) const metal_sim_exchange_t* metal_sim_exchange(
    const void* value, uint bytes, uint* lane);
void metal_sim_atomic(const volatile void* address, uint bytes, int is_write);
char* metal_sim_array(uint ordinal);
void metal_sim_need_full_simdgroup(const metal_sim_exchange_t* all);
}

#ifdef METAL_SIM_CHECK
#define METAL_SIM_ARRAY(KERNEL, ORDINAL, TYPE, NAME, DIMS) static threadgroup TYPE NAME DIMS
#else
// A threadgroup array stands where the simulator says; its ordinal and size go into a section that
// bears the kernel's name.
#define METAL_SIM_ARRAY(KERNEL, ORDINAL, TYPE, NAME, DIMS)                                 \
  static const struct {                                                                    \
    uint ordinal, bytes;                                                                   \
  } metal_sim_size_of_##NAME                                                               \
      __attribute__((used, section("metal_sim_" #KERNEL))) = {ORDINAL, sizeof(TYPE DIMS)}; \
  TYPE(&NAME) DIMS = *(TYPE(*) DIMS)metal_sim_array(ORDINAL)
#endif

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
METAL_SIM_INLINE mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(int(a) | int(b));
}
METAL_SIM_INLINE void threadgroup_barrier(mem_flags flags) { metal_sim_barrier(int(flags)); }
METAL_SIM_INLINE void simdgroup_barrier(mem_flags flags) { metal_sim_simd_barrier(int(flags)); }

template <class To, class From>
METAL_SIM_INLINE To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type between types of different size");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// Functions of one, two or three operands of one type, scalar or vector, applied by element.
#define METAL_SIM_EACH1(NAME, EXPRESSION)                         \
  template <class T>                                              \
  METAL_SIM_INLINE T NAME(T v) {                                  \
    if constexpr (metal_sim_vector<T>::count == 1) {              \
      const T x = v;                                              \
      return T(EXPRESSION);                                       \
    } else {                                                      \
      T r;                                                        \
      for (int i = 0; i < metal_sim_vector<T>::count; ++i) {      \
        const typename metal_sim_vector<T>::element x = v[i];     \
        r[i] = typename metal_sim_vector<T>::element(EXPRESSION); \
      }                                                           \
      return r;                                                   \
    }                                                             \
  }
#define METAL_SIM_EACH2(NAME, EXPRESSION)                                  \
  template <class T, class U>                                              \
  METAL_SIM_INLINE T NAME(T v, U w) {                                      \
    static_assert(__is_same(T, U), #NAME ": operands of different types"); \
    if constexpr (metal_sim_vector<T>::count == 1) {                       \
      const T x = v, y = w;                                                \
      return T(EXPRESSION);                                                \
    } else {                                                               \
      T r;                                                                 \
      for (int i = 0; i < metal_sim_vector<T>::count; ++i) {               \
        const typename metal_sim_vector<T>::element x = v[i], y = w[i];    \
        r[i] = typename metal_sim_vector<T>::element(EXPRESSION);          \
      }                                                                    \
      return r;                                                            \
    }                                                                      \
  }

METAL_SIM_EACH2(max, x < y ? y : x)
METAL_SIM_EACH2(min, y < x ? y : x)
METAL_SIM_EACH2(fmax, __builtin_fmaxf(float(x), float(y)))
METAL_SIM_EACH2(fmin, __builtin_fminf(float(x), float(y)))
template <class T>
METAL_SIM_INLINE T clamp(T x, T low, T high) {
  return min(max(x, low), high);
}
template <class T>
METAL_SIM_INLINE T fma(T a, T b, T c) {
  if constexpr (metal_sim_vector<T>::count == 1) {
    return T(__builtin_fmaf(float(a), float(b), float(c)));
  } else {
    T r;
    for (int i = 0; i < metal_sim_vector<T>::count; ++i) {
      r[i] = typename metal_sim_vector<T>::element(
          __builtin_fmaf(float(a[i]), float(b[i]), float(c[i])));
    }
    return r;
  }
}
template <class T, class C>
METAL_SIM_INLINE T select(T no, T yes, C condition) {
  if constexpr (metal_sim_vector<T>::count == 1) {
    return condition ? yes : no;
  } else {
    T r;
    for (int i = 0; i < metal_sim_vector<T>::count; ++i) r[i] = condition[i] ? yes[i] : no[i];
    return r;
  }
}
METAL_SIM_EACH1(abs, x < 0 ? -x : x)
METAL_SIM_EACH1(fabs, __builtin_fabsf(float(x)))
METAL_SIM_EACH1(floor, __builtin_floorf(float(x)))
METAL_SIM_EACH1(ceil, __builtin_ceilf(float(x)))
METAL_SIM_EACH1(trunc, __builtin_truncf(float(x)))
METAL_SIM_EACH1(rint, __builtin_rintf(float(x)))
METAL_SIM_EACH1(round, __builtin_roundf(float(x)))
METAL_SIM_EACH1(sign, x > 0 ? 1 : x < 0 ? -1 : x == x ? x : 0)
METAL_SIM_EACH1(popcount, __builtin_popcountl(ulong(x) & (~0ul >> (64 - 8 * sizeof(x)))))
METAL_SIM_EACH1(clz, x ? __builtin_clzl(ulong(x) << (64 - 8 * sizeof(x))) : 8 * sizeof(x))
METAL_SIM_EACH1(saturate, x < 0 ? 0 : x > 1 ? 1 : x)
template <class T>
METAL_SIM_INLINE T mad24(T a, T b, T c) {
  return a * b + c;
}
template <class T>
METAL_SIM_INLINE T mul24(T a, T b) {
  return a * b;
}
METAL_SIM_INLINE bool isnan(float x) { return x != x; }
METAL_SIM_INLINE bool isinf(float x) { return __builtin_fabsf(x) == __builtin_inff(); }
METAL_SIM_INLINE bool isfinite(float x) { return __builtin_fabsf(x) < __builtin_inff(); }
template <class T>
METAL_SIM_INLINE float dot(T a, T b) {
  float sum = 0;
  for (int i = 0; i < metal_sim_vector<T>::count; ++i) sum += float(a[i]) * float(b[i]);
  return sum;
}

#define METAL_SIM_MATH                                         \
  METAL_SIM_EACH1(sqrt, __builtin_sqrtf(float(x)))             \
  METAL_SIM_EACH1(rsqrt, 1.0f / __builtin_sqrtf(float(x)))     \
  METAL_SIM_EACH1(exp, __builtin_expf(float(x)))               \
  METAL_SIM_EACH1(exp2, __builtin_exp2f(float(x)))             \
  METAL_SIM_EACH1(log, __builtin_logf(float(x)))               \
  METAL_SIM_EACH1(log2, __builtin_log2f(float(x)))             \
  METAL_SIM_EACH1(sin, __builtin_sinf(float(x)))               \
  METAL_SIM_EACH1(cos, __builtin_cosf(float(x)))               \
  METAL_SIM_EACH1(tan, __builtin_tanf(float(x)))               \
  METAL_SIM_EACH1(asin, __builtin_asinf(float(x)))             \
  METAL_SIM_EACH1(acos, __builtin_acosf(float(x)))             \
  METAL_SIM_EACH1(atan, __builtin_atanf(float(x)))             \
  METAL_SIM_EACH1(sinh, __builtin_sinhf(float(x)))             \
  METAL_SIM_EACH1(cosh, __builtin_coshf(float(x)))             \
  METAL_SIM_EACH1(tanh, __builtin_tanhf(float(x)))             \
  METAL_SIM_EACH2(pow, __builtin_powf(float(x), float(y)))     \
  METAL_SIM_EACH2(powr, __builtin_powf(float(x), float(y)))    \
  METAL_SIM_EACH2(atan2, __builtin_atan2f(float(x), float(y))) \
  METAL_SIM_EACH2(fmod, __builtin_fmodf(float(x), float(y)))   \
  METAL_SIM_EACH2(divide, float(x) / float(y))
METAL_SIM_MATH
namespace precise {
METAL_SIM_MATH
}
namespace fast {
METAL_SIM_MATH
}

}  // namespace metal

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF __builtin_inff()
#define MAXFLOAT 3.40282346638528859812e+38f
#define FLT_MAX 3.40282346638528859812e+38f
#define FLT_MIN 1.17549435082228750797e-38f
#define FLT_EPSILON 1.1920928955078125e-07f
#define M_PI_F 3.14159265358979323846f
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
