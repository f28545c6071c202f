// Texts that CMake puts into the library: the Metal standard library and the kernels' glue.
#pragma once

namespace metal_sim {

extern const char* const kMetalStdlib;
extern const char* const kGlue;
extern const char* const kDefaultClang;

}  // namespace metal_sim
