// The device metal-sim: the Metal backend on the simulator, for those who ask for it.
#include <cstdlib>
#include <cstring>

#include "backends/metal/device.h"
#include "core/device/registry.h"

namespace dlk::metal {

namespace {

bool is_enabled() {
  const char* value = std::getenv("DLK_ENABLE_METAL_SIM");
  return value && std::strcmp(value, "1") == 0;
}

class MetalSimBackend final : public MetalBackend {
 public:
  MetalSimBackend() : MetalBackend("metal-sim") {}
  int priority() const override { return -50; }
  bool hidden() const override { return !is_enabled(); }
  bool never_default() const override { return true; }
  std::vector<Caps> enumerate() override {
    return is_enabled() ? MetalBackend::enumerate() : std::vector<Caps>{};
  }
  std::string unavailable_reason() override {
    if (is_enabled()) return MetalBackend::unavailable_reason();
    return "the Metal simulator is for tests; set DLK_ENABLE_METAL_SIM=1 to use it";
  }
  std::shared_ptr<Device> open(uint32_t index) override {
    if (!is_enabled()) throw_unsupported(unavailable_reason());
    return MetalBackend::open(index);
  }
};

}  // namespace

DLK_REGISTER_BACKEND(MetalSimBackend)

}  // namespace dlk::metal
