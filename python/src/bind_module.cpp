// The module dlk._core: what the Python package calls. Import dlk, not this.
#include "bind.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Bindings of the dlk engine; use the package dlk.";
  m.attr("__version__") = DLK_VERSION;
  dlk::python::bind_errors(m);
  dlk::python::bind_device(m);
  dlk::python::bind_graph(m);
  dlk::python::bind_ops(m);
  dlk::python::bind_kernels(m);
  dlk::python::bind_model(m);
  dlk::python::bind_model_file(m);
}
