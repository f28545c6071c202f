#include <algorithm>

#include "core/runtime/model.h"

namespace dlk {

DeviceTensor DeviceTensor::empty(const std::shared_ptr<Device>& device, DType dtype, Shape shape) {
  DeviceTensor tensor{device, {}, dtype, std::move(shape)};
  const uint64_t bytes =
      std::max<uint64_t>(static_cast<uint64_t>(element_count(tensor.shape)) * dtype_size(dtype), 4);
  tensor.view = {device->allocate(bytes, MemoryKind::kDevice), 0, bytes};
  return tensor;
}

DeviceTensor DeviceTensor::upload(const std::shared_ptr<Device>& device, const HostTensor& host) {
  DeviceTensor tensor = empty(device, host.dtype, host.shape);
  if (host.size_bytes() == 0) return tensor;
  const auto queue = device->create_queue();
  queue->wait(queue->write({tensor.view.buffer, 0, host.size_bytes()}, host.bytes()));
  return tensor;
}

HostTensor DeviceTensor::read() const {
  auto [host, bytes] = HostTensor::unfilled(dtype, shape);
  if (!bytes.empty()) {
    const auto queue = device->create_queue();
    queue->wait(queue->read({view.buffer, view.offset_bytes, bytes.size()}, bytes));
  }
  return std::move(host);
}

}  // namespace dlk
