// Refused: a store to constant memory.
#include <metal_stdlib>
using namespace metal;

kernel void k(constant float* a [[buffer(0)]], device float* b [[buffer(1)]],
              uint i [[thread_position_in_grid]]) {
  a[i] = b[i];
}
