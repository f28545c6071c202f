// Refused: a name that is not declared.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], uint i [[thread_position_in_grid]]) { a[i] = nowhere; }
