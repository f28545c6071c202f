// The part of Metal's library that concerns several threads: simdgroup functions, matrices and
// atomics. Read after metal_stdlib.h.
#pragma once

namespace metal {

// Functions across the lanes of a simdgroup. Each lane hands its value in where it calls, which
// names the place; what comes back holds the values of all lanes that stood there.
#define METAL_SIM_OUTSIDE __attribute__((noinline, no_sanitize("thread")))

template <class T, class F>
METAL_SIM_OUTSIDE T metal_sim_fold(const metal_sim_exchange_t* all, F combine) {
  int lane = __builtin_ctzl(all->mask);
  T result;
  __builtin_memcpy(&result, all->data[lane], sizeof result);
  for (++lane; lane < 32; ++lane) {
    if (!(all->mask >> lane & 1)) continue;
    T other;
    __builtin_memcpy(&other, all->data[lane], sizeof other);
    result = combine(result, other);
  }
  return result;
}
template <class T, class F>
METAL_SIM_INLINE T metal_sim_reduce(T value, F combine) {
  static_assert(sizeof(T) <= 64);
  uint lane;
  return metal_sim_fold<T>(metal_sim_exchange(&value, sizeof value, &lane), combine);
}
template <class T>
METAL_SIM_INLINE T simd_sum(T v) {
  return metal_sim_reduce(v, [](T a, T b) { return T(a + b); });
}
template <class T>
METAL_SIM_INLINE T simd_product(T v) {
  return metal_sim_reduce(v, [](T a, T b) { return T(a * b); });
}
template <class T>
METAL_SIM_INLINE T simd_max(T v) {
  return metal_sim_reduce(v, [](T a, T b) { return max(a, b); });
}
template <class T>
METAL_SIM_INLINE T simd_min(T v) {
  return metal_sim_reduce(v, [](T a, T b) { return min(a, b); });
}
template <class T>
METAL_SIM_INLINE T simd_and(T v) {
  return metal_sim_reduce(v, [](T a, T b) { return T(a & b); });
}
template <class T>
METAL_SIM_INLINE T simd_or(T v) {
  return metal_sim_reduce(v, [](T a, T b) { return T(a | b); });
}
METAL_SIM_INLINE bool simd_all(bool v) { return simd_and(int(v)); }
METAL_SIM_INLINE bool simd_any(bool v) { return simd_or(int(v)); }

/// The value of lane `from(lane)`; garbage where no such lane takes part and `keep` is false.
template <class T, class F>
METAL_SIM_OUTSIDE T metal_sim_pick(const metal_sim_exchange_t* all, T own, int lane, F from,
                                   bool keep) {
  const int source = from(lane);
  if (source >= 0 && source < 32 && (all->mask >> source & 1)) {
    __builtin_memcpy(&own, all->data[source], sizeof own);
  } else if (!keep) {
    __builtin_memset(&own, 0xf3, sizeof own);
  }
  return own;
}
template <class T, class F>
METAL_SIM_INLINE T metal_sim_from_lane(T value, F from, bool keep) {
  static_assert(sizeof(T) <= 64);
  uint lane;
  const metal_sim_exchange_t* all = metal_sim_exchange(&value, sizeof value, &lane);
  return metal_sim_pick(all, value, int(lane), from, keep);
}
template <class T>
METAL_SIM_INLINE T simd_shuffle(T v, ushort k) {
  return metal_sim_from_lane(v, [=](int) { return int(k); }, false);
}
template <class T>
METAL_SIM_INLINE T simd_broadcast(T v, ushort k) {
  return simd_shuffle(v, k);
}
template <class T>
METAL_SIM_INLINE T simd_broadcast_first(T value) {
  return metal_sim_reduce(value, [](T first, T) { return first; });
}
template <class T>
METAL_SIM_INLINE T simd_shuffle_xor(T v, ushort k) {
  return metal_sim_from_lane(v, [=](int lane) { return lane ^ int(k); }, false);
}
template <class T>
METAL_SIM_INLINE T simd_shuffle_down(T v, ushort k) {
  return metal_sim_from_lane(v, [=](int lane) { return lane + int(k); }, true);
}
template <class T>
METAL_SIM_INLINE T simd_shuffle_up(T v, ushort k) {
  return metal_sim_from_lane(v, [=](int lane) { return lane - int(k); }, true);
}

// simdgroup_matrix: each lane holds two neighbours of a row, as on Apple's GPUs.
template <class T, int Rows = 8, int Columns = 8>
struct simdgroup_matrix {
  static_assert(Rows == 8 && Columns == 8, "simdgroup_matrix is 8x8");
  T elements[2];
  simdgroup_matrix() = default;
  explicit METAL_SIM_INLINE simdgroup_matrix(T diagonal) {
    uint lane, row, column;
    char nothing = 0;
    metal_sim_need_full_simdgroup(metal_sim_exchange(&nothing, 1, &lane));
    place(lane, row, column);
    elements[0] = row == column ? diagonal : T(0.0f);
    elements[1] = row == column + 1 ? diagonal : T(0.0f);
  }
  METAL_SIM_INLINE thread T* thread_elements_begin() { return elements; }
  static METAL_SIM_INLINE void place(uint lane, uint& row, uint& column) {
    const uint quad = lane / 4;
    row = (quad & 4) + (lane / 2) % 4;
    column = (quad & 2) * 2 + (lane % 2) * 2;
  }
};
typedef simdgroup_matrix<float> simdgroup_float8x8;
typedef simdgroup_matrix<half> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat> simdgroup_bfloat8x8;

template <class T, int R, int C>
METAL_SIM_INLINE simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, R, C> matrix;
  matrix.elements[0] = matrix.elements[1] = value;
  return matrix;
}

