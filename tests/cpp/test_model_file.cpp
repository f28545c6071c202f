#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/base/error.h"
#include "core/model/model_file.h"
#include "core/model/safetensors.h"
#include "core/model/zip.h"
#include "tests/cpp/temporary_folder.h"

using namespace dlk;
using dlk::testing::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

HostTensor floats(Shape shape, const std::vector<float>& values) {
  return HostTensor::of(DType::kFloat32, std::move(shape), values);
}

Graph sample() {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(3), Dim{}});
  const ValueId w = graph.add_constant("w", floats({3}, {1, 2, 3}));
  const ValueId state = graph.add_variable("state", floats({}, {7}), true);
  auto branch = std::make_shared<Graph>();
  branch->add_output(branch->add_constant("c", floats({2}, {4, 5})), "c");
  Attributes attributes = {
      {"int", int64_t{-3}},
      {"float", -HUGE_VAL},
      {"text", std::string("a\"b")},
      {"ints", std::vector<int64_t>{1, 2}},
      {"no_ints", std::vector<int64_t>{}},
      {"floats", std::vector<double>{0.5, std::nan("")}},
      {"strings", std::vector<std::string>{"p", "q"}},
      {"tensor", HostTensor::ints({9, 8})},
      {"branch", branch},
  };
  const auto out = graph.add_node("Op", {x, kNoValue, w, state}, attributes, 2, "node", "dlk");
  graph.declare(out[1], DType::kFloat16, SymbolicShape{Dim::named("N"), Dim{}, Dim::of(2)},
                ValueType::kSequence);
  graph.declare(out[0], DType::kInt64, std::nullopt);
  graph.add_output(out[1], "y");
  graph.assign(state, out[0]);
  graph.info.text["license"] = "MIT";
  graph.info.labels = {"cat", "dog"};
  graph.info.preprocessing = R"({"resize_short": 256})";
  return graph;
}

std::vector<char> slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void spill(const fs::path& path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void check_sample(const Graph& graph) {
  REQUIRE(graph.inputs().size() == 1);
  const Value& x = graph.value(graph.inputs()[0]);
  REQUIRE(x.shape.has_value());
  CHECK((*x.shape)[0].symbol == "N");
  CHECK((*x.shape)[1].value == 3);
  CHECK(!(*x.shape)[2].is_static());
  REQUIRE(graph.nodes().size() == 1);
  const Node& node = graph.nodes()[0];
  CHECK(node.inputs[1] == kNoValue);
  CHECK(std::get<int64_t>(node.attributes.at("int")) == -3);
  CHECK(std::get<double>(node.attributes.at("float")) == -HUGE_VAL);
  CHECK(std::get<std::vector<int64_t>>(node.attributes.at("no_ints")).empty());
  CHECK(std::isnan(std::get<std::vector<double>>(node.attributes.at("floats"))[1]));
  CHECK(std::get<HostTensor>(node.attributes.at("tensor")).to_ints() == std::vector<int64_t>{9, 8});
  const auto& branch = std::get<std::shared_ptr<Graph>>(node.attributes.at("branch"));
  CHECK(branch->value(branch->outputs()[0]).data.to_doubles() == std::vector<double>{4, 5});
  CHECK(graph.output_names()[0] == "y");
  const Value& y = graph.value(graph.outputs()[0]);
  CHECK(y.dtype == DType::kFloat16);
  CHECK(y.type == ValueType::kSequence);
  REQUIRE(y.shape.has_value());
  CHECK((*y.shape)[0].symbol == "N");
  CHECK(!(*y.shape)[1].is_static());
  CHECK((*y.shape)[2].value == 2);
  const Value& other = graph.value(node.outputs[0]);
  CHECK(other.dtype == DType::kInt64);
  CHECK(!other.shape.has_value());
  REQUIRE(graph.assignments().size() == 1);
  CHECK(graph.value(graph.assignments()[0].variable).trainable);
  CHECK(graph.info.labels.size() == 2);
  CHECK(graph.info.text.at("license") == "MIT");
  CHECK(graph.info.preprocessing.find("256") != std::string::npos);
}

}  // namespace

TEST_CASE("a graph survives the archive and the directory") {
  TemporaryFolder folder;
  const std::string file = folder.file("m.dlk");
  save_model(sample(), file);
  check_sample(load_model(file));
  fs::create_directory(folder.file("m"));
  save_model(sample(), folder.file("m"));
  check_sample(load_model(folder.file("m")));
  CHECK(std::distance(fs::directory_iterator(folder.file("m")), {}) == 2);
}

