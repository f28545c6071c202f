#include "core/model/resample.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dlk {

namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;

double bilinear(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  return x == 0.0 ? 1.0 : std::sin(x * std::numbers::pi) / (x * std::numbers::pi);
}
double lanczos(double x) { return std::abs(x) < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

/// For each target position, the source positions that it reads and their fixed-point weights.
struct Taps {
  uint32_t first = 0;
  std::vector<int32_t> weights;
};

std::vector<Taps> make_taps(uint32_t from, uint32_t to, const ResampleFilter& filter) {
  const double scale = static_cast<double>(from) / to;
  const double stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch;
  std::vector<Taps> all(to);
  for (uint32_t i = 0; i < to; i++) {
    const double center = (i + 0.5) * scale;
    const auto first = static_cast<uint32_t>(std::max(0.0, std::floor(center - support + 0.5)));
    const auto last = static_cast<uint32_t>(
        std::min(static_cast<double>(from), std::floor(center + support + 0.5)));
    std::vector<double> weights;
    double sum = 0;
    for (uint32_t x = first; x < last; x++) {
      weights.push_back(filter.value((x - center + 0.5) / stretch));
      sum += weights.back();
    }
    all[i].first = first;
    for (double w : weights) {
      const double fixed = (sum != 0 ? w / sum : w) * (1 << kPrecisionBits);
      all[i].weights.push_back(static_cast<int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return all;
}

uint8_t round_to_byte(int64_t sum) {
  return static_cast<uint8_t>(
      std::clamp<int64_t>((sum + (1 << (kPrecisionBits - 1))) >> kPrecisionBits, 0, 255));
}

/// One pass along an axis: `step` and `count` walk that axis, `other_*` the one that stays.
void resample_axis(const uint8_t* from, uint8_t* to, const std::vector<Taps>& taps,
                   size_t from_step, size_t to_step, size_t others, size_t from_other,
                   size_t to_other, uint32_t channels) {
  for (size_t o = 0; o < others; o++)
    for (size_t i = 0; i < taps.size(); i++)
      for (uint32_t c = 0; c < channels; c++) {
        const uint8_t* p = from + o * from_other + taps[i].first * from_step + c;
        int64_t sum = 0;
        for (size_t k = 0; k < taps[i].weights.size(); k++)
          sum += int64_t{p[k * from_step]} * taps[i].weights[k];
        to[o * to_other + i * to_step + c] = round_to_byte(sum);
      }
}

}  // namespace

const ResampleFilter kBilinearFilter = {bilinear, 1.0};
const ResampleFilter kBicubicFilter = {bicubic, 2.0};
const ResampleFilter kLanczosFilter = {lanczos, 3.0};

Image8 resample(const Image8& image, uint32_t width, uint32_t height,
                const ResampleFilter& filter) {
  const size_t c = image.channels;
  Image8 wide = image;
  if (width != image.width) {
    wide = {width, image.height, image.channels, {}};
    wide.pixels.resize(size_t{width} * image.height * c);
    resample_axis(image.pixels.data(), wide.pixels.data(), make_taps(image.width, width, filter), c,
                  c, image.height, image.width * c, width * c, image.channels);
  }
  if (height == wide.height) return wide;
  Image8 out = {width, height, image.channels, {}};
  out.pixels.resize(size_t{width} * height * c);
  resample_axis(wide.pixels.data(), out.pixels.data(), make_taps(wide.height, height, filter),
                width * c, width * c, width, c, c, image.channels);
  return out;
}

Image8 resample_nearest(const Image8& image, uint32_t width, uint32_t height) {
  Image8 out = {width, height, image.channels, {}};
  out.pixels.resize(size_t{width} * height * image.channels);
  for (uint32_t y = 0; y < height; y++)
    for (uint32_t x = 0; x < width; x++) {
      const auto sx = static_cast<size_t>((x + 0.5) * image.width / width);
      const auto sy = static_cast<size_t>((y + 0.5) * image.height / height);
      std::copy_n(image.pixels.data() + (sy * image.width + sx) * image.channels, image.channels,
                  out.pixels.data() + (size_t{y} * width + x) * image.channels);
    }
  return out;
}

}  // namespace dlk
