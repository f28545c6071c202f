// What the generated wrapper of a kernel uses: its parameters' types, by the kernel's own type.
// Read after metal_stdlib.h.
#pragma once

struct metal_sim_argument {
  const char* name;
  int kind, index;
  uint bytes, alignment;
  int is_reference, is_const;
};
template <size_t I, class H, class... T>
struct metal_sim_nth {
  typedef typename metal_sim_nth<I - 1, T...>::type type;
};
template <class H, class... T>
struct metal_sim_nth<0, H, T...> {
  typedef H type;
};
template <size_t I, class F>
struct metal_sim_parameter;
template <size_t I, class R, class... A>
struct metal_sim_parameter<I, R (*)(A...)> {
  typedef typename metal_sim_nth<I, A...>::type type;
};
template <class T>
struct metal_sim_target {
  typedef T type;
  static constexpr int is_reference = 0, is_const = 0;
};
template <class T>
struct metal_sim_target<T*> {
  typedef T type;
  static constexpr int is_reference = 0, is_const = __is_const(T);
};
template <class T>
struct metal_sim_target<T&> {
  typedef T type;
  static constexpr int is_reference = 1, is_const = __is_const(T);
};
template <class T>
METAL_SIM_UNCHECKED METAL_SIM_INLINE T metal_sim_pass(void* value) {
  if constexpr (metal_sim_target<T>::is_reference) {
    return *(typename metal_sim_target<T>::type*)value;
  } else {
    return (T)value;
  }
}
template <class T>
METAL_SIM_UNCHECKED METAL_SIM_INLINE T metal_sim_pass_place(const uint* value) {
  if constexpr (metal_sim_vector<T>::count == 1) {
    return T(value[0]);
  } else {
    T result;
    for (int i = 0; i < metal_sim_vector<T>::count; ++i) result[i] = value[i];
    return result;
  }
}
