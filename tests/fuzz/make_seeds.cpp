// Inputs for the fuzzers to start from: make_seeds FOLDER writes FOLDER/TARGET/NAME.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "core/model/graph_json.h"
#include "core/model/mapped_file.h"
#include "core/model/model_file.h"
#include "core/model/zip.h"

namespace {

using namespace dlk;
namespace fs = std::filesystem;

constexpr const char* kPreprocessing =
    R"({"color": "BGR", "interpolation": "bicubic", "resize_short": 9, "crop": [8, 7],)"
    R"( "range": [0, 1], "mean": [0.5, 0.4, 0.3], "std": 0.2, "layout": "NHWC"})";

Graph sample() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(3)});
  const ValueId w =
      graph.add_constant("w", HostTensor::of<float>(DType::kFloat32, {2, 3}, {1, 2, 3, 4, 5, 6}));
  const ValueId state = graph.add_variable("s", HostTensor::scalar(DType::kFloat32, 2), true);
  auto branch = std::make_shared<Graph>();
  branch->add_output(branch->add_constant("c", HostTensor::ints({4})), "c");
  const Attributes attributes = {
      {"axis", int64_t{-1}},           {"alpha", 0.5},
      {"mode", std::string("linear")}, {"pads", std::vector<int64_t>{0, 1}},
      {"then_branch", branch},         {"value", HostTensor::ints({1, -1})}};
  const auto out = graph.add_node("Op", {x, kNoValue, w, state}, attributes, 2, "node", "dlk");
  graph.add_output(out[1], "y");
  graph.assign(state, out[0]);
  graph.info.labels = {"cat", "dog"};
  graph.info.text["license"] = "MIT";
  graph.info.preprocessing = kPreprocessing;
  return graph;
}

void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string safetensors(std::string header, size_t data_bytes) {
  std::string size(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(size.data(), &length, 8);
  return size + header + std::string(data_bytes, '\1');
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_seeds FOLDER\n";
    return 2;
  }
  const fs::path root = argv[1];
  const std::string tensors = safetensors(
      R"({"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("i":{"dtype":"I64","shape":[2],"data_offsets":[24,40]},)"
      R"("s":{"dtype":"F32","shape":[],"data_offsets":[40,44]}})",
      44);
  write(root / "fuzz_safetensors/tensors", tensors);
  std::vector<NamedTensor> named;
  const std::string graph = graph_to_json(sample(), named).dump();
  write(root / "fuzz_graph/graph", graph);
  write(root / "fuzz_image/all", std::string("\x10\x0c") + kPreprocessing);
  write(root / "fuzz_image/resize", std::string("\x07\x21") + R"({"resize": [3, 40]})");
  fs::create_directories(root / "fuzz_model_file");
  save_model(sample(), (root / "fuzz_model_file/whole.dlk").string());

  // The smallest archive of a model: the writer above pads to 16 KiB.
  const std::string json = R"({"format":"dlk","version":1,"requires":[],"labels":["cat"],)"
                           R"("info":{"a":"b"},"preprocessing":{"resize":[4,4]},"graph":)" +
                           graph + "}";
  const fs::path small = root / "fuzz_model_file/small.dlk";
  {
    AtomicFile file(small.string());
    ZipWriter zip(file);
    zip.add("dlk.json", {std::as_bytes(std::span(json))}, 1);
    zip.add("weights.safetensors", {std::as_bytes(std::span(tensors))}, 1);
    zip.finish();
    file.commit();
  }
  write(root / "fuzz_zip/small", text_of(small));
  return 0;
}
