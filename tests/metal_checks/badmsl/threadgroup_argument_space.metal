// Refused: a threadgroup argument in device memory.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], device float* part [[threadgroup(0)]],
              uint i [[thread_position_in_grid]]) {
  a[i] = part[0];
}