#define METAL_SIM_MATRIX_MEMORY(SPACE)                                                     \
  template <class T>                                                                       \
  METAL_SIM_INLINE void simdgroup_load(simdgroup_matrix<T>& matrix, const SPACE T* source, \
                                       ulong stride = 8, ulong2 origin = ulong2{0, 0},     \
                                       bool transposed = false) {                          \
    uint lane, row, column;                                                                \
    char nothing = 0;                                                                      \
    metal_sim_need_full_simdgroup(metal_sim_exchange(&nothing, 1, &lane));                 \
    matrix.place(lane, row, column);                                                       \
    for (uint i = 0; i < 2; ++i) {                                                         \
      const ulong r = transposed ? column + i : row, c = transposed ? row : column + i;    \
      matrix.elements[i] = source[(r + origin.y) * stride + c + origin.x];                 \
    }                                                                                      \
  }                                                                                        \
  template <class T>                                                                       \
  METAL_SIM_INLINE void simdgroup_store(simdgroup_matrix<T> matrix, SPACE T* target,       \
                                        ulong stride = 8, ulong2 origin = ulong2{0, 0},    \
                                        bool transposed = false) {                         \
    uint lane, row, column;                                                                \
    char nothing = 0;                                                                      \
    metal_sim_need_full_simdgroup(metal_sim_exchange(&nothing, 1, &lane));                 \
    matrix.place(lane, row, column);                                                       \
    for (uint i = 0; i < 2; ++i) {                                                         \
      const ulong r = transposed ? column + i : row, c = transposed ? row : column + i;    \
      target[(r + origin.y) * stride + c + origin.x] = matrix.elements[i];                 \
    }                                                                                      \
  }
METAL_SIM_MATRIX_MEMORY(device)
#ifdef METAL_SIM_CHECK
METAL_SIM_MATRIX_MEMORY(threadgroup)
#endif

/// What a lane hands in for a product: its elements of both factors.
template <class A, class B>
struct metal_sim_factors {
  A a[2];
  B b[2];
};
template <class A, class B>
METAL_SIM_OUTSIDE float2 metal_sim_multiply(const metal_sim_exchange_t* all, uint lane,
                                            float2 sum) {
  uint row, column;
  simdgroup_matrix<float>::place(lane, row, column);
  for (uint k = 0; k < 8; ++k) {
    // Where (row, k) of A and (k, column) of B are held.
    const uint holder_a = (row & 4) * 4 + (k & 4) * 2 + (row % 4) * 2 + (k / 2) % 2;
    const uint holder_b = (k & 4) * 4 + (column & 4) * 2 + (k % 4) * 2 + (column / 2) % 2;
    metal_sim_factors<A, B> left, right;
    __builtin_memcpy(&left, all->data[holder_a], sizeof left);
    __builtin_memcpy(&right, all->data[holder_b], sizeof right);
    sum.x += float(left.a[k % 2]) * float(right.b[0]);
    sum.y += float(left.a[k % 2]) * float(right.b[1]);
  }
  return sum;
}
template <class D, class A, class B, class C>
METAL_SIM_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D>& result,
                                                    simdgroup_matrix<A> a, simdgroup_matrix<B> b,
                                                    simdgroup_matrix<C> c) {
  metal_sim_factors<A, B> mine{{a.elements[0], a.elements[1]}, {b.elements[0], b.elements[1]}};
  uint lane;
  const metal_sim_exchange_t* all = metal_sim_exchange(&mine, sizeof mine, &lane);
  metal_sim_need_full_simdgroup(all);
  const float2 sum =
      metal_sim_multiply<A, B>(all, lane, float2{float(c.elements[0]), float(c.elements[1])});
  result.elements[0] = D(sum.x);
  result.elements[1] = D(sum.y);
}
template <class D, class A, class B>
METAL_SIM_INLINE void simdgroup_multiply(simdgroup_matrix<D>& result, simdgroup_matrix<A> a,
                                         simdgroup_matrix<B> b) {
  simdgroup_multiply_accumulate(result, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0.0f)));
}

