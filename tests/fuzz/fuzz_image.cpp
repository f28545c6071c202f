// Any preprocessing text, for a picture of any size, either prepares it or gives a dlk::Error. The
// first two bytes are the picture's width and height.
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dlk;
  if (size < 2) return 0;
  const uint32_t width = data[0], height = data[1];
  const std::string text(reinterpret_cast<const char*>(data) + 2, size - 2);
  try {
    const ImagePreparation preparation = ImagePreparation::parse(text);
    const Shape shape = preparation.output_shape(width, height);
    constexpr int64_t kLargest = 1 << 18;  // beyond it a run takes too long to be worth it
    if (element_count(shape) > kLargest) return 0;
    std::vector<uint8_t> rgb(size_t{width} * height * 3);
    for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<uint8_t>(i * 37);
    std::vector<float> output(static_cast<size_t>(element_count(shape)));
    preparation.run(rgb.data(), width, height, output.data());
  } catch (const Error&) {
  }
  return 0;
}
