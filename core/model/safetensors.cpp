#include "core/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace dlk {

namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxHeader = 100u << 20;
constexpr char kPadPrefix[] = "__pad__";

struct TypeName {
  DType dtype;
  const char* name;
};
constexpr TypeName kTypes[] = {
    {DType::kFloat32, "F32"},
    {DType::kFloat16, "F16"},
    {DType::kBFloat16, "BF16"},
    {DType::kFloat64, "F64"},
    {DType::kInt8, "I8"},
    {DType::kInt16, "I16"},
    {DType::kInt32, "I32"},
    {DType::kInt64, "I64"},
    {DType::kUInt8, "U8"},
    {DType::kUInt16, "U16"},
    {DType::kUInt32, "U32"},
    {DType::kUInt64, "U64"},
    {DType::kBool, "BOOL"},
    {DType::kFloat8E4M3FN, "F8_E4M3"},
    {DType::kFloat8E4M3FNUZ, "F8_E4M3FNUZ"},
    {DType::kFloat8E5M2, "F8_E5M2"},
    {DType::kFloat8E5M2FNUZ, "F8_E5M2FNUZ"},
    {DType::kFloat8E8M0FNU, "F8_E8M0"},
    // A byte an element, where the format's own 4-bit types pack two.
    {DType::kFloat4E2M1FN, "F4_IN_BYTES"},
    {DType::kInt4, "I4_IN_BYTES"},
    {DType::kUInt4, "U4_IN_BYTES"},
    {DType::kInt2, "I2_IN_BYTES"},
    {DType::kUInt2, "U2_IN_BYTES"},
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
         const std::string& name)
      : bytes_(bytes), owner_(std::move(owner)), name_(name) {}

  std::map<std::string, HostTensor> read() {
    const Json header = parse_header();
    for (const auto& [key, entry] : header.items())
      if (key != "__metadata__") read_entry(key, entry);
    check_coverage();
    return std::move(tensors_);
  }

 private:
  [[noreturn]] void bad(const std::string& why) const {
    throw_invalid("'" + name_ + "' is no valid safetensors file: " + why);
  }

  Json parse_header() {
    uint64_t length = 0;
    if (bytes_.size() < 8) bad("it has " + std::to_string(bytes_.size()) + " bytes");
    std::memcpy(&length, bytes_.data(), 8);
    if (length > kMaxHeader || length > bytes_.size() - 8)
      bad("its header of " + std::to_string(length) + " bytes does not fit; it may be truncated");
    data_ = bytes_.subspan(8 + length);
    const char* text = reinterpret_cast<const char*>(bytes_.data() + 8);
    Json header = Json::parse(text, text + length, nullptr, false);
    if (!header.is_object()) bad("its header is not a JSON object");
    return header;
  }

  void read_entry(const std::string& key, const Json& entry) {
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets"))
      bad("tensor '" + key + "' lacks dtype, shape or data_offsets");
    HostTensor tensor;
    tensor.dtype = dtype_of(key, entry["dtype"]);
    if (!entry["shape"].is_array() || entry["shape"].size() > 64) bad("'" + key + "': bad shape");
    for (const Json& d : entry["shape"]) {
      if (!d.is_number_unsigned() || d.get<uint64_t>() > (uint64_t{1} << 40))
        bad("tensor '" + key + "' has a bad dimension");
      tensor.shape.push_back(d.get<int64_t>());
    }
    const Json& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned())
      bad("tensor '" + key + "' has bad data_offsets");
    const auto begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
    if (begin > end || end > data_.size())
      bad("tensor '" + key + "' lies outside the file; it may be truncated");
    if (end - begin != tensor.size_bytes())
      bad("tensor '" + key + "' of shape " + shape_string(tensor.shape) + " needs " +
          std::to_string(tensor.size_bytes()) + " bytes, not " + std::to_string(end - begin));
    ranges_.emplace_back(begin, end);
    tensor.data = std::shared_ptr<const std::byte>(owner_, data_.data() + begin);
    tensor.immutable = true;
    if (key.rfind(kPadPrefix, 0) != 0) tensors_.emplace(key, std::move(tensor));
  }

  DType dtype_of(const std::string& key, const Json& value) const {
    for (const TypeName& type : kTypes)
      if (value.is_string() && value.get_ref<const std::string&>() == type.name) return type.dtype;
    bad("tensor '" + key + "' has the unknown dtype " + value.dump());
  }

  void check_coverage() {
    std::sort(ranges_.begin(), ranges_.end());
    uint64_t at = 0;
    for (const auto& [begin, end] : ranges_) {
      if (begin != at) bad("tensors overlap or leave holes at byte " + std::to_string(at));
      at = end;
    }
    if (at != data_.size()) bad("bytes after the last tensor");
  }

  std::span<const std::byte> bytes_, data_;
  std::shared_ptr<const void> owner_;
  const std::string& name_;
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
  std::map<std::string, HostTensor> tensors_;
};

}  // namespace

std::map<std::string, HostTensor> read_safetensors(std::span<const std::byte> bytes,
                                                   std::shared_ptr<const void> owner,
                                                   const std::string& name) {
  return Reader(bytes, std::move(owner), name).read();
}

SafetensorsLayout layout_safetensors(const std::vector<NamedTensor>& tensors) {
  SafetensorsLayout layout;
  Json header = Json::object();
  uint64_t at = 0;
  for (const NamedTensor& named : tensors) {
    const uint64_t padding = (kTensorAlignment - at % kTensorAlignment) % kTensorAlignment;
    if (padding > 0)
      header[kPadPrefix + std::to_string(at)] = {
          {"dtype", "U8"}, {"shape", {padding}}, {"data_offsets", {at, at + padding}}};
    at += padding;
    layout.padding_before.push_back(padding);
    const char* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& t) {
                         return t.dtype == named.tensor.dtype;
                       })->name;
    const uint64_t size = named.tensor.size_bytes();
    header[named.name] = {
        {"dtype", type}, {"shape", named.tensor.shape}, {"data_offsets", {at, at + size}}};
    at += size;
  }
  std::string text = header.dump();
  const uint64_t total = (8 + text.size() + kHeaderAlignment - 1) / kHeaderAlignment;
  text.resize(total * kHeaderAlignment - 8, ' ');
  const uint64_t length = text.size();
  layout.header.assign(reinterpret_cast<const char*>(&length), 8);
  layout.header += text;
  return layout;
}

}  // namespace dlk
