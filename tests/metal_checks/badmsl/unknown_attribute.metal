// Refused: a built-in value that does not exist.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], uint i [[thread_position_in_world]]) { a[i] = 0.0f; }
