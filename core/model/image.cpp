#include "core/model/image.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/model/resample.h"

namespace dlk {

namespace {

using Json = nlohmann::json;
constexpr uint32_t kMaxSide = 65535;
constexpr uint64_t kMaxPixels = uint64_t{1} << 28;

[[noreturn]] void bad(const std::string& why) { throw_invalid("preprocessing: " + why); }

uint32_t side(const Json& value, const char* key) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 || value.get<uint64_t>() > kMaxSide)
    bad("'" + std::string(key) + "' is not a size in pixels");
  return value.get<uint32_t>();
}

std::array<float, 3> per_channel(const Json& value, const char* key) {
  if (value.is_number()) {
    const auto x = value.get<float>();
    return {x, x, x};
  }
  if (!value.is_array() || value.empty() || value.size() > 3 || value.size() == 2)
    bad("'" + std::string(key) + "' needs one number a channel");
  std::array<float, 3> out{};
  for (size_t i = 0; i < 3; i++) {
    const Json& item = value[value.size() == 1 ? 0 : i];
    if (!item.is_number()) bad("'" + std::string(key) + "' holds something else than numbers");
    out[i] = item.get<float>();
  }
  return out;
}

template <typename T>
T choice(const Json& value, const char* key,
         std::initializer_list<std::pair<const char*, T>> options) {
  for (const auto& [name, option] : options)
    if (value == name) return option;
  bad("'" + std::string(key) + "' cannot be " + value.dump());
}

