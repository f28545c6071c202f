// Refused: a device pointer assigned to a threadgroup pointer.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup float part[4];
  threadgroup float* p = part;
  p = a;
  a[i] = p[0];
}
