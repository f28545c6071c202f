// Refused: a pointer parameter without an address space.
#include <metal_stdlib>
using namespace metal;

static float first(const float* p) { return p[0]; }
kernel void k(device float* a [[buffer(0)]], uint i [[thread_position_in_grid]]) { a[i] = 0.0f; }
