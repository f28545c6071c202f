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

/// Of a bundle, in `bundles/`, counted from 0: its plan and its weights.
constexpr char kBundles[] = "bundles";
constexpr char kPlanSuffix[] = ".plan", kWeightsSuffix[] = ".safetensors";
constexpr size_t kMostBundles = 64;
constexpr uint64_t kMaxPlan = 256u << 20;

std::string bundle_file(size_t index, const char* suffix) {
  return std::string(kBundles) + "/" + std::to_string(index) + suffix;
}

/// A file and what keeps it mapped.
struct Part {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

/// The files of a model.
struct Parts {
  std::span<const std::byte> json, weights;
  std::shared_ptr<const void> json_owner, weights_owner;
  std::vector<std::pair<Part, Part>> bundles;  // plan and weights
};

Parts open_directory(const std::string& path) {
  Parts parts;
  auto json = MappedFile::open((fs::path(path) / kGraphFile).string());
  auto weights = MappedFile::open((fs::path(path) / kWeightsFile).string());
  parts.json = json->bytes();
  parts.weights = weights->bytes();
  parts.json_owner = std::move(json);
  parts.weights_owner = std::move(weights);
  std::error_code ignored;
  const auto mapped = [&](const std::string& name) {
    auto file = MappedFile::open((fs::path(path) / name).string());
    return Part{file->bytes(), file};
  };
  for (size_t i = 0; i < kMostBundles; ++i) {
    if (!fs::exists(fs::path(path) / bundle_file(i, kPlanSuffix), ignored)) break;
    parts.bundles.emplace_back(mapped(bundle_file(i, kPlanSuffix)),
                               mapped(bundle_file(i, kWeightsSuffix)));
  }
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
  Parts parts{entries.at(kGraphFile), entries.at(kWeightsFile), file, file, {}};
  for (size_t i = 0; i < kMostBundles && entries.count(bundle_file(i, kPlanSuffix)); ++i) {
    if (!entries.count(bundle_file(i, kWeightsSuffix)))
      throw_invalid("'" + path + "' is damaged: it holds no " + bundle_file(i, kWeightsSuffix));
    parts.bundles.emplace_back(Part{entries.at(bundle_file(i, kPlanSuffix)), file},
                               Part{entries.at(bundle_file(i, kWeightsSuffix)), file});
  }
  return parts;
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

std::shared_ptr<const Bundle> read_bundle_parts(const std::pair<Part, Part>& parts,
                                                const std::string& path) {
  const auto& [plan, weights] = parts;
  if (plan.bytes.size() > kMaxPlan) throw_invalid("'" + path + "': a bundle's plan is too large");
  auto bundle = std::make_shared<Bundle>();
  bundle->plan = {DType::kUInt8,
                  {static_cast<int64_t>(plan.bytes.size())},
                  std::shared_ptr<const std::byte>(plan.owner, plan.bytes.data()),
                  true};
  bundle->weights = read_safetensors(weights.bytes, weights.owner, path);
  return bundle;
}

/// A safetensors file as pieces of `layout` and `tensors`.
std::vector<std::span<const std::byte>> safetensors_pieces(const std::vector<NamedTensor>& tensors,
                                                           const SafetensorsLayout& layout) {
  static const std::byte zeros[kTensorAlignment] = {};
  std::vector<std::span<const std::byte>> pieces = {
      std::as_bytes(std::span(layout.header.data(), layout.header.size()))};
  for (size_t i = 0; i < tensors.size(); i++) {
    pieces.push_back({zeros, layout.padding_before[i]});
    pieces.push_back(tensors[i].tensor.bytes());
  }
  return pieces;
}

/// One file of a model that is written.
struct NewFile {
  std::string name;
  std::vector<std::span<const std::byte>> pieces;
  uint32_t alignment;
};

void write_directory(const std::vector<NewFile>& files, size_t bundles, const std::string& path) {
  std::error_code ignored;
  fs::create_directories(path, ignored);
  std::vector<std::unique_ptr<AtomicFile>> written;
  for (const NewFile& file : files) {
    fs::create_directories((fs::path(path) / file.name).parent_path(), ignored);
    written.push_back(std::make_unique<AtomicFile>((fs::path(path) / file.name).string()));
    for (const auto& piece : file.pieces) written.back()->write(piece);
  }
  for (const auto& file : written) file->commit();
  // Further ones are of another graph that was there before.
  for (size_t i = bundles; i < kMostBundles; ++i) {
    for (const char* suffix : {kPlanSuffix, kWeightsSuffix})
      fs::remove(fs::path(path) / bundle_file(i, suffix), ignored);
  }
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
    for (const auto& bundle : parts.bundles) graph.add_bundle(read_bundle_parts(bundle, path));
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
  std::vector<NewFile> files;
  const size_t count = graph.bundles().size();
  if (count > kMostBundles) throw_invalid("a model file holds at most 64 bundles");
  std::vector<std::vector<NamedTensor>> bundled(count);
  std::vector<SafetensorsLayout> layouts(count);
  for (size_t i = 0; i < count; ++i) {
    const Bundle& bundle = *graph.bundles()[i];
    for (const auto& [name, tensor] : bundle.weights) bundled[i].push_back({name, tensor});
    layouts[i] = layout_safetensors(bundled[i]);
    files.push_back({bundle_file(i, kWeightsSuffix), safetensors_pieces(bundled[i], layouts[i]),
                     static_cast<uint32_t>(kTensorAlignment)});
    files.push_back({bundle_file(i, kPlanSuffix), {bundle.plan.bytes()}, 16});
  }
  const NewFile weights{kWeightsFile, safetensors_pieces(tensors, layout),
                        static_cast<uint32_t>(kTensorAlignment)};
  const NewFile description{kGraphFile, {as_bytes(json)}, 16};
  std::error_code ignored;
  if (path.ends_with('/') || fs::is_directory(path, ignored)) {
    files.push_back(weights);
    files.push_back(description);  // last: it makes the folder a model
    return write_directory(files, count, path);
  }
  files.insert(files.begin(), {description, weights});
  AtomicFile file(path);
  ZipWriter zip(file);
  for (const NewFile& one : files) zip.add(one.name, one.pieces, one.alignment);
  zip.finish();
  file.commit();
}

}  // namespace dlk
