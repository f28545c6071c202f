// dlk::Error to Python: ValueError, NotImplementedError, MemoryError, or dlk.Error and its two
// subclasses.
#include "bind.h"
#include "core/base/error.h"

namespace dlk::python {

namespace {

py::handle exception_class(ErrorCode code) {
  py::module_ core = py::module_::import("dlk._core");
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return PyExc_ValueError;
    case ErrorCode::kUnsupported:
      return PyExc_NotImplementedError;
    case ErrorCode::kOutOfMemory:
      return PyExc_MemoryError;
    case ErrorCode::kCompileFailed:
      return core.attr("CompileError").cast<py::object>().release();
    case ErrorCode::kDeviceLost:
      return core.attr("DeviceLostError").cast<py::object>().release();
  }
  return PyExc_RuntimeError;
}

py::object new_exception(const char* name, const char* doc, const py::handle& base) {
  auto made =
      py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(name, doc, base.ptr(), nullptr));
  if (!made) throw py::error_already_set();
  return made;
}

}  // namespace

py::object exception_object(const std::exception_ptr& error) {
  if (!error) return py::none();
  try {
    std::rethrow_exception(error);
  } catch (py::error_already_set& e) {
    return e.value();
  } catch (const Error& e) {
    return py::reinterpret_borrow<py::object>(exception_class(e.code()))(e.what());
  } catch (const std::bad_alloc&) {
    return py::reinterpret_borrow<py::object>(PyExc_MemoryError)("out of host memory");
  } catch (const std::exception& e) {
    return py::reinterpret_borrow<py::object>(PyExc_RuntimeError)(e.what());
  }
}

void bind_errors(py::module_& m) {
  py::object base = new_exception("dlk.Error", "What went wrong in the engine, and what to do.",
                                  PyExc_RuntimeError);
  m.attr("Error") = base;
  m.attr("CompileError") =
      new_exception("dlk.CompileError", "A kernel does not compile; carries the log.", base);
  m.attr("DeviceLostError") =
      new_exception("dlk.DeviceLostError", "The device failed while it ran.", base);
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Error& e) {
      PyErr_SetString(exception_class(e.code()).ptr(), e.what());
    }
  });
}

}  // namespace dlk::python
