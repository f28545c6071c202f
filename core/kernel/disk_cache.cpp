#include "core/kernel/disk_cache.h"

#include "core/base/byte_stream.h"
#include "core/base/hash.h"

namespace dlk {

std::string serialize_kernel(const KernelCode& code) {
  ByteWriter out;
  out.number(static_cast<uint64_t>(code.format));
  out.text(code.name);
  out.text(code.code);
  out.text(code.build_options);
  out.number(code.bindings.size());
  for (const BindingInfo& binding : code.bindings) {
    out.text(binding.name);
    out.number(static_cast<uint64_t>(binding.access));
    out.number(binding.element_bytes);
  }
  out.number(code.params.size());
  for (const ParamInfo& param : code.params) {
    out.text(param.name);
    out.number(static_cast<uint64_t>(param.kind));
    out.number(param.count);
    out.number(param.offset_bytes);
  }
  out.number(code.param_bytes);
  out.number(code.params_in_buffer ? 1 : 0);
  for (const uint32_t extent : code.group_size) out.number(extent);
  out.number(code.local_bytes);
  out.number(code.required_subgroup_size);
  out.number(code.hash);
  return out.take();
}

std::optional<KernelCode> deserialize_kernel(std::string_view bytes) {
  ByteReader in(bytes);
  KernelCode code;
  code.format = static_cast<KernelFormat>(in.number());
  code.name = in.text();
  code.code = in.text();
  code.build_options = in.text();
  code.bindings.resize(in.count());
  for (BindingInfo& binding : code.bindings) {
    binding.name = in.text();
    binding.access = static_cast<Access>(in.number());
    binding.element_bytes = in.number32();
  }
  code.params.resize(in.count());
  for (ParamInfo& param : code.params) {
    param.name = in.text();
    param.kind = static_cast<char>(in.number());
    param.count = in.number32();
    param.offset_bytes = in.number32();
  }
  code.param_bytes = in.number32();
  code.params_in_buffer = in.number() != 0;
  for (uint32_t& extent : code.group_size) extent = in.number32();
  code.local_bytes = in.number32();
  code.required_subgroup_size = in.number32();
  code.hash = in.number();
  return in.done() ? std::optional(std::move(code)) : std::nullopt;
}

std::string DiskCache::name_of(const std::string& key) {
  return hex_text(hash_text(key)) + hex_text(hash_text(key, 0x9e3779b97f4a7c15u)) + ".bin";
}

std::optional<KernelCode> DiskCache::load(const std::string& key) const noexcept {
  const std::optional<std::string> bytes = folder_.read(name_of(key));
  if (!bytes) return std::nullopt;
  try {
    ByteReader reader(*bytes);
    if (reader.text() != key) return std::nullopt;
    const std::string body = reader.text();
    return reader.done() ? deserialize_kernel(body) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void DiskCache::store(const std::string& key, const KernelCode& code) const {
  if (!enabled()) return;
  ByteWriter entry;
  entry.text(key);
  entry.text(serialize_kernel(code));
  folder_.write(name_of(key), entry.take());
}

}  // namespace dlk
