// Prepares a picture for a network as a model's "preprocessing" says (docs/model-format.md), with
// Pillow's antialiased resampling, so that C, C++ and Python programs feed the same numbers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/tensor.h"

namespace dlk {

class ImagePreparation {
 public:
  /// InvalidArgument for text that is no such JSON, and for unknown keys and values.
  static ImagePreparation parse(const std::string& json);
  /// (1, C, H, W) or (1, H, W, C). InvalidArgument for an image that is empty or huge, before or
  /// after it is resized.
  Shape output_shape(uint32_t width, uint32_t height) const;
  /// `rgb`: width*height*3 bytes; `output`: float32 of `output_shape`, which must be asked first.
  void run(const uint8_t* rgb, uint32_t width, uint32_t height, float* output) const;

 private:
  struct Size {
    uint32_t width = 0, height = 0;
  };
  Size resized(uint32_t width, uint32_t height) const;

  enum class Color : uint8_t { kRgb, kBgr, kGrey };
  enum class Filter : uint8_t { kNearest, kBilinear, kBicubic, kLanczos };
  Color color_ = Color::kRgb;
  Filter filter_ = Filter::kBilinear;
  uint32_t resize_short_ = 0;
  Size resize_, crop_;
  float low_ = 0, high_ = 1;
  std::array<float, 3> mean_{0, 0, 0}, std_{1, 1, 1};
  bool channels_first_ = true;
};

}  // namespace dlk