TEST_CASE("the same graph gives the same bytes") {
  TemporaryFolder folder;
  save_model(sample(), folder.file("a.dlk"));
  save_model(sample(), folder.file("b.dlk"));
  CHECK(slurp(folder.file("a.dlk")) == slurp(folder.file("b.dlk")));
}

TEST_CASE("tensors are aligned in the archive") {
  TemporaryFolder folder;
  const std::string file = folder.file("m.dlk");
  save_model(sample(), file);
  const Graph graph = load_model(file);
  for (const Value& v : graph.values())
    if (v.data.data) CHECK(reinterpret_cast<uintptr_t>(v.data.data.get()) % kTensorAlignment == 0);
}

TEST_CASE("every truncation is an error, never a crash") {
  TemporaryFolder folder;
  save_model(sample(), folder.file("m.dlk"));
  const auto whole = slurp(folder.file("m.dlk"));
  const std::string cut = folder.file("cut.dlk");
  for (size_t size = 0; size < whole.size(); size += size < 3000 ? 7 : 997) {
    spill(cut, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    CHECK_THROWS_AS(load_model(cut), Error);
  }
}

TEST_CASE("flipped bytes never crash") {
  TemporaryFolder folder;
  save_model(sample(), folder.file("m.dlk"));
  const auto whole = slurp(folder.file("m.dlk"));
  const std::string file = folder.file("flipped.dlk");
  std::mt19937 random(7);
  for (int round = 0; round < 600; round++) {
    auto bytes = whole;
    for (int k = 0; k < 3; k++)
      bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    spill(file, bytes);
    try {
      load_model(file).validate();
    } catch (const Error&) {
    }
  }
}

TEST_CASE("hostile files are refused with a reason") {
  TemporaryFolder folder;
  const auto refuse = [&](const std::string& text, const std::string& reason) {
    const std::string file = folder.file("bad.dlk");
    spill(file, {text.begin(), text.end()});
    try {
      load_model(file);
      FAIL("accepted: ", text);
    } catch (const Error& error) {
      CHECK_MESSAGE(std::string(error.what()).find(reason) != std::string::npos, error.what());
    }
  };
  refuse("", "it is empty");
  refuse("hello", "not a zip archive");
  CHECK_THROWS_AS(load_model(folder.file("missing.dlk")), Error);
}

TEST_CASE("unknown features and versions are named") {
  TemporaryFolder folder;
  fs::create_directory(folder.file("m"));
  const fs::path json = fs::path(folder.file("m")) / "dlk.json";
  save_model(sample(), folder.file("m"));
  const auto whole = slurp(json);
  std::string text(whole.begin(), whole.end());
  const size_t at = text.find("\"requires\": []");
  REQUIRE(at != std::string::npos);
  std::string changed = text;
  changed.replace(at, 14, "\"requires\": [\"palette\"]");
  spill(json, {changed.begin(), changed.end()});
  CHECK_THROWS_WITH_AS(load_model(folder.file("m")), doctest::Contains("palette"), Error);
  changed = text;
  changed.replace(changed.find("\"version\": 1"), 12, "\"version\": 9");
  spill(json, {changed.begin(), changed.end()});
  CHECK_THROWS_WITH_AS(load_model(folder.file("m")), doctest::Contains("version 9"), Error);
}

TEST_CASE("safetensors headers are bounded and strict") {
  const auto read = [](const std::string& header, size_t data_bytes) {
    std::string file(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(file.data(), &length, 8);
    file += header;
    file.append(data_bytes, '\1');
    auto owner = std::make_shared<std::string>(file);
    return read_safetensors(std::as_bytes(std::span(owner->data(), owner->size())), owner, "t");
  };
  CHECK(read(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8).size() == 1);
  const char* bad[] = {
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,80]}})",
      R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
      R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},
          "b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
      R"([])",
      R"({"a":3})",
      "{",
  };
  for (const char* header : bad) CHECK_THROWS_AS(read(header, 8), Error);
}

TEST_CASE("a failed save leaves the old file") {
  TemporaryFolder folder;
  const fs::path file = folder.file("m.dlk");
  save_model(sample(), file.string());
  const auto before = slurp(file);
  Graph bad = sample();
  bad.info.preprocessing = "not json";
  CHECK_THROWS_AS(save_model(bad, file.string()), Error);
  bad = sample();
  bad.info.text["name"] = "\xff\xfe";
  CHECK_THROWS_AS(save_model(bad, file.string()), Error);
  CHECK(slurp(file) == before);
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);
  CHECK_THROWS_AS(save_model(sample(), folder.file("no/such/m.dlk")), Error);
}
