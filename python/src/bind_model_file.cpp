// Model files and picture preparation.
#include "bind.h"
#include "core/model/image.h"
#include "core/model/model_file.h"

namespace dlk::python {

namespace {

py::array prepare_image(const std::string& preprocessing,
                        const py::array_t<uint8_t, py::array::c_style>& rgb) {
  if (rgb.ndim() != 3 || rgb.shape(2) != 3)
    throw_invalid("an image must be a (height, width, 3) array of uint8");
  const auto preparation = ImagePreparation::parse(preprocessing);
  const auto height = static_cast<uint32_t>(rgb.shape(0));
  const auto width = static_cast<uint32_t>(rgb.shape(1));
  py::array_t<float> out(preparation.output_shape(width, height));
  float* data = out.mutable_data();
  const uint8_t* pixels = rgb.data();
  py::gil_scoped_release release;
  preparation.run(pixels, width, height, data);
  py::gil_scoped_acquire acquire;
  return out;
}

}  // namespace

void bind_model_file(py::module_& m) {
  m.def(
      "load_dlk",
      [](const std::string& path) {
        py::gil_scoped_release release;
        return std::make_shared<Graph>(load_model(path));
      },
      py::arg("path"), "Reads a .dlk file or directory; weights stay mapped.");
  m.def(
      "save_dlk",
      [](const Graph& graph, const std::string& path) {
        py::gil_scoped_release release;
        save_model(graph, path);
      },
      py::arg("graph"), py::arg("path"),
      "Writes a .dlk file, or a directory if path ends in '/' or is one; whole or not at all.");
  m.def(
      "prepare_image", &prepare_image, py::arg("preprocessing"), py::arg("rgb"),
      "What C and C++ programs feed a model: float32 (1, C, H, W) from (height, width, 3) uint8.");
}

}  // namespace dlk::python
