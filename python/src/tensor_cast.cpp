// NumPy arrays and HostTensors share memory in both directions where layout allows it.
#include <pybind11/gil.h>

#include "bind.h"

namespace dlk::python {

namespace {

/// ml_dtypes' type of this name; None without the package, or where it is too old.
py::object ml_dtype(DType dtype) {
  try {
    return py::module_::import("ml_dtypes").attr(std::string(dtype_name(dtype)).c_str());
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ImportError) && !error.matches(PyExc_AttributeError)) throw;
    return py::none();
  }
}

DType dtype_of_array(const py::array& array, const std::string& wanted) {
  std::string name = py::str(array.dtype().attr("name"));
  auto own = parse_dtype(name);
  if (wanted.empty()) {
    if (!own) {
      throw_invalid("arrays of dtype " + name +
                    " cannot be used; convert to a NumPy integer, float or bool dtype");
    }
    return *own;
  }
  DType asked = dtype_of_name(wanted);
  bool bits = (asked == DType::kBFloat16 && own == DType::kUInt16) ||
              (is_storage_only(asked) && own == DType::kUInt8);
  if (own != asked && !bits) {
    throw_invalid("the array is " + name + " but dtype says " + wanted + "; convert it first");
  }
  return asked;
}

}  // namespace

DType dtype_of_name(const std::string& name) {
  if (auto dtype = parse_dtype(name)) return *dtype;
  throw_invalid("unknown dtype '" + name +
                "'; use a NumPy name such as float32, float16, bfloat16, int64, uint8, bool");
}

py::dtype numpy_dtype(DType dtype) {
  if (dtype == DType::kString) return py::dtype("object");
  if (dtype != DType::kBFloat16 && !is_storage_only(dtype)) {
    return py::dtype(std::string(dtype_name(dtype)));
  }
  py::object type = ml_dtype(dtype);
  if (!type.is_none()) return py::dtype::from_args(type);
  return py::dtype(dtype == DType::kBFloat16 ? "uint16" : "uint8");
}

/// Arrays of str or bytes.
HostTensor strings_from_array(const py::array& array) {
  Shape shape(array.shape(), array.shape() + array.ndim());
  std::vector<std::string> texts;
  for (py::handle item : array.attr("ravel")().attr("tolist")()) {
    if (!py::isinstance<py::str>(item) && !py::isinstance<py::bytes>(item)) {
      throw_invalid(
          "arrays of objects must hold str; convert others to a NumPy integer, float or "
          "bool dtype");
    }
    texts.push_back(item.cast<std::string>());
  }
  return HostTensor::strings(std::move(shape), texts);
}

py::array array_of_strings(const HostTensor& tensor) {
  py::object numpy = py::module_::import("numpy");
  py::list texts;
  for (const std::string& text : tensor.to_strings()) texts.append(py::str(text));
  py::object flat = numpy.attr("empty")(texts.size(), "object");
  flat[py::slice(py::none(), py::none(), py::none())] = texts;
  return flat.attr("reshape")(tensor.shape);
}

HostTensor tensor_from_array(const py::handle& source, const std::string& dtype) {
  py::object numpy = py::module_::import("numpy");
  // require() copies only when it must; `>f4` and friends become native first.
  py::array array = numpy.attr("asarray")(source);
  if (!py::cast<bool>(array.dtype().attr("isnative"))) {
    array = array.attr("astype")(array.dtype().attr("newbyteorder")("="));
  }
  if (!(array.flags() & py::array::c_style)) array = array.attr("copy")(py::arg("order") = "C");
  if (std::string("OUS").find(array.dtype().kind()) != std::string::npos &&
      (dtype.empty() || dtype == "string")) {
    return strings_from_array(array);
  }
  HostTensor tensor;
  tensor.dtype = dtype_of_array(array, dtype);
  for (py::ssize_t i = 0; i < array.ndim(); ++i) tensor.shape.push_back(array.shape(i));
  const auto* data = static_cast<const std::byte*>(array.data());
  auto* owner = array.release().ptr();
  tensor.data = std::shared_ptr<const std::byte>(data, [owner](const std::byte*) {
    if (!Py_IsInitialized()) return;  // at exit the process takes the memory back
    py::gil_scoped_acquire gil;
    Py_DECREF(owner);
  });
  return tensor;
}

py::array array_from_tensor(const HostTensor& tensor, bool writeable) {
  if (tensor.dtype == DType::kString) return array_of_strings(tensor);
  auto* keep = new std::shared_ptr<const std::byte>(tensor.data);
  py::capsule owner(keep,
                    [](void* p) { delete static_cast<std::shared_ptr<const std::byte>*>(p); });
  py::array array(numpy_dtype(tensor.dtype), tensor.shape, tensor.data.get(),
                  tensor.data ? py::object(owner) : py::object());
  if (!writeable) array.attr("setflags")(py::arg("write") = false);
  return array;
}

SymbolicShape shape_from_python(const py::sequence& dims) {
  SymbolicShape shape;
  for (py::handle dim : dims) {
    if (dim.is_none()) {
      shape.push_back(Dim::named({}));
    } else if (py::isinstance<py::str>(dim)) {
      shape.push_back(Dim::named(dim.cast<std::string>()));
    } else {
      auto value = dim.cast<int64_t>();
      if (value < 0) {
        throw_invalid("dimension " + std::to_string(value) +
                      " is negative; name an unknown dimension with a str or None");
      }
      shape.push_back(Dim::of(value));
    }
  }
  return shape;
}

py::tuple shape_to_python(const SymbolicShape& shape) {
  py::tuple result(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i].is_static()) {
      result[i] = shape[i].value;
    } else if (shape[i].symbol.empty()) {
      result[i] = py::none();
    } else {
      result[i] = shape[i].symbol;
    }
  }
  return result;
}

py::tuple shape_to_python(const Shape& shape) {
  py::tuple result(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) result[i] = shape[i];
  return result;
}

}  // namespace dlk::python