enum memory_order { memory_order_relaxed };
template <class T>
struct atomic {
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;
typedef atomic<bool> atomic_bool;

#define METAL_SIM_ATOMIC_UPDATE(SPACE, NAME, EXPRESSION)                                    \
  template <class T, class V>                                                               \
  METAL_SIM_UNCHECKED inline T atomic_fetch_##NAME##_explicit(volatile SPACE atomic<T>* at, \
                                                              V operand, memory_order) {    \
    metal_sim_atomic((const volatile void*)at, sizeof(T), 1);                               \
    const T old = at->value, x = T(operand);                                                \
    at->value = T(EXPRESSION);                                                              \
    return old;                                                                             \
  }
#define METAL_SIM_ATOMICS(SPACE)                                                               \
  METAL_SIM_ATOMIC_UPDATE(SPACE, add, old + x)                                                 \
  METAL_SIM_ATOMIC_UPDATE(SPACE, sub, old - x)                                                 \
  METAL_SIM_ATOMIC_UPDATE(SPACE, max, old < x ? x : old)                                       \
  METAL_SIM_ATOMIC_UPDATE(SPACE, min, x < old ? x : old)                                       \
  METAL_SIM_ATOMIC_UPDATE(SPACE, and, old& x)                                                  \
  METAL_SIM_ATOMIC_UPDATE(SPACE, or, old | x)                                                  \
  METAL_SIM_ATOMIC_UPDATE(SPACE, xor, old ^ x)                                                 \
  template <class T>                                                                           \
  METAL_SIM_UNCHECKED inline T atomic_load_explicit(const volatile SPACE atomic<T>* at,        \
                                                    memory_order) {                            \
    metal_sim_atomic((const volatile void*)at, sizeof(T), 0);                                  \
    return at->value;                                                                          \
  }                                                                                            \
  template <class T, class V>                                                                  \
  METAL_SIM_UNCHECKED inline void atomic_store_explicit(volatile SPACE atomic<T>* at, V value, \
                                                        memory_order) {                        \
    metal_sim_atomic((const volatile void*)at, sizeof(T), 1);                                  \
    at->value = T(value);                                                                      \
  }                                                                                            \
  template <class T, class V>                                                                  \
  METAL_SIM_UNCHECKED inline T atomic_exchange_explicit(volatile SPACE atomic<T>* at, V value, \
                                                        memory_order) {                        \
    metal_sim_atomic((const volatile void*)at, sizeof(T), 1);                                  \
    const T old = at->value;                                                                   \
    at->value = T(value);                                                                      \
    return old;                                                                                \
  }                                                                                            \
  template <class T, class V>                                                                  \
  METAL_SIM_UNCHECKED inline bool atomic_compare_exchange_weak_explicit(                       \
      volatile SPACE atomic<T>* at, thread T* expected, V value, memory_order, memory_order) { \
    metal_sim_atomic((const volatile void*)at, sizeof(T), 1);                                  \
    const T old = at->value;                                                                   \
    const bool equal = __builtin_memcmp(&old, expected, sizeof old) == 0;                      \
    if (equal) at->value = T(value);                                                           \
    *expected = old;                                                                           \
    return equal;                                                                              \
  }
METAL_SIM_ATOMICS(device)
#ifdef METAL_SIM_CHECK
METAL_SIM_ATOMICS(threadgroup)
#endif

}  // namespace metal

using metal::memory_order_relaxed;
