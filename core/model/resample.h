// Separable antialiased resampling of interleaved 8-bit images, in Pillow's fixed-point arithmetic.
#pragma once

#include <cstdint>
#include <vector>

namespace dlk {

struct Image8 {
  uint32_t width = 0, height = 0, channels = 0;
  std::vector<uint8_t> pixels;  // height * width * channels
};

/// A resampling kernel: its value at a distance in source pixels, and where it becomes 0.
struct ResampleFilter {
  double (*value)(double);
  double support;
};
extern const ResampleFilter kBilinearFilter, kBicubicFilter, kLanczosFilter;

Image8 resample(const Image8& image, uint32_t width, uint32_t height, const ResampleFilter& filter);
Image8 resample_nearest(const Image8& image, uint32_t width, uint32_t height);

}  // namespace dlk
