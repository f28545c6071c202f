#include "core/model/model_file.h"

#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "core/model/graph_json.h"
#include "core/model/mapped_file.h"
#include "core/model/zip.h"

namespace dlk {

namespace {

namespace fs = std::filesystem;

constexpr char kGraphFile[] = "dlk.json";
constexpr char kWeightsFile[] = "weights.safetensors";
constexpr uint64_t kMaxJson = 256u << 20;
const std::set<std::string> kKnownFeatures = {};

/// The files of a model and what keeps them mapped.
struct Parts {
  std::span<const std::byte> json, weights;
  std::shared_ptr<const void> json_owner, weights_owner;
};

Parts open_directory(const std::string& path) {
  Parts parts;
  auto json = MappedFile::open((fs::path(path) / kGraphFile).string());
  auto weights = MappedFile::open((fs::path(path) / kWeightsFile).string());
  parts.json = json->bytes();
  parts.weights = weights->bytes();
  parts.json_owner = std::move(json);
  parts.weights_owner = std::move(weights);
  return parts;
}

Parts open_archive(const std::string& path) {
  auto file = MappedFile::open(path);
  if (!is_zip(file->bytes()))
    throw_invalid("'" + path + "' is no dlk model: it is not a zip archive" +
                  (file->bytes().empty() ? " (it is empty)" : ""));
  const auto entries = read_stored_zip(file->bytes(), path);
  for (const char* name : {kGraphFile, kWeightsFile})
    if (!entries.count(name))
      throw_invalid("'" + path + "' is no dlk model: it holds no " + std::string(name));
  return {entries.at(kGraphFile), entries.at(kWeightsFile), file, file};
}

Json parse(const Parts& parts, const std::string& path) {
  if (parts.json.size() > kMaxJson) throw_invalid("'" + path + "': dlk.json is too large");
  const char* text = reinterpret_cast<const char*>(parts.json.data());
  Json json = Json::parse(text, text + parts.json.size(), nullptr, false);
  if (!json.is_object() || json.value("format", Json()) != "dlk")
    throw_invalid("'" + path + "' is no dlk model: dlk.json is not what it should be");
  return json;
}

void check_version(const Json& json, const std::string& path) {
  const Json version = json.value("version", Json());
  if (!version.is_number_integer())
    throw_invalid("'" + path + "' is no dlk model: it has no version");
  if (version.get<int64_t>() > kModelFormatVersion)
    throw_unsupported("'" + path + "' has format version " + version.dump() + ", this dlk reads " +
                      std::to_string(kModelFormatVersion) + "; install a newer dlk");
  std::string unknown;
  for (const Json& feature : json.value("requires", Json::array()))
    if (!feature.is_string() || !kKnownFeatures.count(feature.get<std::string>()))
      unknown += (unknown.empty() ? "" : ", ") + feature.dump();
  if (!unknown.empty())
    throw_unsupported("'" + path + "' needs features that this dlk lacks: " + unknown +
                      "; install a newer dlk");
}

ModelInfo info_of(const Json& json) {
  ModelInfo info;
  const Json text = json.value("info", Json::object());
  for (const auto& [key, value] : text.items())
    if (value.is_string()) info.text[key] = value.get<std::string>();
  for (const Json& label : json.value("labels", Json::array()))
    info.labels.push_back(label.is_string() ? label.get<std::string>() : label.dump());
  const Json preprocessing = json.value("preprocessing", Json());
  if (preprocessing.is_object()) info.preprocessing = preprocessing.dump();
  return info;
}

Json describe(const Graph& graph, std::vector<NamedTensor>& tensors) {
  Json json = {{"format", "dlk"}, {"version", kModelFormatVersion}, {"requires", Json::array()}};
  json["producer"] = "dlk " DLK_VERSION;
  json["info"] = graph.info.text;
  json["labels"] = graph.info.labels;
  if (!graph.info.preprocessing.empty()) {
    Json preprocessing = Json::parse(graph.info.preprocessing, nullptr, false);
    if (!preprocessing.is_object())
      throw_invalid("info.preprocessing is not a JSON object: " + graph.info.preprocessing);
    json["preprocessing"] = std::move(preprocessing);
  }
  json["weights"] = {kWeightsFile};
  json["graph"] = graph_to_json(graph, tensors);
  return json;
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

Graph load_model(const std::string& path) {
  try {
    std::error_code ignored;
    const Parts parts = fs::is_directory(path, ignored) ? open_directory(path) : open_archive(path);
    const Json json = parse(parts, path);
    check_version(json, path);
    if (!json.contains("graph")) throw_invalid("'" + path + "' is no dlk model: it has no graph");
    Graph graph = graph_from_json(json["graph"],
                                  read_safetensors(parts.weights, parts.weights_owner, path), path);
    graph.info = info_of(json);
    return graph;
  } catch (const Json::exception& error) {
    throw_invalid("'" + path + "' is no valid dlk model: " + error.what());
  }
}

void save_model(const Graph& graph, const std::string& path) {
  graph.validate();
  std::vector<NamedTensor> tensors;
  std::string json;
  try {
    json = describe(graph, tensors).dump(1) + "\n";
  } catch (const Json::exception& error) {
    throw_invalid(std::string("cannot save the model: a name or text is not UTF-8: ") +
                  error.what());
  }
  const SafetensorsLayout layout = layout_safetensors(tensors);
  static const std::byte zeros[kTensorAlignment] = {};
  std::vector<std::span<const std::byte>> pieces = {as_bytes(layout.header)};
  for (size_t i = 0; i < tensors.size(); i++) {
    pieces.push_back({zeros, layout.padding_before[i]});
    pieces.push_back(tensors[i].tensor.bytes());
  }
  std::error_code ignored;
  if (path.ends_with('/') || fs::is_directory(path, ignored)) {
    fs::create_directories(path, ignored);
    AtomicFile weights((fs::path(path) / kWeightsFile).string());
    for (const auto& piece : pieces) weights.write(piece);
    AtomicFile description((fs::path(path) / kGraphFile).string());
    description.write(json);
    weights.commit();
    description.commit();
    return;
  }
  AtomicFile file(path);
  ZipWriter zip(file);
  zip.add(kGraphFile, {as_bytes(json)}, 16);
  zip.add(kWeightsFile, pieces, static_cast<uint32_t>(kTensorAlignment));
  zip.finish();
  file.commit();
}

}  // namespace dlk
