// Refused: double.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* a [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  double x = 1.0;
  a[i] = float(x);
}
