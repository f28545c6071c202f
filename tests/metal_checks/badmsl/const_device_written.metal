// Refused: a store through a pointer to const.
#include <metal_stdlib>
using namespace metal;

kernel void k(device const float* a [[buffer(0)]], uint i [[thread_position_in_grid]]) { a[i] = 0.0f; }