/// Halves to even, as Python's round().
int64_t round_half_even(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

Image8 convert_color(const uint8_t* rgb, uint32_t width, uint32_t height, bool grey,
                     bool reversed) {
  Image8 image = {width, height, grey ? 1u : 3u, {}};
  const size_t count = size_t{width} * height;
  image.pixels.resize(count * image.channels);
  for (size_t i = 0; i < count; i++) {
    const uint8_t* p = rgb + 3 * i;
    if (grey)
      image.pixels[i] =
          static_cast<uint8_t>((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
    else
      for (size_t c = 0; c < 3; c++) image.pixels[3 * i + c] = p[reversed ? 2 - c : c];
  }
  return image;
}

Image8 center_crop(const Image8& image, uint32_t width, uint32_t height) {
  Image8 out = {width, height, image.channels, {}};
  out.pixels.assign(size_t{width} * height * image.channels, 0);
  const auto offset = [](uint32_t have, uint32_t want) {
    // An image that is smaller is padded, with the smaller half first.
    return have >= want ? round_half_even((have - want) / 2.0) : -int64_t{(want - have) / 2};
  };
  const int64_t left = offset(image.width, width), top = offset(image.height, height);
  for (uint32_t y = 0; y < height; y++)
    for (uint32_t x = 0; x < width; x++) {
      const int64_t sx = x + left, sy = y + top;
      if (sx < 0 || sy < 0 || sx >= image.width || sy >= image.height) continue;
      std::memcpy(&out.pixels[(size_t{y} * width + x) * image.channels],
                  &image.pixels[static_cast<size_t>(sy * image.width + sx) * image.channels],
                  image.channels);
    }
  return out;
}

}  // namespace

ImagePreparation ImagePreparation::parse(const std::string& text) {
  if (text.empty())
    throw_invalid("the model does not say how it wants pictures; prepare the tensor yourself");
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) bad("it is not a JSON object");
  ImagePreparation p;
  for (const auto& [key, value] : json.items()) {
    if (key == "input" && value.is_string()) {
      continue;
    } else if (key == "color") {
      p.color_ = choice<Color>(value, "color",
                               {{"RGB", Color::kRgb}, {"BGR", Color::kBgr}, {"L", Color::kGrey}});
    } else if (key == "interpolation") {
      p.filter_ = choice<Filter>(value, "interpolation",
                                 {{"nearest", Filter::kNearest},
                                  {"bilinear", Filter::kBilinear},
                                  {"bicubic", Filter::kBicubic},
                                  {"lanczos", Filter::kLanczos}});
    } else if (key == "resize_short") {
      p.resize_short_ = side(value, "resize_short");
    } else if (key == "resize" || key == "crop") {
      const bool pair = value.is_array() && value.size() == 2;
      Size size = {side(pair ? value[1] : value, key.c_str()),
                   side(pair ? value[0] : value, key.c_str())};
      (key == "crop" ? p.crop_ : p.resize_) = size;
    } else if (key == "range") {
      if (!value.is_array() || value.size() != 2 || !value[0].is_number() || !value[1].is_number())
        bad("'range' needs two numbers");
      p.low_ = value[0].get<float>();
      p.high_ = value[1].get<float>();
    } else if (key == "mean") {
      p.mean_ = per_channel(value, "mean");
    } else if (key == "std") {
      p.std_ = per_channel(value, "std");
      for (float s : p.std_)
        if (s == 0) bad("'std' is 0");
    } else if (key == "layout") {
      p.channels_first_ = choice<bool>(value, "layout", {{"NCHW", true}, {"NHWC", false}});
    } else {
      bad("the key '" + key + "' is unknown");
    }
  }
  if (p.resize_short_ && p.resize_.width) bad("'resize' and 'resize_short' exclude each other");
  return p;
}

ImagePreparation::Size ImagePreparation::resized(uint32_t width, uint32_t height) const {
  if (width == 0 || height == 0 || width > kMaxSide || height > kMaxSide)
    throw_invalid("an image of " + std::to_string(width) + " x " + std::to_string(height) +
                  " pixels cannot be prepared");
  if (resize_.width) return resize_;
  if (!resize_short_) return {width, height};
  const auto longer = [&](uint32_t a, uint32_t b) {
    return static_cast<uint32_t>(uint64_t{resize_short_} * a / b);
  };
  return width <= height ? Size{resize_short_, longer(height, width)}
                         : Size{longer(width, height), resize_short_};
}

Shape ImagePreparation::output_shape(uint32_t width, uint32_t height) const {
  const Size whole = resized(width, height);
  const Size size = crop_.width ? crop_ : whole;
  for (const Size& s : {whole, size}) {
    if (uint64_t{s.width} * s.height > kMaxPixels)
      throw_invalid("an image of " + std::to_string(width) + " x " + std::to_string(height) +
                    " pixels would be prepared as one of " + std::to_string(s.width) + " x " +
                    std::to_string(s.height) + ", which is too large");
  }
  const int64_t channels = color_ == Color::kGrey ? 1 : 3;
  if (channels_first_) return {1, channels, size.height, size.width};
  return {1, size.height, size.width, channels};
}

void ImagePreparation::run(const uint8_t* rgb, uint32_t width, uint32_t height,
                           float* output) const {
  const Size size = resized(width, height);
  Image8 image = convert_color(rgb, width, height, color_ == Color::kGrey, color_ == Color::kBgr);
  const ResampleFilter& filter = filter_ == Filter::kBicubic   ? kBicubicFilter
                                 : filter_ == Filter::kLanczos ? kLanczosFilter
                                                               : kBilinearFilter;
  if (size.width != width || size.height != height)
    image = filter_ == Filter::kNearest ? resample_nearest(image, size.width, size.height)
                                        : resample(image, size.width, size.height, filter);
  if (crop_.width) image = center_crop(image, crop_.width, crop_.height);
  const size_t count = size_t{image.width} * image.height, channels = image.channels;
  for (size_t i = 0; i < count; i++)
    for (size_t c = 0; c < channels; c++) {
      const float x =
          low_ + (high_ - low_) * (static_cast<float>(image.pixels[i * channels + c]) / 255.0f);
      output[channels_first_ ? c * count + i : i * channels + c] = (x - mean_[c]) / std_[c];
    }
}

}  // namespace dlk
