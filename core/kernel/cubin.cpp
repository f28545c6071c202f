#include "core/kernel/cubin.h"

#include <cstdint>
#include <cstdlib>

#include "core/kernel/cubin_local.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace dlk {

bool is_ptx_text(const std::string& code) {
  return code.find(".version") != std::string::npos && code.find(".target") != std::string::npos &&
         code.find(".entry") != std::string::npos;
}

bool is_ptx_text(const KernelCode& code) {
  return code.format == KernelFormat::kPtx ||
         (code.format == KernelFormat::kBinary && is_ptx_text(code.code));
}

#if defined(_WIN32)

std::unique_ptr<CubinCompiler> CubinCompiler::open(const Caps&) {
  throw_unsupported("machine code is not made from PTX on this system");
}

#else

namespace {

// The part of cuda.h that is needed, by the names and values of its documentation.
using Result = int;
using CudaDevice = int;
using Handle = void*;
constexpr Result kSuccess = 0;
constexpr int kInputPtx = 1;
constexpr int kErrorLog = 5, kErrorLogBytes = 6;

struct Api {
  Result (*init)(unsigned) = nullptr;
  Result (*device_count)(int*) = nullptr;
  Result (*device_get)(CudaDevice*, int) = nullptr;
  Result (*device_name)(char*, int, CudaDevice) = nullptr;
  Result (*retain)(Handle*, CudaDevice) = nullptr;
  Result (*release)(CudaDevice) = nullptr;
  Result (*push)(Handle) = nullptr;
  Result (*pop)(Handle*) = nullptr;
  Result (*link_create)(unsigned, int*, void**, Handle*) = nullptr;
  Result (*link_add)(Handle, int, void*, size_t, const char*, unsigned, int*, void**) = nullptr;
  Result (*link_complete)(Handle, void**, size_t*) = nullptr;
  Result (*link_destroy)(Handle) = nullptr;
};

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw_unsupported(std::string("the CUDA driver library has no ") + name);
  }
}

Api functions_of(void* library) {
  Api api;
  find(library, "cuInit", api.init);
  find(library, "cuDeviceGetCount", api.device_count);
  find(library, "cuDeviceGet", api.device_get);
  find(library, "cuDeviceGetName", api.device_name);
  find(library, "cuDevicePrimaryCtxRetain", api.retain);
  find(library, "cuDevicePrimaryCtxRelease_v2", api.release);
  find(library, "cuCtxPushCurrent_v2", api.push);
  find(library, "cuCtxPopCurrent_v2", api.pop);
  find(library, "cuLinkCreate_v2", api.link_create);
  find(library, "cuLinkAddData_v2", api.link_add);
  find(library, "cuLinkComplete", api.link_complete);
  find(library, "cuLinkDestroy", api.link_destroy);
  return api;
}

void check(Result result, const char* call) {
  if (result == kSuccess) return;
  throw_unsupported(std::string(call) + " of the CUDA driver library: error " +
                    std::to_string(result));
}

CudaDevice device_of(const Api& api, const std::string& name) {
  int count = 0;
  check(api.device_count(&count), "cuDeviceGetCount");
  for (int i = 0; i < count; ++i) {
    CudaDevice device = 0;
    char text[256] = {};
    check(api.device_get(&device, i), "cuDeviceGet");
    check(api.device_name(text, sizeof text - 1, device), "cuDeviceGetName");
    if (name == text) return device;
  }
  throw_unsupported("the CUDA driver library knows no " + name);
}

class LinkCompiler final : public CubinCompiler {
 public:
  LinkCompiler(Api api, CudaDevice device) : api_(api), device_(device) {
    check(api_.retain(&context_, device_), "cuDevicePrimaryCtxRetain");
  }
  ~LinkCompiler() override { api_.release(device_); }

  std::string compile(const std::string& ptx, const std::string& label) override {
    check(api_.push(context_), "cuCtxPushCurrent");
    const Popper popper{api_};
    char log[4096] = {};
    int options[] = {kErrorLog, kErrorLogBytes};
    void* values[] = {log, reinterpret_cast<void*>(uintptr_t{sizeof log - 1})};
    Handle link = nullptr;
    check(api_.link_create(2, options, values, &link), "cuLinkCreate");
    const Destroyer destroyer{api_, link};
    std::string text = ptx;  // the library takes it as writable
    const uint64_t missing = shrink_local(text);
    Result result = api_.link_add(link, kInputPtx, text.data(), text.size() + 1, label.c_str(), 0,
                                  nullptr, nullptr);
    void* code = nullptr;
    size_t bytes = 0;
    if (result == kSuccess) result = api_.link_complete(link, &code, &bytes);
    if (result != kSuccess || code == nullptr || bytes == 0) {
      throw Error(ErrorCode::kCompileFailed, "PTX of kernel '" + label +
                                                 "': the CUDA driver library gives error " +
                                                 std::to_string(result) + ": " + log);
    }
    std::string made(static_cast<const char*>(code), bytes);  // the code belongs to the link
    grow_local(made, missing);
    return made;
  }

 private:
  struct Popper {
    const Api& api;
    ~Popper() {
      Handle context = nullptr;
      api.pop(&context);
    }
  };
  struct Destroyer {
    const Api& api;
    Handle link;
    ~Destroyer() { api.link_destroy(link); }
  };

  const Api api_;
  const CudaDevice device_;
  Handle context_ = nullptr;
};

}  // namespace

std::unique_ptr<CubinCompiler> CubinCompiler::open(const Caps& caps) {
  const char* setting = std::getenv("DLK_CUBIN");
  if (setting != nullptr && std::string(setting) == "0") throw_unsupported("DLK_CUBIN=0");
  const char* other = std::getenv("DLK_CUBIN_LIBRARY");
  // Never closed: the driver's library does not come back after that.
  void* library = dlopen(other != nullptr ? other : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw_unsupported(std::string("no CUDA driver library: ") + (reason ? reason : "not found"));
  }
  const Api api = functions_of(library);
  check(api.init(0), "cuInit");
  return std::make_unique<LinkCompiler>(api, device_of(api, caps.name));
}

#endif

}  // namespace dlk
