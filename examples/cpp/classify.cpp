// Classifies a picture with a `.dlk` model on any device:
//   classify MODEL.dlk PICTURE.ppm [DEVICE]
// Pictures are binary PPM (P6), so that the example needs no image library.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "dlk/dlk.hpp"

namespace {

struct Picture {
  uint32_t width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  Picture picture;
  int maximum = 0;
  if (!(file >> magic >> picture.width >> picture.height >> maximum) || magic != "P6" ||
      maximum != 255 || picture.width > 65535 || picture.height > 65535)
    throw std::runtime_error(path + " is no binary PPM picture (P6, 255)");
  file.get();
  picture.rgb.resize(size_t{picture.width} * picture.height * 3);
  if (!file.read(reinterpret_cast<char*>(picture.rgb.data()),
                 static_cast<std::streamsize>(picture.rgb.size())))
    throw std::runtime_error(path + " is truncated");
  return picture;
}

void classify(const std::string& model_path, const std::string& picture_path,
              const std::string& device_spec) {
  const dlk::api::Device device(device_spec);
  const dlk::api::Model model(model_path, device);
  const Picture picture = read_ppm(picture_path);

  dlk::api::Session session(model);
  session.bind(model.input().name,
               model.prepare_image(picture.rgb.data(), picture.width, picture.height));
  const std::vector<float> scores = session.run().read(model.output_name()).as<float>();

  const std::vector<std::string> labels = model.labels();
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t count = std::min<size_t>(5, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  for (size_t i = 0; i < count; i++) {
    const std::string name =
        order[i] < labels.size() ? labels[order[i]] : "class " + std::to_string(order[i]);
    std::printf("%.3f  %s\n", static_cast<double>(scores[order[i]]), name.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: %s MODEL.dlk PICTURE.ppm [DEVICE]\n", argv[0]);
    return 2;
  }
  try {
    classify(argv[1], argv[2], argc == 4 ? argv[3] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
