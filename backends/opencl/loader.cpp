#include "backends/opencl/loader.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "core/base/error.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace dlk::opencl {

namespace {

#ifdef _WIN32
void* open_library(const char* path) { return reinterpret_cast<void*>(LoadLibraryA(path)); }
void* symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(library), name));
}
#else
void* open_library(const char* path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
void* symbol(void* library, const char* name) { return dlsym(library, name); }
#endif

std::vector<std::string> library_paths() {
#if defined(_WIN32)
  return {"OpenCL.dll"};
#elif defined(__APPLE__)
  return {"/System/Library/Frameworks/OpenCL.framework/OpenCL"};
#elif defined(__ANDROID__)
  return {"libOpenCL.so",
          "/vendor/lib64/libOpenCL.so",
          "/system/vendor/lib64/libOpenCL.so",
          "/system/lib64/libOpenCL.so",
          "/vendor/lib64/egl/libGLES_mali.so",
          "/vendor/lib/libOpenCL.so",
          "/system/vendor/lib/libOpenCL.so",
          "/vendor/lib/egl/libGLES_mali.so"};
#else
  return {"libOpenCL.so.1", "libOpenCL.so"};
#endif
}

struct Loaded {
  Api table;
  bool ok = false;
  std::string error;
};

Loaded load() {
  Loaded loaded;
  std::vector<std::string> paths = library_paths();
  if (const char* chosen = std::getenv("DLK_OPENCL_LIBRARY"); chosen && *chosen) paths = {chosen};
  void* library = nullptr;
  std::string found;
  for (const std::string& path : paths) {
    library = open_library(path.c_str());
    if (library) {
      found = path;
      break;
    }
  }
  if (!library) {
    loaded.error =
        "the OpenCL loader " + paths.front() +
        " cannot be opened; install an OpenCL loader (Debian: ocl-icd-libopencl1) and a "
        "driver (pocl-opencl-icd runs on any CPU), or set DLK_OPENCL_LIBRARY to its path";
    return loaded;
  }
  std::string missing;
  // The cast from an object pointer is what dlsym is for.
#define DLK_CL_LOAD(name) \
  loaded.table.name = reinterpret_cast<decltype(&::name)>(symbol(library, #name));
#define DLK_CL_NEED(name) \
  DLK_CL_LOAD(name)       \
  if (!loaded.table.name && missing.empty()) missing = #name;
  DLK_CL_REQUIRED(DLK_CL_NEED)
  DLK_CL_OPTIONAL(DLK_CL_LOAD)
#undef DLK_CL_NEED
#undef DLK_CL_LOAD
  loaded.ok = missing.empty();
  if (!loaded.ok) {
    loaded.error = found + " has no " + missing + ": dlk needs OpenCL 1.2 or later";
  }
  return loaded;
}

const Loaded& loaded() {
  static const Loaded result = load();
  return result;
}

const char* error_name(cl_int code) {
#define DLK_CL_NAME(name) \
  case name:              \
    return #name;
  switch (code) {
    DLK_CL_NAME(CL_DEVICE_NOT_FOUND)
    DLK_CL_NAME(CL_DEVICE_NOT_AVAILABLE)
    DLK_CL_NAME(CL_COMPILER_NOT_AVAILABLE)
    DLK_CL_NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE)
    DLK_CL_NAME(CL_OUT_OF_RESOURCES)
    DLK_CL_NAME(CL_OUT_OF_HOST_MEMORY)
    DLK_CL_NAME(CL_PROFILING_INFO_NOT_AVAILABLE)
    DLK_CL_NAME(CL_MEM_COPY_OVERLAP)
    DLK_CL_NAME(CL_BUILD_PROGRAM_FAILURE)
    DLK_CL_NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET)
    DLK_CL_NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
    DLK_CL_NAME(CL_INVALID_VALUE)
    DLK_CL_NAME(CL_INVALID_DEVICE)
    DLK_CL_NAME(CL_INVALID_CONTEXT)
    DLK_CL_NAME(CL_INVALID_QUEUE_PROPERTIES)
    DLK_CL_NAME(CL_INVALID_COMMAND_QUEUE)
    DLK_CL_NAME(CL_INVALID_HOST_PTR)
    DLK_CL_NAME(CL_INVALID_MEM_OBJECT)
    DLK_CL_NAME(CL_INVALID_BUILD_OPTIONS)
    DLK_CL_NAME(CL_INVALID_PROGRAM)
    DLK_CL_NAME(CL_INVALID_PROGRAM_EXECUTABLE)
    DLK_CL_NAME(CL_INVALID_KERNEL_NAME)
    DLK_CL_NAME(CL_INVALID_KERNEL_DEFINITION)
    DLK_CL_NAME(CL_INVALID_KERNEL)
    DLK_CL_NAME(CL_INVALID_ARG_INDEX)
    DLK_CL_NAME(CL_INVALID_ARG_VALUE)
    DLK_CL_NAME(CL_INVALID_ARG_SIZE)
    DLK_CL_NAME(CL_INVALID_KERNEL_ARGS)
    DLK_CL_NAME(CL_INVALID_WORK_DIMENSION)
    DLK_CL_NAME(CL_INVALID_WORK_GROUP_SIZE)
    DLK_CL_NAME(CL_INVALID_WORK_ITEM_SIZE)
    DLK_CL_NAME(CL_INVALID_GLOBAL_OFFSET)
    DLK_CL_NAME(CL_INVALID_EVENT_WAIT_LIST)
    DLK_CL_NAME(CL_INVALID_EVENT)
    DLK_CL_NAME(CL_INVALID_OPERATION)
    DLK_CL_NAME(CL_INVALID_BUFFER_SIZE)
    DLK_CL_NAME(CL_INVALID_GLOBAL_WORK_SIZE)
    default:
      return "OpenCL error";
  }
#undef DLK_CL_NAME
}

ErrorCode code_for(cl_int code) {
  switch (code) {
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_HOST_MEMORY:
    case CL_OUT_OF_RESOURCES:
    case CL_INVALID_BUFFER_SIZE:
      return ErrorCode::kOutOfMemory;
    case CL_BUILD_PROGRAM_FAILURE:
    case CL_COMPILER_NOT_AVAILABLE:
    case CL_INVALID_BUILD_OPTIONS:
    case CL_INVALID_KERNEL_NAME:
      return ErrorCode::kCompileFailed;
    default:
      // The API's "invalid argument" errors start at -30.
      return code <= CL_INVALID_VALUE ? ErrorCode::kInvalidArgument : ErrorCode::kDeviceLost;
  }
}

}  // namespace

const Api* api() { return loaded().ok ? &loaded().table : nullptr; }

const std::string& loader_error() { return loaded().error; }

std::string error_text(cl_int code) {
  return std::string(error_name(code)) + " (" + std::to_string(code) + ")";
}

void throw_cl(cl_int code, const std::string& what) {
  throw Error(code_for(code), what + ": " + error_text(code));
}

}  // namespace dlk::opencl
