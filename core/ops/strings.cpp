// Operators on strings, the glue of graphs: evaluated on the host when the plan is made, in tensors
// of at most kMaxHostElements. Case is changed for ASCII letters only.
#include <algorithm>
#include <map>
#include <regex>

#include "core/ops/op_util.h"

namespace dlk {

namespace {

using Texts = std::vector<std::string>;

constexpr size_t kMaxJoinedBytes = 1 << 20;  // of what one StringConcat makes
constexpr size_t kMaxPatternBytes = 1024, kMaxMatchedBytes = 1 << 16;

Texts texts_of(const InferContext& context, size_t input) {
  if (context.dtype(input) != DType::kString) context.fail("takes strings");
  return context.require_constant(input, "its strings").to_strings();
}

OpSchema string_op(const std::string& name, int since, int inputs, int outputs,
                   const std::string& doc) {
  OpSchema schema;
  schema.name = name;
  schema.since_version = since;
  schema.doc = doc;
  schema.min_inputs = schema.max_inputs = inputs;
  schema.min_outputs = 1;
  schema.max_outputs = outputs;
  return schema;
}

// StringConcat

void eval_concat(HostEvalContext& context) {
  const Shape& shape = context.output_shape(0);
  std::vector<Texts> sides;
  std::vector<std::vector<int64_t>> indices;
  for (size_t i = 0; i < 2; ++i) {
    sides.push_back(context.input(i).to_strings());
    const Shape& own = context.input(i).shape;
    Shape strides = contiguous_strides(own);
    for (size_t a = 0; a < own.size(); ++a) {
      if (own[a] == 1) strides[a] = 0;
    }
    strides.insert(strides.begin(), shape.size() - own.size(), 0);
    indices.push_back(strided_indices(shape, 0, strides));
  }
  Texts joined;
  size_t bytes = 0;
  for (size_t i = 0; i < indices[0].size(); ++i) {
    bytes += sides[0][static_cast<size_t>(indices[0][i])].size() +
             sides[1][static_cast<size_t>(indices[1][i])].size();
    if (bytes > kMaxJoinedBytes) {
      context.unsupported("joins texts to more than " + std::to_string(kMaxJoinedBytes) + " bytes");
    }
    joined.push_back(sides[0][static_cast<size_t>(indices[0][i])] +
                     sides[1][static_cast<size_t>(indices[1][i])]);
  }
  context.set_output(0, HostTensor::strings(shape, joined));
}

// StringSplit

Texts split_text(const std::string& text, const std::string& delimiter, int64_t most) {
  Texts parts;
  size_t at = 0;
  const auto may_split = [&] { return most < 0 || static_cast<int64_t>(parts.size()) < most; };
  if (delimiter.empty()) {  // by runs of white space
    const char* spaces = " \t\n\v\f\r";
    at = text.find_first_not_of(spaces);
    while (at != std::string::npos) {
      const size_t end = may_split() ? text.find_first_of(spaces, at) : std::string::npos;
      parts.push_back(text.substr(at, end - at));
      at = end == std::string::npos ? end : text.find_first_not_of(spaces, end);
    }
    return parts;
  }
  if (text.empty()) return {};
  while (may_split()) {
    const size_t end = text.find(delimiter, at);
    if (end == std::string::npos) break;
    parts.push_back(text.substr(at, end - at));
    at = end + delimiter.size();
  }
  parts.push_back(text.substr(at));
  return parts;
}

std::vector<Texts> split_all(const NodeReader& node, const Texts& texts) {
  std::vector<Texts> parts;
  for (const std::string& text : texts) {
    parts.push_back(
        split_text(text, node.attr_string("delimiter", ""), node.attr_int("maxsplit", -1)));
  }
  return parts;
}

size_t most_parts(const std::vector<Texts>& parts) {
  size_t most = 0;
  for (const Texts& row : parts) most = std::max(most, row.size());
  return most;
}

void infer_split(InferContext& context) {
  const auto parts = split_all(context, texts_of(context, 0));
  Shape shape = context.shape(0);
  context.set_output(1, DType::kInt64, shape);
  shape.push_back(static_cast<int64_t>(most_parts(parts)));
  context.set_output(0, DType::kString, shape);
}

void eval_split(HostEvalContext& context) {
  const auto parts = split_all(context, context.input(0).to_strings());
  const size_t most = most_parts(parts);
  Texts all;
  std::vector<int64_t> counts;
  for (const Texts& row : parts) {
    counts.push_back(static_cast<int64_t>(row.size()));
    all.insert(all.end(), row.begin(), row.end());
    all.resize(all.size() + most - row.size());
  }
  context.set_output(0, HostTensor::strings(context.output_shape(0), all));
  context.set_output(1, HostTensor::from_ints(DType::kInt64, context.input(0).shape, counts));
}

// StringNormalizer

std::string in_case(std::string text, const std::string& action) {
  for (char& c : text) {
    if (action == "LOWER" && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (action == "UPPER" && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

Texts normalized(const NodeReader& node, const Texts& texts) {
  const bool exact = node.attr_int("is_case_sensitive", 0) != 0;
  const std::string action = node.attr_string("case_change_action", "NONE");
  Texts stopwords = node.attr_strings("stopwords");
  if (!exact) {
    for (std::string& word : stopwords) word = in_case(word, "LOWER");
  }
  Texts kept;
  for (const std::string& text : texts) {
    const std::string compared = exact ? text : in_case(text, "LOWER");
    if (std::ranges::find(stopwords, compared) != stopwords.end()) continue;
    kept.push_back(in_case(text, action));
  }
  if (kept.empty()) kept.emplace_back();
  return kept;
}

void infer_normalizer(InferContext& context) {
  Shape shape = context.shape(0);
  if (shape.empty() || shape.size() > 2 || (shape.size() == 2 && shape[0] != 1)) {
    context.fail("takes strings of shape (C) or (1, C), not " + shape_string(shape));
  }
  shape.back() = static_cast<int64_t>(normalized(context, texts_of(context, 0)).size());
  context.set_output(0, DType::kString, shape);
}

void eval_normalizer(HostEvalContext& context) {
  const Texts kept = normalized(context, context.input(0).to_strings());
  context.set_output(0, HostTensor::strings(context.output_shape(0), kept));
}

// RegexFullMatch

// Backtracking takes exponential time, and a stack as deep as the text; libstdc++ can do without.
#ifdef __GLIBCXX__
constexpr auto kSyntax = std::regex::ECMAScript | std::regex_constants::__polynomial;
#else
constexpr auto kSyntax = std::regex::ECMAScript;
#endif

void eval_match(HostEvalContext& context) {
  std::vector<int64_t> matches;
  const std::string wanted = context.attr_string("pattern", "");
  const Texts texts = context.input(0).to_strings();
  size_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  if (wanted.size() > kMaxPatternBytes || bytes > kMaxMatchedBytes) {
    context.unsupported("matches texts of at most " + std::to_string(kMaxMatchedBytes) +
                        " bytes with patterns of at most " + std::to_string(kMaxPatternBytes));
  }
  try {
    const std::regex pattern(wanted, kSyntax);
    for (const std::string& text : texts) {
      matches.push_back(std::regex_match(text, pattern) ? 1 : 0);
    }
  } catch (const std::regex_error& error) {
    context.fail(std::string("its pattern is not understood: ") + error.what());
  }
  context.set_output(0, HostTensor::from_ints(DType::kBool, context.output_shape(0), matches));
}

// LabelEncoder of strings

/// The values that keys map to, and the default, all of one dtype.
struct Labels {
  Texts keys;
  HostTensor values, otherwise;
};

Labels labels_of(const NodeReader& node) {
  Labels labels;
  const HostTensor* keys = node.attr_tensor("keys_tensor");
  labels.keys = keys && keys->dtype == DType::kString ? keys->to_strings()
                                                      : node.attr_strings("keys_strings");
  if (labels.keys.empty()) node.unsupported("maps strings only");
  const auto count = static_cast<int64_t>(labels.keys.size());
  const HostTensor* otherwise = node.attr_tensor("default_tensor");
  if (const HostTensor* tensor = node.attr_tensor("values_tensor")) {
    labels.values = *tensor;
    labels.otherwise = HostTensor::from_ints(tensor->dtype, {1}, {0});
  } else if (node.has_attr("values_int64s")) {
    labels.values = HostTensor::ints(node.attr_ints("values_int64s"));
    labels.otherwise = HostTensor::ints({node.attr_int("default_int64", -1)});
  } else if (node.has_attr("values_floats")) {
    const auto floats = node.attr_floats("values_floats");
    labels.values =
        HostTensor::from_doubles(DType::kFloat32, {static_cast<int64_t>(floats.size())}, floats);
    labels.otherwise =
        HostTensor::from_doubles(DType::kFloat32, {1}, {node.attr_float("default_float", -0.0)});
  } else {
    const Texts texts = node.attr_strings("values_strings");
    labels.values = HostTensor::strings({static_cast<int64_t>(texts.size())}, texts);
    labels.otherwise = HostTensor::strings({1}, {node.attr_string("default_string", "_Unused")});
  }
  if (otherwise) labels.otherwise = *otherwise;
  if (labels.values.elements() != count || labels.otherwise.elements() != 1 ||
      labels.otherwise.dtype != labels.values.dtype) {
    node.fail("has " + std::to_string(count) + " keys and other values than that");
  }
  return labels;
}

void eval_labels(HostEvalContext& context) {
  const Labels labels = labels_of(context);
  std::map<std::string, size_t> positions;
  for (size_t i = 0; i < labels.keys.size(); ++i) positions.emplace(labels.keys[i], i);
  const size_t size = dtype_size(labels.values.dtype);
  std::vector<std::byte> bytes;
  for (const std::string& text : context.input(0).to_strings()) {
    const auto found = positions.find(text);
    const auto from = found == positions.end()
                          ? labels.otherwise.bytes()
                          : labels.values.bytes().subspan(found->second * size);
    bytes.insert(bytes.end(), from.begin(), from.begin() + static_cast<int64_t>(size));
  }
  context.set_output(0, HostTensor::copy_of(labels.values.dtype, context.output_shape(0), bytes));
}

}  // namespace

DLK_REGISTER_OPS {
  OpSchema concat = string_op("StringConcat", 20, 2, 1, "a and b joined, with broadcasting");
  concat.infer = [](InferContext& context) {
    texts_of(context, 0);
    texts_of(context, 1);
    context.set_output(0, DType::kString, broadcast_shapes(context.shape(0), context.shape(1)));
  };
  concat.host_eval = eval_concat;
  register_op(std::move(concat));

  OpSchema split = string_op("StringSplit", 20, 1, 2, "parts between delimiters, and their number");
  split.infer = infer_split;
  split.host_eval = eval_split;
  register_op(std::move(split));

  OpSchema normalizer =
      string_op("StringNormalizer", 10, 1, 1, "texts in one case, without stop words");
  normalizer.infer = infer_normalizer;
  normalizer.host_eval = eval_normalizer;
  register_op(std::move(normalizer));

  OpSchema match = string_op("RegexFullMatch", 20, 1, 1, "whether a pattern fits the whole text");
  match.infer = [](InferContext& context) {
    texts_of(context, 0);
    context.set_output(0, DType::kBool, context.shape(0));
  };
  match.host_eval = eval_match;
  register_op(std::move(match));

  OpSchema labels = string_op("LabelEncoder", 4, 1, 1, "the value that each text maps to");
  labels.domain = "ai.onnx.ml";
  labels.infer = [](InferContext& context) {
    texts_of(context, 0);
    context.set_output(0, labels_of(context).values.dtype, context.shape(0));
  };
  labels.host_eval = eval_labels;
  register_op(std::move(labels));
}

}  // namespace dlk
