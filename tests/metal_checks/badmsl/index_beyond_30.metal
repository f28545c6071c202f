// Refused: a buffer index beyond 30.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(31)]], uint i [[thread_position_in_grid]]) { a[i] = 0.0f; }
