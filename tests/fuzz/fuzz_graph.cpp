// Any JSON text is either a graph that survives being written and read again, or a dlk::Error.
#include <cstdint>
#include <cstdlib>

#include "core/base/error.h"
#include "core/model/graph_json.h"

namespace {

using namespace dlk;

std::map<std::string, HostTensor> some_tensors() {
  return {{"w", HostTensor::of<float>(DType::kFloat32, {2, 3}, {1, 2, 3, 4, 5, 6})},
          {"i", HostTensor::ints({1, -1})},
          {"s", HostTensor::scalar(DType::kFloat32, 2)}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::map<std::string, HostTensor> tensors = some_tensors();
  const auto* text = reinterpret_cast<const char*>(data);
  const Json json = Json::parse(text, text + size, nullptr, false);
  if (json.is_discarded()) return 0;
  try {
    const Graph graph = graph_from_json(json, tensors, "fuzz");
    std::vector<NamedTensor> written;
    const Json again = graph_to_json(graph, written);
    std::map<std::string, HostTensor> stored;
    for (const NamedTensor& tensor : written) stored[tensor.name] = tensor.tensor;
    const Graph copy = graph_from_json(again, stored, "again");
    if (copy.nodes().size() != graph.nodes().size()) std::abort();
  } catch (const Error&) {
  } catch (const Json::exception&) {
    // load_model turns these into an Error.
  }
  return 0;
}
