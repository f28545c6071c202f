// Writes what the examples' tests read: make_example_data FOLDER -> FOLDER/color.dlk, green.ppm.
#include <filesystem>
#include <fstream>
#include <iostream>

#include "tests/cpp/c_api_models.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_example_data FOLDER\n";
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  dlk::testing::save_color_classifier((folder / "color.dlk").string());
  std::ofstream picture(folder / "green.ppm", std::ios::binary);
  constexpr int kSide = 32;
  picture << "P6\n" << kSide << ' ' << kSide << "\n255\n";
  for (int i = 0; i < kSide * kSide; ++i) picture << '\x20' << '\xd0' << '\x20';
  return picture.flush() ? 0 : 1;
}
