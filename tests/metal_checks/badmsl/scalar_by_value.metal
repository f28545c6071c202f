// Refused: a buffer argument by value.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], uint n [[buffer(1)]],
              uint i [[thread_position_in_grid]]) {
  if (i < n) a[i] = 0.0f;
}
