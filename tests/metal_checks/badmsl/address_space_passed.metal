// Refused: a device pointer passed as a threadgroup pointer.
#include <metal_stdlib>
using namespace metal;

static float first(threadgroup const float* p) { return p[0]; }
kernel void k(device float* a [[buffer(0)]], uint i [[thread_position_in_grid]]) { a[i] = first(a); }
