// Any file is either a model that loads and can be asked about, or a dlk::Error.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base/error.h"
#include "core/model/image.h"
#include "core/model/model_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dlk;
  static const int file = memfd_create("model.dlk", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) {
    std::abort();
  }
  try {
    const Graph graph = load_model(path);
    graph.validate();
    ImagePreparation::parse(graph.info.preprocessing).output_shape(32, 24);
  } catch (const Error&) {
  }
  return 0;
}
