#include <map>

#include "core/ops/op.h"

namespace dlk {

namespace {

using Registry = std::map<std::pair<std::string, std::string>, OpSchema>;

Registry& registry() {
  static Registry ops;  // keyed by domain, then name
  return ops;
}

}  // namespace

void register_op(OpSchema schema) {
  auto key = std::pair(schema.domain, schema.name);
  if (!schema.infer) throw_invalid("operator " + schema.name + " has no shape rule");
  if (!registry().emplace(std::move(key), std::move(schema)).second) {
    throw_invalid("an operator is registered twice");
  }
}

const OpSchema* find_op(const std::string& name, const std::string& domain) {
  const auto found = registry().find({domain == "ai.onnx" ? std::string() : domain, name});
  return found == registry().end() ? nullptr : &found->second;
}

std::vector<const OpSchema*> all_ops() {
  std::vector<const OpSchema*> ops;
  for (const auto& [key, schema] : registry()) ops.push_back(&schema);
  return ops;
}

}  // namespace dlk
