// Refused: clamp of an int with uint bounds.
#include <metal_stdlib>
using namespace metal;

kernel void k(device int* a [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  a[i] = clamp(a[i], 0u, 3u);
}
