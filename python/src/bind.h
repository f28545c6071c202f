// What the binding files share: one bind_TOPIC function a file, and the conversions between NumPy
// arrays and HostTensor. Binding files hold casts only; behaviour lives in core/ or in dlk/*.py.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace dlk::python {

namespace py = pybind11;

void bind_errors(py::module_& m);
void bind_graph(py::module_& m);
void bind_device(py::module_& m);
void bind_model(py::module_& m);
void bind_kernels(py::module_& m);
void bind_ops(py::module_& m);
void bind_model_file(py::module_& m);

/// The Python exception that `error` maps to, as an object.
py::object exception_object(const std::exception_ptr& error);

/// InvalidArgument with the accepted names.
DType dtype_of_name(const std::string& name);
/// NumPy's dtype; bfloat16, 8-bit floats and narrower types are ml_dtypes' where that is installed,
/// else their bits as uint16 or uint8.
py::dtype numpy_dtype(DType dtype);

/// Shares the array's memory when it is C-contiguous and native-endian, else copies. `dtype` names
/// the element type when the array's own does not say it: uint16 bits of "bfloat16", bytes of
/// "int4".
HostTensor tensor_from_array(const py::handle& array, const std::string& dtype = {});
/// Shares the tensor's memory.
py::array array_from_tensor(const HostTensor& tensor, bool writeable);

/// int, str (a symbol) or None (an anonymous unknown) a dimension.
SymbolicShape shape_from_python(const py::sequence& dims);
py::tuple shape_to_python(const SymbolicShape& shape);
py::tuple shape_to_python(const Shape& shape);

/// A handle whose last release in Python gives up the GIL: destroying sessions and models waits for
/// the device, whose completion callbacks may need it.
template <typename T>
std::shared_ptr<T> released_without_gil(std::shared_ptr<T> object) {
  T* raw = object.get();
  return std::shared_ptr<T>(raw, [keep = std::move(object)](T*) mutable {
    if (PyGILState_Check()) {
      py::gil_scoped_release release;
      keep.reset();
    } else {
      keep.reset();
    }
  });
}

}  // namespace dlk::python
