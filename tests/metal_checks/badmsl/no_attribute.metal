// Refused: a kernel argument without an attribute.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], uint i) { a[i] = 0.0f; }
