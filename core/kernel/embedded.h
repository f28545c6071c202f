// The texts of kernels/*.k, compiled into the library by cmake/embed_kernels.cmake.
#pragma once

#include <string_view>
#include <vector>

namespace dlk {

struct EmbeddedKernelFile {
  std::string_view file_name;
  std::string_view text;
};

std::vector<EmbeddedKernelFile> embedded_kernel_files();

}  // namespace dlk
