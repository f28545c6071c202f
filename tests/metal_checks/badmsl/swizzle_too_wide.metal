// Refused: three values for two lanes.
#include <metal_stdlib>
using namespace metal;

kernel void k(device float4* a [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  a[i].xy = float3(1.0f, 2.0f, 3.0f);
}
